//! One call of Dagster's over HTTP: a document there, JSON back, bounded in time and size.
//!
//! Connections are not kept: uvicorn closes an idle one after five seconds, and a look happens far less often.

use bytes::Bytes;
use http::{Method, Request, StatusCode, header::CONTENT_TYPE};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use sfdata_common::{error::chain, limits};
use tokio::time::timeout;

/// Why there is no whole answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Error {
    /// Nobody is there: nothing was asked.
    #[error("there is no connection: {0}")]
    Connect(String),
    /// It may or may not have been heard.
    #[error("the connection broke: {0}")]
    Broken(String),
    /// It may or may not have been heard.
    #[error("there was no whole answer within {:?}", limits::DAGSTER_CALL)]
    Late,
    /// It was heard.
    #[error("the answer has more than {} bytes", limits::DAGSTER_BYTES)]
    TooLarge,
    /// A setting that passed for a URL.
    #[error("{0}")]
    Url(String),
}

/// An answer, whatever it is.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    /// `text/html`, without what follows.
    pub(super) content_type: String,
    pub(super) body: Bytes,
}

/// A client.
#[derive(Debug)]
pub(super) struct Http(Client<HttpConnector, Full<Bytes>>);

impl Http {
    pub(super) fn new() -> Self {
        let mut connector = HttpConnector::new();
        connector.set_connect_timeout(Some(limits::DAGSTER_CONNECT));
        Self(Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build(connector))
    }

    /// POST a JSON document.
    pub(super) async fn post(&self, url: &str, document: Vec<u8>) -> Result<Answer, Error> {
        let request = Request::builder().method(Method::POST).uri(url).header(CONTENT_TYPE, "application/json");
        let request = request.body(Full::from(document)).map_err(|error| Error::Url(error.to_string()))?;
        timeout(limits::DAGSTER_CALL, self.exchange(request)).await.unwrap_or(Err(Error::Late))
    }

    async fn exchange(&self, request: Request<Full<Bytes>>) -> Result<Answer, Error> {
        let answer = self.0.request(request).await.map_err(|error| {
            let text = chain(&error).to_string();
            if error.is_connect() { Error::Connect(text) } else { Error::Broken(text) }
        })?;
        let content_type = answer.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let content_type = content_type.split(';').next().unwrap_or_default().trim().to_owned();
        let status = answer.status();
        let body = Limited::new(answer.into_body(), limits::DAGSTER_BYTES).collect().await.map_err(|error| {
            if error.is::<LengthLimitError>() { Error::TooLarge } else { Error::Broken(error.to_string()) }
        })?;
        Ok(Answer { status, content_type, body: body.to_bytes() })
    }
}
