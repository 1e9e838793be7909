//! One-off tasks: one for each command whatever happens, told by its exit code, and stopped when nobody wants it any more.

#![expect(clippy::unwrap_used, reason = "what tests share is not in a test, as clippy sees it")]

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sfdata_common::{
    command::{Action, Agent, Ecs, Environment, Run},
    fargate::Size,
    outcome::{FailureCode, Outcome},
};
use sfdata_proto::v1::{EcsTaskResult, action_result::Kind};
use sfdata_tests::{eventually, fleet::Fleet, process::Process, settings::write_agent};

fn order(service: &str, seconds: u64) -> Run {
    Run {
        service: service.into(),
        command: vec!["dagster".into(), "instance".into(), "migrate".into()],
        environment: None,
        size: None,
        spot: false,
        detach: false,
        deadline: Duration::from_secs(seconds),
    }
}

fn action(run: Run) -> Action {
    Action::Ecs(Ecs::Run(run))
}

fn stop(task: &str) -> Action {
    let (task, reason) = (task.into(), "a test".into());
    Action::Ecs(Ecs::StopTask { task, reason, deadline: Duration::from_secs(30) })
}

async fn run(fleet: &Fleet, action: Action) -> Outcome {
    fleet.alice.run(action, &fleet.agents[0].id).await.expect("the command ends")
}

fn task(outcome: Outcome) -> EcsTaskResult {
    match outcome {
        Outcome::Succeeded(result) => match result.kind {
            Some(Kind::EcsTask(task)) => task,
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

/// How tasks without a service behave.
async fn behave(fleet: &Fleet, service: &str, how: Value) {
    let account = &fleet.agents[0].account;
    fleet.aws().runs(account, &format!("{}-{service}", account.cluster), how).await.unwrap();
}

/// Tasks that belong to no service.
async fn tasks(fleet: &Fleet) -> Vec<Value> {
    let all = fleet.aws().all_tasks(&fleet.agents[0].account.id).await.unwrap();
    all.into_iter().filter(|task| task["group"].as_str().unwrap().starts_with("family:")).collect()
}

async fn calls(fleet: &Fleet, action: &str) -> Vec<Value> {
    let calls = fleet.aws().calls(&fleet.agents[0].account.id, "ecs", action).await.unwrap();
    calls.into_iter().map(|mut call| call["params"].take()).collect()
}

async fn fault(fleet: &Fleet, action: &str, kind: &str, times: Option<u32>) {
    let account = &fleet.agents[0].account.id;
    let fault = json!({"service": "ecs", "action": action, "kind": kind, "times": times, "account": account});
    fleet.aws().fault(fault).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_runs_once_as_the_service_is_defined_with_another_command() {
    let fleet = Fleet::start(1).await;
    behave(&fleet, "daemon", json!({"run_seconds": 0.3})).await;
    let asked = Run {
        environment: Some(Environment::new([("LEVEL".into(), "debug".into())], vec![]).unwrap()),
        size: Some(Size::new(1024, 4096).unwrap()),
        ..order("daemon", 60)
    };
    let plan = fleet.alice.plan(action(asked.clone()), &fleet.agents[0].id).await.unwrap();
    let planned: Vec<_> = plan.changes.iter().map(|c| [&*c.property, &*c.before, &*c.after]).collect();
    assert_eq!(planned[0][0], "taskDefinition");
    assert_eq!(
        planned[1..],
        [
            ["command", "", r#"["dagster", "instance", "migrate"]"#],
            ["environment LEVEL", "", "\"debug\""],
            ["cpu", "512", "1024"],
            ["memory", "2048", "4096"],
            ["capacityProvider", "", "FARGATE"]
        ]
    );
    assert!(tasks(&fleet).await.is_empty(), "a plan runs nothing");

    let command = fleet.alice.command(action(asked), &[&fleet.agents[0].id]);
    let id = fleet.alice.hand_in(fleet.alice.sign(&command)).await.unwrap();
    let ran = task(fleet.alice.outcome(id, &fleet.agents[0].id).await.unwrap());
    assert_eq!((ran.exit_code, ran.last_status.as_str(), ran.spot), (Some(0), "STOPPED", false));
    assert!(ran.started_unix_ms > 0 && ran.stopped_unix_ms > ran.started_unix_ms, "{ran:?}");
    let [asked] = calls(&fleet, "RunTask").await.try_into().expect("one call");
    assert_eq!(asked["tags"], json!([{"key": "sfdata:command", "value": id.to_string()}]));
    assert_eq!(asked["startedBy"], asked["clientToken"]);
    assert!(asked["startedBy"].as_str().unwrap().starts_with(&id.to_string().replace('-', "")));
    assert_eq!((&asked["launchType"], &asked["platformVersion"]), (&json!("FARGATE"), &json!("LATEST")));
    assert_eq!(asked["networkConfiguration"]["awsvpcConfiguration"]["subnets"].as_array().unwrap().len(), 2);
    assert_eq!((&asked["overrides"]["cpu"], &asked["overrides"]["memory"]), (&json!("1024"), &json!("4096")));
    let container = &asked["overrides"]["containerOverrides"][0];
    assert_eq!((&container["name"], &container["command"][2]), (&json!("daemon"), &json!("migrate")));
    assert_eq!(container["environment"], json!([{"name": "LEVEL", "value": "debug"}]));
    fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_ordered_is_what_runs_whatever_the_entry_point_and_no_second_daemon() {
    let mut fleet = Fleet::start(1).await;
    let account = fleet.agents[0].account.id.clone();
    let foreign = fleet.aws().seed_foreign(fleet.folder.path(), &account).await.unwrap();
    fleet.stop_agent(0).await;
    let platform = &mut fleet.agents[0].config.platform;
    (platform.cluster, platform.webserver, platform.daemon) =
        (foreign.cluster.clone(), "Svc-A1B2".into(), "Svc-C3D4".into());
    platform.code_servers = vec!["Svc-E5F6".into(), "Svc-G7H8".into()];
    platform.other_services = Vec::new();
    fleet.start_agent(0).await;
    fleet.connected(0).await;
    for service in ["Svc-A1B2", "Svc-C3D4", "Svc-E5F6"] {
        fleet.aws().runs(&foreign, service, json!({"run_seconds": 0.1})).await.unwrap();
    }

    let plan = fleet.alice.plan(action(order("Svc-A1B2", 60)), &fleet.agents[0].id).await.unwrap();
    let planned: Vec<_> = plan.changes.iter().map(|c| (&*c.property, &*c.after)).collect();
    assert_eq!(
        planned[1..3],
        [("entryPoint", r#"["/bin/sh", "-c"]"#), ("command", r#"["exec dagster instance migrate"]"#)]
    );
    task(run(&fleet, action(order("Svc-A1B2", 60))).await);
    task(run(&fleet, action(order("Svc-C3D4", 60))).await);
    let after = Run { command: vec!["instance".into(), "migrate".into()], ..order("Svc-E5F6", 60) };
    task(run(&fleet, action(after)).await);
    let commands: Vec<_> = calls(&fleet, "RunTask")
        .await
        .iter()
        .map(|call| call["overrides"]["containerOverrides"][0]["command"].clone())
        .collect();
    assert_eq!(
        commands,
        [
            json!(["exec dagster instance migrate"]),
            json!(["dagster", "instance", "migrate"]),
            json!(["instance", "migrate"])
        ]
    );

    let (code, message) = failure(run(&fleet, action(order("Svc-E5F6", 60))).await);
    assert_eq!(code, FailureCode::Rejected);
    assert!(message.contains(r#"entry point ["dagster"]: order only what comes after it"#), "{message}");
    for service in ["Svc-A1B2", "Svc-C3D4"] {
        let daemon = Run { command: vec!["dagster-daemon".into(), "run".into()], ..order(service, 60) };
        let (code, message) = failure(run(&fleet, action(daemon)).await);
        assert_eq!(code, FailureCode::Rejected);
        assert!(message.contains("two would launch every schedule twice"), "{message}");
    }
    assert_eq!(calls(&fleet, "RunTask").await.len(), 3);
    fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_exit_code_and_a_task_that_cannot_start_are_told_as_failures() {
    let fleet = Fleet::start(1).await;
    behave(&fleet, "daemon", json!({"run_seconds": 0.1, "exit_code": 3})).await;
    let (code, message) = failure(run(&fleet, action(order("daemon", 60))).await);
    assert_eq!(code, FailureCode::TaskFailed);
    assert!(message.contains("exit code 3") && message.contains("Essential container"), "{message}");
    behave(&fleet, "daemon", json!({"behaviour": "cannot-pull"})).await;
    let (code, message) = failure(run(&fleet, action(order("daemon", 60))).await);
    assert_eq!(code, FailureCode::TaskFailed);
    assert!(message.contains("CannotPullContainerError") && message.contains("without an exit code"), "{message}");
    assert_eq!(tasks(&fleet).await.len(), 2, "neither was tried again");
    fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_is_stopped_at_its_deadline_and_when_its_command_is_cancelled_and_left_alone_when_detached() {
    let fleet = Fleet::start(1).await;
    let la = &fleet.agents[0].id;
    behave(&fleet, "daemon", json!({"run_seconds": 600})).await;
    fault(&fleet, "StopTask", "throttle", Some(6)).await; // one more than the SDK's own tries
    let (code, message) = failure(run(&fleet, action(order("daemon", 2))).await);
    assert_eq!(code, FailureCode::Deadline);
    assert!(message.contains("was stopped") && message.contains("--timeout"), "{message}");

    let id = fleet.alice.submit(action(order("daemon", 60)), &[la]).await.unwrap();
    eventually("the task runs", Duration::from_secs(20), async || {
        tasks(&fleet).await.iter().any(|task| task["status"] == "RUNNING").then_some(())
    })
    .await;
    assert!(matches!(run(&fleet, Action::Agent(Agent::Cancel(id))).await, Outcome::Succeeded(_)));
    let outcome = fleet.alice.outcome(id, la).await.unwrap();
    let Outcome::Cancelled { detail } = outcome else { panic!("not cancelled: {outcome:?}") };
    assert!(detail.contains("was stopped"), "{detail}");
    let reasons: Vec<_> = calls(&fleet, "StopTask").await.iter().map(|call| call["reason"].clone()).collect();
    assert!(reasons[0].as_str().unwrap().contains("deadline") && reasons[1].as_str().unwrap().contains("cancelled"));
    assert!(tasks(&fleet).await.iter().all(|task| task["status"] == "STOPPED"));

    let ran = task(run(&fleet, action(Run { detach: true, ..order("daemon", 60) })).await);
    assert_eq!((ran.last_status.as_str(), ran.exit_code), ("RUNNING", None));
    assert_eq!(tasks(&fleet).await.iter().filter(|task| task["status"] == "RUNNING").count(), 1);
    fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn spot_is_used_while_there_is_any_and_else_on_demand_which_is_told() {
    let fleet = Fleet::start(1).await;
    behave(&fleet, "daemon", json!({"run_seconds": 0.1})).await;
    let spot = || action(Run { spot: true, ..order("daemon", 60) });
    let ran = task(run(&fleet, spot()).await);
    assert!(ran.spot && !ran.fell_back_to_on_demand);
    behave(&fleet, "daemon", json!({"behaviour": "no-spot", "run_seconds": 0.1})).await;
    let ran = task(run(&fleet, spot()).await);
    assert!(!ran.spot && ran.fell_back_to_on_demand);
    assert_eq!(tasks(&fleet).await.len(), 2);
    fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_aws_that_throttles_or_loses_an_answer_starts_one_task() {
    let fleet = Fleet::start(1).await;
    behave(&fleet, "daemon", json!({"run_seconds": 0.1})).await;
    fault(&fleet, "RunTask", "throttle", Some(2)).await;
    task(run(&fleet, action(order("daemon", 60))).await);
    assert_eq!(tasks(&fleet).await.len(), 1);
    fault(&fleet, "RunTask", "lost_reply", Some(2)).await;
    task(run(&fleet, action(order("daemon", 60))).await);
    assert_eq!(tasks(&fleet).await.len(), 2);
    fault(&fleet, "RunTask", "throttle", None).await;
    assert_eq!(failure(run(&fleet, action(order("daemon", 60))).await).0, FailureCode::Throttled);
    fleet.aws().heal().await.unwrap();
    fault(&fleet, "RunTask", "access_denied", None).await;
    let (code, message) = failure(run(&fleet, action(order("daemon", 60))).await);
    assert_eq!(code, FailureCode::AccessDenied);
    assert!(message.contains("ecs:RunTask"), "{message}");
    assert_eq!(tasks(&fleet).await.len(), 2);
    fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn runs_go_side_by_side_and_hold_up_neither_reads_nor_the_service() {
    let fleet = Fleet::start(1).await;
    let la = &fleet.agents[0].id;
    behave(&fleet, "daemon", json!({"run_seconds": 4})).await;
    let began = Instant::now();
    let mut ids = Vec::new();
    for _ in 0..20 {
        ids.push(fleet.alice.submit(action(order("daemon", 60)), &[la]).await.unwrap()); // more than reads may
    }
    assert!(matches!(run(&fleet, Action::Ecs(Ecs::Status)).await, Outcome::Succeeded(_)));
    let scale = Ecs::Scale { service: "daemon".into(), desired: 1, deadline: Duration::from_secs(30) };
    assert!(matches!(run(&fleet, Action::Ecs(scale)).await, Outcome::Succeeded(_)));
    assert!(tasks(&fleet).await.iter().any(|task| task["status"] != "STOPPED"), "they still run");
    for id in ids {
        task(fleet.alice.outcome(id, la).await.unwrap());
    }
    assert!(began.elapsed() < Duration::from_secs(40), "one after the other would take 80 s");
    fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_is_killed_at_any_instant_of_a_run_starts_one_task_and_tells_how_it_ended() {
    let mut fleet = Fleet::start(1).await;
    behave(&fleet, "daemon", json!({"run_seconds": 5, "exit_code": 7})).await;
    fleet.stop_agent(0).await;
    let folder = fleet.folder.path().to_owned();
    let config = write_agent(&fleet.agents[0].config, &folder.join("agent.toml")).unwrap().display().to_string();
    let start = || Process::start("sfdata-agent", &["--config", &config, "run"], &folder.join("agent.log")).unwrap();
    let la = fleet.agents[0].id.clone();
    let id = fleet.alice.submit(action(order("daemon", 60)), &[&la]).await.unwrap();
    // Killed when the task was just started, and nobody was told.
    fault(&fleet, "RunTask", "lost_reply", Some(1)).await;
    let mut agent = start();
    eventually("a task is started", Duration::from_secs(30), async || (tasks(&fleet).await.len() == 1).then_some(()))
        .await;
    for pause in [0, 200, 350, 500, 700, 1000, 1500, 2000] {
        tokio::time::sleep(Duration::from_millis(pause)).await;
        agent.kill();
        agent = start();
    }
    let (code, message) = failure(fleet.alice.outcome(id, &la).await.unwrap());
    assert_eq!(code, FailureCode::TaskFailed);
    assert!(message.contains("exit code 7"), "{message}");
    agent.kill();
    assert_eq!(tasks(&fleet).await.len(), 1);
    fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_whose_token_is_forgotten_is_found_by_who_started_it_also_while_aws_throttles() {
    let mut fleet = Fleet::start(1).await;
    behave(&fleet, "daemon", json!({"run_seconds": 5, "exit_code": 7})).await;
    fleet.stop_agent(0).await;
    let folder = fleet.folder.path().to_owned();
    let config = write_agent(&fleet.agents[0].config, &folder.join("agent.toml")).unwrap().display().to_string();
    let start = || Process::start("sfdata-agent", &["--config", &config, "run"], &folder.join("agent.log")).unwrap();
    let la = fleet.agents[0].id.clone();
    let id = fleet.alice.submit(action(order("daemon", 60)), &[&la]).await.unwrap();
    // Started, and killed before the answer is there.
    fault(&fleet, "RunTask", "lost_reply", Some(1)).await;
    fault(&fleet, "RunTask", "hang", None).await;
    let mut agent = start();
    eventually("a task is started", Duration::from_secs(30), async || (tasks(&fleet).await.len() == 1).then_some(()))
        .await;
    agent.kill();
    fleet.aws().heal().await.unwrap();
    fleet.aws().forget_tokens(&fleet.agents[0].account.id).await.unwrap();
    fault(&fleet, "ListTasks", "throttle", Some(6)).await; // one more than the SDK's own tries
    agent = start();
    let (code, message) = failure(fleet.alice.outcome(id, &la).await.unwrap());
    assert_eq!(code, FailureCode::TaskFailed);
    assert!(message.contains("exit code 7"), "{message}");
    agent.kill();
    assert_eq!(tasks(&fleet).await.len(), 1, "nothing but the look keeps a second one from being started");
    assert_eq!(calls(&fleet, "RunTask").await.len(), 1);
    fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_is_not_answered_is_made_again_by_the_same_token_until_it_is() {
    let fleet = Fleet::start(1).await;
    behave(&fleet, "daemon", json!({"run_seconds": 0.1})).await;
    fault(&fleet, "RunTask", "error500", Some(6)).await; // one more than the SDK's own tries
    task(run(&fleet, action(order("daemon", 60))).await);
    assert_eq!(tasks(&fleet).await.len(), 1);
    fault(&fleet, "RunTask", "error500", None).await;
    let (code, message) = failure(run(&fleet, action(order("daemon", 3))).await);
    assert_eq!(code, FailureCode::Unavailable);
    assert!(message.starts_with("a task may have been started; then: cannot run a task"), "{message}");
    fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_task_of_a_dagster_run_is_named_with_its_run_before_it_is_stopped() {
    let fleet = Fleet::start(1).await;
    let account = &fleet.agents[0].account;
    behave(&fleet, "run", json!({"run_seconds": 600})).await;
    let launched = json!({
        "cluster": account.cluster, "taskDefinition": format!("{}-run", account.cluster), "launchType": "FARGATE",
        "networkConfiguration": {"awsvpcConfiguration": {"subnets": ["subnet-1"]}},
        "tags": [{"key": "dagster/run_id", "value": "0a1b2c"}],
    });
    let target = "AmazonEC2ContainerServiceV20141113.RunTask";
    let launched = fleet.aws().call(&account.id, "ecs", target, launched).await.unwrap();
    let arn = launched["tasks"][0]["taskArn"].as_str().unwrap();
    let plan = fleet.alice.plan(stop(arn), &fleet.agents[0].id).await.unwrap();
    let planned: Vec<_> = plan.changes.iter().map(|change| change.resource.as_str()).collect();
    assert_eq!(planned, [format!("ecs-task {} (Dagster run 0a1b2c)", arn.rsplit('/').next().unwrap())]);
    assert_eq!(task(run(&fleet, stop(arn)).await).stop_code, "UserInitiated");
    fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_is_stopped_once_by_its_id_or_arn_and_what_is_not_there_is_told_with_what_is() {
    let mut fleet = Fleet::start(1).await;
    let account = fleet.agents[0].account.clone();
    let all = fleet.aws().all_tasks(&account.id).await.unwrap();
    let id = all.iter().find(|task| task["group"] == "service:daemon").unwrap()["id"].as_str().unwrap().to_owned();
    let plan = fleet.alice.plan(stop(&id), &fleet.agents[0].id).await.unwrap();
    assert_eq!(plan.changes[1].resource, "ecs-service daemon");
    assert!(plan.changes[1].after.contains("ECS replaces it"), "{plan:?}");

    // Killed while it stops.
    fleet.stop_agent(0).await;
    let folder = fleet.folder.path().to_owned();
    let config = write_agent(&fleet.agents[0].config, &folder.join("agent.toml")).unwrap().display().to_string();
    let start = || Process::start("sfdata-agent", &["--config", &config, "run"], &folder.join("agent.log")).unwrap();
    let la = fleet.agents[0].id.clone();
    let command = fleet.alice.submit(stop(&id), &[&la]).await.unwrap();
    fault(&fleet, "StopTask", "lost_reply", Some(1)).await;
    let mut agent = start();
    eventually("it is told to stop", Duration::from_secs(30), async || {
        (!calls(&fleet, "StopTask").await.is_empty()).then_some(())
    })
    .await;
    agent.kill();
    let before = calls(&fleet, "StopTask").await.len(); // the SDK may have tried again, for want of a reply
    agent = start();
    let stopped = task(fleet.alice.outcome(command, &la).await.unwrap());
    assert_eq!((stopped.last_status.as_str(), stopped.stop_code.as_str()), ("STOPPED", "UserInitiated"));
    assert!(stopped.stopped_reason.contains("a test"), "{stopped:?}");
    assert_eq!(calls(&fleet, "StopTask").await.len(), before);
    agent.kill();
    fleet.start_agent(0).await;
    fleet.connected(0).await;

    let arn = format!("arn:aws:ecs:eu-west-2:{}:task/{}/{id}", account.id, account.cluster);
    assert_eq!(task(run(&fleet, stop(&arn)).await).task, arn, "there is nothing to do a second time");
    assert_eq!(calls(&fleet, "StopTask").await.len(), before);
    for unknown in ["0".repeat(32), arn.replace(&account.cluster, "elsewhere")] {
        let (code, message) = failure(run(&fleet, stop(&unknown)).await);
        assert_eq!(code, FailureCode::NotFound);
        assert!(message.contains("there runs ") && message.contains("service:code-server"), "{message}");
    }
    fleet.stop().await;
}
