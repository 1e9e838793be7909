//! The one question to AWS: who signed this? It goes to the address of the hub's own configuration, over https, whatever a
//! request names; redirects are not followed, and an answer has a bound in size and in time.

use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, StatusCode, Uri};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use sfdata_common::{error::chain, limits, sts};
use tokio::{
    sync::{OnceCell, Semaphore},
    time::timeout,
};

use super::{
    reply::{self, Caller, Odd},
    request::Checked,
};
use crate::config;

/// AWS's codes of "not now" (SDK reference guide, "Retry behavior"), whatever their HTTP status.
const BUSY: [&str; 4] = ["Throttling", "ThrottlingException", "RequestLimitExceeded", "ServiceUnavailable"];
/// Least room that hyper needs for the head of an answer.
const HEAD_BYTES: usize = 8 * 1024;

/// Why STS told nothing.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No turn came.
    #[error("{} other agents are joining; try again", limits::STS_AT_ONCE)]
    Busy,
    /// The certificates of this machine.
    #[error("the certificates that the hub's machine trusts cannot be read: {0}")]
    Roots(String),
    /// No connection, no TLS, no whole answer.
    #[error("{host} could not be asked: {reason}; try again, or look at enrol.aws of the hub")]
    Unreachable {
        /// What was dialled.
        host: String,
        /// Why.
        reason: String,
    },
    /// An answer that takes too long.
    #[error("{host} did not answer within {} s; try again", .within.as_secs())]
    Slow {
        /// What was dialled.
        host: String,
        /// How long was waited.
        within: Duration,
    },
    /// AWS says no: the signature or the credentials do not hold.
    #[error("AWS does not accept the signature (HTTP {status}{})", code.as_ref().map(|code| format!(", {code}")).unwrap_or_default())]
    Denied {
        /// Of its answer.
        status: u16,
        /// AWS's own.
        code: Option<String>,
    },
    /// Anything but an answer: a redirect, an error of AWS's own, a page from something in between.
    #[error("{host} answered with HTTP {status}, which says nothing; try again")]
    Answer {
        /// What was dialled.
        host: String,
        /// Of its answer.
        status: u16,
    },
    /// An answer that is none.
    #[error("the answer of {host} tells nothing: {odd}")]
    Odd {
        /// What was dialled.
        host: String,
        /// Why.
        odd: Odd,
    },
}

type Http = Client<HttpsConnector<HttpConnector>, Full<Bytes>>;

/// Asks STS.
pub struct Sts {
    url: Uri,
    host: String,
    region: String,
    client: OnceCell<Box<Http>>,
    turns: Semaphore,
}

impl Sts {
    /// The STS of the configuration, which was checked. Nothing is asked yet.
    pub fn new(settings: &config::Aws) -> Self {
        let host = settings.host();
        let scheme =
            if settings.endpoint_url.as_ref().is_some_and(|url| url.starts_with("http:")) { "http" } else { "https" };
        let url = Uri::builder().scheme(scheme).authority(host.as_str()).path_and_query("/").build();
        Self {
            url: url.unwrap_or_default(),
            host,
            region: settings.region.clone(),
            client: OnceCell::new(),
            turns: Semaphore::new(limits::STS_AT_ONCE),
        }
    }

    /// What a request has to name as its host.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// What a request has to be signed for.
    pub fn region(&self) -> &str {
        &self.region
    }

    /// Send a checked request on, and read who signed it.
    pub async fn caller(&self, checked: &Checked) -> Result<Caller, Error> {
        let turn = timeout(limits::STS_CALL, self.turns.acquire()).await.map_err(|_| Error::Busy)?;
        let _turn = turn.map_err(|_| Error::Busy)?;
        let within = limits::STS_CALL;
        let (status, body) = timeout(within, self.exchange(checked))
            .await
            .map_err(|_| Error::Slow { host: self.host.clone(), within })??;
        match status {
            StatusCode::OK => reply::read(&body).map_err(|odd| Error::Odd { host: self.host.clone(), odd }),
            StatusCode::BAD_REQUEST | StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => match reply::code(&body) {
                Some(code) if BUSY.contains(&code.as_str()) => {
                    Err(Error::Answer { host: self.host.clone(), status: status.as_u16() })
                }
                code => Err(Error::Denied { status: status.as_u16(), code }),
            },
            _ => Err(Error::Answer { host: self.host.clone(), status: status.as_u16() }),
        }
    }

    async fn exchange(&self, checked: &Checked) -> Result<(StatusCode, Bytes), Error> {
        let unreachable = |reason: String| Error::Unreachable { host: self.host.clone(), reason };
        let request =
            checked.headers().fold(Request::builder().method(Method::POST).uri(&self.url), |request, (name, value)| {
                request.header(name, value)
            });
        let request = request.body(Full::from(sts::BODY)).map_err(|error| unreachable(error.to_string()))?;
        let client = self.client.get_or_try_init(|| async { open() }).await?;
        let answer = client.request(request).await.map_err(|error| unreachable(chain(&error).to_string()))?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), limits::STS_REPLY_BYTES).collect().await;
        Ok((status, body.map_err(|error| unreachable(error.to_string()))?.to_bytes()))
    }
}

/// Made when it is first needed: a hub that nobody joins by AWS needs no certificates of its machine.
fn open() -> Result<Box<Http>, Error> {
    let provider = std::sync::Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let connector = HttpsConnectorBuilder::new()
        .with_provider_and_native_roots(provider)
        .map_err(|error| Error::Roots(error.to_string()))?;
    // http is for the loopback of the sandbox alone, which the configuration's check has seen to.
    let connector = connector.https_or_http().enable_http1().build();
    let client = Client::builder(TokioExecutor::new())
        .pool_max_idle_per_host(0)
        .http1_max_buf_size(HEAD_BYTES)
        .retry_canceled_requests(false)
        .build(connector);
    Ok(Box::new(client))
}
