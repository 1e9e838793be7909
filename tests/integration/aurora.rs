//! The database, started, stopped and changed: counted at RDS.

#![expect(clippy::unwrap_used, reason = "what tests share is not in a test, as clippy sees it")]

use std::{collections::BTreeSet, time::Duration};

use serde_json::json;
use sfdata_common::{
    command::{Action, Acu, Agent, Aurora, Capacity, Mode},
    outcome::{FailureCode, Outcome},
    trust::Role,
};
use sfdata_proto::v1::{self as wire, action_result::Kind};
use sfdata_tests::{eventually, fleet::Fleet, iam, operator::Operator, process::Run, settings::write_agent};

const MINUTE: Duration = Duration::from_secs(60);
const AURORA: &str = include_str!("../../deploy/iam/aurora.json");

/// Stop, if the policy for the agent's role has everything that was called.
async fn end(fleet: Fleet, policy: &str) {
    let called = fleet.aws().actions(&fleet.agents[0].account.id).await.unwrap();
    for action in called.iter().map(|action| action.replace("monitoring:", "cloudwatch:")) {
        let ours = action.starts_with("rds:") || action.starts_with("cloudwatch:");
        assert!(!ours || policy.contains(&format!("{action:?}")), "{action} is not in the policy");
    }
    fleet.stop().await;
}

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
    end(fleet, AURORA).await;
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
    end(fleet, AURORA).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_denied_stop_says_which_permission_is_missing() {
    let fleet = Fleet::start(1).await;
    fault(&fleet, "StopDBCluster", "access_denied", None).await;
    let (code, message) = failure(run(&fleet, Aurora::Stop { deadline: MINUTE }).await);
    assert_eq!(code, FailureCode::AccessDenied);
    assert!(message.contains("rds:StopDBCluster") && message.contains("deploy/iam"), "{message}");
    end(fleet, AURORA).await;
}

fn capacity(min: f64, max: f64, pause: Option<u64>) -> Aurora {
    let [min, max] = [min, max].map(|units| Acu::new(units).unwrap());
    let pause_after = pause.map(Duration::from_secs);
    Aurora::SetCapacity { capacity: Capacity { min, max, pause_after }, deadline: MINUTE }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_status_says_what_the_database_does_and_why_it_does_not_pause() {
    use wire::AuroraPauseBlockerReason::{Connections, MinimumAboveZero};
    let fleet = Fleet::start(1).await;
    let status = async || match kind(run(&fleet, Aurora::Status).await) {
        Kind::AuroraStatus(status) => status.activity.expect("what it does"),
        other => panic!("another result: {other:?}"),
    };
    let seen = status().await;
    assert_eq!((seen.current_acu, seen.connections, &*seen.error), (Some(1.5), Some(3), ""));
    assert!(seen.measured_unix_ms > 0 && seen.latest_restorable_unix_ms > 0, "{seen:?}");
    assert!(seen.last_snapshot.expect("RDS took one").name.starts_with("rds:"));
    let reasons: Vec<_> = seen.pause_blockers.iter().map(wire::AuroraPauseBlocker::reason).collect();
    assert_eq!(reasons, [MinimumAboveZero, Connections]);

    // The periodic report does not ask CloudWatch, and the status does without it.
    let account = fleet.agents[0].account.id.clone();
    let asked = async || fleet.aws().calls(&account, "monitoring", "GetMetricData").await.unwrap().len();
    kind(fleet.alice.run(Action::Agent(Agent::Refresh), &fleet.agents[0].id).await.unwrap());
    assert_eq!(asked().await, 1);
    let denied =
        json!({"service": "monitoring", "action": "*", "kind": "access_denied", "times": null, "account": account});
    fleet.aws().fault(denied).await.unwrap();
    let seen = status().await;
    assert_eq!((seen.current_acu, seen.connections), (None, None));
    assert!(seen.error.contains("cloudwatch:GetMetricData") && seen.latest_restorable_unix_ms > 0, "{seen:?}");
    end(fleet, AURORA).await;
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
    end(fleet, AURORA).await;
}

fn snapshot(name: Option<&str>) -> Aurora {
    Aurora::Snapshot { name: name.map(Into::into), deadline: MINUTE }
}

fn delete(name: &str) -> Aurora {
    Aurora::DeleteSnapshot { name: name.into(), deadline: MINUTE }
}

/// What can't be taken back needs two operators.
async fn delete_by_two(fleet: &Fleet, second: &Operator, name: &str) -> Outcome {
    fleet.alice.run_with(second, Action::Aurora(delete(name)), &fleet.agents[0].id).await.unwrap()
}

fn restore(snapshot: &str, new_cluster: &str) -> Aurora {
    Aurora::Restore { snapshot: snapshot.into(), new_cluster: new_cluster.into(), deadline: MINUTE }
}

fn snapshots(outcome: Outcome) -> Vec<(String, String)> {
    match kind(outcome) {
        Kind::AuroraSnapshots(result) => result.snapshots.into_iter().map(|one| (one.name, one.status)).collect(),
        other => panic!("another result: {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn snapshots_are_taken_listed_and_deleted_and_only_ones_own() {
    let mut fleet = Fleet::start(1).await;
    let la = fleet.agents[0].id.clone();
    let bob = fleet.operator("bob", Role::Admin).await;
    let refused = delete_by_two(&fleet, &bob, "kept").await;
    assert!(matches!(refused, Outcome::Refused { .. }), "unless the LA allows it: {refused:?}");
    fleet.with_policy(0, "permit(principal, action, resource);").await;
    let plan = async |name| fleet.alice.plan(Action::Aurora(snapshot(name)), &la).await.unwrap();
    let planned = plan(None).await;
    assert_eq!(planned.changes[0].resource, "db-cluster-snapshot sfdata-COMMAND");
    assert_eq!(calls(&fleet, "CreateDBClusterSnapshot").await, 0);

    // The answer is lost, the SDK asks again, and there is one.
    fault(&fleet, "CreateDBClusterSnapshot", "lost_reply", Some(1)).await;
    let available = |name: &str| vec![(name.to_owned(), "available".to_owned())];
    assert_eq!(snapshots(run(&fleet, snapshot(Some("kept"))).await), available("kept"));
    let digest = <[u8; 32]>::try_from(&planned.digest[..]).unwrap();
    let agreed = fleet.alice.run_as(Action::Aurora(snapshot(None)), Mode::ActIfPlan(digest), &la).await.unwrap();
    let unnamed = snapshots(agreed).remove(0).0;
    assert!(unnamed.starts_with("sfdata-"), "{unnamed}");
    let listed = snapshots(run(&fleet, Aurora::Snapshots).await);
    let names: Vec<_> = listed.iter().map(|(name, _)| &**name).collect();
    assert!(names.len() == 3 && names.contains(&"kept") && names.contains(&&*unnamed), "{names:?}");
    let automated = names.iter().find(|name| name.starts_with("rds:")).expect("one that RDS took");
    let (code, message) = failure(delete_by_two(&fleet, &bob, automated).await);
    assert_eq!(code, FailureCode::Rejected);
    assert!(message.contains(automated) && message.contains("is automated"), "{message}");
    let (code, message) = failure(run(&fleet, snapshot(Some("kept"))).await);
    assert_eq!(code, FailureCode::Rejected);
    assert!(message.contains("already") && message.contains("choose another name"), "{message}");

    let plan = fleet.alice.plan(Action::Aurora(delete("kept")), &la).await.unwrap();
    assert_eq!((&*plan.changes[0].before, &*plan.changes[0].after), ("available", ""));
    assert_eq!(calls(&fleet, "DeleteDBClusterSnapshot").await, 0);
    fault(&fleet, "DeleteDBClusterSnapshot", "lost_reply", Some(1)).await;
    let deleted = snapshots(delete_by_two(&fleet, &bob, "kept").await);
    assert_eq!(deleted, [("kept".to_owned(), "deleted".to_owned())]);
    let (code, message) = failure(delete_by_two(&fleet, &bob, "kept").await);
    assert_eq!(code, FailureCode::NotFound);
    assert!(message.contains(&unnamed), "it says what there is: {message}");
    // What is taken of another cluster of the account is none of ours.
    reached(run(&fleet, restore(&unnamed, "copy")).await);
    fleet.stop_agent(0).await;
    fleet.agents[0].config.platform.aurora_cluster = Some("copy".into());
    fleet.start_agent(0).await;
    fleet.connected(0).await;
    for outcome in [delete_by_two(&fleet, &bob, &unnamed).await, run(&fleet, restore(&unnamed, "third")).await] {
        let (code, message) = failure(outcome);
        assert_eq!(code, FailureCode::Rejected);
        assert!(message.contains("is a snapshot of sfdata-la-0, not of copy"), "{message}");
    }
    end(fleet, AURORA).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_is_restored_beside_the_live_database_and_never_over_one() {
    let fleet = Fleet::start(1).await;
    let (la, live) = (&fleet.agents[0].id, fleet.agents[0].account.database.clone());
    snapshots(run(&fleet, snapshot(Some("kept"))).await);
    let plan = fleet.alice.plan(Action::Aurora(restore("kept", "copy")), la).await.unwrap();
    let resources: Vec<_> = plan.changes.iter().map(|change| &*change.resource).collect();
    assert_eq!(resources, ["db-cluster copy", "db-instance copy-1"]);
    for (order, told) in [
        (restore("kept", &live), "never restored over"),
        (restore("lost", "copy"), "has no snapshot lost; there is kept, rds:"),
    ] {
        let (_, message) = failure(run(&fleet, order).await);
        assert!(message.contains(told), "{message}");
    }
    assert_eq!(calls(&fleet, "RestoreDBClusterFromSnapshot").await, 0);

    fault(&fleet, "RestoreDBClusterFromSnapshot", "lost_reply", Some(1)).await;
    let copy = reached(run(&fleet, restore("kept", "copy")).await);
    assert_eq!((&*copy.cluster, &*copy.status, copy.instances), ("copy", "available", 1));
    assert_eq!((copy.min_acu, copy.max_acu), (0.5, 4.0), "as the live one");
    let asked = fleet.aws().calls(&fleet.agents[0].account.id, "rds", "RestoreDBClusterFromSnapshot").await.unwrap();
    assert_eq!(asked[0]["params"]["DBSubnetGroupName"], live.as_str());
    assert!(asked[0]["params"].to_string().contains("sg-"), "{}", asked[0]["params"]);

    let (code, message) = failure(run(&fleet, restore("kept", "copy")).await);
    assert_eq!(code, FailureCode::Rejected);
    assert!(message.contains("there is a cluster copy already"), "{message}");
    end(fleet, AURORA).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_is_killed_goes_on_with_its_snapshot_and_its_restoration() {
    let mut fleet = Fleet::start(1).await;
    fleet.stop_agent(0).await;
    let folder = fleet.folder.path();
    let file = write_agent(&fleet.agents[0].config, &folder.join("agent.toml")).unwrap();
    let start = || Run::start("sfdata-agent", &["--config", &file.display().to_string(), "run"], folder);
    let mut agent = start();
    fleet.connected(0).await;
    let la = &fleet.agents[0].id;
    for (order, instants) in [
        (snapshot(Some("kept")), &["CreateDBClusterSnapshot"][..]),
        (restore("kept", "copy"), &["RestoreDBClusterFromSnapshot", "CreateDBInstance"]),
        (Aurora::Stop { deadline: MINUTE }, &["StopDBCluster"]),
    ] {
        let id = fleet.alice.submit(Action::Aurora(order), &[la]).await.unwrap();
        for instant in instants {
            eventually(instant, MINUTE, async || (calls(&fleet, instant).await > 0).then_some(())).await;
            agent.process.kill();
            agent = start();
        }
        let ended = fleet.alice.outcome(id, la).await.unwrap();
        assert!(matches!(ended, Outcome::Succeeded(_)), "{ended:?}");
        for instant in instants {
            assert_eq!(calls(&fleet, instant).await, 1, "{instant}");
        }
    }
    drop(agent);
    end(fleet, AURORA).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plain_instance_is_operated_and_what_is_auroras_alone_is_refused_by_name() {
    let mut fleet = Fleet::start(1).await;
    let bob = fleet.operator("bob", Role::Admin).await;
    let la = fleet.agents[0].id.clone();
    fleet.aws().seed_instance(la.as_str(), &fleet.agents[0].account.id, "plain").await.unwrap();
    fleet.stop_agent(0).await;
    let platform = &mut fleet.agents[0].config.platform;
    (platform.aurora_cluster, platform.database_instance) = (None, Some("plain".into()));
    fleet.start_agent(0).await;
    fleet.connected(0).await;

    let Kind::AuroraStatus(status) = kind(run(&fleet, Aurora::Status).await) else { panic!("another result") };
    let (state, activity) = (status.aurora.unwrap(), status.activity.unwrap());
    assert_eq!((&*state.engine, &*state.instance_class, &*state.status), ("postgres", "db.t4g.medium", "available"));
    assert_eq!(activity.pause_blockers[0].reason(), wire::AuroraPauseBlockerReason::NotServerless);
    assert_eq!(snapshots(run(&fleet, snapshot(Some("kept"))).await), [("kept".to_owned(), "available".to_owned())]);
    for _ in 0..2 {
        assert_eq!(reached(run(&fleet, Aurora::Stop { deadline: MINUTE }).await).status, "stopped");
    }
    assert_eq!(calls(&fleet, "StopDBInstance").await, 1);
    assert_eq!(reached(run(&fleet, Aurora::Start { deadline: MINUTE }).await).status, "available");
    let listed = snapshots(run(&fleet, Aurora::Snapshots).await);
    assert!(listed.iter().any(|(name, _)| name == "kept"), "{listed:?}");
    let plan = fleet.alice.plan(Action::Aurora(restore("kept", "copy")), &la).await.unwrap();
    assert_eq!((&*plan.changes[0].resource, &*plan.changes[0].after), ("db-instance copy", "kept"));
    fault(&fleet, "RestoreDBInstanceFromDBSnapshot", "lost_reply", Some(1)).await;
    let copy = reached(run(&fleet, restore("kept", "copy")).await);
    assert_eq!((&*copy.cluster, &*copy.status), ("copy", "available"));
    for (order, code, words) in [
        (restore("kept", "copy"), FailureCode::Rejected, "there is an instance copy already"),
        (restore("kept", "plain"), FailureCode::Rejected, "never restored over"),
        (restore("lost", "third"), FailureCode::NotFound, "plain has no snapshot lost; there is kept"),
        (capacity(0.5, 4.0, None), FailureCode::Rejected, "aurora.set-capacity is for Aurora clusters alone"),
        (snapshot(Some("kept")), FailureCode::Rejected, "choose another name"),
    ] {
        let (failed, message) = failure(run(&fleet, order).await);
        assert!(failed == code && message.contains(words), "{message}");
    }
    fleet.with_policy(0, "permit(principal, action, resource);").await;
    assert_eq!(snapshots(delete_by_two(&fleet, &bob, "kept").await), [("kept".to_owned(), "deleted".to_owned())]);
    assert_eq!(calls(&fleet, "DeleteDBSnapshot").await, 1);

    let called = fleet.aws().actions(&fleet.agents[0].account.id).await.unwrap();
    let ours = |action: &String| ["rds:", "cloudwatch:", "kms:"].iter().any(|service| action.starts_with(service));
    let mut needed: BTreeSet<_> = iam::needed(called).into_iter().filter(ours).collect();
    // Before, it was configured with the cluster, and reported that.
    assert!(needed.remove("rds:DescribeDBClusters"));
    assert_eq!(needed, iam::allowed(&["database-instance"]));
    fleet.stop().await;
}
