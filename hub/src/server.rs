//! The gRPC listeners: accept, shake hands, admit, serve, drain.
//!
//! The accept loop is our own because tonic's can neither exchange its certificate nor bound handshakes. Handshakes
//! run side by side within bounds; a peer becomes a request extension ([`ConnectedPeer`]) and its connection can be
//! ended at any time ([`Connections`]).

mod address;
mod connection;
mod pace;
mod unfinished;
mod whole;

use std::{
    io,
    net::SocketAddr,
    pin::pin,
    sync::Arc,
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
use futures::future;
use rustls::ServerConfig;
use sfdata_common::{
    Timestamp,
    connection::Connection,
    error::chain,
    limits,
    peer::{Peer, Subject},
};
use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    sync::{Semaphore, mpsc},
    time::{sleep, timeout},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::service::Routes;
use tracing::{debug, info, warn};

use self::address::{Addresses, Slot};
pub(crate) use self::connection::Counted;
pub use self::connection::{ConnectedPeer, Connections};
use crate::metrics::Metrics;

/// Connections that the kernel completes before we accept them: a fleet that comes back at once waits there.
const BACKLOG: u32 = 4_096;
/// Connections that wait for their turn at a handshake, half of them from one address: a fleet that comes back from
/// behind one address has to wait, and must not be sent away. Each takes a file descriptor and little else.
const WAITING: usize = 4_096;
/// Handshaken connections on their way to tonic, which takes them at once.
const HANDOVER: usize = 64;
/// Wait after a failed accept: without file descriptors it fails at once, and the loop would spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// How often failing accepts are logged.
const ACCEPT_COMPLAINT: Duration = Duration::from_secs(10);
/// Streams that a peer may open and reset before it is cut off (HTTP/2 rapid reset, CVE-2023-44487).
const PENDING_RESETS: usize = 20;
/// Streams reset because of the peer's own errors before it is cut off (CVE-2025-8671); hyper's default, which tonic unsets.
const LOCAL_RESETS: usize = 1_024;
/// Connections of the authenticated listener: every agent twice over, while it changes certificates, would be 24,000;
/// they do not all do so at once. Each takes a file descriptor and some 43 KiB.
const CONNECTIONS: usize = limits::AGENTS + 2_000;
/// Connections of the enrolment listener, which anybody can reach.
const ENROL_CONNECTIONS: usize = 1_024;
/// A connection to the enrolment listener: one short call is made on it.
const ENROL_LIFETIME: Duration = Duration::from_secs(60);

/// Why a listener can't be served.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Somebody else has the port.
    #[error(
        "port {} is in use already, so {key} = \"{address}\" can't be had; stop what holds it \
         (ss -ltnp 'sport = :{}' shows it) or set {key} to another port", .address.port(), .address.port()
    )]
    PortInUse {
        /// Key of the configuration.
        key: &'static str,
        /// What it says.
        address: SocketAddr,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Anything else.
    #[error("cannot listen on {key} = \"{address}\"; set it to an address of this machine and a port above 1023")]
    Bind {
        /// Key of the configuration.
        key: &'static str,
        /// What it says.
        address: SocketAddr,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// tonic gave up.
    #[error("the {listener} listener failed")]
    Serve {
        /// Which.
        listener: &'static str,
        /// What tonic said.
        #[source]
        source: tonic::transport::Error,
    },
}

/// A server's TLS configuration that can be exchanged while it serves; the next handshake uses the new one.
pub type SharedTls = Arc<ArcSwap<ServerConfig>>;

/// Whether the registry knows this peer and has not locked it. Asked once a connection, must not block.
pub type Admit = Arc<dyn Fn(&Peer) -> bool + Send + Sync>;

/// Who may connect.
#[derive(Clone)]
pub enum Clients {
    /// Holders of a certificate of this trust domain whom the registry admits.
    Certified {
        /// Must be that of the certificate's name.
        trust_domain: String,
        /// Asks the registry.
        admit: Admit,
    },
    /// Anybody, without a certificate: for enrolment.
    Anybody,
}

/// Bounds of one listener.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Handshakes at once.
    pub handshakes: usize,
    /// Handshakes at once from one address.
    pub per_address: usize,
    /// Whether `per_address` bounds open connections too.
    pub per_address_stays: bool,
    /// Connections that wait for their turn at a handshake; at most half of them from one address.
    pub waiting: usize,
    /// For one handshake, and for the wait before it.
    pub handshake_timeout: Duration,
    /// Open connections.
    pub connections: usize,
    /// For one connection, beside the end of its peer's certificate.
    pub lifetime: Option<Duration>,
    /// From the stop until what is still open is cut off.
    pub drain: Duration,
}

impl Limits {
    /// For agents and operators.
    pub fn authenticated() -> Self {
        Self {
            handshakes: limits::HANDSHAKES,
            per_address: limits::HANDSHAKES_PER_ADDRESS,
            per_address_stays: false,
            waiting: WAITING,
            handshake_timeout: limits::HANDSHAKE_TIMEOUT,
            connections: CONNECTIONS,
            lifetime: None,
            drain: limits::DRAIN,
        }
    }

    /// For the listener that anybody can reach.
    pub fn enrolment() -> Self {
        Self {
            per_address_stays: true,
            waiting: 0,
            connections: ENROL_CONNECTIONS,
            lifetime: Some(ENROL_LIFETIME),
            ..Self::authenticated()
        }
    }
}

/// Listen on `address`, which stands under `key` in the configuration.
pub fn bind(key: &'static str, address: SocketAddr) -> Result<TcpListener, Error> {
    let attempt = || {
        let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        socket.set_reuseaddr(true)?;
        // Accepted sockets inherit it. HTTP/2 pings find dead peers much sooner; this catches what they can't.
        socket.set_keepalive(true)?;
        socket.bind(address)?;
        socket.listen(BACKLOG)
    };
    attempt().map_err(|source| match source.kind() {
        io::ErrorKind::AddrInUse => Error::PortInUse { key, address, source },
        _ => Error::Bind { key, address, source },
    })
}

/// One gRPC listener.
pub struct Server {
    /// For logs: `authenticated` or `enrolment`.
    pub name: &'static str,
    /// Certificate and client CAs.
    pub tls: SharedTls,
    /// Who may connect.
    pub clients: Clients,
    /// Where its connections enter themselves.
    pub connections: Connections,
    /// Its bounds.
    pub limits: Limits,
    /// Where it counts.
    pub metrics: Metrics,
}

impl Server {
    /// Serve until `stop`, then drain: no new connections, GOAWAY on the open ones, and after `limits.drain` their end.
    pub async fn serve(self, listener: TcpListener, routes: Routes, stop: CancellationToken) -> Result<(), Error> {
        let (name, drain, metrics) = (self.name, self.limits.drain, self.metrics.clone());
        let (sender, accepted) = mpsc::channel(HANDOVER);
        let kill = CancellationToken::new();
        let door = Arc::new(Door {
            addresses: Addresses::new(self.limits.per_address, self.limits.waiting / 2),
            handshakes: Semaphore::new(self.limits.handshakes),
            room: Arc::new(Semaphore::new(self.limits.connections)),
            kill: kill.clone(),
            server: self,
        });
        let accepting = door.accept(listener, sender, stop.clone());
        let requests = TaskTracker::new();
        let serving = transport()
            .layer(pace::Pace::new(metrics))
            .layer(whole::Whole { tasks: requests.clone() })
            .layer(unfinished::Unfinished::default())
            .add_routes(routes)
            .serve_with_incoming_shutdown(ReceiverStream::new(accepted), stop.clone().cancelled_owned());
        let mut work = pin!(future::join(accepting, serving));
        let late = async {
            stop.cancelled().await;
            sleep(drain).await;
        };
        let ((), served) = tokio::select! {
            both = &mut work => both,
            () = late => {
                warn!(listener = name, "connections are still open {drain:?} after the stop; ending them");
                kill.cancel();
                work.await
            }
        };
        requests.close();
        requests.wait().await;
        served.map_err(|source| Error::Serve { listener: name, source })
    }
}

fn transport() -> tonic::transport::Server {
    tonic::transport::Server::builder()
        .http2_keepalive_interval(Some(limits::KEEPALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(limits::KEEPALIVE_TIMEOUT))
        .max_concurrent_streams(limits::STREAMS_PER_CONNECTION)
        .initial_stream_window_size(limits::STREAM_WINDOW)
        .initial_connection_window_size(limits::CONNECTION_WINDOW)
        .http2_max_header_list_size(limits::HEADER_LIST_BYTES)
        .http2_max_pending_accept_reset_streams(Some(PENDING_RESETS))
        .http2_max_local_error_reset_streams(Some(LOCAL_RESETS))
}

/// Why somebody did not get in.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error("this address has as many handshakes under way, and waiting, as it may have")]
    Address,
    #[error("the hub has as many connections as it may have")]
    Full,
    #[error("the handshake took too long")]
    Timeout,
    #[error("no TLS: wrong or expired certificate, or not our protocol")]
    Tls(#[source] io::Error),
    #[error(transparent)]
    Nameless(#[from] sfdata_common::peer::Nameless),
    #[error("the certificate is for trust domain {0}")]
    Foreign(String),
    #[error("{0} is not in the registry, or is locked")]
    NotAdmitted(Subject),
}

impl Refusal {
    /// The label under which it is counted.
    fn label(&self) -> &'static str {
        match self {
            Self::Address => "address-limit",
            Self::Full => "full",
            Self::Timeout => "timeout",
            Self::Tls(_) => "tls",
            Self::Nameless(_) => "nameless",
            Self::Foreign(_) => "foreign",
            Self::NotAdmitted(_) => "not-admitted",
        }
    }
}

/// Every label of [`Refusal`].
pub(crate) const REFUSALS: [&str; 7] =
    ["address-limit", "full", "timeout", "tls", "nameless", "foreign", "not-admitted"];

type Accepted = Connection<TlsStream<TcpStream>, ConnectedPeer>;

/// The way in of one listener.
struct Door {
    server: Server,
    addresses: Addresses,
    handshakes: Semaphore,
    room: Arc<Semaphore>,
    /// Ends every connection of this listener.
    kill: CancellationToken,
}

impl Door {
    async fn accept(
        self: Arc<Self>,
        listener: TcpListener,
        accepted: mpsc::Sender<io::Result<Accepted>>,
        stop: CancellationToken,
    ) {
        let Limits { handshakes, waiting, .. } = self.server.limits;
        let places = Arc::new(Semaphore::new(handshakes + waiting));
        let tasks = TaskTracker::new();
        let mut complained: Option<Instant> = None;
        loop {
            // A place first, a peer second: who finds no place waits in the kernel's queue.
            let next = async {
                let place = Arc::clone(&places).acquire_owned().await;
                (place, listener.accept().await)
            };
            let (place, peer) = tokio::select! {
                biased;
                () = stop.cancelled() => break,
                next = next => next,
            };
            let (tcp, remote) = match peer {
                Ok(peer) => peer,
                Err(error) => {
                    if complained.is_none_or(|at| at.elapsed() > ACCEPT_COMPLAINT) {
                        complained = Some(Instant::now());
                        warn!(listener = self.server.name, %error, "cannot accept a connection; is ulimit -n too low?");
                    }
                    sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let Some(slot) = self.addresses.enter(remote.ip()) else {
                self.refused(remote, &Refusal::Address);
                continue;
            };
            let (door, accepted, stop) = (Arc::clone(&self), accepted.clone(), stop.clone());
            tasks.spawn(async move {
                let _place = place;
                tokio::select! {
                    biased;
                    () = stop.cancelled() => {}
                    welcome = door.welcome(tcp, remote, slot) => match welcome {
                        // Nobody takes it once the listener has stopped.
                        Ok(connection) => drop(accepted.send(Ok(connection)).await),
                        Err(refusal) => door.refused(remote, &refusal),
                    }
                }
            });
        }
        drop(listener);
        tasks.close();
        tasks.wait().await;
        info!(listener = self.server.name, "takes no more connections");
    }

    fn refused(&self, remote: SocketAddr, refusal: &Refusal) {
        self.server.metrics.handshakes_failed.inc(refusal.label());
        debug!(listener = self.server.name, %remote, error = %chain(refusal), "connection refused");
    }

    async fn welcome(&self, tcp: TcpStream, remote: SocketAddr, mut slot: Slot) -> Result<Accepted, Refusal> {
        let Server { limits, clients, connections, metrics, tls, .. } = &self.server;
        let turn = async {
            // Who says nothing takes nobody's turn. What else is wrong with the socket, the handshake will tell.
            let _ = tcp.peek(&mut [0]).await; // not `readable`: readiness is a hint, and may be false
            slot.turn().await;
            self.handshakes.acquire().await
        };
        let place = timeout(limits.handshake_timeout, turn).await.map_err(|_| Refusal::Timeout)?;
        let room = Arc::clone(&self.room).try_acquire_owned().map_err(|_| Refusal::Full)?;
        // A socket that refuses this option is a dead one; the handshake will tell.
        let _ = tcp.set_nodelay(true);
        let handshake = TlsAcceptor::from(tls.load_full()).accept(tcp);
        let tls =
            timeout(limits.handshake_timeout, handshake).await.map_err(|_| Refusal::Timeout)?.map_err(Refusal::Tls)?;
        drop(place);

        let kill = self.kill.child_token();
        let slot = limits.per_address_stays.then_some(slot);
        let counted = Counted::new(metrics.connections.clone());
        let mut lifetime = limits.lifetime;
        let (peer, seat) = match clients {
            Clients::Anybody => (None, None),
            Clients::Certified { trust_domain, admit } => {
                let certificates = tls.get_ref().1.peer_certificates().unwrap_or_default();
                let peer = Peer::from_certificate(certificates.first().map(AsRef::as_ref).unwrap_or_default())?;
                if peer.trust_domain != *trust_domain {
                    return Err(Refusal::Foreign(peer.trust_domain));
                }
                // Enter, then ask: see `Connections::close`.
                let seat = connections.enter(&peer.subject, kill.clone());
                if !admit(&peer) {
                    return Err(Refusal::NotAdmitted(peer.subject));
                }
                let valid = Duration::try_from(peer.not_after.duration_since(Timestamp::now())).unwrap_or_default();
                lifetime = Some(lifetime.map_or(valid, |lifetime| lifetime.min(valid)));
                (Some(Arc::new(peer)), Some(seat))
            }
        };
        Ok(Connection::new(
            tls,
            ConnectedPeer { peer, remote, kill: kill.clone() },
            kill,
            lifetime,
            (room, slot, counted, seat),
        ))
    }
}

#[cfg(test)]
mod tests;
