//! Traces: one tree across hubctl, hub and agent at a real receiver, and nothing that depends on it.

#![expect(clippy::unwrap_used, reason = "what tests share is not in a test, as clippy sees it")]

use std::{
    collections::BTreeSet,
    path::PathBuf,
    time::{Duration, Instant},
};

use sfdata_common::{
    Timestamp,
    command::{Action, Agent},
    ids::CommandId,
    keys::SigningKey,
    telemetry::traces::Telemetry,
    trust::{OperatorKey, Role},
};
use sfdata_proto::v1 as wire;
use sfdata_tests::{
    collector::{Collector, Span},
    eventually,
    fleet::{Fleet, binary, free_port},
    process::{outcome, real_hub},
};
use tokio::net::TcpListener;
use tonic::Request;

const SOON: Duration = Duration::from_secs(20);
/// What the operator typed; it may be about a child.
const REASON: &str = "for-kim-of-oak-road-7";

/// The real hubctl of an operator of this fleet.
pub(crate) struct Hubctl {
    home: PathBuf,
}

impl Hubctl {
    pub(crate) async fn join(fleet: &mut Fleet) -> Self {
        let key_file = fleet.folder.path().join("bob.key");
        let key = SigningKey::create(&key_file).unwrap();
        let expires = Timestamp::now() + Duration::from_secs(100 * 24 * 3600);
        let (name, roles) = ("bob".parse().unwrap(), vec![Role::Admin]);
        fleet.bundle.version += 1;
        fleet.bundle.operators.push(OperatorKey { name, key: key.public(), roles, expires });
        fleet.publish().await.unwrap();
        let invite = wire::InviteOperatorRequest { name: "bob".into() };
        let token = fleet.alice.client.clone().invite_operator(invite).await.unwrap().into_inner().token;
        let hubctl = Self { home: fleet.folder.path().join("bob") };
        let (code, _, said) =
            hubctl.run(&["login", &token, "--signing-key", &key_file.display().to_string()], "").await;
        assert_eq!(code, Some(0), "{said}");
        hubctl
    }

    /// Where its profiles are.
    pub(crate) fn home(&self) -> PathBuf {
        self.home.clone()
    }

    /// With the variable that OTLP's own specification names.
    pub(crate) async fn run(&self, args: &[&str], endpoint: &str) -> (Option<i32>, String, String) {
        let (variable, home) = (format!("OTEL_EXPORTER_OTLP_ENDPOINT={endpoint}"), self.home.display().to_string());
        let program = binary("hubctl").display().to_string();
        outcome("/usr/bin/env", &[&[&*variable, &*program, "--home", &*home], args].concat()).await
    }
}

/// Have hub and agent trace to this endpoint.
async fn traced(fleet: &mut Fleet, endpoint: &str) {
    let telemetry = Telemetry { otlp_endpoint: Some(endpoint.to_owned()) };
    fleet.stop_agent(0).await;
    fleet.stop_hub().await;
    fleet.hub_config.telemetry = telemetry.clone();
    fleet.agents[0].config.telemetry = telemetry;
    fleet.start_hub().await;
    fleet.start_agent(0).await;
    fleet.connected(0).await;
}

/// A span's place in the tree, from the root down, as service:name.
fn path(spans: &[Span], span: &Span) -> String {
    let own = format!("{}:{}", span.service, span.name);
    match spans.iter().find(|above| above.id == span.parent) {
        Some(above) => format!("{} > {own}", path(spans, above)),
        None => own,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_command_is_one_trace_from_hubctl_to_the_receipt() {
    let mut fleet = Fleet::start(1).await;
    let hubctl = Hubctl::join(&mut fleet).await;
    let collector = Collector::start().await.unwrap();
    traced(&mut fleet, &collector.endpoint).await;

    let args = ["ecs", "restart", "daemon", "--agent", "la-0", "--reason", REASON];
    let (code, _, said) = hubctl.run(&args, &collector.endpoint).await;
    assert_eq!(code, Some(0), "{said}");
    let spans =
        eventually("all spans have come", SOON, async || Some(collector.spans()).filter(|spans| spans.len() >= 12))
            .await;
    fleet.stop().await; // all that is left is sent
    assert_eq!(collector.spans().len(), spans.len(), "no more than that: {:#?}", collector.spans());

    let traces: BTreeSet<&[u8]> = spans.iter().map(|span| &span.trace[..]).collect();
    assert_eq!(traces.len(), 1, "{spans:#?}");
    let mut paths: Vec<String> = spans.iter().map(|span| path(&spans, span)).collect();
    paths.sort();
    let submitted = "hubctl:command > hubctl:submit > sfdata-hub:submit";
    let received = format!("{submitted} > sfdata-hub:dispatch > sfdata-agent:receive");
    let mut expected = vec!["hubctl:command".to_owned(), "hubctl:command > hubctl:submit".into(), submitted.into()];
    expected.extend(
        ["authorize", "complete", "dispatch", "enqueue"].map(|name| format!("{submitted} > sfdata-hub:{name}")),
    );
    expected.push(received.clone());
    expected
        .extend(["execute", "journal", "receipt", "verify"].map(|name| format!("{received} > sfdata-agent:{name}")));
    expected.sort();
    assert_eq!(paths, expected);

    let execute = spans.iter().find(|span| span.name == "execute").unwrap();
    let told: Vec<(&str, &str)> = execute.attributes.iter().map(|(key, value)| (&**key, &**value)).collect();
    let [("sfdata.action", "ecs.restart"), ("sfdata.agent", "la-0"), ("sfdata.command", id), (_, "succeeded"), _] =
        told[..]
    else {
        panic!("{told:?}")
    };
    assert!(id.parse::<CommandId>().is_ok(), "{id}");
    let order = spans.iter().find(|span| span.service == "hubctl" && span.name == "command").unwrap();
    assert_eq!(order.attributes["sfdata.state"], "succeeded", "the order's own span says how it ended: {order:?}");
    for span in &spans {
        let told: BTreeSet<&str> = span.attributes.keys().map(String::as_str).collect();
        let known = ["sfdata.action", "sfdata.agent", "sfdata.command", "sfdata.state", "sfdata.targets"];
        assert!(told.is_subset(&known.into()), "{span:?}");
        for word in [REASON, "daemon", "bob", "alice"] {
            assert!(!span.whole.contains(word), "{word} has left: {span:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_collector_changes_nothing_of_a_command() {
    let mut fleet = Fleet::start(1).await;
    let hubctl = Hubctl::join(&mut fleet).await;
    let refuses = format!("http://127.0.0.1:{}", free_port().unwrap());
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let hangs = format!("http://{}", silent.local_addr().unwrap());
    let args = ["agents", "refresh", "--agent", "la-0"];
    for endpoint in [refuses.as_str(), &hangs] {
        traced(&mut fleet, endpoint).await;
        let hub = real_hub(&mut fleet).await;
        fleet.connected(0).await;
        let mut took = Vec::new();
        for endpoint in ["", endpoint, endpoint] {
            let began = Instant::now();
            let (code, _, said) = hubctl.run(&args, endpoint).await;
            took.push(began.elapsed());
            assert_eq!(code, Some(0), "{said}");
        }
        assert!(took[2] < took[0] + Duration::from_secs(5), "with {endpoint}: {took:?}");
        eventually("the hub tells once that it cannot send", SOON, async || {
            hub.said().contains("traces cannot be sent").then_some(())
        })
        .await;
        hub.process.terminate().unwrap();
        let (status, said) = hub.ended().await;
        assert!(status.success(), "{said}");
        assert_eq!(said.matches("traces cannot be sent").count(), 1, "{said}");
        fleet.start_hub().await;
        fleet.connected(0).await;
    }
    fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_endpoint_and_what_is_no_traceparent_hold_up_no_command() {
    let mut fleet = Fleet::start(1).await;
    let hubctl = Hubctl::join(&mut fleet).await;
    let (code, _, said) = hubctl.run(&["agents", "refresh", "--agent", "la-0"], "https://elsewhere.example").await;
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("nothing is traced: --otlp-endpoint") && said.contains("elsewhere.example"), "{said}");

    let collector = Collector::start().await.unwrap();
    // What the environment says of headers and compression is heeded, or told as what it is.
    let program = binary("hubctl").display().to_string();
    let home = hubctl.home.display().to_string();
    let with = async |variable: &str| {
        let endpoint = format!("OTEL_EXPORTER_OTLP_ENDPOINT={}", collector.endpoint);
        let args = [variable, &endpoint, &program, "--home", &home, "agents", "refresh", "--agent", "la-0"];
        outcome("/usr/bin/env", &args).await
    };
    let (code, _, said) = with("OTEL_EXPORTER_OTLP_COMPRESSION=brotli").await;
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("nothing is traced: the environment variable OTEL_EXPORTER_OTLP_COMPRESSION"), "{said}");
    let (code, _, said) = with("OTEL_EXPORTER_OTLP_HEADERS=s3cret").await;
    assert!(code == Some(0) && said.contains("nothing is traced") && !said.contains("s3cret"), "{said}");
    assert!(collector.spans().is_empty(), "{:#?}", collector.spans());
    let (code, _, said) = with("OTEL_EXPORTER_OTLP_COMPRESSION=gzip").await;
    assert!(code == Some(0) && !said.contains("nothing is traced"), "{said}");
    let sent =
        eventually("hubctl's spans have come", SOON, async || Some(collector.spans()).filter(|spans| spans.len() >= 2));
    assert!(sent.await.iter().all(|span| span.service == "hubctl"));

    let collector = Collector::start().await.unwrap();
    traced(&mut fleet, &collector.endpoint).await;
    let (alice, agent) = (&fleet.alice, &fleet.agents[0].id);
    let command = alice.sign(&alice.command(Action::Agent(Agent::Cancel(CommandId::generate())), &[agent]));
    let mut request = Request::new(wire::SubmitRequest { command: Some(command) });
    request.metadata_mut().insert("traceparent", "00-not-a-trace".parse().unwrap());
    let mut answers = alice.client.clone().submit(request).await.unwrap().into_inner();
    while answers.message().await.unwrap().is_some() {}
    fleet.stop().await;
    let spans = collector.spans();
    let roots: Vec<&Span> = spans.iter().filter(|span| span.parent.is_empty()).collect();
    assert_eq!(roots.len(), 1, "{spans:#?}");
    assert_eq!((&*roots[0].service, &*roots[0].name), ("sfdata-hub", "submit"));
}
