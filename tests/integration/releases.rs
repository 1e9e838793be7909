//! Hub and agent of neighbouring releases work together: this release's agent with a hub of each release that is kept in
//! `tests/releases`, and this release's hub with an agent of it, which say what such programs really said.
//!
//! [`record`] makes the record of a release, by programs of this tree.

#![expect(clippy::unwrap_used, reason = "what tests share is not in a test, as clippy sees it")]

mod old_agent;
mod old_hub;

use std::{
    collections::{BTreeSet, HashSet},
    fs,
    time::Duration,
};

use prost::Message as _;
use serde_json::json;
use sfdata_agent::{
    identity::{Identity, receipts},
    trust::Trust,
};
use sfdata_common::{
    Timestamp,
    command::{Action, Agent, Aurora, Ecs, LogSource, Logs, LogsUntil, Mode, S3},
    ids::{AgentId, CommandId},
    join,
    outcome::Outcome,
    trust::Role,
};
use sfdata_hub::admin;
use sfdata_proto::v1::{self as wire, connect_request::Message as FromAgent};
use sfdata_tests::{
    eventually,
    fleet::{Fleet, Options},
    relay::{Heard, Relay},
    release::{self, LINK, Release, Said, Side, fields},
};

use crate::delivery::{accept_restore, restore};

const ACCOUNT: &str = "200000000000";
const SOON: Duration = Duration::from_secs(60);

/// Agent la-0, not enrolled and not started, whose platform has all that the recorded session needs.
async fn platform() -> Fleet {
    let mut fleet = Fleet::with(0, Options { aws: true, ..Options::default() }).await;
    fleet.prepare("la-0", ACCOUNT).await.unwrap();
    let policy = fleet.folder.path().join("policy.cedar");
    let text =
        "permit (principal, action, resource);\nforbid (principal, action == Action::\"ecs.scale\", resource);\n";
    fs::write(&policy, text).unwrap();
    let config = &mut fleet.agents[0].config;
    (config.policy, config.usage.bill) = (Some(policy), true);
    let month = json!({"TimePeriod": {"Start": "2026-11-01", "End": "2026-12-01"}, "Estimated": true, "Groups": [],
        "Total": {"UnblendedCost": {"Amount": "30.25", "Unit": "USD"}}});
    fleet.aws().bill(ACCOUNT, json!({"ResultsByTime": [month]})).await.unwrap();
    fleet.aws().write(&fleet.agents[0].account, "daemon", &["a line"]).await.unwrap();
    // Its restart does not come to an end by itself.
    fleet.aws().tasks(&fleet.agents[0].account, "code-server", "crashes").await.unwrap();
    fleet
}

/// What this release lacks of a recorded session, one a line.
fn lacks() -> BTreeSet<String> {
    let text = include_str!("../releases/lacks.txt");
    text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).map(str::to_owned).collect()
}

#[test]
fn what_the_newest_record_lacks_is_listed() {
    let release = Release::kept().unwrap().pop().expect("a release");
    let session = release.session().unwrap();
    let said: BTreeSet<String> = session.iter().flat_map(Said::kinds).collect();
    let lacking: BTreeSet<String> = release.kinds().unwrap().difference(&said).cloned().collect();
    let (listed, more) = (lacks(), |one: &BTreeSet<String>, other: &BTreeSet<String>| {
        one.difference(other).cloned().collect::<Vec<_>>().join("\n")
    });
    assert!(
        listed == lacking,
        "tests/releases/{}/session.txt lacks, and lacks.txt does not say so:\n{}\nlacks.txt says so, and it is there:\n{}",
        release.version,
        more(&lacking, &listed),
        more(&listed, &lacking)
    );
}

fn restart(service: &str) -> Action {
    Action::Ecs(Ecs::Restart { service: service.into(), deadline: SOON })
}

/// Legal at any time, and without effect.
fn nothing() -> Action {
    Action::Agent(Agent::Cancel(CommandId::generate()))
}

/// What a health report has set is told once.
fn is_news(said: &Said, told: &mut HashSet<BTreeSet<String>>) -> bool {
    match release::get(&said.message, "health").and_then(|health| health.as_message()) {
        Some(health) => told.insert(fields(health)),
        None => true,
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "writes tests/releases; see \"Cut a release\" in CONTRIBUTING.md"]
#[expect(clippy::disallowed_methods, reason = "a test has no configuration file")]
async fn record() {
    let version = std::env::var("SFDATA_RECORD_RELEASE").expect("SFDATA_RECORD_RELEASE=VERSION");
    let release = Release::open(&version).unwrap();
    let mut fleet = platform().await;
    let (la, data_dir) = (fleet.agents[0].id.clone(), fleet.agents[0].config.data_dir.clone());
    let relay = Relay::start(&fleet, &data_dir).unwrap();
    let heard = async |kind: &str| {
        eventually(&format!("{kind} was said"), SOON, async || {
            let read = |heard: &Heard| release.read(heard.by, LINK, &heard.bytes).unwrap().kind();
            relay.heard().iter().filter(|heard| heard.method == LINK).any(|heard| read(heard) == kind).then_some(())
        })
        .await;
    };

    let mut token = join::decode(&fleet.invite("la-0", ACCOUNT).await.unwrap()).unwrap();
    (token.address, token.enrol_address) = (relay.address.to_string(), relay.enrol.to_string());
    fleet.agents[0].enrol(&join::encode(&token).to_string()).await.unwrap();
    receipts::stage(&data_dir).unwrap();

    // One that is taken back before it goes out.
    let early = fleet.alice.submit(nothing(), &[&la]).await.unwrap();
    let unwanted = fleet.alice.submit(restart("daemon"), &[&la]).await.unwrap();
    let cancel = fleet.alice.submit(Action::Agent(Agent::Cancel(unwanted)), &[&la]).await.unwrap();
    fleet.start_agent(0).await;
    for id in [early, unwanted, cancel] {
        fleet.alice.outcome(id, &la).await.unwrap();
    }
    for kind in ["receipt_key_kept", "usage_kept", "bill_kept"] {
        heard(kind).await;
    }

    order(&fleet, &la, &relay).await;
    // Another operator, so another bundle; then a delivery that gets lost, and the one behind it.
    fleet.operator("vera", Role::Viewer).await;
    heard("trust_taken").await;
    relay.lose_a_delivery();
    let lost = fleet.alice.submit(nothing(), &[&la]).await.unwrap();
    fleet.alice.run(nothing(), &la).await.unwrap();
    fleet.alice.outcome(lost, &la).await.unwrap();

    // The agent's library, so that nobody has to wait for half of a certificate's life.
    fleet.stop_agent(0).await;
    let trust = Trust::open(&data_dir).unwrap().into();
    Identity::open(&data_dir, None, trust).unwrap().renew().await.unwrap();
    fleet.start_agent(0).await;
    fleet.connected(0).await;

    // One that joins by its AWS identity.
    fleet.add_by_aws("la-1", "200000000001").await.unwrap();
    fleet.agents[1].config.join.as_mut().unwrap().enrol_address = relay.enrol.to_string();
    fleet.start_agent(1).await;
    fleet.connected(1).await;
    fleet.stop_agent(1).await;

    // A hub that stops, was restored, and counts anew.
    let backup = fleet.folder.path().join("backup");
    admin::backup(&fleet.hub_config.data_dir, Box::new(fs::File::create(&backup).unwrap())).await.unwrap();
    restore(&mut fleet, &backup).await;
    fleet.connected(0).await;
    accept_restore(&fleet).await;
    let ended = fleet.alice.run(Action::Ecs(Ecs::Status), &la).await.unwrap();
    assert!(matches!(ended, Outcome::Succeeded(_)), "{ended:?}");

    let mut told = HashSet::new();
    let read = relay.heard().into_iter().map(|heard| {
        let said = release.read(heard.by, &heard.method, &heard.bytes).unwrap();
        assert_eq!(said.bytes(), heard.bytes, "the descriptors of {version} are not those of this tree: {said:?}");
        said
    });
    let session = read.filter(|said| is_news(said, &mut told)).collect();
    let about = format!(
        "What a hub and an agent of release {version} said to each other, recorded by `tests/releases/record {version}`\n\
         on {}. Signatures and what lets somebody join are left out.",
        Timestamp::now().strftime("%F")
    );
    release.keep(&about, session).unwrap();
    relay.stop().await;
    fleet.stop().await;
}

/// Commands of many kinds, each to its end.
async fn order(fleet: &Fleet, la: &AgentId, relay: &Relay) {
    let run = async |action| fleet.alice.run(action, la).await.unwrap();
    let (source, since) = (LogSource::Service("daemon".into()), Timestamp::now() - Duration::from_secs(3600));
    let logs = Logs::Read { source, since, until: LogsUntil::Now, grep: String::new(), limit: 10, deadline: SOON };
    let (_, lines) = fleet.alice.read(Action::Logs(logs), la).await.unwrap();
    assert!(!lines.is_empty());
    for action in [
        Action::Ecs(Ecs::Status),
        Action::Aurora(Aurora::Status),
        Action::S3(S3::Usage { by_prefix: false }),
        Action::S3(S3::Drift { bucket: None }),
        Action::S3(S3::Quarantines),
        Action::S3(S3::ShareShow),
        Action::Aurora(Aurora::Snapshots),
        Action::Agent(Agent::Refresh),
        Action::Agent(Agent::Discover { cluster: None }),
        restart("daemon"),
    ] {
        let ended = run(action.clone()).await;
        assert!(matches!(ended, Outcome::Succeeded(_)), "{action:?}: {ended:?}");
    }
    let plan = fleet.alice.plan(restart("daemon"), la).await.unwrap();
    let digest = plan.digest[..].try_into().unwrap();
    let ended = fleet.alice.run_as(restart("daemon"), Mode::ActIfPlan(digest), la).await.unwrap();
    assert!(matches!(ended, Outcome::Succeeded(_)), "{ended:?}");
    assert!(matches!(run(restart("nobody")).await, Outcome::Failed { .. }));
    let scale = Ecs::Scale { service: "webserver".into(), desired: 2, deadline: SOON };
    assert!(matches!(run(Action::Ecs(scale)).await, Outcome::Refused { .. }));

    // One that does not end by itself, and one behind it; both are taken back.
    let long = fleet.alice.submit(restart("code-server"), &[la]).await.unwrap();
    let behind = fleet.alice.submit(restart("code-server"), &[la]).await.unwrap();
    eventually("one has begun, and the other waits", SOON, async || {
        let told = |heard: &Heard| wire::ConnectRequest::decode(heard.bytes.clone()).ok().and_then(|said| said.message);
        let told: Vec<FromAgent> = relay.heard().iter().filter(|heard| heard.by == Side::Agent).filter_map(told).collect();
        let begun = |said: &FromAgent| {
            matches!(said, FromAgent::Progress(far) if far.command_id == long.to_string() && far.percent.is_some())
        };
        let waits = |said: &FromAgent| matches!(said, FromAgent::Received(one) if one.command_id == behind.to_string());
        (told.iter().any(begun) && told.iter().any(waits)).then_some(())
    })
    .await;
    for id in [behind, long] {
        run(Action::Agent(Agent::Cancel(id))).await;
    }
    for id in [behind, long] {
        assert!(matches!(fleet.alice.outcome(id, la).await.unwrap(), Outcome::Cancelled { .. }));
    }
    run(Action::Agent(Agent::CancelOwn(long))).await;
}

/// What was said on the link, by one side or the other.
fn on_the_link(session: &[Said]) -> impl Iterator<Item = &Said> {
    session.iter().filter(|said| said.method == LINK)
}

/// The first message of a kind that one side said on the link.
fn first(session: &[Said], by: Side, kind: &str) -> Said {
    let found = on_the_link(session).find(|said| said.by == by && said.kind() == kind);
    found.unwrap_or_else(|| panic!("the record has no {kind}")).clone()
}

/// What one side said to a method of one message, first.
fn once(session: &[Said], by: Side, method: &str) -> Said {
    let found = session.iter().find(|said| said.by == by && said.method == method);
    found.unwrap_or_else(|| panic!("the record has no {method}")).clone()
}
