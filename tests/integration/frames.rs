//! Garbage at every listener, readers who don't read, and peers who say nothing: the hub goes on, with bounded memory.

use std::{
    future::Future,
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Once,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use fastrand::Rng;
use futures::StreamExt as _;
use prost::Message;
use sfdata_agent::connect::Status;
use sfdata_common::{
    channel::{self, SharedTls},
    command::{Action, Ecs},
    ids::CommandId,
    keys::SigningKey,
    limits,
    outcome::Outcome,
    trust::Role,
};
use sfdata_proto::v1::{
    self as wire, connect_request::Message as FromAgent, connect_response::Message as FromHub,
    operator_service_client::OperatorServiceClient,
};
use sfdata_tests::{
    eventually,
    fleet::Fleet,
    h2::{self, kind},
    resident_bytes,
    rogue::{RogueAgent, client_tls, stolen_tls},
    wire::{Wire, dial},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::watch,
    time::timeout,
};

use crate::door::harmless;

const HERE: Ipv4Addr = Ipv4Addr::LOCALHOST;
const ELSEWHERE: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
const SECOND: Duration = Duration::from_secs(1);
const MEBIBYTE: u64 = 1024 * 1024;
const SEED: u64 = 20_261_109;

/// Panics outside of the tests themselves.
static PANICS: AtomicUsize = AtomicUsize::new(0);

fn count_panics() {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if !panic.location().is_some_and(|at| at.file().starts_with("tests/")) {
                PANICS.fetch_add(1, Ordering::Relaxed);
            }
            usual(panic);
        }));
    });
}

/// What a hub looks like before and after.
struct Watch {
    resident: u64,
    link: watch::Receiver<Status>,
}

impl Watch {
    fn begin(fleet: &Fleet) -> Self {
        count_panics();
        let mut link = fleet.link(0);
        link.mark_unchanged();
        Self { resident: resident_bytes(), link }
    }

    /// The hub answers on all three listeners, its agent works, no task of it panicked, no connection is left over,
    /// and memory has grown by less than `grown`.
    async fn end(self, fleet: &Fleet, grown: u64) {
        let la = &fleet.agents[0].id;
        let outcome =
            timeout(10 * SECOND, fleet.alice.run(harmless(), la)).await.expect("in time").expect("an outcome");
        assert!(matches!(outcome, Outcome::Succeeded(_)), "{outcome:?}");
        fleet.invite("one-more", "300000000000").await.expect("an invitation");
        assert!(!self.link.has_changed().expect("the agent runs"), "the agent lost its link: {:?}", self.link.borrow());
        // Alice's and the agent's are left.
        eventually("every other connection is closed", 20 * SECOND, async || {
            let answer = get(fleet.hub_config.listen.ops, "/metrics").await;
            let open = answer.lines().find_map(|line| line.strip_prefix("sfdata_hub_connections "))?;
            (open.parse::<u32>().ok()? <= 3).then_some(())
        })
        .await;
        assert_eq!(PANICS.load(Ordering::Relaxed), 0, "a task panicked");
        let more = resident_bytes().saturating_sub(self.resident);
        assert!(more < grown, "{} MiB more than before", more / MEBIBYTE);
    }
}

/// Send a whole request and give the answer.
async fn get(address: SocketAddr, path: &str) -> String {
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    let answer = async {
        let mut tcp = TcpStream::connect(address).await.ok()?;
        tcp.write_all(request.as_bytes()).await.ok()?;
        let mut answer = String::new();
        tcp.read_to_string(&mut answer).await.ok()?;
        Some(answer)
    };
    timeout(10 * SECOND, answer).await.expect("an answer within ten seconds").unwrap_or_default()
}

/// Send bytes and nothing more, and wait until the hub has ended the connection.
async fn throw(address: SocketAddr, bytes: &[u8]) {
    let thrown = async {
        let Ok(mut tcp) = TcpStream::connect(address).await else { return };
        let _ = tcp.write_all(bytes).await;
        let _ = tcp.shutdown().await;
        let _ = tokio::io::copy(&mut tcp, &mut tokio::io::sink()).await;
    };
    timeout(10 * SECOND, thrown).await.expect("an end within ten seconds");
}

fn random_bytes(rng: &mut Rng, most: usize) -> Vec<u8> {
    (0..rng.usize(..=most)).map(|_| rng.u8(..)).collect()
}

/// Cut, flip bits, repeat, or lengthen.
fn mutated(rng: &mut Rng, mut bytes: Vec<u8>) -> Vec<u8> {
    match rng.u8(..4) {
        0 => bytes.truncate(rng.usize(..=bytes.len())),
        1 => {
            for _ in 0..rng.usize(1..4) {
                let at = rng.usize(..bytes.len().max(1));
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= 1 << rng.u8(..8);
                }
            }
        }
        2 => bytes.extend(random_bytes(rng, 64)),
        _ => bytes.extend_from_within(..),
    }
    bytes
}

/// A gRPC body of valid messages of which the last is wrong in one of many ways, or right.
fn body(rng: &mut Rng, messages: &[Vec<u8>]) -> Vec<u8> {
    let (last, before) = messages.split_last().expect("a message");
    let with_length = |length: u32| [&[0][..], &length.to_be_bytes(), last].concat();
    let mut body: Vec<u8> = before.iter().flat_map(|message| h2::message(message)).collect();
    body.extend(match rng.u8(..9) {
        0 | 1 => h2::message(last),
        2 => h2::message(&random_bytes(rng, 400)),
        3 | 4 => h2::message(&mutated(rng, last.clone())),
        5 => with_length(last.len() as u32 + rng.u32(1..2000)), // the rest never comes
        6 => with_length(*rng.choice([u32::MAX, 1 << 31, limits::MESSAGE_BYTES as u32 + 1].iter()).unwrap_or(&0)),
        7 => [&[rng.u8(1..)][..], &h2::message(last)[1..]].concat(), // compressed, it says
        _ => h2::message(last)[..rng.usize(..5)].to_vec(),
    });
    body
}

/// Makes valid messages of one method: one, or where the method takes a stream more.
type Sample = Box<dyn Fn(&mut Rng) -> Vec<Vec<u8>> + Sync>;
/// Of a listener's methods.
type Samples = Vec<(&'static str, Sample)>;

fn always(message: impl Message) -> Sample {
    let bytes = message.encode_to_vec();
    Box::new(move |_| vec![bytes.clone()])
}

/// Do something `times`, eight at once; gives the sum of the results.
async fn eight_at_once<F: Future<Output = usize>>(times: usize, act: impl FnMut(usize) -> F) -> usize {
    futures::stream::iter(0..times).map(act).buffer_unordered(8).fold(0, |sum, n| async move { sum + n }).await
}

/// Everything that a client can do wrong at a TLS listener; gives the number of frames sent.
async fn attack(target: SocketAddr, tls: &SharedTls, samples: &Samples) -> usize {
    let rng = |part: u64, n: usize| Rng::with_seed(SEED + part * 100_000 + n as u64);
    // Before TLS: garbage, and a real ClientHello cut or changed.
    let mut sent = eight_at_once(600, |n| async move {
        let mut rng = rng(1, n);
        let garbage = if n % 2 == 0 { random_bytes(&mut rng, 2000) } else { mutated(&mut rng, client_hello(tls)) };
        throw(target, &garbage).await;
        1
    })
    .await;
    // Inside TLS: no HTTP/2 at all, or HTTP/2 with frames of random kinds, flags, streams and lengths.
    sent += eight_at_once(480, |n| async move {
        let mut rng = rng(2, n);
        let Ok(mut stream) = h2::connect(HERE, target, tls).await else { return 0 };
        let mut bytes = if n % 5 == 0 { Vec::new() } else { h2::opening() };
        let frames = 16;
        for _ in 0..frames {
            match rng.u8(..8) {
                0 => bytes.extend(random_bytes(&mut rng, 200)),
                1 => bytes.extend(h2::request(2 * rng.u32(..50) + 1, "/sfdata.v1.OperatorService/ListAgents")),
                2 => bytes.extend(h2::frame(kind::PING, 0, 0, &[7; 8])),
                3 => bytes.extend(h2::frame(kind::SETTINGS, 0, 0, &random_bytes(&mut rng, 36))),
                _ => {
                    let payload = random_bytes(&mut rng, 300);
                    let mut frame = h2::frame(rng.u8(..12), rng.u8(..), rng.u32(..9), &payload);
                    if rng.u8(..8) == 0 {
                        frame[..3].copy_from_slice(&[rng.u8(..), rng.u8(..), rng.u8(..)]);
                    }
                    bytes.extend(frame);
                }
            }
        }
        let talk = async {
            let _ = stream.write_all(&bytes).await;
            let _ = stream.shutdown().await;
            let _ = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
        };
        timeout(10 * SECOND, talk).await.expect("the hub ends what makes no sense");
        frames
    })
    .await;
    // Whole requests to real methods, with bodies of every kind; one connection after the other, by which this peer stays
    // within what it may ask for in a second, once it is within that again.
    eventually("it is let ask again", 10 * SECOND, async || {
        let stream = h2::connect(HERE, target, tls).await.ok()?;
        let request = (samples[0].0, Vec::new());
        (h2::exchange(stream, &[request]).await.ok()? == 1).then_some(())
    })
    .await;
    for n in 0..25 {
        let mut rng = rng(3, n);
        let requests: Vec<(&str, Vec<u8>)> = (0..40)
            .map(|_| {
                let (path, sample) = &samples[rng.usize(..samples.len())];
                let messages = sample(&mut rng);
                (*path, body(&mut rng, &messages))
            })
            .collect();
        let stream = h2::connect(HERE, target, tls).await.expect("a connection");
        let answered = timeout(20 * SECOND, h2::exchange(stream, &requests))
            .await
            .expect("answers in time")
            .expect("a connection");
        assert_eq!(answered, requests.len(), "each request is answered");
        sent += 2 * answered;
    }
    sent
}

fn client_hello(tls: &SharedTls) -> Vec<u8> {
    let name = "sfdata-hub".try_into().expect("a name");
    let mut client = rustls::ClientConnection::new(tls.load_full(), name).expect("a client");
    let mut bytes = Vec::new();
    client.write_tls(&mut bytes).expect("into memory");
    bytes
}

fn said(message: FromAgent) -> Vec<u8> {
    wire::ConnectRequest { message: Some(message) }.encode_to_vec()
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_frames_of_garbage_from_an_operator_leave_the_hub_as_it_was() {
    let mut fleet = Fleet::without_aws(1).await;
    let victor = fleet.operator("victor", Role::Viewer).await;
    let la = &fleet.agents[0].id;
    let command = fleet.alice.sign(&fleet.alice.command(harmless(), &[la]));
    let done = fleet.alice.hand_in(command.clone()).await.unwrap().to_string();
    let agent_id = la.to_string();
    let service = "/sfdata.v1.OperatorService";
    let path = |method: &str| -> &'static str { format!("{service}/{method}").leak() };
    let samples: Samples = vec![
        (path("Submit"), always(wire::SubmitRequest { command: Some(command) })),
        (path("WatchCommand"), always(wire::WatchCommandRequest { command_id: done.clone() })),
        (path("GetCommand"), always(wire::GetCommandRequest { command_id: done, ..Default::default() })),
        (
            path("ListCommands"),
            always(wire::ListCommandsRequest { limit: 3, agent_id: agent_id.clone(), unfinished: true }),
        ),
        (path("ListAgents"), always(wire::ListAgentsRequest {})),
        (path("LockAgent"), always(wire::LockAgentRequest { agent_id: agent_id.clone(), reason: "garbage".into() })),
        (
            path("EditAgent"),
            always(wire::EditAgentRequest {
                agent_id: agent_id.clone(),
                add_groups: vec!["g".into()],
                ..Default::default()
            }),
        ),
        (
            path("InviteAgent"),
            always(wire::InviteAgentRequest { agent_id, account: "1".repeat(12), ..Default::default() }),
        ),
        (
            path("PublishTrust"),
            always(wire::PublishTrustRequest { trust_bundle: Some(fleet.bundle.unsigned()), force: false }),
        ),
        (path("PublishEpoch"), always(wire::PublishEpochRequest { statement: Some(fleet.bundle.unsigned()) })),
        (path("NoSuchMethod"), Box::new(|rng| vec![random_bytes(rng, 40)])),
        ("/sfdata.v1.RenewalService/Renew", always(wire::RenewRequest { csr_der: vec![0x30; 200].into() })),
        ("/sfdata.v1.LinkService/Connect", Box::new(|_| vec![said(FromAgent::Hello(wire::Hello::default()))])),
        ("/grpc.health.v1.Health/Check", always(wire::ListAgentsRequest {})),
    ];
    let watch = Watch::begin(&fleet);
    let sent = attack(fleet.hub_config.listen.address, &victor.tls, &samples).await;
    assert!(sent >= 10_000, "{sent} frames");
    watch.end(&fleet, 64 * MEBIBYTE).await;
    fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_frames_of_garbage_from_an_agent_leave_the_hub_as_it_was() {
    let mut fleet = Fleet::without_aws(2).await;
    fleet.stop_agent(1).await;
    let stolen = stolen_tls(&fleet.agents[1].config.data_dir, &fleet.bundle.ca_certificates[0]).unwrap();
    let signed = |payload: Vec<u8>| sfdata_common::envelope::seal("x", payload, &SigningKey::generate().unwrap());
    let id = || CommandId::generate().to_string();
    let refused = Some(wire::Refused { reason: 4, detail: "x".into() });
    let health = wire::Health { agent_version: "x".into(), ..Default::default() };
    let messages = [
        FromAgent::Hello(wire::Hello::default()),
        FromAgent::Received(wire::Received { command_id: id() }),
        FromAgent::Started(wire::Started { command_id: id() }),
        FromAgent::Progress(wire::Progress { command_id: id(), step: "x".into(), percent: Some(1), sealed: None }),
        FromAgent::Receipt(signed(wire::Receipt { command_id: id(), ..Default::default() }.encode_to_vec())),
        FromAgent::Rejected(wire::Rejected { command_id: id(), epoch: 1, sequence: 1, refused }),
        FromAgent::Health(Box::new(health)),
        FromAgent::Resync(wire::Resync { last_sequence: 7 }),
    ];
    let talk = move |rng: &mut Rng| {
        // Each instance for itself: one that comes back would be a clone, and the agent be locked.
        let boot_id = format!("{:016x}", rng.u64(..));
        let hello = said(FromAgent::Hello(wire::Hello { boot_id, epoch: 1, ..Default::default() }));
        let message = said(messages[rng.usize(..messages.len())].clone());
        if rng.bool() { vec![hello, message] } else { vec![hello] }
    };
    let samples: Samples = vec![("/sfdata.v1.LinkService/Connect", Box::new(talk))];
    let watch = Watch::begin(&fleet);
    let sent = attack(fleet.hub_config.listen.address, &stolen, &samples).await;
    assert!(sent >= 10_000, "{sent} frames");
    watch.end(&fleet, 64 * MEBIBYTE).await;
    fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_frames_of_garbage_at_the_enrolment_listener_leave_the_hub_as_it_was() {
    let fleet = Fleet::without_aws(1).await;
    let nobody = client_tls(&fleet, None).unwrap();
    let agent = wire::EnrollingAgent {
        account: "1".repeat(12),
        receipt_key: vec![7; 32].into(),
        version: "x".into(),
        ..Default::default()
    };
    let enrol = wire::EnrolRequest {
        secret: vec![7; 32].into(),
        csr_der: vec![0x30; 200].into(),
        subject: Some(wire::enrol_request::Subject::Agent(agent.clone())),
    };
    let by_aws = wire::EnrolAwsRequest {
        challenge: vec![7; 32].into(),
        signed_request: vec![b'x'; 900].into(),
        csr_der: vec![0x30; 200].into(),
        agent: Some(agent),
    };
    let samples: Samples = vec![
        ("/sfdata.v1.EnrolService/Enrol", always(enrol)),
        ("/sfdata.v1.EnrolService/Challenge", always(wire::ChallengeRequest { agent_id: "la-0".into() })),
        ("/sfdata.v1.EnrolService/EnrolAws", always(by_aws)),
        ("/sfdata.v1.EnrolService/NoSuchMethod", Box::new(|rng| vec![random_bytes(rng, 40)])),
        ("/sfdata.v1.OperatorService/ListAgents", always(wire::ListAgentsRequest {})),
    ];
    let watch = Watch::begin(&fleet);
    let sent = attack(fleet.hub_config.listen.enrol, &nobody, &samples).await;
    assert!(sent >= 10_000, "{sent} frames");
    watch.end(&fleet, 64 * MEBIBYTE).await;
    fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_requests_of_garbage_at_the_operations_listener_leave_the_hub_as_it_was() {
    let fleet = Fleet::without_aws(1).await;
    let ops = fleet.hub_config.listen.ops;
    let watch = Watch::begin(&fleet);
    let sent = eight_at_once(400, |n| async move {
        let mut rng = Rng::with_seed(SEED + n as u64);
        let mut bytes = Vec::new();
        let requests = 26;
        for _ in 1..requests {
            let path = *rng.choice(["/healthz", "/readyz", "/metrics", "/", "/%00", "*"].iter()).expect("one");
            bytes.extend(
                format!("GET {path} HTTP/1.1\r\nHost: x\r\nX-{}: {}\r\n\r\n", rng.u32(..), rng.u64(..)).bytes(),
            );
        }
        // The last one makes no sense.
        match rng.u8(..8) {
            0 => bytes.extend(random_bytes(&mut rng, 4000)),
            1 => bytes.extend(h2::opening()),
            2 => bytes.extend(b"POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999\r\n\r\nabc"),
            3 => bytes.extend(b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n"),
            4 => bytes.extend(format!("GET / HTTP/1.1\r\nHost: x\r\nX: {}\r\n\r\n", "x".repeat(600_000)).bytes()),
            5 => bytes.extend(format!("GET / HTTP/1.1\r\n{}\r\n", "X: y\r\n".repeat(2_000)).bytes()),
            6 => bytes.truncate(bytes.len() - rng.usize(1..40)),
            _ => bytes = mutated(&mut rng, bytes),
        }
        throw(ops, &bytes).await;
        requests
    })
    .await;
    assert!(sent >= 10_000, "{sent} requests");
    let answer = get(ops, "/healthz").await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    watch.end(&fleet, 64 * MEBIBYTE).await;
    fleet.stop().await;
}

/// A connection with as many streams of this request, whole or not, as a peer may have, of which nothing is ever read.
async fn deaf(target: SocketAddr, tls: &SharedTls, path: &str, body: &[u8], whole: bool) -> impl Sized + use<> {
    let mut stream = h2::connect(HERE, target, tls).await.expect("a connection");
    let mut bytes = h2::opening();
    for number in 0..limits::STREAMS_PER_CONNECTION {
        bytes.extend(h2::request(2 * number + 1, path));
        bytes.extend(h2::frame(kind::DATA, if whole { h2::END_STREAM } else { 0 }, 2 * number + 1, body));
    }
    stream.write_all(&bytes).await.expect("sent");
    stream.flush().await.expect("sent");
    stream
}

#[tokio::test(flavor = "multi_thread")]
async fn who_opens_every_stream_and_never_reads_stops_nobody_else() {
    let mut fleet = Fleet::without_aws(3).await;
    let victor = fleet.operator("victor", Role::Viewer).await;
    for away in [1, 2] {
        fleet.stop_agent(away).await;
    }
    let [stolen, other] = [1, 2].map(|number: usize| {
        stolen_tls(&fleet.agents[number].config.data_dir, &fleet.bundle.ca_certificates[0]).unwrap()
    });
    let hub = fleet.hub_config.listen.address;
    // A command that runs for ever, at an agent that tells of its progress without end.
    let la = fleet.agents[1].id.clone();
    let hello = wire::Hello { boot_id: "busy".into(), epoch: 1, version: "x".repeat(100_000), ..Default::default() };
    let mut busy = RogueAgent::on(channel::open(&fleet.alice.address, stolen), Some(hello)).await.unwrap();
    let restart = Action::Ecs(Ecs::Restart { service: "webserver".into(), deadline: 60 * SECOND });
    let id = fleet.alice.submit(restart, &[&la]).await.unwrap();
    while !matches!(busy.next().await.unwrap(), Some(FromHub::Delivery(_))) {}
    busy.send(FromAgent::Started(wire::Started { command_id: id.to_string() })).await;

    let watch = Watch::begin(&fleet);
    let boot_id = "deaf".to_owned();
    let hello = said(FromAgent::Hello(wire::Hello { boot_id, epoch: 1, ..Default::default() }));
    let command = wire::WatchCommandRequest { command_id: id.to_string() }.encode_to_vec();
    let service = "/sfdata.v1.OperatorService";
    let deaf_ones = (
        deaf(hub, &victor.tls, &format!("{service}/WatchAgents"), &h2::message(&[]), true).await,
        deaf(hub, &victor.tls, &format!("{service}/WatchCommand"), &h2::message(&command), true).await,
        deaf(hub, &victor.tls, &format!("{service}/ListAudit"), &h2::message(&[]), true).await,
        deaf(hub, &other, "/sfdata.v1.LinkService/Connect", &h2::message(&hello), false).await,
        // These never end their requests either.
        deaf(hub, &victor.tls, &format!("{service}/Submit"), &[0, 0, 15, 0, 0], false).await,
        deaf(
            fleet.hub_config.listen.enrol,
            &client_tls(&fleet, None).unwrap(),
            "/sfdata.v1.EnrolService/Enrol",
            &[0, 0, 0],
            false,
        )
        .await,
    );
    for n in 0..1_500_u64 {
        let step = format!("{n} {}", "x".repeat(4_000));
        busy.send(FromAgent::Progress(wire::Progress {
            command_id: id.to_string(),
            step,
            percent: None,
            sealed: None,
        }))
        .await;
        if n % 10 == 0 {
            let health = wire::Health { uptime_seconds: n, ..Default::default() };
            busy.send(FromAgent::Health(Box::new(health))).await;
        }
    }
    let began = Instant::now();
    for _ in 0..20 {
        let outcome = fleet.alice.run(harmless(), &fleet.agents[0].id).await.unwrap();
        assert!(matches!(outcome, Outcome::Succeeded(_)), "{outcome:?}");
    }
    assert!(began.elapsed() < 10 * SECOND, "twenty commands took {:?}", began.elapsed());
    eventually("all of it has arrived", 20 * SECOND, async || {
        let health = fleet.alice.agent(&la).await.unwrap().health?;
        (health.uptime_seconds == 1_490).then_some(())
    })
    .await;
    // 1,500 open streams cost some 50 MiB; what nobody reads must not come on top of that.
    let more = resident_bytes().saturating_sub(watch.resident);
    assert!(more < 128 * MEBIBYTE, "{} MiB more than before", more / MEBIBYTE);
    let summary = fleet.alice.agent(&la).await.unwrap();
    assert!(summary.version.len() <= 100, "a version of {} bytes is kept", summary.version.len());
    drop((deaf_ones, busy));
    watch.end(&fleet, 128 * MEBIBYTE).await;
    fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_never_ends_a_message_has_room_for_a_few_and_stops_nobody_else() {
    let mut fleet = Fleet::without_aws(1).await;
    let victor = fleet.operator("victor", Role::Viewer).await;
    let watch = Watch::begin(&fleet);
    // The beginning of a message of the greatest size, on more streams than may have one.
    let begun = [&[0][..], &(limits::MESSAGE_BYTES as u32).to_be_bytes(), &[7; 100]].concat();
    let most = limits::UNFINISHED_BYTES / limits::MESSAGE_BYTES;
    let path = "/sfdata.v1.OperatorService/Submit";
    let mut stream = h2::connect(HERE, fleet.hub_config.listen.address, &victor.tls).await.unwrap();
    let mut bytes = h2::opening();
    for number in 0..2 * most as u32 {
        bytes.extend(h2::request(2 * number + 1, path));
        bytes.extend(h2::frame(kind::DATA, 0, 2 * number + 1, &begun));
    }
    stream.write_all(&bytes).await.unwrap();
    stream.flush().await.unwrap();
    // What is too much is refused; the others are waited for.
    let mut ended = std::collections::HashSet::new();
    while let Ok(frame) = timeout(2 * SECOND, h2::read_frame(&mut stream)).await {
        let (kind, flags, id) = frame.expect("the connection stays");
        if kind == kind::RST_STREAM || (kind == kind::HEADERS && flags & h2::END_STREAM != 0) {
            ended.insert(id);
        }
    }
    assert!((most..=most + 1).contains(&ended.len()), "{} of {} are refused", ended.len(), 2 * most);
    let outcome = timeout(10 * SECOND, fleet.alice.run(harmless(), &fleet.agents[0].id)).await.expect("not held up");
    assert!(matches!(outcome.unwrap(), Outcome::Succeeded(_)));
    drop(stream);
    watch.end(&fleet, 64 * MEBIBYTE).await;
    fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn silent_peers_at_one_address_do_not_keep_others_out() {
    let fleet = Fleet::without_aws(1).await;
    let (hub, enrol) = (fleet.hub_config.listen.address, fleet.hub_config.listen.enrol);
    let nobody = client_tls(&fleet, None).unwrap();
    let mut silent = Vec::new();
    for _ in 0..2 * limits::HANDSHAKES_PER_ADDRESS {
        let mut halting = dial(HERE, hub).await.unwrap();
        halting.write_all(&[22]).await.unwrap(); // a handshake begins, and does not go on
        silent.extend([halting, dial(HERE, hub).await.unwrap(), dial(HERE, enrol).await.unwrap()]);
    }
    // They have every place that their address may have...
    for (target, tls) in [(hub, &fleet.alice.tls), (enrol, &nobody)] {
        let connected = timeout(SECOND, h2::connect(HERE, target, tls)).await;
        assert!(!matches!(connected, Ok(Ok(_))), "{target} has places left");
    }
    // ... and others have theirs.
    let cable = Wire::from_to(ELSEWHERE, hub).await.unwrap();
    let channel = channel::open(&cable.address.to_string(), std::sync::Arc::clone(&fleet.alice.tls));
    let list = async { OperatorServiceClient::new(channel).list_agents(wire::ListAgentsRequest {}).await };
    timeout(5 * SECOND, list).await.expect("not held up").unwrap();
    timeout(5 * SECOND, h2::connect(ELSEWHERE, enrol, &nobody)).await.expect("not held up").unwrap();
    // Who is connected already does not notice.
    let outcome = timeout(5 * SECOND, fleet.alice.run(harmless(), &fleet.agents[0].id)).await.expect("not held up");
    assert!(matches!(outcome.unwrap(), Outcome::Succeeded(_)));
    drop(silent);
    eventually("the places are given back", 5 * SECOND, async || h2::connect(HERE, hub, &fleet.alice.tls).await.ok())
        .await;
    fleet.stop().await;
}
