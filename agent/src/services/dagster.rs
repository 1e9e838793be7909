//! Dagster itself, over its GraphQL: a look at all that the power controller decides by, and what is done with runs and
//! code locations.
//!
//! It is asked at the address of the webserver's running task, or where the configuration says. What a Dagster of another
//! version does not know is left out and named; everything else that is not a whole answer is an error, so that what could
//! not be read never looks idle. Its own texts may quote an LA's data, and are in no error.

mod actions;
mod document;
mod events;
mod http;
mod launch;
mod observe;
mod once;
mod runs;
pub mod seen;

use std::{iter, sync::Arc, time::Duration};

use ::http::StatusCode;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};
use sfdata_common::{
    limits,
    metrics::Totals,
    outcome::{FailureCode, failure_name, failure_names},
};
use tokio::{sync::Mutex, time::Instant};

use self::{
    document::{Document, Verdict},
    http::Http,
};
pub use self::{
    launch::Launch,
    runs::{RunsAsked, TAGGED_RUNS},
    seen::Seen,
};
use super::{Error, ecs::Ecs};
use crate::config;

/// Where the webserver was found is believed for so long: later another task may have its address.
const BELIEVED: Duration = Duration::from_secs(60);
/// A document is asked again without what is not known, but not for ever.
const TRIES: usize = 4;

/// The platform's Dagster. Cheap to clone; clones share where it was found.
#[derive(Debug, Clone)]
pub struct Dagster {
    http: Arc<Http>,
    ecs: Arc<Ecs>,
    /// From the configuration.
    url: Option<Arc<str>>,
    found: Arc<Mutex<Option<Found>>>,
    /// By `ok` or the kind of failure.
    calls: Totals,
}

/// Where the webserver's task was found, and when.
#[derive(Debug)]
struct Found {
    url: Arc<str>,
    at: Instant,
}

/// The data of a whole answer.
struct Told {
    data: Map<String, Value>,
    /// What this Dagster does not know, by name.
    degraded: Vec<String>,
}

impl Dagster {
    /// The one whose webserver runs in this ECS.
    pub(super) fn new(ecs: &Ecs) -> Self {
        Self {
            http: Arc::new(Http::new()),
            ecs: Arc::new(ecs.clone()),
            url: None,
            found: Arc::default(),
            calls: Totals::by(["result"]).starting_with(iter::once("ok".to_owned()).chain(failure_names())),
        }
    }

    /// Where these settings say, if they do.
    pub(super) fn at(self, settings: &config::Dagster) -> Self {
        Self { url: settings.url.as_deref().map(|url| url.trim_end_matches('/').into()), ..self }
    }

    /// Questions and orders so far, by how they ended.
    pub(crate) fn calls(&self) -> Totals {
        self.calls.clone()
    }

    /// Ask a document. `tried` goes after "cannot".
    async fn ask(&self, tried: &str, text: &str, variables: Value) -> Result<Told, Error> {
        let told = self.ask_for_all(tried, text, variables).await;
        match &told {
            Ok(_) => self.calls.inc("ok"),
            Err(Error::Failed { code, .. }) => self.calls.inc(failure_name(*code)),
            Err(Error::Cancelled { .. }) => self.calls.inc("cancelled"),
        }
        told
    }

    async fn ask_for_all(&self, tried: &str, text: &str, variables: Value) -> Result<Told, Error> {
        let mut document = Document::new(text);
        for _ in 0..TRIES {
            let body = json!({ "query": document.text(), "variables": variables }).to_string().into_bytes();
            let (url, answer) = self.post(tried, body).await?;
            match document.judge(&answer.body) {
                Verdict::Whole(data) => {
                    return Ok(Told { data, degraded: document.degraded().map(str::to_owned).collect() });
                }
                Verdict::Again => {}
                Verdict::Unknown(words) => {
                    let text = format!(
                        "cannot {tried}: this Dagster does not understand what it is asked: {words}; the agent knows \
                         Dagster 1.8 to 1.13"
                    );
                    return Err(Error::failed(FailureCode::Rejected, text));
                }
                Verdict::Failed(place) => {
                    let text = format!(
                        "cannot {tried}: Dagster answered only in part, without {place}; try again, or look at the \
                         webserver's logs"
                    );
                    return Err(Error::failed(FailureCode::Unavailable, text));
                }
                Verdict::Foreign => return Err(foreign(tried, &url, &answer)),
            }
        }
        let text = format!("cannot {tried}: this Dagster keeps finding something that it does not know");
        Err(Error::failed(FailureCode::Rejected, text))
    }

    /// One call, to where Dagster is now.
    async fn post(&self, tried: &str, body: Vec<u8>) -> Result<(Arc<str>, http::Answer), Error> {
        let (mut url, known) = self.place().await.map_err(|error| could_not(tried, error))?;
        let mut answer = self.http.post(&format!("{url}/graphql"), body.clone()).await;
        if matches!(answer, Err(http::Error::Connect(_))) {
            *self.found.lock().await = None;
            if known {
                // The task may have been replaced since it was looked up; nothing was asked.
                (url, _) = self.place().await.map_err(|error| could_not(tried, error))?;
                answer = self.http.post(&format!("{url}/graphql"), body).await;
            }
        }
        answer.map(|answer| (Arc::clone(&url), answer)).map_err(|error| {
            let (code, remedy) = match error {
                http::Error::Connect(_) => (
                    FailureCode::Unavailable,
                    "it may still be starting, or the webserver's security group does not let the agent in",
                ),
                http::Error::Broken(_) | http::Error::Late => {
                    (FailureCode::Unavailable, "try again; if it lasts, look at the webserver's logs")
                }
                http::Error::TooLarge => (FailureCode::Rejected, "ask for less"),
                http::Error::Url(_) => (FailureCode::Rejected, "correct dagster.url in the agent's configuration"),
            };
            Error::failed(code, format!("cannot {tried}: Dagster at {url}: {error}; {remedy}"))
        })
    }

    /// Where the webserver is, and whether that was found before.
    async fn place(&self) -> Result<(Arc<str>, bool), Error> {
        if let Some(url) = &self.url {
            return Ok((Arc::clone(url), false));
        }
        let mut found = self.found.lock().await;
        if let Some(Found { url, at }) = &*found
            && at.elapsed() < BELIEVED
        {
            return Ok((Arc::clone(url), true));
        }
        *found = None;
        let url: Arc<str> = self.ecs.page().await?.into();
        *found = Some(Found { url: Arc::clone(&url), at: Instant::now() });
        Ok((url, false))
    }
}

fn could_not(tried: &str, error: Error) -> Error {
    match error {
        Error::Failed { code, message } => Error::failed(code, format!("cannot {tried}: {message}")),
        cancelled @ Error::Cancelled { .. } => cancelled,
    }
}

/// What answered is not GraphQL, such as a page of something in between.
fn foreign(tried: &str, url: &str, answer: &http::Answer) -> Error {
    let (status, kind) = (answer.status, &answer.content_type);
    let code = match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => FailureCode::AccessDenied,
        StatusCode::TOO_MANY_REQUESTS => FailureCode::Throttled,
        _ => FailureCode::Unavailable,
    };
    let kind = if kind.is_empty() { "of no type" } else { kind };
    let text = format!(
        "cannot {tried}: what answers at {url} is not Dagster's GraphQL (HTTP {}, {kind}); look at what stands between, \
         at the webserver's logs, and at dagster.url",
        status.as_u16()
    );
    Error::failed(code, text)
}

impl Told {
    /// One of its parts, which has to be of this type: every part of ours asks for `__typename`.
    fn part<T: DeserializeOwned>(&mut self, tried: &str, name: &str, wanted: &str) -> Result<T, Error> {
        let value = self.data.remove(name).unwrap_or_default();
        match value["__typename"].as_str() {
            Some(kind) if kind == wanted => read(tried, name, value),
            Some(kind) => Err(refused(tried, kind, &value)),
            None => Err(lacks(tried, name)),
        }
    }
}

/// Read a value into its type.
fn read<T: DeserializeOwned>(tried: &str, name: &str, value: Value) -> Result<T, Error> {
    // Serde's own words may quote the value.
    serde_json::from_value(value).map_err(|_| lacks(tried, name))
}

fn lacks(tried: &str, name: &str) -> Error {
    let text = format!(
        "cannot {tried}: Dagster's answer has not the {name} that it should have; the agent knows Dagster 1.8 to 1.13"
    );
    Error::failed(FailureCode::Unavailable, text)
}

/// Dagster said no, by an object of another type than the one that was hoped for.
fn refused(tried: &str, kind: &str, value: &Value) -> Error {
    let (code, text) = match kind {
        "UnauthorizedError" => (
            FailureCode::AccessDenied,
            "Dagster's webserver does not allow it: was it started with --read-only?".to_owned(),
        ),
        "PythonError" => {
            let class = value["className"].as_str().filter(|class| is_class(class)).unwrap_or("an error");
            let text = format!(
                "Dagster itself failed with {class}; try again, or look at the logs of webserver and code server"
            );
            (FailureCode::Unavailable, text)
        }
        "RunNotFoundError" | "PipelineRunNotFoundError" => {
            (FailureCode::NotFound, "there is no such run; see what there is with hubctl dagster runs".to_owned())
        }
        "PipelineNotFoundError" | "RepositoryNotFoundError" | "RepositoryLocationNotFound" => {
            (FailureCode::NotFound, "Dagster does not know it; see what there is with hubctl dagster status".to_owned())
        }
        other => (FailureCode::Rejected, format!("Dagster refuses it ({other}); correct the order")),
    };
    Error::failed(code, format!("cannot {tried}: {text}"))
}

/// Whether it is the name of a Python class, and not anything else that somebody put there.
fn is_class(text: &str) -> bool {
    text.len() <= 100 && !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '.')
}

/// The names of some things, for an error that says what there is.
fn there_is(names: Vec<String>) -> String {
    super::listed(Ok(names))
}

/// Literals of statuses, for a document.
fn statuses(of: &[seen::RunStatus]) -> String {
    of.iter().map(|status| status.as_str()).collect::<Vec<_>>().join(", ")
}

/// Runs that have ended.
const ENDED: [seen::RunStatus; 3] = [seen::RunStatus::Success, seen::RunStatus::Failure, seen::RunStatus::Canceled];

/// How many runs one call may bring.
fn page(wanted: usize) -> usize {
    wanted.min(limits::DAGSTER_PAGE)
}
