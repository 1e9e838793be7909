//! The database, started, stopped and changed: counted at RDS.

#![expect(clippy::unwrap_used, reason = "what tests share is not in a test, as clippy sees it")]

use std::time::Duration;

use serde_json::json;
use sfdata_common::{
    command::{Action, Acu, Agent, Aurora, Capacity},
    outcome::{FailureCode, Outcome},
};
use sfdata_proto::v1::{self as wire, action_result::Kind};
use sfdata_tests::{eventually, fleet::Fleet};

const MINUTE: Duration = Duration::from_secs(60);

async fn run(fleet: &Fleet, action: Aurora) -> Outcome {
    fleet.alice.run(Action::Aurora(action), &fleet.agents[0].id).await.expect("the command ends")
}

async fn calls(fleet: &Fleet, action: &str) -> usize {
    fleet.aws().calls(&fleet.agents[0].account.id, "rds", action).await.unwrap().len()
}

async fn fault(fleet: &Fleet, action: &str, kind: &str, times: Option<u32>) {
    let account = &fleet.agents[0].account.id;
    let fault = json!({"service": "rds", "action": action, "kind": kind, "times": times, "account": account});
    fleet.aws().fault(fault).await.unwrap();
}

fn kind(outcome: Outcome) -> Kind {
    match outcome {
        Outcome::Succeeded(result) => result.kind.expect("a result"),
        other => panic!("not succeeded: {other:?}"),
    }
}

fn reached(outcome: Outcome) -> wire::AuroraState {
    match kind(outcome) {
        Kind::Aurora(result) => result.aurora.expect("a database"),
        other => panic!("another result: {other:?}"),
    }
}

fn failure(outcome: Outcome) -> (FailureCode, String) {
    match outcome {
        Outcome::Failed { code, message } => (code, message),
        other => panic!("not failed: {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_is_stopped_and_started_once_and_waited_for() {
    let fleet = Fleet::start(1).await;
    let la = &fleet.agents[0].id;
    let plan = fleet.alice.plan(Action::Aurora(Aurora::Stop { deadline: MINUTE }), la).await.unwrap();
    assert_eq!((&*plan.changes[0].before, &*plan.changes[0].after), ("available", "stopped"));
    assert_eq!(calls(&fleet, "StopDBCluster").await, 0);

    assert_eq!(reached(run(&fleet, Aurora::Stop { deadline: MINUTE }).await).status, "stopped");
    assert_eq!(reached(run(&fleet, Aurora::Stop { deadline: MINUTE }).await).status, "stopped");
    assert_eq!(calls(&fleet, "StopDBCluster").await, 1, "it was there already");

    // The answer is lost: the SDK asks again, RDS refuses that, and the world shows why.
    fault(&fleet, "StartDBCluster", "lost_reply", Some(1)).await;
    assert_eq!(reached(run(&fleet, Aurora::Start { deadline: MINUTE }).await).status, "available");
    assert_eq!(reached(run(&fleet, Aurora::Start { deadline: MINUTE }).await).status, "available");
    assert_eq!(calls(&fleet, "StartDBCluster").await, 2, "and not a third time");
    fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_stopping_is_started_when_it_has_stopped() {
    let fleet = Fleet::start(1).await;
    let la = &fleet.agents[0].id;
    let stop = fleet.alice.submit(Action::Aurora(Aurora::Stop { deadline: MINUTE }), &[la]).await.unwrap();
    eventually("RDS is told to stop it", MINUTE, async || (calls(&fleet, "StopDBCluster").await == 1).then_some(()))
        .await;
    kind(fleet.alice.run(Action::Agent(Agent::Cancel(stop)), la).await.unwrap());
    assert_eq!(reached(run(&fleet, Aurora::Start { deadline: MINUTE }).await).status, "available");
    let Outcome::Cancelled { detail } = fleet.alice.outcome(stop, la).await.unwrap() else { panic!("not cancelled") };
    assert!(detail.contains("was told to stop; only the waiting was stopped"), "{detail}");
    assert_eq!((calls(&fleet, "StopDBCluster").await, calls(&fleet, "StartDBCluster").await), (1, 1));
    fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_denied_stop_says_which_permission_is_missing() {
    let fleet = Fleet::start(1).await;
    fault(&fleet, "StopDBCluster", "access_denied", None).await;
    let (code, message) = failure(run(&fleet, Aurora::Stop { deadline: MINUTE }).await);
    assert_eq!(code, FailureCode::AccessDenied);
    assert!(message.contains("rds:StopDBCluster") && message.contains("deploy/iam"), "{message}");
    fleet.stop().await;
}

fn capacity(min: f64, max: f64, pause: Option<u64>) -> Aurora {
    let [min, max] = [min, max].map(|units| Acu::new(units).unwrap());
    let pause_after = pause.map(Duration::from_secs);
    Aurora::SetCapacity { capacity: Capacity { min, max, pause_after }, deadline: MINUTE }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_capacity_range_is_planned_set_once_and_refused_while_stopped() {
    let fleet = Fleet::start(1).await;
    let la = &fleet.agents[0].id;
    let plan = fleet.alice.plan(Action::Aurora(capacity(0.0, 4.0, Some(900))), la).await.unwrap();
    let changes: Vec<_> = plan.changes.iter().map(|c| [&*c.property, &*c.before, &*c.after]).collect();
    assert_eq!(changes, [["MinCapacity", "0.5", "0"], ["SecondsUntilAutoPause", "", "900"]]);
    assert_eq!(calls(&fleet, "ModifyDBCluster").await, 0);

    for _ in 0..2 {
        let set = reached(run(&fleet, capacity(0.0, 4.0, Some(900))).await);
        assert_eq!((set.min_acu, set.max_acu, set.auto_pause_seconds), (0.0, 4.0, 900));
        assert_eq!(set.status, "available", "it is in force");
    }
    assert_eq!(calls(&fleet, "ModifyDBCluster").await, 1);
    let set = reached(run(&fleet, capacity(0.5, 8.0, None)).await);
    assert_eq!((set.min_acu, set.max_acu, set.auto_pause_seconds), (0.5, 8.0, 0));

    reached(run(&fleet, Aurora::Stop { deadline: MINUTE }).await);
    let (code, message) = failure(run(&fleet, capacity(1.0, 8.0, None)).await);
    assert_eq!(code, FailureCode::Rejected);
    assert!(message.contains("start it first"), "{message}");
    assert!(fleet.alice.submit(Action::Aurora(capacity(0.0, 4.0, None)), &[la]).await.is_err(), "no pause is named");
    fleet.stop().await;
}
