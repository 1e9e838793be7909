//! Files that arrive: over a real queue and by listing, with an agent that is killed, messages that nobody understands, and
//! a Dagster that is stood for by what is launched.

#![expect(clippy::unwrap_used, reason = "what tests share is not in a test, as clippy sees it")]

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use sfdata_agent::{
    arrivals::{ARRIVAL_TAG, HandedOn, Handle, Launch},
    config::arrivals::{Arrivals as Settings, Rule},
    services::Error,
};
use sfdata_common::{
    command::{Action, Agent, ArrivalId, Arrivals},
    limits,
    outcome::{FailureCode, Outcome},
};
use sfdata_proto::v1::{ArrivalState, ArrivalsHealth, ArrivalsListResult, ParkReason, action_result::Kind};
use sfdata_tests::{eventually, fleet::Fleet, process::Process, settings::write_agent};

/// A long poll may have begun just before.
const SOON: Duration = Duration::from_secs(45);
const ALL: &str = "permit(principal, action, resource);";

fn rules() -> Settings {
    let rule = Rule { prefix: "ssda903/".into(), job: Some("ingest".into()), ..Rule::default() };
    Settings { rules: vec![rule], ..Settings::default() }
}

async fn put(fleet: &Fleet, key: &str, body: &str) {
    let la = &fleet.agents[0];
    fleet.aws().put(&la.account.id, &format!("sfdata-{}-data-store", la.id), key, body).await.unwrap();
}

async fn waits(handle: &Handle, count: usize) {
    let mut seen = handle.subscribe();
    let waits = seen.wait_for(|waiting| waiting.count == count && waiting.unreadable.is_none());
    tokio::time::timeout(SOON, waits).await.unwrap_or_else(|_| panic!("not {count}: {:?}", handle.waiting())).unwrap();
}

async fn empties(fleet: &Fleet, queue: &str) {
    eventually("nothing is left in the queue", SOON, async || {
        (fleet.aws().messages(&fleet.agents[0].account.id, queue).await.ok()? == 0).then_some(())
    })
    .await;
}

/// Whether a message was hidden for longer than by being received.
async fn is_hidden(fleet: &Fleet) -> bool {
    let account = &fleet.agents[0].account.id;
    let calls = fleet.aws().calls(account, "sqs", "ChangeMessageVisibilityBatch").await.unwrap();
    calls.iter().any(|call| call.to_string().contains("900"))
}

/// In the place of Dagster: what was launched.
#[derive(Default)]
struct Runs(Arc<Mutex<Vec<Launch>>>);

impl Runs {
    /// Dagster is awake, and says this to each launch; the run is there all the same, unless it says that it is refused.
    async fn hand_on(&self, handle: &Handle, says: Result<(), FailureCode>) -> HandedOn {
        let find = |tag: String| {
            let found = self.0.lock().unwrap().iter().any(|run| run.tags[ARRIVAL_TAG] == tag);
            async move { Ok(found) }
        };
        let launch = |run: Launch| {
            if says != Err(FailureCode::NotFound) {
                self.0.lock().unwrap().push(run);
            }
            async move { says.map_err(|code| Error::failed(code, "said so")) }
        };
        handle.hand_on(async |_| Ok(true), find, launch).await.unwrap()
    }

    fn count(&self) -> usize {
        self.0.lock().unwrap().len()
    }
}

async fn list(fleet: &Fleet) -> ArrivalsListResult {
    match fleet.alice.revealed(Action::Arrivals(Arrivals::List), &fleet.agents[0].id).await.unwrap() {
        Kind::ArrivalsList(list) => list,
        other => panic!("another result: {other:?}"),
    }
}

async fn order(fleet: &Fleet, order: Arrivals) -> Outcome {
    fleet.alice.run(Action::Arrivals(order), &fleet.agents[0].id).await.unwrap()
}

fn state(outcome: &Outcome) -> ArrivalState {
    match outcome {
        Outcome::Succeeded(result) => match &result.kind {
            Some(Kind::Arrival(arrival)) => arrival.state(),
            other => panic!("another result: {other:?}"),
        },
        other => panic!("it failed: {other:?}"),
    }
}

async fn health(fleet: &Fleet) -> ArrivalsHealth {
    let outcome = fleet.alice.run(Action::Agent(Agent::Refresh), &fleet.agents[0].id).await.unwrap();
    let Outcome::Succeeded(result) = outcome else { panic!("{outcome:?}") };
    let Some(Kind::AgentRefresh(refresh)) = result.kind else { panic!("{result:?}") };
    refresh.health.unwrap().arrivals.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_is_one_run_though_it_is_told_twice_and_the_agent_dies_between_launch_and_delete() {
    let mut fleet = Fleet::start(1).await;
    let queue = fleet.with_arrivals(0, rules(), true).await;
    fleet.start_agent(0).await;
    fleet.connected(0).await;
    let (account, runs) = (fleet.agents[0].account.id.clone(), Runs::default());
    put(&fleet, "ssda903/a%20child.csv", "x").await;
    waits(&fleet.arrivals(0), 1).await;
    let told = health(&fleet).await;
    assert_eq!((told.waiting, told.parked, told.source.as_str(), told.error.as_str()), (1, 0, "queue", ""));
    assert!(told.oldest_unix_ms > 0 && told.last_unix_ms == 0);
    assert_eq!(fleet.aws().messages(&account, &queue).await.unwrap(), 1, "nothing but the queue's test is deleted");

    let done = runs.hand_on(&fleet.arrivals(0), Err(FailureCode::Unavailable)).await;
    assert_eq!(
        (done.runs, runs.count(), fleet.arrivals(0).waiting().count),
        (0, 1, 1),
        "launched, and not known to be"
    );
    fleet.stop_agent(0).await;
    fleet.start_agent(0).await;
    assert_eq!(fleet.arrivals(0).waiting().count, 1, "known at once, not when its message comes again");
    let done = runs.hand_on(&fleet.arrivals(0), Ok(())).await;
    assert_eq!((done.runs, done.arrivals, runs.count()), (1, 1, 1), "found by its tag");
    assert!(fleet.arrivals(0).last_handed_on().is_some());

    // The same event twice more, after one of another file, all for the agent that has forgotten the first message.
    let record = |key: &str, version: &str| {
        format!(
            r#"{{"eventSource": "aws:s3", "awsRegion": "eu-west-2", "eventName": "ObjectCreated:Put", "s3": {{"bucket":
               {{"name": "sfdata-la-0-data-store"}}, "object": {{"key": "{key}", "eTag": "e", "versionId": "{version}"}}}}}}"#
        )
    };
    let message = |records: &[&String]| {
        let records: Vec<&str> = records.iter().map(|record| record.as_str()).collect();
        format!(r#"{{"Records": [{}]}}"#, records.join(","))
    };
    let (newer, older) = (record("ssda903/b.csv", "2"), record("ssda903/b.csv", "1"));
    for records in [vec![&newer], vec![&older, &newer], vec![&newer], vec![&older]] {
        fleet.aws().send(&account, &queue, &message(&records)).await.unwrap();
    }
    waits(&fleet.arrivals(0), 2).await;
    runs.hand_on(&fleet.arrivals(0), Ok(())).await;
    fleet.aws().send(&account, &queue, &message(&[&newer, &older])).await.unwrap();
    eventually("all but the forgotten message is deleted", SOON, async || {
        (fleet.aws().messages(&account, &queue).await.ok()? == 1).then_some(())
    })
    .await;
    assert_eq!((runs.count(), fleet.arrivals(0).waiting().count), (3, 0));
    fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_handed_on_is_parked_shown_retried_and_dropped() {
    let mut fleet = Fleet::start(1).await;
    let queue = fleet.with_arrivals(0, rules(), true).await;
    fleet.with_policy(0, ALL).await;
    let (account, runs) = (fleet.agents[0].account.id.clone(), Runs::default());
    fleet.aws().send(&account, &queue, "no event").await.unwrap();
    put(&fleet, "ssda903/a%20child.csv", "x").await;
    waits(&fleet.arrivals(0), 1).await;
    let done = runs.hand_on(&fleet.arrivals(0), Err(FailureCode::NotFound)).await;
    assert_eq!((done.parked, runs.count()), (1, 0));
    empties(&fleet, &queue).await;
    let told = health(&fleet).await;
    assert_eq!((told.waiting, told.parked), (0, 2));
    assert!(!format!("{told:?}").contains("child"));

    let shown = list(&fleet).await;
    assert_eq!((shown.waiting_count, shown.parked_count), (0, 2));
    let of = |reason: ParkReason| shown.parked.iter().find(|one| one.reason() == reason).unwrap().clone();
    let (odd, refused) = (of(ParkReason::Unreadable), of(ParkReason::Refused));
    assert_eq!((odd.excerpt.as_str(), odd.key.as_str()), ("no event", ""));
    assert_eq!((refused.key.as_str(), refused.detail.as_str()), ("ssda903/a child.csv", "said so"));
    let [odd, refused]: [ArrivalId; 2] = [odd.id.parse().unwrap(), refused.id.parse().unwrap()];

    // What is not understood is not understood another time either.
    let still = order(&fleet, Arrivals::Retry(odd)).await;
    assert!(matches!(&still, Outcome::Failed { code: FailureCode::Rejected, .. }), "{still:?}");
    let plan = fleet.alice.plan(Action::Arrivals(Arrivals::Drop(odd)), &fleet.agents[0].id).await.unwrap();
    assert_eq!((plan.changes[0].before.as_str(), plan.changes[0].after.as_str()), ("parked", "settled"));
    assert_eq!(health(&fleet).await.parked, 2, "a plan changes nothing");
    assert_eq!(state(&order(&fleet, Arrivals::Drop(odd)).await), ArrivalState::Settled);
    assert_eq!(state(&order(&fleet, Arrivals::Drop(odd)).await), ArrivalState::Settled, "once more does no harm");
    assert_eq!(state(&order(&fleet, Arrivals::Retry(refused)).await), ArrivalState::Waiting);
    assert_eq!(state(&order(&fleet, Arrivals::Retry(refused)).await), ArrivalState::Waiting);
    assert_eq!(list(&fleet).await.waiting[0].job, "ingest");
    assert_eq!(runs.hand_on(&fleet.arrivals(0), Ok(())).await.runs, 1);
    assert_eq!((health(&fleet).await.parked, runs.count()), (0, 1));
    let unknown = order(&fleet, Arrivals::Retry(ArrivalId::of(&[b"another"]))).await;
    assert!(matches!(&unknown, Outcome::Failed { code: FailureCode::NotFound, .. }), "{unknown:?}");
    fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn where_no_more_can_be_parked_files_go_on_and_the_message_is_hidden_until_there_is_room() {
    let mut fleet = Fleet::start(1).await;
    let queue = fleet.with_arrivals(0, rules(), true).await;
    fleet.with_policy(0, ALL).await;
    let (account, runs) = (fleet.agents[0].account.id.clone(), Runs::default());
    let full: Vec<String> = (0..limits::ARRIVALS_PARKED).map(|number| number.to_string()).collect();
    fleet.aws().send(&account, &queue, &format!(r#"{{"Records": [{}]}}"#, full.join(","))).await.unwrap();
    eventually("as many are parked as may", SOON, async || {
        (list(&fleet).await.parked_count as usize == limits::ARRIVALS_PARKED).then_some(())
    })
    .await;
    empties(&fleet, &queue).await;

    let record = r#"{"eventSource": "aws:s3", "awsRegion": "eu-west-2", "eventName": "ObjectCreated:Put", "s3":
        {"bucket": {"name": "sfdata-la-0-data-store"}, "object": {"key": "ssda903/a.csv", "eTag": "e"}}}"#;
    fleet.aws().send(&account, &queue, &format!(r#"{{"Records": ["odd", {record}]}}"#)).await.unwrap();
    waits(&fleet.arrivals(0), 1).await;
    eventually("it is hidden", SOON, async || is_hidden(&fleet).await.then_some(())).await;
    assert_eq!(runs.hand_on(&fleet.arrivals(0), Ok(())).await.runs, 1);
    let told = eventually("it is told", SOON, async || {
        let error = health(&fleet).await.error;
        (!error.is_empty()).then_some(error)
    })
    .await;
    assert_eq!(told, "full");
    let whole = fleet.arrivals(0).health().error;
    assert!(whole.contains("hubctl arrivals list"), "its own log tells more: {whole}");
    assert_eq!(fleet.aws().messages(&account, &queue).await.unwrap(), 1, "it is not lost");

    let one = list(&fleet).await.parked[0].id.parse().unwrap();
    assert_eq!(state(&order(&fleet, Arrivals::Drop(one)).await), ArrivalState::Settled);
    empties(&fleet, &queue).await;
    assert_eq!((list(&fleet).await.parked_count as usize, runs.count()), (limits::ARRIVALS_PARKED, 1));
    fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_stays_hidden_while_nothing_can_be_deleted() {
    let mut fleet = Fleet::start(1).await;
    let queue = fleet.with_arrivals(0, rules(), true).await;
    let account = fleet.agents[0].account.id.clone();
    let fault = serde_json::json!({"service": "sqs", "action": "DeleteMessageBatch", "kind": "access_denied",
        "times": null, "account": account});
    fleet.aws().fault(fault).await.unwrap();
    fleet.aws().send(&account, &queue, "parked, and to be deleted").await.unwrap();
    put(&fleet, "ssda903/a.csv", "x").await;
    fleet.start_agent(0).await;
    fleet.connected(0).await;
    waits(&fleet.arrivals(0), 1).await;
    eventually("it is told", SOON, async || {
        fleet.arrivals(0).health().error.contains("sqs:DeleteMessage").then_some(())
    })
    .await;
    eventually("it is reported", SOON, async || (health(&fleet).await.error == "access-denied").then_some(())).await;
    eventually("what waits is hidden", SOON, async || is_hidden(&fleet).await.then_some(())).await;
    fleet.aws().heal().await.unwrap();
    Runs::default().hand_on(&fleet.arrivals(0), Ok(())).await;
    empties(&fleet, &queue).await;
    fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_that_is_not_there_or_denied_is_unreadable_until_it_answers() {
    let mut fleet = Fleet::start(1).await;
    fleet.with_arrivals(0, rules(), true).await;
    let account = fleet.agents[0].account.id.clone();
    let fault = serde_json::json!({"service": "sqs", "action": "ReceiveMessage", "kind": "access_denied", "times": null,
        "account": account});
    fleet.aws().fault(fault).await.unwrap();
    fleet.start_agent(0).await;
    fleet.connected(0).await;
    assert!(fleet.arrivals(0).waiting().unreadable.is_some(), "unknown is busy");
    let mut seen = fleet.arrivals(0).subscribe();
    let denied =
        seen.wait_for(|waiting| waiting.unreadable.as_ref().is_some_and(|one| one.why.contains("sqs:Receive")));
    let since = tokio::time::timeout(SOON, denied).await.unwrap().unwrap().unreadable.clone().unwrap().since;
    assert_eq!(health(&fleet).await.error, "access-denied");
    assert_eq!(fleet.arrivals(0).waiting().unreadable.unwrap().since, since, "since it began");
    fleet.aws().heal().await.unwrap();
    put(&fleet, "cin/a.xml", "x").await;
    waits(&fleet.arrivals(0), 1).await;
    assert_eq!(health(&fleet).await.error, "");
    fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_queue_the_bucket_is_listed_and_what_was_there_before_starts_nothing() {
    let mut fleet = Fleet::start(1).await;
    let settings = Settings { list_every: Duration::from_secs(1), ..rules() };
    fleet.with_arrivals(0, settings, false).await;
    fleet.start_agent(0).await;
    fleet.connected(0).await;
    waits(&fleet.arrivals(0), 0).await;
    assert_eq!(health(&fleet).await.source, "listing");
    put(&fleet, "ssda903/new.csv", "x").await;
    put(&fleet, "cin/new.xml", "x").await;
    put(&fleet, "cin/folder/", "").await;
    waits(&fleet.arrivals(0), 2).await;
    fleet.stop_agent(0).await;
    put(&fleet, "cin/meanwhile.xml", "x").await;
    fleet.start_agent(0).await;
    waits(&fleet.arrivals(0), 3).await;
    let runs = Runs::default();
    let done = runs.hand_on(&fleet.arrivals(0), Ok(())).await;
    assert_eq!((done.runs, done.arrivals), (1, 3));
    put(&fleet, "ssda903/new.csv", "another").await;
    waits(&fleet.arrivals(0), 1).await;
    fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_agent_knows_what_waits_as_soon_as_it_is_back() {
    let mut fleet = Fleet::start(1).await;
    fleet.with_arrivals(0, Settings::default(), true).await;
    let config = write_agent(&fleet.agents[0].config, &fleet.folder.path().join("agent.toml")).unwrap();
    let start = || {
        let log = fleet.folder.path().join("agent.log");
        Process::start("sfdata-agent", &["--config", &config.display().to_string(), "run"], &log).unwrap()
    };
    let mut agent = start();
    fleet.connected(0).await;
    put(&fleet, "ssda903/a.csv", "x").await;
    eventually("it waits", SOON, async || (health(&fleet).await.waiting == 1).then_some(())).await;
    agent.kill();
    // Nobody tells it of the file any more.
    let fault = serde_json::json!({"service": "sqs", "action": "*", "kind": "access_denied", "times": null});
    fleet.aws().fault(fault).await.unwrap();
    let _agent = start();
    assert_eq!(health(&fleet).await.waiting, 1);
    fleet.aws().heal().await.unwrap();
    fleet.stop().await;
}
