//! The server's process: holds the streams, and measures.

use std::{
    collections::VecDeque,
    convert::Infallible,
    io::{self, BufRead as _, Write as _},
    path::Path,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use futures::future::BoxFuture;
use sfdata_common::{
    keys::{PublicKey, SigningKey},
    tls::{self, Identity, TlsKey},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{Semaphore, mpsc, oneshot},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_stream::{StreamExt as _, wrappers::ReceiverStream};
use tonic::{
    Request, Response, Status, Streaming, body::Body, codegen::Service, server::NamedService,
    transport::server::Connected,
};
use tonic_prost::ProstCodec;

use super::{PAYLOAD_BYTES, Signed};
use crate::numbers::Latencies;

/// Messages that wait for one client.
const BACKLOG: usize = 256;

/// Serve and measure until stdin ends. `folder` holds what [`super::client::Server::start`] put there.
pub(crate) async fn run(folder: &Path) -> Result<()> {
    let key = TlsKey::read(&folder.join("tls.key"))?;
    let chain = tls::certificates_from_pem(&std::fs::read(folder.join("chain.pem"))?)?;
    let ca = chain.last().context("no CA")?.clone();
    let tls = tls::server(&Identity::new(chain, &key)?, Some(&[ca]))?;
    let clients_key: PublicKey = std::fs::read_to_string(folder.join("client.pub"))?.parse()?;
    let streams =
        Arc::new(Streams { signs: SigningKey::read(&folder.join("server.key"))?, clients_key, all: Mutex::default() });

    let listener = TcpListener::bind("127.0.0.1:0").await?;
    answer(listener.local_addr()?)?;
    let (accepted, incoming) = mpsc::channel(64);
    tokio::spawn(accept(listener, TlsAcceptor::from(tls), accepted));
    let serving = tonic::transport::Server::builder()
        .add_service(Bare(Arc::clone(&streams)))
        .serve_with_incoming(ReceiverStream::new(incoming));
    tokio::spawn(serving);

    let (lines, mut told) = mpsc::channel(1);
    tokio::task::spawn_blocking(move || {
        io::stdin().lock().lines().map_while(Result::ok).all(|line| lines.blocking_send(line).is_ok());
    });
    while let Some(line) = told.recv().await {
        let words: Vec<&str> = line.split(' ').collect();
        match words[..] {
            ["clients"] => answer(streams.all().len())?,
            ["one", count] => {
                let latencies = streams.one(count.parse()?).await?;
                answer(format_args!("{} {}", latencies.p50().as_nanos(), latencies.p99().as_nanos()))?;
            }
            ["fanout"] => answer(streams.fan_out().await?.as_nanos())?,
            ["sustain", milliseconds, in_flight] => {
                let time = Duration::from_millis(milliseconds.parse()?);
                answer(streams.sustain(time, in_flight.parse()?).await?)?;
            }
            _ => bail!("{line:?} is not known here"),
        }
    }
    Ok(())
}

fn answer(what: impl std::fmt::Display) -> io::Result<()> {
    let mut out = io::stdout();
    writeln!(out, "{what}")?;
    out.flush()
}

async fn accept(listener: TcpListener, tls: TlsAcceptor, accepted: mpsc::Sender<io::Result<Connection>>) {
    while let Ok((tcp, _)) = listener.accept().await {
        let (tls, accepted) = (tls.clone(), accepted.clone());
        tokio::spawn(async move {
            let _ = tcp.set_nodelay(true);
            if let Ok(stream) = tls.accept(tcp).await {
                let _ = accepted.send(Ok(Connection(stream))).await;
            }
        });
    }
}

/// Every client's stream.
struct Streams {
    signs: SigningKey,
    clients_key: PublicKey,
    all: Mutex<Vec<Stream>>,
}

#[derive(Clone)]
struct Stream {
    out: mpsc::Sender<Result<Signed, Status>>,
    /// Who waits for the replies, in the order of the messages.
    waiting: Arc<Mutex<VecDeque<oneshot::Sender<()>>>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Streams {
    fn all(&self) -> Vec<Stream> {
        lock(&self.all).clone()
    }

    /// Sign a message and send it; resolves with the verified reply.
    async fn send(&self, stream: &Stream, payload: &Bytes) -> Result<oneshot::Receiver<()>> {
        let (reply, replied) = oneshot::channel();
        lock(&stream.waiting).push_back(reply);
        stream.out.send(Ok(Signed::new(payload, &self.signs))).await?;
        Ok(replied)
    }

    async fn one(&self, count: usize) -> Result<Latencies> {
        let (streams, payload) = (self.all(), payload());
        let mut latencies = Vec::with_capacity(count);
        for stream in streams.iter().cycle().take(count) {
            let began = Instant::now();
            self.send(stream, &payload).await?.await?;
            latencies.push(began.elapsed());
        }
        Ok(Latencies::new(latencies))
    }

    async fn fan_out(&self) -> Result<Duration> {
        let (streams, payload) = (self.all(), payload());
        let began = Instant::now();
        let mut replies = Vec::with_capacity(streams.len());
        for stream in &streams {
            replies.push(self.send(stream, &payload).await?);
        }
        for reply in replies {
            reply.await?;
        }
        Ok(began.elapsed())
    }

    /// Messages a second that are answered, with so many unanswered at a time; one task signs.
    async fn sustain(&self, time: Duration, in_flight: usize) -> Result<f64> {
        let (streams, payload) = (self.all(), payload());
        let room = Arc::new(Semaphore::new(in_flight));
        let (began, mut count) = (Instant::now(), 0_u64);
        for stream in streams.iter().cycle() {
            if began.elapsed() >= time {
                break;
            }
            let place = Arc::clone(&room).acquire_owned().await?;
            let reply = self.send(stream, &payload).await?;
            tokio::spawn(async move {
                let _ = reply.await;
                drop(place);
            });
            count += 1;
        }
        let _all_are_back = room.acquire_many(in_flight.try_into()?).await?;
        Ok(count as f64 / began.elapsed().as_secs_f64())
    }

    fn open(self: Arc<Self>, mut replies: Streaming<Signed>) -> ReceiverStream<Result<Signed, Status>> {
        let (out, messages) = mpsc::channel(BACKLOG);
        let waiting = Arc::<Mutex<VecDeque<_>>>::default();
        lock(&self.all).push(Stream { out, waiting: Arc::clone(&waiting) });
        tokio::spawn(async move {
            while let Some(Ok(reply)) = replies.next().await {
                if reply.is_signed_by(&self.clients_key)
                    && let Some(waits) = lock(&waiting).pop_front()
                {
                    let _ = waits.send(());
                }
            }
        });
        ReceiverStream::new(messages)
    }
}

fn payload() -> Bytes {
    vec![b'x'; PAYLOAD_BYTES].into()
}

/// The gRPC service, as tonic's generated code would write it.
#[derive(Clone)]
struct Bare(Arc<Streams>);

impl NamedService for Bare {
    const NAME: &'static str = super::client::SERVICE;
}

impl Service<http::Request<Body>> for Bare {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let streams = Arc::clone(&self.0);
        Box::pin(async move {
            let handler = tower::service_fn(move |request: Request<Streaming<Signed>>| {
                let stream = Arc::clone(&streams).open(request.into_inner());
                std::future::ready(Ok::<_, Status>(Response::new(stream)))
            });
            Ok(tonic::server::Grpc::new(ProstCodec::<Signed, Signed>::default()).streaming(handler, request).await)
        })
    }
}

/// tonic wants to be told what a connection is.
struct Connection(TlsStream<TcpStream>);

impl Connected for Connection {
    type ConnectInfo = ();
    fn connect_info(&self) {}
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, into)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write_vectored(context, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}
