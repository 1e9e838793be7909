//! One attacker, in a process of its own: connects from this machine, sends one kind of flood for some seconds, and tells what
//! the hub let it do. It is bounded in time, in connections and in bytes a second, and sends to loopback addresses only.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use arc_swap::ArcSwap;
use clap::Args;
use sfdata_common::{
    channel::SharedTls,
    limits,
    tls::{self, Identity, Knows, TlsKey},
};
use sfdata_tests::{h2, wire::dial};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    task::JoinSet,
    time::{Instant, interval, sleep_until, timeout_at},
};
use tokio_rustls::client::TlsStream;

use super::{kinds::Kind, patient};
use crate::{estate::TRUST_DOMAIN, numbers::show};

const HERE: Ipv4Addr = Ipv4Addr::LOCALHOST;
/// Connections of a flood of frames.
pub(super) const CONNECTIONS: usize = 8;
/// Connections of a flood of connections: twice what one subject or address may have.
const MANY: usize = 2 * limits::CONNECTIONS_PER_SUBJECT;
/// Pauses between bursts of one connection; with bursts of usually up to 32 KiB that is 12 MiB/s of all. A hub that was built
/// without optimization is many times slower, and so is who floods it.
pub(super) const PAUSE: Duration = Duration::from_millis(if cfg!(debug_assertions) { 100 } else { 20 });
/// Between bytes of who dribbles.
const DRIBBLE: Duration = Duration::from_millis(100);

/// What to send, to whom, as whom.
#[derive(Args)]
pub(crate) struct Asked {
    kind: Kind,
    #[arg(long)]
    target: SocketAddr,
    /// The hub's CA, in PEM
    #[arg(long)]
    ca: PathBuf,
    /// A key and its chain, in PEM; without it nobody
    #[arg(long)]
    identity: Option<PathBuf>,
    #[arg(long)]
    seconds: u64,
    /// The method that requests name
    #[arg(long)]
    path: String,
}

/// What was done.
#[derive(Default)]
struct Counts {
    offered: AtomicU64,
    opened: AtomicU64,
    cut: AtomicU64,
    bytes: AtomicU64,
}

struct Attack {
    kind: Kind,
    target: SocketAddr,
    path: String,
    tls: SharedTls,
    ends: Instant,
    counts: Counts,
}

/// TLS with what the files hold.
fn client(ca: &Path, identity: Option<&Path>) -> Result<SharedTls> {
    let cas = tls::certificates_from_pem(&std::fs::read(ca)?)?;
    let identity = identity.map(|path| {
        let text = std::fs::read_to_string(path)?;
        let mut chain = tls::certificates_from_pem(text.as_bytes())?;
        ensure!(chain.len() > 1, "{} holds no chain", path.display());
        chain.remove(0); // the key
        Ok(Identity::new(chain, &TlsKey::from_pem(&text)?)?)
    });
    let knows = Knows::Cas { certificates: &cas, trust_domain: TRUST_DOMAIN };
    Ok(Arc::new(ArcSwap::new(tls::client(identity.transpose()?.as_ref(), knows)?)))
}

/// Send the flood.
pub(crate) async fn run(asked: &Asked) -> Result<()> {
    ensure!(asked.target.ip().is_loopback(), "only this machine is flooded");
    let attack = Arc::new(Attack {
        kind: asked.kind,
        target: asked.target,
        path: asked.path.clone(),
        tls: client(&asked.ca, asked.identity.as_deref())?,
        ends: Instant::now() + Duration::from_secs(asked.seconds),
        counts: Counts::default(),
    });
    let began = Instant::now();
    let workers = match asked.kind {
        Kind::Silent | Kind::HalfTls | Kind::Connections => MANY,
        Kind::Handshakes => 2 * limits::HANDSHAKES,
        _ => CONNECTIONS,
    };
    let mut tasks = JoinSet::new();
    for _ in 0..workers {
        let attack = Arc::clone(&attack);
        tasks.spawn(async move { attack.one().await });
    }
    while let Some(ended) = tasks.join_next().await {
        ended.context("a task panicked")?;
    }
    let seconds = began.elapsed().as_secs_f64();
    let Counts { offered, opened, cut, bytes } = &attack.counts;
    for (name, count) in [("offered", offered), ("opened", opened), ("cut", cut), ("bytes", bytes)] {
        show(name, format!("{:.0}", count.load(Relaxed) as f64 / seconds));
    }
    Ok(())
}

impl Attack {
    /// One connection after the other, until the time is over.
    async fn one(&self) {
        while Instant::now() < self.ends {
            self.counts.offered.fetch_add(1, Relaxed);
            if timeout_at(self.ends, self.attempt()).await.is_ok() {
                self.counts.cut.fetch_add(1, Relaxed);
            }
        }
    }

    /// One connection: until the hub ends it, or the time is over.
    async fn attempt(&self) -> Option<()> {
        let tcp = match dial(HERE, self.target).await {
            Ok(tcp) => tcp,
            Err(_) => {
                // Nobody is there for a moment; trying at once would only heat this side.
                sleep_until(Instant::now() + PAUSE).await;
                return None;
            }
        };
        match self.kind {
            Kind::Silent => self.hold(tcp).await,
            Kind::HalfTls => self.dribble(tcp, &hello(&self.tls)?).await,
            _ => {
                let mut stream = self.shake_hands(tcp).await?;
                self.counts.opened.fetch_add(1, Relaxed);
                match self.kind {
                    Kind::Handshakes => stream.shutdown().await.ok(),
                    Kind::Connections => {
                        stream.write_all(&h2::opening()).await.ok()?;
                        tokio::io::copy(&mut stream, &mut tokio::io::sink()).await.ok().map(drop)
                    }
                    Kind::Preface => self.dribble_in(stream).await,
                    Kind::Endless => {
                        let sent = |bytes| {
                            self.counts.bytes.fetch_add(bytes, Relaxed);
                        };
                        patient::send(stream, &self.path, sent).await.ok()
                    }
                    _ => self.flood(stream).await,
                }
            }
        }
    }

    async fn shake_hands(&self, tcp: TcpStream) -> Option<TlsStream<TcpStream>> {
        let name = rustls::pki_types::ServerName::try_from("sfdata-hub").ok()?;
        tokio_rustls::TlsConnector::from(self.tls.load_full()).connect(name, tcp).await.ok()
    }

    async fn hold(&self, mut tcp: TcpStream) -> Option<()> {
        tcp.read_u8().await.ok().map(drop)
    }

    /// Half of these bytes one by one, and then none.
    async fn dribble(&self, mut tcp: TcpStream, bytes: &[u8]) -> Option<()> {
        let mut pause = interval(DRIBBLE);
        for byte in &bytes[..bytes.len() / 2] {
            pause.tick().await;
            tcp.write_u8(*byte).await.ok()?;
            self.counts.bytes.fetch_add(1, Relaxed);
        }
        self.hold(tcp).await
    }

    async fn dribble_in(&self, mut stream: TlsStream<TcpStream>) -> Option<()> {
        let mut pause = interval(DRIBBLE);
        for byte in h2::PREFACE.iter() {
            pause.tick().await;
            stream.write_u8(*byte).await.ok()?;
            stream.flush().await.ok()?;
            self.counts.bytes.fetch_add(1, Relaxed);
        }
        stream.read_u8().await.ok().map(drop)
    }

    /// Bursts of frames, with what comes back read or left.
    async fn flood(&self, stream: TlsStream<TcpStream>) -> Option<()> {
        let (mut from, mut to) = tokio::io::split(stream);
        let frames = self.kind.frames(&self.path);
        let write = async {
            let mut pause = interval(PAUSE);
            for bytes in frames {
                pause.tick().await;
                to.write_all(&bytes).await?;
                to.flush().await?;
                self.counts.bytes.fetch_add(bytes.len() as u64, Relaxed);
            }
            std::future::pending::<std::io::Result<()>>().await
        };
        if !self.kind.reads() {
            return write.await.ok();
        }
        let mut nowhere = tokio::io::sink();
        tokio::select! {
            written = write => written.ok(),
            read = tokio::io::copy(&mut from, &mut nowhere) => read.ok().map(drop),
        }
    }
}

fn hello(tls: &SharedTls) -> Option<Vec<u8>> {
    let name = rustls::pki_types::ServerName::try_from("sfdata-hub").ok()?;
    let mut client = rustls::ClientConnection::new(tls.load_full(), name).ok()?;
    let mut bytes = Vec::new();
    client.write_tls(&mut bytes).ok()?;
    Some(bytes)
}
