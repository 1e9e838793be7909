//! Who is told of alerts: a webhook's server and a mail server, as small as can be, on free ports.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU16, Ordering},
    },
};

use anyhow::{Context as _, Result};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

/// What came in with one request.
#[derive(Debug, Clone)]
pub struct Posted {
    /// With names in lower case.
    pub headers: BTreeMap<String, String>,
    /// As it came.
    pub body: String,
    /// What it was answered.
    pub status: u16,
}

/// A server that keeps what it is sent. It ends when it is dropped.
#[derive(Debug)]
pub struct Receiver {
    /// Where it listens.
    pub address: SocketAddr,
    status: Arc<AtomicU16>,
    posted: Arc<Mutex<Vec<Posted>>>,
    task: JoinHandle<()>,
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// In place of a status: never answer.
pub const HANG: u16 = 0;

impl Receiver {
    /// For webhooks; answers with 200 until it is told otherwise.
    pub async fn http() -> Result<Self> {
        Self::start(false).await
    }

    /// For e-mail, in the clear. A mail is a [`Posted`] with its whole text as the body.
    pub async fn smtp() -> Result<Self> {
        Self::start(true).await
    }

    async fn start(mail: bool) -> Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let (status, posted) = (Arc::new(AtomicU16::new(200)), Arc::<Mutex<Vec<Posted>>>::default());
        let (saying, keeping) = (Arc::clone(&status), Arc::clone(&posted));
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (status, posted) = (Arc::clone(&saying), Arc::clone(&keeping));
                tokio::spawn(async move {
                    if mail { smtp(stream, &posted).await } else { http(stream, &status, &posted).await }
                });
            }
        });
        Ok(Self { address, status, posted, task })
    }

    /// What it answers from now on.
    pub fn answer(&self, status: u16) {
        self.status.store(status, Ordering::Relaxed);
    }

    /// All that came, in order.
    pub fn posted(&self) -> Vec<Posted> {
        self.posted.lock().expect("no test panicked with it").clone()
    }

    /// What was taken.
    pub fn taken(&self) -> Vec<Posted> {
        self.posted().into_iter().filter(|one| one.status == 200).collect()
    }
}

async fn http(stream: TcpStream, status: &AtomicU16, posted: &Mutex<Vec<Posted>>) -> Result<()> {
    let mut stream = BufReader::new(stream);
    let (mut headers, mut line) = (BTreeMap::new(), String::new());
    stream.read_line(&mut line).await?;
    loop {
        line.clear();
        stream.read_line(&mut line).await?;
        let Some((name, value)) = line.trim_end().split_once(": ") else { break };
        headers.insert(name.to_ascii_lowercase(), value.to_owned());
    }
    let length: usize = headers.get("content-length").context("no length")?.parse()?;
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await?;
    let status = status.load(Ordering::Relaxed);
    let one = Posted { headers, body: String::from_utf8(body)?, status };
    posted.lock().expect("no test panicked with it").push(one);
    if status == HANG {
        return std::future::pending().await;
    }
    let answer = format!("HTTP/1.1 {status} Said so\r\ncontent-length: 7\r\nconnection: close\r\n\r\nsaid so");
    Ok(stream.write_all(answer.as_bytes()).await?)
}

async fn smtp(stream: TcpStream, posted: &Mutex<Vec<Posted>>) -> Result<()> {
    let mut stream = BufReader::new(stream);
    stream.write_all(b"220 receiver ESMTP\r\n").await?;
    let mut line = String::new();
    loop {
        line.clear();
        if stream.read_line(&mut line).await? == 0 {
            return Ok(());
        }
        let word = line.get(..4).unwrap_or_default().to_ascii_uppercase();
        let answer: &[u8] = match word.as_str() {
            "DATA" => b"354 go on\r\n",
            "QUIT" => b"221 bye\r\n",
            _ => b"250 so be it\r\n",
        };
        stream.write_all(answer).await?;
        if word == "DATA" {
            let mut body = String::new();
            while !body.ends_with("\r\n.\r\n") {
                if stream.read_line(&mut body).await? == 0 {
                    return Ok(());
                }
            }
            let one = Posted { headers: BTreeMap::new(), body, status: 200 };
            posted.lock().expect("no test panicked with it").push(one);
            stream.write_all(b"250 taken\r\n").await?;
        }
    }
}
