//! Who is told: a webhook, people by e-mail, a topic of SNS. One try each; trying again is the caller's.

use std::{fmt, fs, path::Path, sync::Arc, time::Duration};

use aws_lc_rs::hmac;
use bytes::Bytes;
use http::{Method, Request, header::CONTENT_TYPE};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use jiff::Timestamp;
use lettre::{
    AsyncSmtpTransport, AsyncTransport as _, Message, Tokio1Executor,
    message::{Mailbox, header::ContentType},
    transport::smtp::{authentication::Credentials, extension::ClientId},
};
use sfdata_common::error::chain;
use tokio::time::timeout;

use super::{
    notice,
    rules::{self, Settings, topic_region},
};
use crate::aws::Place;
use crate::store::records::Notice;

/// A try that takes longer has failed.
const TRY: Duration = Duration::from_secs(15);
/// So much of a refusal's text is told.
const REFUSAL: usize = 200;
/// Of the signature that a webhook's receiver checks.
pub const SIGNATURE: &str = "sfdata-signature";

/// Why a channel can't be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A secret.
    #[error("alerts.{key} is {path}, which cannot be read: {source}; put the secret there, alone on its line")]
    Secret {
        /// Which key.
        key: &'static str,
        /// Where.
        path: std::path::PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The certificates of this machine.
    #[error("alerts.webhook: the certificates that this machine trusts cannot be read: {0}")]
    Roots(std::io::Error),
    /// A server.
    #[error("alerts.email.server {server:?} is none: {source}")]
    Server {
        /// What was given.
        server: String,
        /// Why.
        source: lettre::transport::smtp::Error,
    },
}

type Http = Box<Client<HttpsConnector<HttpConnector>, Full<Bytes>>>;

/// One way to tell.
pub struct Channel {
    hub: String,
    way: Way,
}

impl fmt::Debug for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Channel").field(&self.name()).finish()
    }
}

enum Way {
    Webhook { client: Http, url: String, key: Box<hmac::Key> },
    Email { transport: Box<AsyncSmtpTransport<Tokio1Executor>>, from: Mailbox, to: Vec<Mailbox> },
    Sns { client: aws_sdk_sns::Client, topic: String },
}

/// Those of the configuration.
pub async fn open(settings: &Settings, hub: &str) -> Result<Vec<Channel>, Error> {
    let mut ways = Vec::new();
    if let Some(webhook) = &settings.webhook {
        let key = secret("webhook.secret_file", &webhook.secret_file)?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let connector = HttpsConnectorBuilder::new().with_provider_and_native_roots(provider).map_err(Error::Roots)?;
        let client = Client::builder(TokioExecutor::new())
            .pool_max_idle_per_host(0)
            .build(connector.https_or_http().enable_http1().build());
        ways.push(Way::Webhook {
            client: Box::new(client),
            url: webhook.url.clone(),
            key: Box::new(hmac::Key::new(hmac::HMAC_SHA256, key.as_bytes())),
        });
    }
    if let Some(email) = &settings.email {
        let address = |text: &String| text.parse::<Mailbox>().ok(); // Settings::check has seen them
        if let Some(from) = address(&email.from) {
            let to = email.to.iter().filter_map(address).collect();
            ways.push(Way::Email { transport: Box::new(smtp(email)?), from, to });
        }
    }
    if let Some(sns) = &settings.sns {
        let place = Place {
            region: topic_region(&sns.topic).unwrap_or_default(),
            endpoint_url: sns.endpoint_url.as_deref(),
            credentials_file: sns.credentials_file.as_deref(),
        };
        let client = aws_sdk_sns::Client::new(&place.config(1, TRY).await);
        ways.push(Way::Sns { client, topic: sns.topic.clone() });
    }
    Ok(ways.into_iter().map(|way| Channel { hub: hub.to_owned(), way }).collect())
}

fn smtp(email: &rules::Email) -> Result<AsyncSmtpTransport<Tokio1Executor>, Error> {
    let local = email.server.parse::<http::Uri>().is_ok_and(|uri| uri.host().is_some_and(rules::is_local));
    // In the clear no password and no name may go.
    let url = match email.server.starts_with("smtp:") && !local {
        true => format!("{}?tls=required", email.server.split('?').next().unwrap_or_default()),
        false => email.server.clone(),
    };
    let builder = AsyncSmtpTransport::<Tokio1Executor>::from_url(&url)
        .map_err(|source| Error::Server { server: email.server.clone(), source })?;
    let mut builder = builder.timeout(Some(TRY)).hello_name(ClientId::Domain("localhost".into()));
    if let Some(path) = &email.password_file {
        let user = email.server.split("://").nth(1).and_then(|rest| rest.rsplit_once('@')).map_or("", |(user, _)| user);
        let user = user.split(':').next().unwrap_or_default().replace("%40", "@");
        builder = builder.credentials(Credentials::new(user, secret("email.password_file", path)?));
    }
    Ok(builder.build())
}

fn secret(key: &'static str, path: &Path) -> Result<String, Error> {
    let text = fs::read_to_string(path).map_err(|source| Error::Secret { key, path: path.into(), source })?;
    let text = text.trim();
    if text.is_empty() {
        return Err(Error::Secret { key, path: path.into(), source: std::io::Error::other("it is empty") });
    }
    Ok(text.to_owned())
}

impl Channel {
    /// `webhook`, `email` or `sns`.
    pub fn name(&self) -> &'static str {
        match self.way {
            Way::Webhook { .. } => "webhook",
            Way::Email { .. } => "email",
            Way::Sns { .. } => "sns",
        }
    }

    /// Tell once; an error says what was tried and why it failed.
    pub async fn tell(&self, id: &str, notice: &Notice) -> Result<(), String> {
        let tried = async {
            match &self.way {
                Way::Webhook { client, url, key } => {
                    let body = notice::json(&self.hub, id, notice).to_string();
                    post(client, url, key, id, body).await.map_err(|why| format!("cannot POST to {}: {why}", bare(url)))
                }
                Way::Email { transport, from, to } => {
                    let mail = mail(&self.hub, id, from, to, notice)?;
                    transport.send(mail).await.map_err(|error| format!("cannot send the e-mail: {}", chain(&error)))?;
                    Ok(())
                }
                Way::Sns { client, topic } => {
                    let call = client.publish().topic_arn(topic).subject(notice::subject(&self.hub, notice));
                    let said = call.message(notice::text(notice)).send().await;
                    said.map_err(|error| format!("cannot publish to {topic}: {}", chain(&error.into_service_error())))?;
                    Ok(())
                }
            }
        };
        timeout(TRY, tried).await.unwrap_or_else(|_| Err(format!("no answer within {} s", TRY.as_secs())))
    }
}

/// Webhooks have their secret in the path.
fn bare(url: &str) -> String {
    url.parse::<http::Uri>().ok().and_then(|uri| uri.authority().map(ToString::to_string)).unwrap_or_default()
}

async fn post(client: &Http, url: &str, key: &hmac::Key, id: &str, body: String) -> Result<(), String> {
    let at = Timestamp::now().as_second();
    let request = Request::builder()
        .method(Method::POST)
        .uri(url)
        .header(CONTENT_TYPE, "application/json")
        .header("idempotency-key", id)
        .header(SIGNATURE, signature(key, at, &body))
        .body(Full::from(body))
        .map_err(|error| error.to_string())?;
    let answer = client.request(request).await.map_err(|error| chain(&error).to_string())?;
    let status = answer.status();
    if status.is_success() {
        return Ok(());
    }
    let said = Limited::new(answer.into_body(), REFUSAL).collect().await;
    let said = said.map(|said| String::from_utf8_lossy(&said.to_bytes()).into_owned()).unwrap_or_default();
    let said: String = said.chars().filter(|c| !c.is_control()).collect();
    Err(format!("it answered {status} {said}").trim_end().to_owned())
}

/// `t=UNIX SECONDS,v1=HEX`: HMAC-SHA256 with the secret over the seconds, a full stop and the body.
fn signature(key: &hmac::Key, at: i64, body: &str) -> String {
    let tag = hmac::sign(key, format!("{at}.{body}").as_bytes());
    format!("t={at},v1={}", hex::encode(tag.as_ref()))
}

fn mail(hub: &str, id: &str, from: &Mailbox, to: &[Mailbox], notice: &Notice) -> Result<Message, String> {
    let builder = Message::builder().from(from.clone()).message_id(Some(format!("<{id}@{}>", from.email.domain())));
    let builder = to.iter().fold(builder, |builder, to| builder.to(to.clone()));
    let builder = builder.subject(notice::subject(hub, notice)).header(ContentType::TEXT_PLAIN);
    builder.body(notice::text(notice)).map_err(|error| format!("cannot write the e-mail: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_is_what_any_tool_computes() {
        // printf '1700000000.{}' | openssl dgst -sha256 -hmac secret
        let key = hmac::Key::new(hmac::HMAC_SHA256, b"secret");
        let expected = "t=1700000000,v1=b8569b78799ff9e3cbff0fc2d63a33a2b57f3282abd07c37ae5e8e7d79a5f163";
        assert_eq!(signature(&key, 1_700_000_000, "{}"), expected);
    }

    #[test]
    fn a_url_is_told_without_the_secret_in_its_path() {
        assert_eq!(bare("https://hooks.example:8443/services/T0/B0/XXXX"), "hooks.example:8443");
    }
}
