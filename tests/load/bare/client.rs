//! The generator's side: starts the server, tells it what to measure, and holds the clients.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    net::SocketAddr,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, Result};
use arc_swap::ArcSwap;
use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use http::uri::PathAndQuery;
use rustls::ClientConfig;
use sfdata_common::{
    Timestamp, channel, keyfile,
    keys::{PublicKey, SigningKey},
    limits,
    peer::Subject,
    tls::{self, Knows, TlsKey},
};
use tokio::{sync::mpsc, task::JoinHandle};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, client::Grpc};
use tonic_prost::ProstCodec;

use super::Signed;
use crate::estate::{Estate, TRUST_DOMAIN};

pub(crate) const SERVICE: &str = "load.v1.BareService";
const METHOD: &str = "/load.v1.BareService/Connect";
/// Clients that connect at a time.
const AT_ONCE: usize = 128;

/// The server's process, with its clients; ended when dropped.
pub(crate) struct Server {
    child: Child,
    orders: ChildStdin,
    answers: Option<BufReader<ChildStdout>>,
    address: SocketAddr,
    server_key: PublicKey,
    tls: Arc<ClientConfig>,
    key: Arc<SigningKey>,
    clients: Vec<JoinHandle<()>>,
}

impl Server {
    pub(crate) async fn start(estate: &Estate) -> Result<Self> {
        let folder = tempfile::tempdir_in(estate.folder())?.keep();
        let tls_key = TlsKey::generate()?;
        let (subject, now) = (Subject::Hub("bare".into()), Timestamp::now());
        let chain = estate.authority.issue(&tls_key.request()?, &subject, limits::HUB_CERTIFICATE, now)?;
        keyfile::create_secret(&folder.join("tls.key"), &tls_key.to_pem())?;
        std::fs::write(folder.join("chain.pem"), tls::certificates_to_pem(&chain))?;
        let key = SigningKey::generate()?;
        std::fs::write(folder.join("client.pub"), key.public().to_string())?;
        let server_key = SigningKey::create(&folder.join("server.key"))?.public();

        let mut child = Command::new(std::env::current_exe()?)
            .arg("bare-server")
            .arg(&folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start the bare server")?;
        let orders = child.stdin.take().context("no stdin")?;
        let answers = child.stdout.take().map(BufReader::new);
        let certificate = estate.certificate(&Subject::Operator(estate.operator.clone()))?;
        let cas = &estate.bundle.ca_certificates;
        let tls = tls::client(Some(&certificate), Knows::Cas { certificates: cas, trust_domain: TRUST_DOMAIN })?;
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut server =
            Self { child, orders, answers, address, server_key, tls, key: Arc::new(key), clients: Vec::new() };
        server.address = server.answer().await?.parse()?;
        Ok(server)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    async fn answer(&mut self) -> Result<String> {
        let mut answers = self.answers.take().context("an answer was lost")?;
        let read = move || {
            let mut line = String::new();
            answers.read_line(&mut line).map(|_| (answers, line))
        };
        let (answers, line) = tokio::task::spawn_blocking(read).await??;
        self.answers = Some(answers);
        Ok(line.trim_end().to_owned())
    }

    async fn ask(&mut self, order: &str) -> Result<String> {
        writeln!(self.orders, "{order}")?;
        self.answer().await
    }

    /// Hold so many clients, each on a connection of its own, and wait until the server has them all.
    pub(crate) async fn connect(&mut self, count: usize) -> Result<()> {
        let (address, tls) = (self.address.to_string(), Arc::new(ArcSwap::new(Arc::clone(&self.tls))));
        let open = || client(address.clone(), Arc::clone(&tls), self.server_key, Arc::clone(&self.key));
        let clients = stream::iter((self.clients.len()..count).map(|_| open())).buffer_unordered(AT_ONCE);
        let clients: Vec<_> = clients.try_collect().await?;
        self.clients.extend(clients);
        while self.ask("clients").await?.parse::<usize>()? < count {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Ok(())
    }

    /// One message and its reply, again and again: p50 and p99.
    pub(crate) async fn one(&mut self, count: usize) -> Result<(Duration, Duration)> {
        let answer = self.ask(&format!("one {count}")).await?;
        let (p50, p99) = answer.split_once(' ').with_context(|| format!("an answer that can't be read: {answer:?}"))?;
        Ok((Duration::from_nanos(p50.parse()?), Duration::from_nanos(p99.parse()?)))
    }

    /// One message to every client, until the last reply.
    pub(crate) async fn fan_out(&mut self) -> Result<Duration> {
        Ok(Duration::from_nanos(self.ask("fanout").await?.parse()?))
    }

    /// Replies a second.
    pub(crate) async fn sustain(&mut self, time: Duration, in_flight: usize) -> Result<f64> {
        Ok(self.ask(&format!("sustain {} {in_flight}", time.as_millis())).await?.parse()?)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.clients.iter().for_each(JoinHandle::abort);
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Connect one client; it verifies, signs and answers until the stream ends.
async fn client(
    address: String,
    tls: channel::SharedTls,
    server_key: PublicKey,
    key: Arc<SigningKey>,
) -> Result<JoinHandle<()>> {
    let (out, replies) = mpsc::channel::<Signed>(16);
    let mut grpc = Grpc::new(channel::open(&address, tls));
    grpc.ready().await?;
    let codec = ProstCodec::<Signed, Signed>::default();
    let request = Request::new(ReceiverStream::new(replies));
    let messages = grpc.streaming(request, PathAndQuery::from_static(METHOD), codec).await?.into_inner();
    Ok(tokio::spawn(async move {
        let _channel = grpc; // the connection lives as long as it
        let reply: Bytes = vec![b'y'; super::PAYLOAD_BYTES].into();
        let mut messages = messages;
        while let Ok(Some(message)) = messages.message().await {
            if message.is_signed_by(&server_key) && out.send(Signed::new(&reply, &key)).await.is_err() {
                return;
            }
        }
    }))
}
