//! Real handshakes between our own server and client configurations.

use std::sync::Mutex;

use arc_swap::ArcSwap;
use rustls::ClientConfig;
use sfdata_common::{
    channel,
    tls::{self, Identity, Knows, TlsKey},
};
use tokio::{io::AsyncWriteExt as _, task::JoinHandle};
use tonic::{Code, Status, transport::Channel};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient, health_server::HealthServer};

use super::*;
use crate::enrol::{authority::Authority, serving::Serving};

const DOMAIN: &str = "sfdata.example";
const HOUR: Duration = Duration::from_secs(3600);

fn camden() -> Subject {
    Subject::Agent("camden".parse().unwrap())
}

/// Waits until `condition` holds: what one side sees, the other may count a moment later.
async fn until(condition: impl Fn() -> bool) {
    let wait = async {
        while !condition() {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(Duration::from_secs(5), wait).await.expect("the condition holds within five seconds");
}

/// A hub's listener with a health service behind it, whose `Watch` is a stream that stays open.
struct Hub {
    folder: tempfile::TempDir,
    authority: Arc<Authority>,
    serving: Serving,
    address: SocketAddr,
    connections: Connections,
    metrics: Metrics,
    locked: Arc<Mutex<Vec<Subject>>>,
    seen: Arc<Mutex<Option<ConnectedPeer>>>,
    stop: CancellationToken,
    task: JoinHandle<Result<(), Error>>,
}

impl Hub {
    async fn start() -> Self {
        Self::with(Limits { drain: Duration::from_millis(300), ..Limits::authenticated() }, true).await
    }

    async fn with(limits: Limits, certified: bool) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let now = Timestamp::now();
        let authority = Arc::new(Authority::create(folder.path(), DOMAIN, now - 24 * HOUR).unwrap());
        let metrics = Metrics::default();
        let serving = Serving::start(Arc::clone(&authority), "core", HOUR, &[], metrics.clone(), now).unwrap();
        let locked = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::new(Mutex::new(None));
        let (connections, stop) = (Connections::default(), CancellationToken::new());
        let listener = bind("listen.address", "127.0.0.1:0".parse().unwrap()).unwrap();
        let address = listener.local_addr().unwrap();
        let admit: Admit = {
            let locked = Arc::clone(&locked);
            Arc::new(move |peer| !locked.lock().unwrap().contains(&peer.subject))
        };
        let server = Server {
            name: "test",
            tls: if certified { serving.authenticated() } else { serving.enrolment() },
            clients: match certified {
                true => Clients::Certified { trust_domain: DOMAIN.into(), admit },
                false => Clients::Anybody,
            },
            connections: connections.clone(),
            limits,
            metrics: metrics.clone(),
        };
        let (reporter, health) = tonic_health::server::health_reporter();
        reporter.set_service_status("", tonic_health::ServingStatus::Serving).await;
        drop(health);
        let service = tonic_health::server::HealthService::from_health_reporter(reporter);
        let note = Arc::clone(&seen);
        let health = HealthServer::with_interceptor(service, move |request: tonic::Request<()>| {
            *note.lock().unwrap() = ConnectedPeer::of(&request).cloned();
            Ok(request)
        });
        let task = tokio::spawn(server.serve(listener, Routes::new(health), stop.clone()));
        Self { folder, authority, serving, address, connections, metrics, locked, seen, stop, task }
    }

    /// A certificate by `authority`, valid for `lifetime` from `now`.
    fn identity(authority: &Authority, subject: &Subject, lifetime: Duration, now: Timestamp) -> Identity {
        let key = TlsKey::generate().unwrap();
        let chain = authority.issue(&key.request().unwrap(), subject, lifetime, now).unwrap();
        Identity::new(chain, &key).unwrap()
    }

    fn client(&self, identity: Option<&Identity>) -> HealthClient<Channel> {
        let cas = [self.authority.certificate().to_vec()];
        self.client_of(tls::client(identity, Knows::Cas { certificates: &cas, trust_domain: DOMAIN }).unwrap())
    }

    fn client_of(&self, config: Arc<ClientConfig>) -> HealthClient<Channel> {
        HealthClient::new(channel::open(&self.address.to_string(), Arc::new(ArcSwap::new(config))))
    }

    async fn check(&self, identity: &Identity) -> Result<(), Status> {
        self.client(Some(identity)).check(HealthCheckRequest::default()).await.map(drop)
    }

    fn failed(&self, reason: &'static str) -> u64 {
        self.metrics.handshakes_failed.value(reason)
    }

    async fn stop(self) {
        self.stop.cancel();
        timeout(Duration::from_secs(5), self.task).await.unwrap().unwrap().unwrap();
    }
}

#[tokio::test]
async fn the_peer_of_a_valid_certificate_reaches_the_handler() {
    let hub = Hub::start().await;
    let identity = Hub::identity(&hub.authority, &camden(), HOUR, Timestamp::now());
    hub.check(&identity).await.unwrap();
    let seen = hub.seen.lock().unwrap().take().unwrap();
    assert_eq!(seen.peer.as_deref(), Some(identity.peer()));
    assert!(seen.remote.ip().is_loopback());
    hub.stop().await;
}

#[tokio::test]
async fn foreign_expired_nameless_and_missing_certificates_are_refused() {
    let hub = Hub::start().await;
    let now = Timestamp::now();
    let folder = tempfile::tempdir().unwrap();
    let foreign = Authority::create(folder.path(), DOMAIN, now).unwrap();
    assert!(hub.check(&Hub::identity(&foreign, &camden(), HOUR, now)).await.is_err());
    assert!(hub.check(&Hub::identity(&hub.authority, &camden(), HOUR, now - 2 * HOUR)).await.is_err());
    assert!(hub.client(None).check(HealthCheckRequest::default()).await.is_err());
    // A hub's leaf is a server's certificate, not a client's.
    assert!(hub.check(&Hub::identity(&hub.authority, &Subject::Hub("core".into()), HOUR, now)).await.is_err());
    until(|| hub.failed("tls") == 4).await;
    // Our own CA, another trust domain.
    let other = Authority::open(hub.folder.path(), "other.example").unwrap();
    assert!(hub.check(&Hub::identity(&other, &camden(), HOUR, now)).await.is_err());
    until(|| hub.failed("foreign") == 1).await;
    assert!(hub.seen.lock().unwrap().is_none());
    until(|| hub.metrics.connections.get() == 0).await;
    hub.stop().await;
}

#[tokio::test]
async fn a_client_refuses_a_hub_of_a_foreign_ca_and_knows_its_own_by_the_pin() {
    let hub = Hub::with(Limits::enrolment(), false).await;
    let ask = |ca: &[u8]| {
        let pin = Knows::Pin { ca, trust_domain: DOMAIN };
        let mut client = hub.client_of(tls::client(None, pin).unwrap());
        async move { client.check(HealthCheckRequest::default()).await }
    };
    ask(&sfdata_common::keys::sha256(&hub.authority.certificate())).await.unwrap();
    assert!(hub.seen.lock().unwrap().take().unwrap().peer.is_none());
    assert!(ask(&[7; 32]).await.is_err());
    hub.stop().await;
}

#[tokio::test]
async fn a_ca_of_a_newer_bundle_is_trusted_from_the_next_connection_on() {
    let hub = Hub::start().await;
    let folder = tempfile::tempdir().unwrap();
    let now = Timestamp::now();
    let second = Authority::create(folder.path(), DOMAIN, now).unwrap();
    let identity = Hub::identity(&second, &camden(), HOUR, now);
    assert!(hub.check(&identity).await.is_err());
    hub.serving.trust(&[second.certificate().to_vec()]).unwrap();
    hub.check(&identity).await.unwrap();
    hub.serving.renew(now).unwrap();
    hub.check(&identity).await.unwrap();
    hub.stop().await;
}

#[tokio::test]
async fn a_lock_ends_open_streams_within_a_second_and_keeps_the_peer_out() {
    let hub = Hub::start().await;
    let now = Timestamp::now();
    let barnet = Subject::Agent("barnet".parse().unwrap());
    let mut others = hub.client(Some(&Hub::identity(&hub.authority, &barnet, HOUR, now)));
    let mut other = others.watch(HealthCheckRequest::default()).await.unwrap().into_inner();
    other.message().await.unwrap().unwrap();
    let identity = Hub::identity(&hub.authority, &camden(), HOUR, now);
    let mut client = hub.client(Some(&identity));
    let mut stream = client.watch(HealthCheckRequest::default()).await.unwrap().into_inner();
    stream.message().await.unwrap().unwrap();
    assert_eq!(hub.connections.count(&camden()), 1);

    hub.locked.lock().unwrap().push(camden());
    assert_eq!(hub.connections.close(&camden()), 1);
    let ended = timeout(Duration::from_secs(1), stream.message()).await.expect("closed within a second");
    assert!(ended.is_err(), "{ended:?}");
    assert!(hub.check(&identity).await.is_err());
    until(|| hub.failed("not-admitted") == 1 && hub.connections.count(&camden()) == 0).await;

    let still = timeout(Duration::from_millis(100), other.message()).await;
    assert!(still.is_err(), "the other agent's stream is untouched");
    hub.stop().await;
}

#[tokio::test]
async fn a_connection_ends_with_its_certificate() {
    let hub = Hub::start().await;
    let identity = Hub::identity(&hub.authority, &camden(), Duration::from_secs(2), Timestamp::now());
    let mut client = hub.client(Some(&identity));
    let mut stream = client.watch(HealthCheckRequest::default()).await.unwrap().into_inner();
    stream.message().await.unwrap().unwrap();
    let ended = timeout(Duration::from_secs(4), stream.message()).await.expect("ended with the certificate");
    assert!(ended.is_err(), "{ended:?}");
    assert!(Timestamp::now() >= identity.peer().not_after);
    hub.stop().await;
}

#[tokio::test]
async fn a_silent_peer_is_timed_out_and_takes_no_place() {
    let limits = Limits { per_address: 1, handshake_timeout: Duration::from_millis(300), ..Limits::authenticated() };
    let hub = Hub::with(limits, true).await;
    let _silent = (TcpStream::connect(hub.address).await.unwrap(), TcpStream::connect(hub.address).await.unwrap());
    let identity = Hub::identity(&hub.authority, &camden(), HOUR, Timestamp::now());
    hub.check(&identity).await.unwrap();
    assert_eq!(hub.failed("timeout"), 0, "nobody had to go first");
    until(|| hub.failed("timeout") == 2).await;
    hub.stop().await;
}

/// Begins a handshake and does not go on.
async fn halting(hub: &Hub) -> TcpStream {
    let mut tcp = TcpStream::connect(hub.address).await.unwrap();
    tcp.write_all(&[22]).await.unwrap();
    tcp
}

#[tokio::test]
async fn who_comes_behind_slow_handshakes_of_its_address_waits_and_gets_in() {
    let limits = Limits { per_address: 2, handshake_timeout: Duration::from_millis(300), ..Limits::authenticated() };
    let hub = Hub::with(limits, true).await;
    let _halting = (halting(&hub).await, halting(&hub).await);
    let identity = Hub::identity(&hub.authority, &camden(), HOUR, Timestamp::now());
    hub.check(&identity).await.unwrap();
    assert_eq!(hub.failed("timeout"), 2, "its turn came when those before had used up their time");
    assert_eq!(hub.failed("address-limit"), 0);
    hub.stop().await;
}

#[tokio::test]
async fn only_so_many_of_one_address_may_wait() {
    let limits = Limits { per_address: 1, waiting: 2, ..Limits::authenticated() };
    let hub = Hub::with(limits, true).await;
    let _halting = (halting(&hub).await, halting(&hub).await);
    let identity = Hub::identity(&hub.authority, &camden(), HOUR, Timestamp::now());
    assert!(hub.check(&identity).await.is_err());
    until(|| hub.failed("address-limit") == 1).await;
    hub.stop().await;
}

#[tokio::test]
async fn enrolment_connections_are_bounded_in_number_and_time() {
    let limits = Limits { per_address: 1, lifetime: Some(Duration::from_millis(500)), ..Limits::enrolment() };
    let hub = Hub::with(limits, false).await;
    let mut first = hub.client(None);
    first.check(HealthCheckRequest::default()).await.unwrap();
    assert!(hub.client(None).check(HealthCheckRequest::default()).await.is_err());
    until(|| hub.metrics.connections.get() == 0).await;
    hub.client(None).check(HealthCheckRequest::default()).await.unwrap();
    hub.stop().await;
}

#[tokio::test]
async fn a_drain_ends_streams_that_stay_open() {
    let hub = Hub::start().await;
    let identity = Hub::identity(&hub.authority, &camden(), HOUR, Timestamp::now());
    let mut stream = hub.client(Some(&identity)).watch(HealthCheckRequest::default()).await.unwrap().into_inner();
    stream.message().await.unwrap().unwrap();
    let address = hub.address;
    hub.stop().await;
    let ended = timeout(Duration::from_secs(1), stream.message()).await.expect("ended");
    assert!(ended.is_err_and(|status| status.code() != Code::Ok));
    assert!(TcpStream::connect(address).await.is_err(), "the port is free");
}

#[tokio::test]
async fn a_port_in_use_is_named_and_so_is_what_to_do() {
    let first = bind("listen.address", "127.0.0.1:0".parse().unwrap()).unwrap();
    let address = first.local_addr().unwrap();
    let error = bind("listen.enrol", address).unwrap_err().to_string();
    assert!(error.contains(&format!("port {} is in use", address.port())), "{error}");
    assert!(error.contains("listen.enrol") && error.contains("ss -ltnp"), "{error}");
}

#[tokio::test]
async fn a_peer_that_sends_too_many_requests_loses_its_connection_and_the_others_keep_theirs() {
    let hub = Hub::start().await;
    let now = Timestamp::now();
    let barnet = Subject::Agent("barnet".parse().unwrap());
    let [flooder, other] = [&camden(), &barnet].map(|subject| Hub::identity(&hub.authority, subject, HOUR, now));
    let (mut client, mut calm) = (hub.client(Some(&flooder)), hub.client(Some(&other)));
    let mut flooders = client.watch(HealthCheckRequest::default()).await.unwrap().into_inner();
    let mut calms = calm.watch(HealthCheckRequest::default()).await.unwrap().into_inner();
    for open in [&mut flooders, &mut calms] {
        open.message().await.unwrap().unwrap();
    }
    let ask = |_| {
        let mut client = client.clone();
        async move { client.check(HealthCheckRequest::default()).await }
    };
    // Its burst, and so many that they would have to wait too long.
    let answers = future::join_all((0..4 * limits::REQUESTS_PER_SECOND).map(ask)).await;
    assert!(answers.iter().any(Result::is_err));
    assert!(hub.metrics.load_shed.value("requests") > 0);
    flooders.message().await.unwrap_err();
    calm.check(HealthCheckRequest::default()).await.unwrap();
    assert!(timeout(Duration::from_millis(100), calms.message()).await.is_err(), "it is still open");
    hub.stop().await;
}
