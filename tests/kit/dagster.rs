//! Dagster: a real one with pipelines of its own, and one that answers wrongly in every way that there is.
//!
//! The real one starts in some seconds and is in no network but loopback's: a test takes one for all that it looks at.

use std::{
    io::{BufRead as _, BufReader},
    os::unix::process::CommandExt as _,
    path::Path,
    process::{Child, ChildStdin, Command, Stdio},
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

use crate::{fleet::free_port, standin::python};

/// A real Dagster; it ends with the test, also when that is killed, because its standard input closes.
pub struct Dagster {
    child: Child,
    input: Option<ChildStdin>,
    port: u16,
    prefix: &'static str,
    /// Its logs and its storage.
    pub folder: TempDir,
}

impl Dagster {
    /// With a daemon, so that runs are started and schedules and sensors are looked at, and with a code location that is broken.
    pub async fn start() -> Self {
        Self::with("", &["broken", "daemon"]).await
    }

    /// One in which nothing is broken.
    pub async fn whole() -> Self {
        Self::with("", &["daemon"]).await
    }

    /// Without one, and with a path prefix: what is launched stays queued.
    pub async fn without_daemon(prefix: &'static str) -> Self {
        Self::with(prefix, &["broken"]).await
    }

    async fn with(prefix: &'static str, more: &'static [&'static str]) -> Self {
        let started = tokio::task::spawn_blocking(move || Self::try_start(prefix, more));
        started.await.expect("a thread").expect("Dagster starts")
    }

    fn try_start(prefix: &'static str, more: &[&str]) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let kit = Path::new(env!("CARGO_MANIFEST_DIR")).join("kit/dagster");
        let [code, broken, port] = [free_port()?, free_port()?, free_port()?];
        let mut child = Command::new(python()?)
            .arg(kit.join("start.py"))
            .args([folder.path(), &kit.join("jobs.py")])
            .args([code, broken, port].map(|port| port.to_string()))
            .arg(prefix)
            .args(more)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .process_group(0)
            .spawn()?;
        let input = child.stdin.take();
        let mut said = String::new();
        BufReader::new(child.stdout.take().context("it has an output")?).read_line(&mut said)?;
        if said.trim() != "ready" {
            let _ = child.wait();
            bail!("it did not start; see {}", folder.keep().display());
        }
        Ok(Self { child, input, port, prefix, folder })
    }

    /// Of its webserver, with the path prefix.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}{}", self.port, self.prefix)
    }
}

impl Drop for Dagster {
    fn drop(&mut self) {
        drop(self.input.take());
        let _ = self.child.wait();
    }
}

/// What a [`Faulty`] Dagster answers to one question.
#[derive(Debug, Clone)]
pub enum Reply {
    /// JSON, with this status.
    Json(u16, Value),
    /// Anything else: status, type and text.
    Text(u16, &'static str, String),
    /// A body without an end.
    Endless,
    /// Nothing at all.
    Silent,
    /// A connection that ends in the middle of the body.
    Half,
}

/// Decides what is answered: given how many questions came before, and the question.
type Answers = dyn Fn(usize, &Value) -> Reply + Send + Sync;

/// Something that speaks HTTP where Dagster should be.
pub struct Faulty {
    /// Where it is.
    pub url: String,
    asked: Arc<Mutex<Vec<Value>>>,
    serving: JoinHandle<()>,
}

impl Faulty {
    /// Forget what was asked so far.
    pub fn forget(&self) {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Listen on a free port.
    pub async fn start(answers: impl Fn(usize, &Value) -> Reply + Send + Sync + 'static) -> Self {
        Self::at("127.0.0.1:0", answers).await
    }

    /// Listen there.
    pub async fn at(address: &str, answers: impl Fn(usize, &Value) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind(address).await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let (asked, answers): (Arc<Mutex<Vec<Value>>>, Arc<Answers>) = (Arc::default(), Arc::new(answers));
        let heard = Arc::clone(&asked);
        let serving = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (heard, answers) = (Arc::clone(&heard), Arc::clone(&answers));
                tokio::spawn(async move { serve(stream, &heard, &*answers).await });
            }
        });
        Self { url, asked, serving }
    }

    /// What it was asked.
    pub fn asked(&self) -> Vec<Value> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Faulty {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn serve(mut stream: TcpStream, heard: &Mutex<Vec<Value>>, answers: &Answers) -> Option<()> {
    let mut request = Vec::new();
    let question: Value = loop {
        if stream.read_buf(&mut request).await.ok()? == 0 {
            return None;
        }
        let end = request.windows(4).position(|four| four == b"\r\n\r\n");
        let question = end.and_then(|end| serde_json::from_slice(&request[end + 4..]).ok());
        if let Some(question) = question {
            break question;
        }
    };
    let before = {
        let mut heard = heard.lock().unwrap_or_else(PoisonError::into_inner);
        heard.push(question.clone());
        heard.len() - 1
    };
    let head = |status: u16, kind: &str, length: usize| {
        format!("HTTP/1.1 {status} X\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n")
    };
    match answers(before, &question) {
        Reply::Json(status, body) => {
            let body = body.to_string();
            stream.write_all((head(status, "application/json", body.len()) + &body).as_bytes()).await.ok()?;
        }
        Reply::Text(status, kind, body) => {
            stream.write_all((head(status, kind, body.len()) + &body).as_bytes()).await.ok()?;
        }
        Reply::Endless => {
            stream.write_all(head(200, "application/json", usize::MAX >> 1).as_bytes()).await.ok()?;
            let blanks = vec![b' '; 64 * 1024];
            while stream.write_all(&blanks).await.is_ok() {}
        }
        Reply::Silent => std::future::pending().await,
        Reply::Half => {
            stream.write_all((head(200, "application/json", 1000) + "{\"data\": {").as_bytes()).await.ok()?;
        }
    }
    stream.shutdown().await.ok()
}
