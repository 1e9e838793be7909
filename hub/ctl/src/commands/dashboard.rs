//! `hubctl dashboard`: the hub's web page in a browser, over the connection that hubctl has anyway.
//!
//! A proxy listens on loopback alone. Its link holds a secret that works once: whoever opens it first gets a cookie,
//! and only with that cookie is anything handed on. Other pages in the same browser have neither. Other users of the
//! machine could read the link for a moment where a browser is started with it, and would use it up, so that the operator
//! is shown a refusal; `--no-browser` leaves it on the terminal alone. Handed on is what may be read under `/ui/`.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::Context as _;
use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    http::{
        HeaderMap, Method, StatusCode, Uri,
        header::{ACCEPT, ACCEPT_ENCODING, CONNECTION, COOKIE, HOST, LOCATION, SET_COOKIE, TRANSFER_ENCODING},
    },
    response::{IntoResponse, Response},
};
use clap::Args;
use serde_json::json;
use sfdata_common::{
    error::chain,
    keys::{random, sha256},
};
use tokio::net::TcpListener;
use tonic::transport::Channel;
use tower::ServiceExt as _;

use crate::{
    cli::Context,
    client::{CALL_TIMEOUT, Hub},
    exit::Exit,
    output,
};

/// Name of the cookie. Ports share their cookies, so that it has the port in it.
const COOKIE_NAME: &str = "sfdata-dashboard";
/// Of the secrets: nobody guesses 256 bits.
const SECRET: usize = 32;

/// Open the hub's web page in a browser, until Ctrl-C
///
/// The page is reached through this program alone, on this machine alone, with your operator's certificate. The link
/// works once.
#[derive(Debug, Args)]
pub(crate) struct Dashboard {
    /// Port on 127.0.0.1 to listen on [default: any that is free]
    #[arg(long, value_name = "PORT", default_value_t = 0, hide_default_value = true)]
    port: u16,
    /// Print the link, and leave it to you to open it
    #[arg(long)]
    no_browser: bool,
}

impl Dashboard {
    pub(super) async fn run(self, context: &Context) -> anyhow::Result<Exit> {
        let hub = Hub::connect(context).await?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, self.port));
        let listener = TcpListener::bind(address)
            .await
            .with_context(|| format!("cannot listen on {address}; leave --port out, or name one that nobody has"))?;
        let port = listener.local_addr()?.port();
        let (link, cookie) = (secret()?, secret()?);
        let url = format!("http://127.0.0.1:{port}/?once={link}");
        let door = Door {
            hub: hub.address().to_owned(),
            channel: hub.channel(),
            host: format!("127.0.0.1:{port}"),
            cookie: format!("{COOKIE_NAME}-{port}={cookie}"),
            link: Arc::new(Mutex::new(Some(link))),
        };
        context.output.text(&json!({ "url": url }), &url)?;
        output::note("the link works once; Ctrl-C ends the page");
        if !self.no_browser
            && context.output.is_screen()
            && let Err(error) = open::that_detached(&url)
        {
            output::warn(format_args!("no browser could be started ({error}); open the link yourself"));
        }
        let routes = Router::new().fallback(answer).with_state(door);
        tokio::select! {
            served = axum::serve(listener, routes) => served.context("the page is no longer served")?,
            _ = tokio::signal::ctrl_c() => {}
        }
        Ok(Exit::Done)
    }
}

fn secret() -> anyhow::Result<String> {
    Ok(hex::encode(random::<SECRET>()?))
}

/// Who gets in, and where that leads.
#[derive(Clone)]
struct Door {
    hub: String,
    channel: Channel,
    /// What a browser has to call this proxy: a name that somebody points at 127.0.0.1 is another one.
    host: String,
    cookie: String,
    /// Taken by whoever comes first.
    link: Arc<Mutex<Option<String>>>,
}

async fn answer(State(door): State<Door>, request: Request) -> Response {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return refused(StatusCode::METHOD_NOT_ALLOWED, "the page is only read");
    }
    if request.headers().get(HOST).is_none_or(|host| host.as_bytes() != door.host.as_bytes()) {
        return refused(StatusCode::FORBIDDEN, "this is not the address of the page");
    }
    if let Some(once) = request.uri().query().and_then(|query| query.strip_prefix("once=")) {
        return door.enter(once);
    }
    if !holds(request.headers(), &door.cookie) {
        return refused(StatusCode::FORBIDDEN, "the link works once; run hubctl dashboard again for another one");
    }
    match request.uri().path() {
        "/" => (StatusCode::SEE_OTHER, [(LOCATION, "/ui/")]).into_response(),
        path if path.starts_with("/ui/") => door.hand_on(request).await,
        _ => refused(StatusCode::NOT_FOUND, "there is no such page"),
    }
}

fn refused(code: StatusCode, why: &'static str) -> Response {
    (code, format!("{why}\n")).into_response()
}

fn holds(headers: &HeaderMap, cookie: &str) -> bool {
    let given = headers.get_all(COOKIE).iter().filter_map(|header| header.to_str().ok());
    given.flat_map(|header| header.split(';')).any(|one| same(one.trim(), cookie))
}

/// In a time that does not tell where they differ.
fn same(one: &str, other: &str) -> bool {
    sha256(one.as_bytes()) == sha256(other.as_bytes())
}

impl Door {
    fn enter(&self, once: &str) -> Response {
        let mut link = self.link.lock().unwrap_or_else(PoisonError::into_inner);
        if !link.as_ref().is_some_and(|link| same(link, once)) {
            return refused(StatusCode::FORBIDDEN, "the link works once; run hubctl dashboard again for another one");
        }
        *link = None;
        let cookie = format!("{}; HttpOnly; SameSite=Strict; Path=/", self.cookie);
        (StatusCode::SEE_OTHER, [(LOCATION, "/ui/".to_owned()), (SET_COOKIE, cookie)]).into_response()
    }

    /// To the hub and back; of the browser's headers the hub gets only what it needs.
    async fn hand_on(&self, request: Request) -> Response {
        let path = request.uri().path_and_query().map_or("/ui/", |path| path.as_str());
        let mut onward = http::Request::new(tonic::body::Body::empty());
        *onward.method_mut() = request.method().clone();
        *onward.uri_mut() = path.parse::<Uri>().unwrap_or_default();
        for name in [ACCEPT, ACCEPT_ENCODING] {
            if let Some(value) = request.headers().get(&name) {
                onward.headers_mut().insert(name, value.clone());
            }
        }
        match tokio::time::timeout(CALL_TIMEOUT, self.channel.clone().oneshot(onward)).await {
            Ok(Ok(answer)) => {
                let mut answer = answer.map(Body::new);
                answer.headers_mut().remove(CONNECTION);
                answer.headers_mut().remove(TRANSFER_ENCODING);
                *answer.version_mut() = http::Version::HTTP_11;
                answer
            }
            Ok(Err(error)) => self.lost(&chain(&error).to_string()),
            Err(_) => self.lost("it did not answer in time"),
        }
    }

    fn lost(&self, why: &str) -> Response {
        (StatusCode::BAD_GATEWAY, format!("the hub at {} can't be reached: {why}\n", self.hub)).into_response()
    }
}
