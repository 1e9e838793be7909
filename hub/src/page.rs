//! The web page, under `/ui/` on the authenticated listener: what operators may read, to be looked at.
//!
//! A page asks [`Operators`] as any client does, in the name of the certificate on the connection, so that it shows
//! nothing that the same operator could not read by gRPC, and changes nothing. Everything that an agent can set goes
//! through [`text()`] and is escaped. Without JavaScript a page is as it was when it was loaded; with it, rows are
//! replaced as they change.

mod agent;
mod alerts;
mod audit;
mod charts;
mod commands;
mod fleet;
mod layout;
mod live;
mod timeline;
mod usage;

use std::sync::Arc;

use axum::{
    Extension, Router,
    extract::{Request, State},
    http::{
        HeaderName, HeaderValue, Method, StatusCode,
        header::{
            ALLOW, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
        },
    },
    middleware::{self, Next},
    response::{IntoResponse, Redirect, Response},
    routing::get,
};
use jiff::Timestamp;
use maud::{Markup, html};
use sfdata_common::peer::Subject;
use sfdata_proto::v1::operator_service_server::OperatorService as _;
use tonic::{Code, Status};
use tower_http::{CompressionLevel, compression::CompressionLayer};

use self::{
    charts::{Briefs, Overview},
    layout::{Section, layout},
};
use crate::{api::operator::Operators, server::ConnectedPeer};

const STYLE: &str = include_str!("page/style.css");
const SCRIPT: &str = include_str!("page/live.js");
/// Nothing but what this listener serves: neither foreign scripts nor what a name could smuggle in.
const POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src 'self' data:; \
                      form-action 'self'; frame-ancestors 'none'; base-uri 'none'";
/// Longest text of an agent's that is shown.
const TEXT: usize = 300;

/// What every page needs.
#[derive(Clone)]
struct Page {
    operators: Operators,
    overview: Arc<Overview>,
}

/// The routes, to be served by a listener that knows its peers.
pub fn routes(operators: Operators) -> Router {
    let page = Page { overview: Arc::default(), operators };
    let pages = Router::new()
        .route("/ui/", get(fleet::show))
        .route("/ui/live", get(fleet::live))
        .route("/ui/agents/{id}", get(agent::show))
        .route("/ui/agents/{id}/live", get(agent::live))
        .route("/ui/commands", get(commands::list))
        .route("/ui/commands/live", get(commands::follow))
        .route("/ui/commands/{id}", get(commands::show))
        .route("/ui/commands/{id}/live", get(commands::live))
        .route("/ui/usage", get(usage::show))
        .route("/ui/usage.csv", get(usage::csv))
        .route("/ui/alerts", get(alerts::show))
        .route("/ui/audit", get(audit::show))
        .route("/ui/style.css", get(async || asset("text/css; charset=utf-8", STYLE)))
        .route("/ui/live.js", get(async || asset("text/javascript; charset=utf-8", SCRIPT)))
        .route("/ui", get(async || Redirect::permanent("/ui/")))
        .route("/ui/{*other}", get(nowhere))
        .layer(CompressionLayer::new().quality(CompressionLevel::Fastest))
        .layer(middleware::from_fn(guard));
    pages.with_state(page)
}

/// What holds for every answer.
async fn guard(request: Request, next: Next) -> Response {
    let mut response = if matches!(*request.method(), Method::GET | Method::HEAD) {
        next.run(request).await
    } else {
        (StatusCode::METHOD_NOT_ALLOWED, [(ALLOW, "GET, HEAD")]).into_response()
    };
    let headers = response.headers_mut();
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(HeaderName::from_static("cross-origin-resource-policy"), HeaderValue::from_static("same-origin"));
    headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

fn asset(kind: &'static str, body: &'static str) -> impl IntoResponse {
    ([(CONTENT_TYPE, kind), (CACHE_CONTROL, "max-age=3600")], body)
}

async fn nowhere(Viewer(viewer): Viewer) -> Response {
    let problem = Problem { viewer: Some(viewer), status: Status::not_found("there is no such page") };
    problem.into_response()
}

/// Who looks.
#[derive(Clone)]
struct Viewer(ConnectedPeer);

impl<S: Send + Sync> axum::extract::FromRequestParts<S> for Viewer {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut axum::http::request::Parts, state: &S) -> Result<Self, Problem> {
        let peer = Extension::<ConnectedPeer>::from_request_parts(parts, state).await;
        let nobody = |_| Problem { viewer: None, status: Status::unauthenticated("no client certificate") };
        peer.map(|Extension(peer)| Self(peer)).map_err(nobody)
    }
}

impl Viewer {
    /// The same as a client's request on this connection.
    fn ask<T>(&self, message: T) -> tonic::Request<T> {
        let mut request = tonic::Request::new(message);
        request.extensions_mut().insert(self.0.clone());
        request
    }

    /// As the registry calls them.
    fn name(&self) -> String {
        match self.0.peer.as_ref().map(|peer| &peer.subject) {
            Some(Subject::Operator(name)) => name.to_string(),
            Some(other) => other.to_string(),
            None => "nobody".to_owned(),
        }
    }

    /// Makes an answer's error a page of this viewer's.
    fn problem(&self) -> impl Fn(Status) -> Problem + use<> {
        let viewer = self.clone();
        move |status| Problem { viewer: Some(viewer.0.clone()), status }
    }
}

/// What can't be shown, and why.
struct Problem {
    viewer: Option<ConnectedPeer>,
    status: Status,
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let (code, title) = match self.status.code() {
            Code::PermissionDenied | Code::Unauthenticated => (StatusCode::FORBIDDEN, "Not for you to see"),
            Code::NotFound => (StatusCode::NOT_FOUND, "Not there"),
            Code::InvalidArgument | Code::OutOfRange | Code::FailedPrecondition => {
                (StatusCode::BAD_REQUEST, "That can't be asked")
            }
            Code::Unavailable | Code::ResourceExhausted => (StatusCode::SERVICE_UNAVAILABLE, "Not now"),
            _ => (StatusCode::INTERNAL_SERVER_ERROR, "The hub has a fault"),
        };
        let viewer = self.viewer.map(Viewer);
        let body = html! {
            p { (text(self.status.message())) }
            p { a href="/ui/" { "To the fleet" } }
        };
        (code, layout(viewer.as_ref(), title, Section::None, None, &body)).into_response()
    }
}

/// A text that somebody else made, on one line, without what would turn or hide what stands around it. maud escapes it.
fn text(text: &str) -> String {
    let strange = |c: char| {
        c.is_control()
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
    };
    let mut clean: String =
        text.chars().take(TEXT).map(|c| if strange(c) { char::REPLACEMENT_CHARACTER } else { c }).collect();
    if text.chars().nth(TEXT).is_some() {
        clean.push('…');
    }
    clean
}

/// A moment, told by how long ago it was; the script keeps that true.
fn age(unix_ms: i64, now: Timestamp) -> Markup {
    let Some(at) = Timestamp::from_millisecond(unix_ms).ok().filter(|_| unix_ms != 0) else {
        return html! { "never" };
    };
    let span = sfdata_common::words::span(now.duration_since(at).try_into().unwrap_or_default());
    html! { time class="age" datetime=(second(at)) title=(second(at)) { (span) } }
}

/// A moment, whole.
fn moment(unix_ms: i64) -> Markup {
    match Timestamp::from_millisecond(unix_ms).ok().filter(|_| unix_ms != 0) {
        Some(at) => html! { time datetime=(second(at)) { (at.strftime("%Y-%m-%d %H:%M:%S")) } },
        None => html! { "–" },
    }
}

fn second(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

impl Page {
    /// The short histories, where this viewer may see usage.
    async fn briefs(&self, viewer: &Viewer) -> Result<Arc<Briefs>, Problem> {
        if self.shows_usage(viewer) {
            self.overview.briefs(&self.operators).await.map_err(viewer.problem())
        } else {
            Ok(Arc::default())
        }
    }

    /// Whether a policy narrower than the roles leaves usage to this viewer.
    fn shows_usage(&self, viewer: &Viewer) -> bool {
        self.operators.would_show(&viewer.ask(()), "usage.get")
    }

    /// The same of LAs' history.
    fn shows_history(&self, viewer: &Viewer) -> bool {
        self.operators.would_show(&viewer.ask(()), "agents.history")
    }

    /// Every agent.
    async fn agents(&self, viewer: &Viewer) -> Result<Vec<sfdata_proto::v1::AgentSummary>, Problem> {
        let request = viewer.ask(sfdata_proto::v1::ListAgentsRequest {});
        Ok(self.operators.list_agents(request).await.map_err(viewer.problem())?.into_inner().agents)
    }
}

type Shared = State<Page>;
