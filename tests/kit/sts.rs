//! An STS that answers as AWS's never should, on a free port: a server of HTTP/1.1 that says what it is told to, and keeps
//! what it was asked.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::Result;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

/// How it answers.
#[derive(Debug, Clone)]
pub enum Answer {
    /// With these bytes, head and body.
    Bytes(String),
    /// With a body of this many bytes.
    Large(usize),
    /// With a body that comes byte by byte and has no end.
    Drip,
    /// Never.
    Hang,
}

impl Answer {
    /// A whole answer.
    pub fn of(status: &str, headers: &str, body: &str) -> Self {
        Self::Bytes(format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n{headers}\r\n{body}", body.len()))
    }
}

/// The server; it ends when it is dropped.
pub struct Sts {
    /// Where it listens.
    pub address: SocketAddr,
    answer: Arc<Mutex<Answer>>,
    asked: Arc<Mutex<Vec<String>>>,
    task: JoinHandle<()>,
}

impl Drop for Sts {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Sts {
    /// One that hangs until it is told otherwise.
    pub async fn start() -> Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let (answer, asked) = (Arc::new(Mutex::new(Answer::Hang)), Arc::<Mutex<Vec<String>>>::default());
        let (saying, keeping) = (Arc::clone(&answer), Arc::clone(&asked));
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let answer = saying.lock().unwrap_or_else(PoisonError::into_inner).clone();
                let asked = Arc::clone(&keeping);
                tokio::spawn(async move {
                    let _ = serve(stream, answer, &asked).await; // the hub may go before the end
                });
            }
        });
        Ok(Self { address, answer, asked, task })
    }

    /// Its URL.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What it answers from now on.
    pub fn answer(&self, answer: Answer) {
        *self.answer.lock().unwrap_or_else(PoisonError::into_inner) = answer;
    }

    /// What it was asked so far, whole.
    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

async fn serve(mut stream: TcpStream, answer: Answer, asked: &Mutex<Vec<String>>) -> std::io::Result<()> {
    let mut request = Vec::new();
    while !request.ends_with(sfdata_common::sts::BODY.as_bytes()) {
        if stream.read_buf(&mut request).await? == 0 {
            return Ok(());
        }
    }
    asked.lock().unwrap_or_else(PoisonError::into_inner).push(String::from_utf8_lossy(&request).into_owned());
    match answer {
        Answer::Bytes(text) => stream.write_all(text.as_bytes()).await,
        Answer::Large(bytes) => {
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await?;
            stream.write_all(&vec![b'a'; bytes]).await
        }
        Answer::Drip => {
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await?;
            loop {
                stream.write_all(b" ").await?;
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
        Answer::Hang => std::future::pending().await,
    }
}
