//! A KMS with one Ed25519 key, which moto does not have: it signs with the real key, and can be throttled, hang, answer with
//! another key's signature, or be gone. JSON over HTTP/1.1, as the SDK speaks it; signatures of requests are not checked.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use anyhow::{Context as _, Result};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde_json::{Value, json};
use sfdata_common::keys::SigningKey;
use sfdata_hub::config::Dispatch;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

/// Of the key.
pub const ARN: &str = "arn:aws:kms:eu-west-2:111111111111:key/0f1e2d3c";

/// How it answers when it is asked to sign.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mood {
    /// As it should.
    Well,
    /// Too many requests.
    Throttled,
    /// Never.
    Hanging,
    /// With a signature of another key.
    Wrong,
    /// The role may not.
    Denied,
}

/// The server; it ends when it is dropped.
pub struct Kms {
    /// Where it listens.
    pub address: SocketAddr,
    /// Of the key.
    pub key: Arc<SigningKey>,
    credentials: PathBuf,
    mood: Arc<Mutex<Mood>>,
    signed: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Drop for Kms {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Kms {
    /// One with a new key, whose spec it calls so.
    pub async fn start(folder: &Path, spec: &'static str) -> Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let (key, other) = (Arc::new(SigningKey::generate()?), Arc::new(SigningKey::generate()?));
        let (mood, signed) = (Arc::new(Mutex::new(Mood::Well)), Arc::<AtomicUsize>::default());
        let (signing, feeling, counting) = (Arc::clone(&key), Arc::clone(&mood), Arc::clone(&signed));
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (key, other) = (Arc::clone(&signing), Arc::clone(&other));
                let (mood, signed) = (Arc::clone(&feeling), Arc::clone(&counting));
                tokio::spawn(async move {
                    let _ = serve(stream, &key, &other, spec, &mood, &signed).await; // the hub may go before the end
                });
            }
        });
        let credentials = folder.join("kms.credentials");
        std::fs::write(&credentials, "[default]\naws_access_key_id = test\naws_secret_access_key = test\n")?;
        Ok(Self { address, key, credentials, mood, signed, task })
    }

    /// What the hub's configuration says of it.
    pub fn settings(&self) -> Dispatch {
        Dispatch {
            kms_key: Some(ARN.to_owned()),
            endpoint_url: Some(format!("http://{}", self.address)),
            credentials_file: Some(self.credentials.clone()),
        }
    }

    /// How it answers from now on.
    pub fn mood(&self, mood: Mood) {
        *self.mood.lock().unwrap_or_else(PoisonError::into_inner) = mood;
    }

    /// How often it was asked to sign.
    pub fn asked(&self) -> usize {
        self.signed.load(Ordering::Relaxed)
    }
}

async fn serve(
    mut stream: TcpStream,
    key: &SigningKey,
    other: &SigningKey,
    spec: &str,
    mood: &Mutex<Mood>,
    signed: &AtomicUsize,
) -> Result<()> {
    loop {
        let (target, body) = request(&mut stream).await?;
        let (status, answer) = match target.as_str() {
            "TrentService.GetPublicKey" => {
                let key = BASE64_STANDARD.encode(key.public().to_spki());
                let facts = json!({ "KeyId": ARN, "PublicKey": key, "KeySpec": spec, "KeyUsage": "SIGN_VERIFY" });
                (200, facts)
            }
            "TrentService.Sign" => {
                signed.fetch_add(1, Ordering::Relaxed);
                let feels = *mood.lock().unwrap_or_else(PoisonError::into_inner);
                let asked = (&body["KeyId"], &body["MessageType"], &body["SigningAlgorithm"]);
                assert_eq!(asked, (&json!(ARN), &json!("RAW"), &json!("ED25519_SHA_512")));
                let message = BASE64_STANDARD.decode(body["Message"].as_str().context("no message")?)?;
                let by = |key: &SigningKey| {
                    let signature = BASE64_STANDARD.encode(key.sign(&message));
                    (200, json!({ "KeyId": ARN, "Signature": signature, "SigningAlgorithm": "ED25519_SHA_512" }))
                };
                match feels {
                    Mood::Well => by(key),
                    Mood::Wrong => by(other),
                    Mood::Throttled => (400, json!({ "__type": "ThrottlingException", "message": "Rate exceeded" })),
                    Mood::Denied => (400, json!({ "__type": "AccessDeniedException", "message": "not authorized" })),
                    Mood::Hanging => std::future::pending().await,
                }
            }
            _ => (400, json!({ "__type": "UnknownOperationException" })),
        };
        let text = answer.to_string();
        let head = format!(
            "HTTP/1.1 {status} OK\r\ncontent-type: application/x-amz-json-1.1\r\ncontent-length: {}\r\n\r\n",
            text.len()
        );
        stream.write_all((head + &text).as_bytes()).await?;
    }
}

/// The next request's target and body.
async fn request(stream: &mut TcpStream) -> Result<(String, Value)> {
    let mut bytes = Vec::new();
    let head = loop {
        if let Some(at) = bytes.windows(4).position(|end| end == b"\r\n\r\n") {
            break at + 4;
        }
        anyhow::ensure!(stream.read_buf(&mut bytes).await? > 0, "the end");
    };
    let text = String::from_utf8_lossy(&bytes[..head]).into_owned();
    let header = |name: &str| {
        text.lines()
            .filter_map(|line| line.split_once(':'))
            .find(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.trim().to_owned())
    };
    let length: usize = header("content-length").context("no length")?.parse()?;
    while bytes.len() < head + length {
        anyhow::ensure!(stream.read_buf(&mut bytes).await? > 0, "the end");
    }
    Ok((header("x-amz-target").context("no target")?, serde_json::from_slice(&bytes[head..head + length])?))
}
