//! Who gets in, for how long, and as whom: TLS, certificates, locks. Joining is in `join`.

use std::{
    collections::BTreeSet,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
use rustls::{HandshakeKind, client::Resumption, pki_types::ServerName};
use sfdata_agent::{agent::Agent, audit};
use sfdata_common::{
    Timestamp,
    channel::{self, SharedTls},
    ids::AgentId,
    outcome::{Outcome, RefusalReason},
    peer::{Peer, Subject},
    tls,
    trust::Role,
};
use sfdata_hub::enrol::authority::Authority;
use sfdata_proto::v1::{
    self as wire, connect_request::Message as FromAgent, connect_response::Message as FromHub,
    link_service_client::LinkServiceClient, operator_service_client::OperatorServiceClient,
};
use sfdata_tests::{
    eventually,
    fleet::{Fleet, Options, TRUST_DOMAIN},
    raw,
    rogue::{RogueAgent, RogueHub, client_tls, issued_tls, stolen_tls, tls_by},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tokio_util::sync::CancellationToken;
use tonic::{Code, transport::Channel};

use crate::door::harmless;

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);

fn agent(name: &str) -> Subject {
    Subject::Agent(name.parse().expect("an agent's name"))
}

fn hello(boot_id: &str) -> wire::Hello {
    wire::Hello { boot_id: boot_id.into(), epoch: 1, version: "rogue".into(), ..Default::default() }
}

/// A TLS connection up to the point where the hub speaks HTTP/2; an error when it never does.
async fn connect(address: &str, tls: &SharedTls) -> std::io::Result<TlsStream<TcpStream>> {
    let attempt = async {
        let tcp = TcpStream::connect(address).await?;
        let name = ServerName::try_from("sfdata-hub").expect("a name");
        let mut stream = TlsConnector::from(tls.load_full()).connect(name, tcp).await?;
        stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await?;
        stream.read_u8().await?; // of the hub's SETTINGS
        Ok(stream)
    };
    timeout(5 * SECOND, attempt).await?
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_does_not_hold_is_refused_at_the_handshake() {
    let fleet = Fleet::without_aws(1).await;
    let now = Timestamp::now();
    let folder = tempfile::tempdir().unwrap();
    let foreign = Authority::create(folder.path(), TRUST_DOMAIN, now).unwrap();
    let other_domain = Authority::open(&fleet.hub_config.data_dir, "other.example").unwrap();
    let la = agent("la-0");
    let alice = Subject::Operator("alice".parse().unwrap());
    for (name, tls) in [
        ("of a foreign CA", tls_by(&foreign, &fleet, &la, HOUR, now).unwrap()),
        ("of a foreign CA, for an operator", tls_by(&foreign, &fleet, &alice, HOUR, now).unwrap()),
        ("expired", issued_tls(&fleet, &la, HOUR, now - 2 * HOUR).unwrap()),
        ("not yet valid", issued_tls(&fleet, &la, HOUR, now + HOUR).unwrap()),
        ("of another trust domain", tls_by(&other_domain, &fleet, &la, HOUR, now).unwrap()),
        ("of a hub", issued_tls(&fleet, &Subject::Hub("core".into()), HOUR, now).unwrap()),
        ("of an agent that is not in the registry", issued_tls(&fleet, &agent("la-9"), HOUR, now).unwrap()),
        ("none", client_tls(&fleet, None).unwrap()),
    ] {
        assert!(connect(&fleet.alice.address, &tls).await.is_err(), "let in: {name}");
    }
    connect(&fleet.alice.address, &issued_tls(&fleet, &la, HOUR, now).unwrap()).await.unwrap();
    fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_is_of_version_1_3_or_not_at_all() {
    let fleet = Fleet::without_aws(0).await;
    // ClientHello of TLS 1.2 (RFC 5246, section 7.4.1.2) with what a browser of its time offered.
    let extensions = [
        &[0, 10, 0, 4, 0, 2, 0, 23][..],        // supported_groups: secp256r1
        &[0, 11, 0, 2, 1, 0],                   // ec_point_formats: uncompressed
        &[0, 13, 0, 8, 0, 6, 4, 3, 4, 1, 8, 4], // signature_algorithms
    ]
    .concat();
    let body = [
        &[3, 3][..],
        &[7; 32],
        &[0],
        &[0, 4, 0xc0, 0x2b, 0xc0, 0x2f],
        &[1, 0],
        &[0, extensions.len() as u8],
        &extensions,
    ]
    .concat();
    let handshake = [&[1, 0, 0, body.len() as u8][..], &body].concat();
    let record = [&[22, 3, 1, 0, handshake.len() as u8][..], &handshake].concat();
    for address in [fleet.hub_config.listen.address, fleet.hub_config.listen.enrol] {
        let mut tcp = TcpStream::connect(address).await.unwrap();
        tcp.write_all(&record).await.unwrap();
        let mut answer = Vec::new();
        timeout(5 * SECOND, tcp.read_to_end(&mut answer)).await.unwrap().unwrap();
        assert_eq!(answer[0], 21, "an alert: {answer:?}");
        assert_eq!(answer[5..7], [2, 70], "fatal, protocol_version");
    }
    fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_is_never_resumed_so_a_locked_agent_stays_out() {
    let fleet = Fleet::without_aws(1).await;
    let la = fleet.agents[0].id.clone();
    let stolen = stolen_tls(&fleet.agents[0].config.data_dir, &fleet.bundle.ca_certificates[0]).unwrap();
    let mut remembers = (*stolen.load_full()).clone();
    remembers.resumption = Resumption::in_memory_sessions(32);
    let tls: SharedTls = Arc::new(ArcSwap::from_pointee(remembers));
    let mut open = Vec::new();
    for _ in 0..3 {
        let stream = connect(&fleet.alice.address, &tls).await.unwrap();
        assert_eq!(stream.get_ref().1.handshake_kind(), Some(HandshakeKind::Full));
        open.push(stream);
    }
    fleet.alice.lock(&la).await.unwrap();
    for mut stream in open {
        // What the hub had sent before may still come; then nothing more.
        let rest = async { while let Ok(1..) = stream.read(&mut [0; 64]).await {} };
        timeout(SECOND, rest).await.expect("open connections end within a second");
    }
    assert!(connect(&fleet.alice.address, &tls).await.is_err());
    fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_ends_when_its_certificate_does() {
    let mut fleet = Fleet::without_aws(1).await;
    fleet.stop_agent(0).await;
    let tls = issued_tls(&fleet, &agent("la-0"), 2 * SECOND, Timestamp::now()).unwrap();
    let ends = Instant::now() + 2 * SECOND;
    let channel = channel::open(&fleet.alice.address, Arc::clone(&tls));
    let mut link = RogueAgent::on(channel, Some(hello("short"))).await.unwrap();
    assert!(matches!(link.next().await, Ok(Some(FromHub::Welcome(_)))));
    // Full seconds are all that X.509 knows.
    let lives = |at: Instant| at + SECOND / 10 >= ends - SECOND && at <= ends + SECOND;
    let ended = loop {
        match timeout(5 * SECOND, link.incoming.message()).await.expect("the stream ends") {
            Ok(Some(_)) => {}
            Ok(None) | Err(_) => break Instant::now(),
        }
    };
    assert!(lives(ended), "ended {:?} after the certificate", ended.saturating_duration_since(ends));
    // It is valid through its last second (RFC 5280, section 4.1.2.5), and not longer.
    eventually("it is refused", 2 * SECOND, async || connect(&fleet.alice.address, &tls).await.err()).await;
    fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_is_no_operator_and_an_operator_no_agent() {
    let fleet = Fleet::without_aws(1).await;
    let la = &fleet.agents[0];
    let stolen = stolen_tls(&la.config.data_dir, &fleet.bundle.ca_certificates[0]).unwrap();
    let as_agent = channel::open(&fleet.alice.address, stolen);
    let mut operator = OperatorServiceClient::new(as_agent.clone());
    let denied = [
        operator.list_agents(wire::ListAgentsRequest {}).await.map(drop),
        operator.watch_agents(wire::WatchAgentsRequest {}).await.map(drop),
        operator.list_audit(wire::ListAuditRequest::default()).await.map(drop),
        operator.lock_agent(wire::LockAgentRequest { agent_id: "la-0".into(), ..Default::default() }).await.map(drop),
        operator.invite_operator(wire::InviteOperatorRequest { name: "mallory".into() }).await.map(drop),
        operator
            .publish_trust(wire::PublishTrustRequest { trust_bundle: Some(fleet.bundle.unsigned()), force: false })
            .await
            .map(drop),
        operator
            .submit(wire::SubmitRequest {
                command: Some(fleet.alice.sign(&fleet.alice.command(harmless(), &[&la.id]))),
            })
            .await
            .map(drop),
    ];
    for (call, denied) in denied.into_iter().enumerate() {
        assert_eq!(denied.unwrap_err().code(), Code::PermissionDenied, "call {call}");
    }
    let as_alice = channel::open(&fleet.alice.address, Arc::clone(&fleet.alice.tls));
    let mut link = LinkServiceClient::new(as_alice.clone());
    let greeting = futures::stream::iter([wire::ConnectRequest { message: Some(FromAgent::Hello(hello("alice"))) }]);
    assert_eq!(link.connect(greeting).await.map(drop).unwrap_err().code(), Code::PermissionDenied);

    // Both may ask what is served here; nobody may on the other listener.
    let services = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";
    for known in [&as_agent, &as_alice] {
        let listed = raw::call(known, services, bytes::Bytes::from_static(b"\x3a\x00")).await.unwrap().unwrap();
        assert!(String::from_utf8_lossy(&listed).contains("sfdata.v1.OperatorService"));
    }
    let nobody = channel::open(&fleet.hub_config.listen.enrol.to_string(), client_tls(&fleet, None).unwrap());
    for path in [
        services,
        "/sfdata.v1.OperatorService/ListAgents",
        "/sfdata.v1.OperatorService/Submit",
        "/sfdata.v1.LinkService/Connect",
        "/sfdata.v1.RenewalService/Renew",
        "/grpc.health.v1.Health/Check",
    ] {
        let status = raw::call(&nobody, path, bytes::Bytes::new()).await.unwrap_err();
        assert_eq!(status.code(), Code::Unimplemented, "{path}: {status}");
    }
    fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_locked_agent_is_out_within_a_second_and_stays_so_until_it_is_unlocked() {
    let fleet = Fleet::without_aws(1).await;
    let la = fleet.agents[0].id.clone();
    let mut link = fleet.link(0);
    link.wait_for(|status| status.connected).await.unwrap();
    let began = Instant::now();
    fleet.alice.lock(&la).await.unwrap();
    timeout(SECOND, link.wait_for(|status| !status.connected)).await.expect("out within a second").unwrap();
    assert!(began.elapsed() < SECOND);
    let tries = link.borrow().tries;
    link.wait_for(|status| status.tries >= tries + 2).await.unwrap(); // it tries, in vain
    let summary = fleet.alice.agent(&la).await.unwrap();
    assert_eq!((summary.state(), summary.note.as_str()), (wire::AgentState::Locked, "a test"));
    assert_eq!(fleet.alice.submit(harmless(), &[&la]).await.unwrap_err().code(), Code::FailedPrecondition);

    let unlock = wire::UnlockAgentRequest { agent_id: la.to_string(), reason: "found".into() };
    fleet.alice.client.clone().unlock_agent(unlock).await.unwrap();
    timeout(40 * SECOND, link.wait_for(|status| status.connected)).await.expect("let in again").unwrap();
    assert!(matches!(fleet.alice.run(harmless(), &la).await.unwrap(), Outcome::Succeeded(_)));
    fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_locked_operator_sees_nothing_more_from_within_a_second() {
    let mut fleet = Fleet::without_aws(1).await;
    let bob = fleet.operator("bob", Role::Operator).await;
    let la = fleet.agents[0].id.clone();
    let mut list = bob.client.clone().watch_agents(wire::WatchAgentsRequest {}).await.unwrap().into_inner();
    list.message().await.unwrap().unwrap();
    // A command that stays: its agent is away.
    fleet.stop_agent(0).await;
    let id = bob.submit(harmless(), &[&la]).await.unwrap();
    let watch = wire::WatchCommandRequest { command_id: id.to_string() };
    let mut events = bob.client.clone().watch_command(watch).await.unwrap().into_inner();
    events.message().await.unwrap().unwrap();

    let lock = wire::LockOperatorRequest { name: "bob".into(), reason: "left".into() };
    fleet.alice.client.clone().lock_operator(lock).await.unwrap();
    let lists = async { while let Ok(Some(_)) = list.message().await {} };
    let watched = async { while let Ok(Some(_)) = events.message().await {} };
    timeout(SECOND, futures::future::join(lists, watched)).await.expect("both streams end within a second");
    assert!(bob.client.clone().list_agents(wire::ListAgentsRequest {}).await.is_err());
    assert!(connect(&bob.address, &bob.tls).await.is_err());
    // An admin doesn't lock themselves out by a slip.
    let lock = wire::LockOperatorRequest { name: "alice".into(), reason: "oh".into() };
    let status = fleet.alice.client.clone().lock_operator(lock).await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition);

    let unlock = wire::UnlockOperatorRequest { name: "bob".into(), reason: "back".into() };
    fleet.alice.client.clone().unlock_operator(unlock).await.unwrap();
    bob.client.clone().list_agents(wire::ListAgentsRequest {}).await.unwrap();
    let kinds: Vec<String> = fleet.alice.audit().await.unwrap().into_iter().map(|entry| entry.kind).collect();
    assert!(kinds.ends_with(&["operator.locked".into(), "operator.unlocked".into()]), "{kinds:?}");
    fleet.stop().await;
}

/// End of the certificate that lies in an agent's folder.
fn certificate_ends(data_dir: &Path) -> Option<Timestamp> {
    let text = std::fs::read(data_dir.join("identity.pem")).ok()?;
    let chain = tls::certificates_from_pem(&text).ok()?;
    Some(Peer::from_certificate(chain.get(1)?).ok()?.not_after) // behind the key
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_renew_by_themselves_and_no_work_is_dropped() {
    let options = Options { agent_lifetime: Some(4 * SECOND), ..Options::default() };
    let fleet = Fleet::with(1, options).await;
    let la = fleet.agents[0].id.clone();
    let data_dir = &fleet.agents[0].config.data_dir;
    let mut ends = BTreeSet::new();
    let mut sent = Vec::new();
    let began = Instant::now();
    while ends.len() < 4 {
        assert!(began.elapsed() < 30 * SECOND, "it does not renew: {ends:?}");
        ends.extend(certificate_ends(data_dir));
        let id = fleet.alice.submit(harmless(), &[&la]).await.unwrap();
        if sent.len() % 16 == 0 {
            let outcome = fleet.alice.outcome(id, &la).await.unwrap();
            assert!(matches!(outcome, Outcome::Succeeded(_)), "{outcome:?}");
        }
        sent.push(id);
    }
    for id in &sent {
        let outcome = fleet.alice.outcome(*id, &la).await.unwrap();
        assert!(matches!(outcome, Outcome::Succeeded(_)), "{outcome:?}");
    }
    let mut record: Vec<_> = audit::read(data_dir).unwrap().map(|entry| entry.unwrap().0.command_id).collect();
    record.sort(); // ids sort in time
    assert!(record.iter().eq(sent.iter().map(ToString::to_string).collect::<Vec<_>>().iter()), "each of them once");
    let entries = fleet.alice.audit().await.unwrap();
    assert!(entries.iter().all(|entry| entry.kind != "agent.locked"), "it is one agent all the time");
    fleet.stop().await;
}

pub(crate) fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a new folder");
    for entry in std::fs::read_dir(from).expect("a folder") {
        let entry = entry.expect("an entry");
        let to = to.join(entry.file_name());
        if entry.file_type().expect("its type").is_dir() {
            copy_folder(&entry.path(), &to);
        } else {
            std::fs::copy(entry.path(), to).expect("a copy");
        }
    }
}

async fn locked_as_clone(fleet: &Fleet, la: &AgentId) {
    let note = eventually("the clone is seen", 20 * SECOND, async || {
        let summary = fleet.alice.agent(la).await.expect("the agent is listed");
        (summary.state() == wire::AgentState::Locked).then_some(summary.note)
    })
    .await;
    assert!(note.contains("two instances"), "{note}");
    // A lock holds at once; its record follows when it is on disk.
    let locked = eventually("the lock is on record", 5 * SECOND, async || {
        let mut entries = fleet.alice.audit().await.expect("a record");
        entries.retain(|entry| entry.kind == "agent.locked");
        (!entries.is_empty()).then_some(entries)
    })
    .await;
    assert_eq!(locked.len(), 1, "{locked:?}");
    assert_eq!((locked[0].actor.as_str(), locked[0].subject.as_str()), ("hub", "agent/la-0"));
    assert!(locked[0].detail.contains("clone"), "{}", locked[0].detail);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copied_agent_gets_its_id_locked() {
    let mut fleet = Fleet::without_aws(1).await;
    let la = fleet.agents[0].id.clone();
    fleet.stop_agent(0).await;
    let mut copy = fleet.agents[0].config.clone();
    copy.data_dir = fleet.folder.path().join("copy");
    copy_folder(&fleet.agents[0].config.data_dir, &copy.data_dir);
    fleet.start_agent(0).await;
    fleet.connected(0).await;
    let stop = CancellationToken::new();
    let second = Agent::start(&copy, stop.clone()).await.unwrap();
    let mut links = [fleet.link(0), second.status()];
    locked_as_clone(&fleet, &la).await;
    for link in &mut links {
        timeout(5 * SECOND, link.wait_for(|status| !status.connected)).await.expect("both are out").unwrap();
    }
    stop.cancel();
    second.stopped().await.unwrap();
    fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stolen_certificate_is_out_when_its_agent_comes_back_whatever_it_held_open() {
    let fleet = Fleet::without_aws(1).await;
    let la = fleet.agents[0].id.clone();
    let stolen = stolen_tls(&fleet.agents[0].config.data_dir, &fleet.bundle.ca_certificates[0]).unwrap();
    let channel = channel::open(&fleet.alice.address, stolen);
    // A second stream of the thief waits with its Hello; the first one takes the agent's place.
    let mut waiting = RogueAgent::on(channel.clone(), None).await.unwrap();
    let mut thief = RogueAgent::on(channel.clone(), Some(hello("thief"))).await.unwrap();
    assert!(matches!(thief.next().await, Ok(Some(FromHub::Welcome(_)))));
    locked_as_clone(&fleet, &la).await;

    waiting.send(FromAgent::Hello(hello("thief"))).await;
    let said = waiting.next().await;
    assert!(!matches!(said, Ok(Some(_))), "a locked agent was told {said:?}");
    let open = |channel: Channel| async move {
        RogueAgent::on(channel, Some(hello("thief"))).await?.next().await.map_err(Into::into)
    };
    let said: anyhow::Result<_> = open(channel).await;
    assert!(!matches!(said, Ok(Some(_))), "a locked agent was told {said:?}");
    fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newer_trust_bundle_reaches_connected_agents_and_takes_rights_away_everywhere() {
    let mut fleet = Fleet::without_aws(1).await;
    let la = fleet.agents[0].id.clone();
    let bob = fleet.operator("bob", Role::Admin).await;
    assert!(matches!(bob.run(harmless(), &la).await.unwrap(), Outcome::Succeeded(_)), "the agent knows bob by now");

    let mut list = fleet.alice.client.clone().watch_agents(wire::WatchAgentsRequest {}).await.unwrap().into_inner();
    list.message().await.unwrap().unwrap();
    let in_time = fleet.alice.command(harmless(), &[&la]);
    fleet.bundle.version += 1;
    fleet.bundle.operators.retain(|operator| operator.name.as_str() != "alice");
    fleet.publish().await.unwrap();

    let status = fleet.alice.hand_in(fleet.alice.sign(&in_time)).await.unwrap_err();
    assert_eq!(status.code(), Code::PermissionDenied, "{status}");
    let status = fleet.alice.lock(&la).await.unwrap_err();
    assert_eq!(status.code(), Code::PermissionDenied, "{status}");
    let ended = async { while let Ok(Some(_)) = list.message().await {} };
    timeout(SECOND, ended).await.expect("what she looked at ends within a second");
    assert!(matches!(bob.run(harmless(), &la).await.unwrap(), Outcome::Succeeded(_)));

    // And a hub that would still take her word finds the agent knowing better.
    fleet.stop_hub().await;
    let rogue = RogueHub::in_place_of(&fleet).await.unwrap();
    let mut held = rogue.agent(1).await;
    let sequence = held.hello.last_sequence + 1;
    let delivery = rogue.delivery(&la, 1, sequence, &fleet.alice.sign(&in_time), &in_time.id.to_string());
    assert_eq!(held.refusal(delivery).await, Some((RefusalReason::OperatorUnknown, true)));
    drop(held);
    rogue.stop().await;
    fleet.stop().await;
}
