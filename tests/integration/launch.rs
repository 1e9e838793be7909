//! What operators order of Dagster: told by the run's end, once for each command whatever happens, and nothing of the LA's
//! data on the way.

#![expect(clippy::unwrap_used, reason = "what tests share is not in a test, as clippy sees it")]

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use serde_json::{Value, json};
use sfdata_common::{
    command::{Action, Agent, COMMAND_TAG, Dagster as Order, Ecs, Launch},
    ids::CommandId,
    outcome::{FailureCode, Outcome},
    trust::Role,
};
use sfdata_proto::v1::{DagsterRunResult, action_result::Kind};
use sfdata_tests::{
    dagster::{Dagster, Faulty, Reply},
    eventually,
    fleet::Fleet,
    process::Process,
    settings::write_agent,
};

const SOON: Duration = Duration::from_secs(60);

fn launch(job: &str, config: Option<Value>, wait: bool) -> Action {
    Action::Dagster(Order::Launch(Launch {
        job: job.into(),
        location: None,
        repository: None,
        config: config.map(|config| config.to_string()),
        tags: vec![("dataset".into(), "ssda903".into())],
        wait,
        deadline: SOON,
    }))
}

fn waits(seconds: f64) -> Option<Value> {
    Some(json!({"ops": {"waits": {"config": {"seconds": seconds}}}}))
}

/// Have the fleet's agent ask this Dagster.
async fn point(fleet: &mut Fleet, url: &str) {
    fleet.stop_agent(0).await;
    fleet.agents[0].config.dagster.url = Some(url.into());
    fleet.start_agent(0).await;
    fleet.connected(0).await;
}

async fn run(fleet: &Fleet, action: Action) -> Outcome {
    fleet.alice.run(action, &fleet.agents[0].id).await.expect("the command ends")
}

fn kind(outcome: Outcome) -> Kind {
    match outcome {
        Outcome::Succeeded(result) => result.kind.expect("a result"),
        other => panic!("not succeeded: {other:?}"),
    }
}

fn detail(outcome: Outcome) -> DagsterRunResult {
    match kind(outcome) {
        Kind::DagsterRun(detail) => detail,
        other => panic!("another result: {other:?}"),
    }
}

fn failure(outcome: Outcome) -> (FailureCode, String) {
    match outcome {
        Outcome::Failed { code, message } => (code, message),
        other => panic!("not failed: {other:?}"),
    }
}

async fn runs(fleet: &Fleet) -> Vec<sfdata_proto::v1::DagsterRun> {
    let all = Order::Runs { statuses: vec![], job: None, limit: 50 };
    match kind(run(fleet, Action::Dagster(all)).await) {
        Kind::DagsterRuns(runs) => runs.runs,
        other => panic!("another result: {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_is_launched_waited_for_taken_up_again_and_ended() {
    let mut fleet = Fleet::without_aws(1).await;
    let dagster = Dagster::start().await;
    point(&mut fleet, &dagster.url()).await;
    let viewer = fleet.operator("vera", Role::Viewer).await;
    let la = fleet.agents[0].id.clone();

    // Who may only look sees what would be done, and all but what runs say.
    let plan = viewer.plan(launch("good", None, true), &la).await.unwrap();
    assert_eq!(plan.changes[0].resource, "dagster-job good (sync in pipelines)");
    assert!(viewer.run(launch("good", None, true), &la).await.is_err());
    let Kind::DagsterStatus(status) = kind(viewer.run(Action::Dagster(Order::Status), &la).await.unwrap()) else {
        panic!("another result")
    };
    assert_eq!((status.active_count, status.last_ended), (0, None), "a plan launches nothing");
    let broken = status.locations.iter().find(|one| one.name == "broken").unwrap();
    assert!(broken.state == "failed" && !broken.error_class.is_empty());
    let Kind::DagsterSchedules(all) = kind(viewer.run(Action::Dagster(Order::Schedules), &la).await.unwrap()) else {
        panic!("another result")
    };
    assert_eq!(
        all.schedules.iter().map(|one| (one.name.as_str(), one.running)).collect::<Vec<_>>(),
        [("nightly", true), ("off", false)]
    );
    let Kind::DagsterSensors(all) = kind(viewer.run(Action::Dagster(Order::Sensors), &la).await.unwrap()) else {
        panic!("another result")
    };
    assert_eq!((all.sensors[0].name.as_str(), all.sensors[0].min_interval_seconds), ("chain", 3600));

    // By the run's end.
    let command = fleet.alice.command(launch("good", None, true), &[&la]);
    let id = fleet.alice.hand_in(fleet.alice.sign(&command)).await.unwrap();
    let good = detail(fleet.alice.outcome(id, &la).await.unwrap());
    let ran = good.run.unwrap();
    assert_eq!((ran.status.as_str(), good.steps.len(), good.total_steps), ("SUCCESS", 2, 2));
    let tags: Vec<_> = ran.tags.iter().map(|tag| (tag.key.as_str(), tag.value.clone())).collect();
    assert_eq!(tags, [("dataset", "ssda903".to_owned()), (COMMAND_TAG, id.to_string())]);
    let (code, message) = failure(run(&fleet, launch("bad", None, true)).await);
    assert_eq!(code, FailureCode::RunFailed);
    assert!(message.contains("failed at breaks") && !message.contains("Mary"), "{message}");

    // Again, from where it failed.
    let failed = runs(&fleet).await[0].id.clone();
    let again = |run: &str| Action::Dagster(Order::Reexecute { run: run.into(), wait: true, deadline: SOON });
    let (code, message) = failure(run(&fleet, again(&failed)).await);
    assert_eq!(code, FailureCode::RunFailed, "{message}");
    let newest = runs(&fleet).await[0].clone();
    assert!(newest.tags.iter().any(|tag| tag.key == "dagster/parent_run_id" && tag.value == failed), "{newest:?}");
    let steps = detail(run(&fleet, Action::Dagster(Order::ShowRun { run: newest.id, watch: None })).await).steps;
    assert_eq!(steps.iter().map(|step| step.key.as_str()).collect::<Vec<_>>(), ["breaks"]);
    let (code, message) = failure(run(&fleet, again(&ran.id)).await);
    assert!(code == FailureCode::Conflict && message.contains("is SUCCESS"), "{message}");

    // Ended while somebody watches; who gives up waiting stops nothing.
    let long = detail(run(&fleet, launch("slow", waits(600.0), false)).await).run.unwrap();
    let watching = Action::Dagster(Order::ShowRun { run: long.id.clone(), watch: Some(SOON) });
    let given_up = fleet.alice.submit(watching.clone(), &[&la]).await.unwrap();
    let watched = fleet.alice.submit(watching, &[&la]).await.unwrap();
    kind(run(&fleet, Action::Agent(Agent::Cancel(given_up))).await);
    let Outcome::Cancelled { detail: said } = fleet.alice.outcome(given_up, &la).await.unwrap() else { panic!() };
    assert!(said.contains("goes on") || said.contains("nothing was changed"), "{said}");
    eventually("it runs", SOON, async || (runs(&fleet).await[0].status == "STARTED").then_some(())).await;
    let cancel = |run: &str| Action::Dagster(Order::Cancel { run: run.into(), deadline: SOON });
    let plan = fleet.alice.plan(cancel(&long.id), &la).await.unwrap();
    assert_eq!((plan.changes[0].before.as_str(), plan.changes[0].after.as_str()), ("STARTED", "CANCELED"));
    assert_eq!(detail(run(&fleet, cancel(&long.id)).await).run.unwrap().status, "CANCELED");
    assert_eq!(detail(run(&fleet, cancel(&long.id)).await).run.unwrap().status, "CANCELED", "it is so already");
    assert_eq!(detail(fleet.alice.outcome(watched, &la).await.unwrap()).run.unwrap().status, "CANCELED");
    let (code, message) = failure(run(&fleet, cancel(&ran.id)).await);
    assert!(code == FailureCode::Conflict && message.contains("ended as SUCCESS"), "{message}");

    let reload = |location: Option<&str>| Action::Dagster(Order::Reload { location: location.map(Into::into) });
    let Kind::DagsterReload(reloaded) = kind(run(&fleet, reload(Some("pipelines"))).await) else { panic!() };
    assert_eq!(reloaded.locations[0].state, "loaded");
    let (code, message) = failure(run(&fleet, reload(None)).await);
    assert!(code == FailureCode::Rejected && message.contains("broken (Dagster"), "{message}");
    let (code, message) = failure(run(&fleet, reload(Some("pipeline"))).await);
    assert!(code == FailureCode::NotFound && message.contains("there is pipelines, broken"), "{message}");
    fleet.stop().await;
}

/// A Dagster with one job, which answers a launch as it is told to, and has done it all the same.
async fn forgetful(launches: Arc<AtomicUsize>, answer: Reply) -> Faulty {
    Faulty::start(move |_, question| {
        let launched = launches.load(Ordering::SeqCst);
        let run = json!({"__typename": "Run", "runId": "0f1e2d3c", "jobName": "good", "status": "SUCCESS", "tags": [],
            "stepStats": [{"stepKey": "load[mary_csv]", "status": "SUCCESS"}], "executionPlan": {"steps": []}});
        let data = match question["query"].as_str().unwrap().split_whitespace().nth(1).unwrap() {
            "Jobs" => json!({"repositoriesOrError": {"__typename": "RepositoryConnection", "nodes": [
                {"name": "sync", "location": {"name": "pipelines"}, "jobs": [{"name": "good"}]}]}}),
            "Launch($params:" => {
                launches.fetch_add(1, Ordering::SeqCst);
                return answer.clone();
            }
            "Runs($job:" => {
                assert_eq!(question["variables"]["tags"][0]["key"], COMMAND_TAG);
                let runs = if launched == 0 { json!([]) } else { json!([run]) };
                json!({"runs": {"__typename": "Runs", "results": runs}})
            }
            _ => json!({"run": run}),
        };
        Reply::Json(200, json!({"data": data}))
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_launch_that_was_not_answered_is_found_and_not_repeated() {
    let mut fleet = Fleet::without_aws(1).await;
    let error = json!({"data": {"launched": {"__typename": "PythonError", "className": "Timeout"}}});
    let page = Reply::Text(502, "text/html", "<html>".into());
    for answer in [Reply::Half, page, Reply::Json(200, error)] {
        let launches = Arc::<AtomicUsize>::default();
        let dagster = forgetful(Arc::clone(&launches), answer).await;
        point(&mut fleet, &dagster.url).await;
        let found = detail(run(&fleet, launch("good", None, true)).await);
        assert_eq!(found.steps[0].key, "load[#1]", "a mapping key may name a file");
        assert_eq!((found.run.unwrap().id.as_str(), launches.load(Ordering::SeqCst)), ("0f1e2d3c", 1));
    }
    fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_is_killed_while_it_launches_launches_once() {
    let mut fleet = Fleet::without_aws(1).await;
    let launches = Arc::<AtomicUsize>::default();
    let dagster = forgetful(Arc::clone(&launches), Reply::Silent).await;
    fleet.stop_agent(0).await;
    fleet.agents[0].config.dagster.url = Some(dagster.url.clone());
    let folder = fleet.folder.path().to_owned();
    let config = write_agent(&fleet.agents[0].config, &folder.join("agent.toml")).unwrap().display().to_string();
    let start = || Process::start("sfdata-agent", &["--config", &config, "run"], &folder.join("agent.log")).unwrap();
    let la = fleet.agents[0].id.clone();
    let id: CommandId = fleet.alice.submit(launch("good", None, true), &[&la]).await.unwrap();
    let mut agent = start();
    eventually("it was heard", SOON, async || (launches.load(Ordering::SeqCst) == 1).then_some(())).await;
    for _ in 0..3 {
        agent.kill();
        agent = start();
    }
    let found = detail(fleet.alice.outcome(id, &la).await.unwrap());
    assert_eq!(found.run.unwrap().id, "0f1e2d3c");
    agent.kill();
    assert_eq!(launches.load(Ordering::SeqCst), 1);
    fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn dagster_is_asked_where_its_webserver_runs_and_a_sleeping_one_is_told() {
    let fleet = Fleet::start(1).await;
    let (code, message) = failure(run(&fleet, Action::Dagster(Order::Status)).await);
    assert_eq!(code, FailureCode::Unavailable);
    assert!(message.contains("webserver does not run") && message.contains("hubctl power wake"), "{message}");
    let up = Ecs::Scale { service: "webserver".into(), desired: 1, deadline: SOON };
    kind(run(&fleet, Action::Ecs(up)).await);
    let tasks = fleet.aws().all_tasks(&fleet.agents[0].account.id).await.unwrap();
    let ours = tasks.iter().find(|task| task["group"] == "service:webserver" && task["status"] == "RUNNING").unwrap();
    let address = format!("{}:3000", ours["address"].as_str().unwrap());
    let (code, message) = failure(run(&fleet, Action::Dagster(Order::Status)).await);
    assert_eq!(code, FailureCode::Unavailable);
    assert!(message.contains(&format!("Dagster at http://{address}: there is no connection")), "{message}");
    let _page = Faulty::at(&address, |_, _| Reply::Json(200, json!({"data": {"workspaceOrError": {}}}))).await;
    let (code, message) = failure(run(&fleet, Action::Dagster(Order::Reload { location: None })).await);
    assert!(code == FailureCode::Unavailable && message.contains("workspaceOrError"), "{message}");
    fleet.stop().await;
}
