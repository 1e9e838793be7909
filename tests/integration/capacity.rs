//! Spot and on-demand: one forced deployment for each move, on to on-demand where Spot has none, back where it does not hold.

#![expect(clippy::unwrap_used, reason = "what tests share is not in a test, as clippy sees it")]

use std::{collections::BTreeSet, time::Duration};

use serde_json::{Value, json};
use sfdata_common::{
    command::{Action, Ecs, FargateCapacity, Rollout},
    limits,
    outcome::{FailureCode, Outcome},
};
use sfdata_proto::v1::{EcsCapacityResult, action_result::Kind};
use sfdata_tests::{eventually, fleet::Fleet, process::Process, settings::write_agent};

const SPOT: FargateCapacity = FargateCapacity::Spot { base: 0 };

fn set(service: &str, capacity: FargateCapacity, seconds: u64) -> Action {
    let deadline = Duration::from_secs(seconds);
    let rollout = Rollout { deadline, failed_tasks: 2, settle: Duration::from_secs(1) };
    Action::Ecs(Ecs::SetCapacity { service: service.into(), capacity, rollout })
}

async fn run(fleet: &Fleet, action: Action) -> Outcome {
    fleet.alice.run(action, &fleet.agents[0].id).await.expect("the command ends")
}

fn reached(outcome: Outcome) -> EcsCapacityResult {
    match outcome {
        Outcome::Succeeded(result) => match result.kind {
            Some(Kind::EcsCapacity(result)) => result,
            other => panic!("another result: {other:?}"),
        },
        other => panic!("not succeeded: {other:?}"),
    }
}

fn failure(outcome: Outcome) -> (FailureCode, String) {
    match outcome {
        Outcome::Failed { code, message } => (code, message),
        other => panic!("not failed: {other:?}"),
    }
}

/// The strategies that ECS was given, by provider.
async fn given(fleet: &Fleet) -> Vec<Vec<String>> {
    let calls = fleet.aws().calls(&fleet.agents[0].account.id, "ecs", "UpdateService").await.unwrap();
    let provider = |item: &Value| item["capacityProvider"].as_str().unwrap().to_owned();
    let of = |call: &Value| {
        call["params"]["capacityProviderStrategy"].as_array().map(|all| all.iter().map(provider).collect())
    };
    calls.iter().filter_map(of).collect()
}

/// What the tasks that run of a service run on.
async fn providers(fleet: &Fleet, service: &str) -> Vec<Value> {
    let tasks = fleet.aws().all_tasks(&fleet.agents[0].account.id).await.unwrap();
    let group = json!(format!("service:{service}"));
    let runs = |task: &Value| task["group"] == group && task["status"] == "RUNNING";
    tasks.into_iter().filter(runs).map(|mut task| task["provider"].take()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_moves_from_its_launch_type_to_spot_and_to_demand_again() {
    let fleet = Fleet::start(1).await;
    let plan = fleet.alice.plan(set("code-server", SPOT, 60), &fleet.agents[0].id).await.unwrap();
    let planned: Vec<_> = plan.changes.iter().map(|c| [&*c.property, &*c.before, &*c.after]).collect();
    let spot = "FARGATE_SPOT base 0 weight 1";
    assert_eq!(planned, [["capacityProviderStrategy", "(launch type FARGATE)", spot]]);
    for _ in 0..2 {
        let result = reached(run(&fleet, set("code-server", SPOT, 60)).await);
        assert_eq!((result.capacity_provider_strategy[0].provider.as_str(), &*result.fell_back), ("FARGATE_SPOT", ""));
    }
    assert_eq!(given(&fleet).await, [["FARGATE_SPOT"]], "there is nothing to do a second time");
    assert_eq!(providers(&fleet, "code-server").await, ["FARGATE_SPOT"]);
    reached(run(&fleet, set("code-server", FargateCapacity::OnDemand, 60)).await);
    assert_eq!(providers(&fleet, "code-server").await, ["FARGATE"]);

    let result = reached(run(&fleet, set("daemon", FargateCapacity::Spot { base: 1 }, 60)).await);
    assert_eq!(result.capacity_provider_strategy.len(), 2);
    assert_eq!(providers(&fleet, "daemon").await, ["FARGATE"], "the only one is the base");
    fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn where_spot_has_none_the_service_goes_on_to_demand_and_says_so() {
    let fleet = Fleet::start(1).await;
    fleet.aws().tasks(&fleet.agents[0].account, "daemon", "no-spot").await.unwrap();
    let result = reached(run(&fleet, set("daemon", SPOT, 60)).await);
    assert!(result.fell_back.contains("Capacity is unavailable"), "{result:?}");
    assert_eq!(result.service.unwrap().running, 1);
    assert_eq!(given(&fleet).await, [["FARGATE_SPOT"], ["FARGATE"]]);
    assert_eq!(providers(&fleet, "daemon").await, ["FARGATE"]);
    fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_sleeps_is_moved_as_well_and_an_aws_that_throttles_is_asked_again() {
    let fleet = Fleet::start(1).await;
    let fault = json!({"service": "ecs", "action": "UpdateService", "kind": "throttle", "times": 2,
        "account": &fleet.agents[0].account.id});
    fleet.aws().fault(fault).await.unwrap();
    let result = reached(run(&fleet, set("webserver", SPOT, 60)).await);
    assert_eq!(result.service.unwrap().running, 0);
    assert_eq!(given(&fleet).await, [["FARGATE_SPOT"]]);
    let scale = Ecs::Scale { service: "webserver".into(), desired: 1, deadline: Duration::from_secs(30) };
    assert!(matches!(run(&fleet, Action::Ecs(scale)).await, Outcome::Succeeded(_)));
    assert_eq!(providers(&fleet, "webserver").await, ["FARGATE_SPOT"]);
    fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_hold_goes_back() {
    let fleet = Fleet::start(1).await;
    let crash = json!({"service": "code-server", "behaviour": "crashes", "provider": "FARGATE_SPOT"});
    fleet.aws().behave(&fleet.agents[0].account, crash).await.unwrap();
    let (code, message) = failure(run(&fleet, set("code-server", SPOT, 60)).await);
    assert!(message.contains("tasks of code-server ended"), "{message}");
    assert_eq!(code, FailureCode::RolledBack, "{message}");
    assert_eq!(given(&fleet).await, [["FARGATE_SPOT"], ["FARGATE"]]);
    assert_eq!(providers(&fleet, "code-server").await, ["FARGATE"]);
    fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_is_killed_at_any_instant_of_a_move_makes_each_deployment_once() {
    let mut fleet = Fleet::start(1).await;
    fleet.aws().tasks(&fleet.agents[0].account, "daemon", "no-spot").await.unwrap();
    fleet.stop_agent(0).await;
    let folder = fleet.folder.path().to_owned();
    let config = write_agent(&fleet.agents[0].config, &folder.join("agent.toml")).unwrap().display().to_string();
    let start = || Process::start("sfdata-agent", &["--config", &config, "run"], &folder.join("agent.log")).unwrap();
    let la = fleet.agents[0].id.clone();
    let id = fleet.alice.submit(set("daemon", SPOT, 60), &[&la]).await.unwrap();
    let fault = json!({"service": "ecs", "action": "UpdateService", "kind": "lost_reply", "times": 1,
        "account": &fleet.agents[0].account.id});
    fleet.aws().fault(fault).await.unwrap();
    let mut agent = start();
    eventually("ECS is told", Duration::from_secs(30), async || (!given(&fleet).await.is_empty()).then_some(())).await;
    for pause in [0, 300, 500, 700, 1000, 1300, 1600] {
        tokio::time::sleep(Duration::from_millis(pause)).await;
        agent.kill();
        agent = start();
    }
    let outcome =
        eventually("the move ends", Duration::from_secs(90), async || fleet.alice.outcome(id, &la).await.ok()).await;
    assert!(!reached(outcome).fell_back.is_empty());
    agent.kill();
    assert_eq!(given(&fleet).await, [["FARGATE_SPOT"], ["FARGATE"]]);
    fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_agent_had_begun_goes_on_when_aws_can_be_asked_again() {
    let mut fleet = Fleet::start(1).await;
    fleet.stop_agent(0).await;
    let folder = fleet.folder.path().to_owned();
    let config = write_agent(&fleet.agents[0].config, &folder.join("agent.toml")).unwrap().display().to_string();
    let start = || Process::start("sfdata-agent", &["--config", &config, "run"], &folder.join("agent.log")).unwrap();
    let (la, account) = (fleet.agents[0].id.clone(), fleet.agents[0].account.id.clone());
    let deadline = Duration::from_secs(90);
    let rollout = Rollout { deadline, failed_tasks: 2, settle: Duration::ZERO };
    let variable = "DAGSTER_PG_PASSWORD".into();
    let mut ids = Vec::new();
    for action in [
        Action::Ecs(Ecs::Restart { service: "daemon".into(), deadline }),
        set("webserver", SPOT, 90),
        Action::Ecs(Ecs::UseSecret { service: "code-server".into(), variable, secret: None, rollout }),
    ] {
        ids.push(fleet.alice.submit(action, &[&la]).await.unwrap());
    }
    let fault = |action: &str, kind: &str, times: Option<u32>| json!({"service": "ecs", "action": action, "kind": kind, "times": times, "account": account});
    fleet.aws().fault(fault("UpdateService", "lost_reply", Some(3))).await.unwrap();
    let mut agent = start();
    // Each of the three: who has asked for nothing yet may end by a look that fails.
    eventually("ECS is told", Duration::from_secs(60), async || {
        let calls = fleet.aws().calls(&account, "ecs", "UpdateService").await.unwrap();
        let of: BTreeSet<_> = calls.iter().filter_map(|call| call["params"]["service"].as_str()).collect();
        (of.len() == 3).then_some(())
    })
    .await;
    agent.kill();
    let before = fleet.aws().tried(&account, "ecs", "DescribeServices").await.unwrap();
    fleet.aws().fault(fault("DescribeServices", "throttle", None)).await.unwrap();
    agent = start();
    // Twice what the SDK's own tries come to for the three and for the report.
    eventually("the throttling has outlasted the SDK", Duration::from_secs(120), async || {
        let tried = fleet.aws().tried(&account, "ecs", "DescribeServices").await.unwrap();
        (tried - before > 2 * 4 * limits::AWS_TRIES as usize).then_some(())
    })
    .await;
    fleet.aws().heal().await.unwrap();
    for id in ids {
        let outcome = fleet.alice.outcome(id, &la).await.unwrap();
        assert!(matches!(outcome, Outcome::Succeeded(_)), "{outcome:?}");
    }
    agent.kill();
    assert_eq!(fleet.aws().restarts(&account).await.unwrap(), 2, "the restart and the move");
    fleet.stop().await;
}
