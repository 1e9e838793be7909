//! Dagster itself: what a real one tells, and that whatever is not a whole answer never looks like one.

#![expect(clippy::unwrap_used, reason = "what tests share is not in a test, as clippy sees it")]

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sfdata_agent::{
    config,
    policy::Sharing,
    services::{
        Error, Services,
        dagster::{
            Dagster as Client, Launch, RunsAsked,
            seen::{LocationState, RunStatus, StepStatus, Tick, TickStatus},
        },
    },
};
use sfdata_common::{Timestamp, command::COMMAND_TAG, outcome::FailureCode};
use sfdata_tests::{
    dagster::{Dagster, Faulty, Reply},
    eventually,
};

const SOON: Duration = Duration::from_secs(60);

async fn client(url: &str) -> Client {
    let nowhere = config::Aws {
        region: "eu-west-2".into(),
        endpoint_url: Some("http://127.0.0.1:9".into()),
        credentials_file: None,
    };
    let platform = config::Platform {
        cluster: "none".into(),
        webserver: "webserver".into(),
        daemon: "daemon".into(),
        code_servers: vec![],
        other_services: vec![],
        agent_service: None,
        aurora_cluster: None,
        database_instance: None,
        buckets: config::Buckets::default(),
        storage: config::Storage::default(),
    };
    let settings = config::Dagster { url: Some(url.into()) };
    Services::new(&nowhere, &platform, Sharing::none()).await.with_dagster(&settings).dagster
}

fn failure<T: std::fmt::Debug>(result: Result<T, Error>) -> (FailureCode, String) {
    match result {
        Err(Error::Failed { code, message }) => (code, message),
        other => panic!("not failed: {other:?}"),
    }
}

/// A job with tags that say who launched it.
fn launch(job: &str, config: Option<Value>) -> Launch {
    let tags = vec![(COMMAND_TAG.into(), "0190".into()), ("dataset".into(), "ssda903".into())];
    Launch { job: job.into(), config: config.map(|config| config.to_string()), tags, ..Launch::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_real_dagster_tells_all_that_decides_whether_it_is_needed() {
    let dagster = Dagster::start().await;
    let client = client(&dagster.url()).await;
    let seen = eventually("it is up, and its sensor has ticked", SOON, async || {
        let seen = client.observe().await.ok()?;
        let ended = |tick: &Tick| tick.status != TickStatus::Started;
        let ticked = seen.sensors.iter().any(|sensor| sensor.last_tick.as_ref().is_some_and(ended));
        (ticked && seen.daemons.iter().all(|daemon| daemon.last_heartbeat.is_some())).then_some(seen)
    })
    .await;
    assert_eq!(seen.degraded, Vec::<String>::new());
    assert!(seen.version.as_ref().unwrap().starts_with("1."), "{seen:?}");
    for kind in ["SCHEDULER", "SENSOR", "QUEUED_RUN_COORDINATOR"] {
        let daemon = seen.daemons.iter().find(|daemon| daemon.kind == kind).unwrap();
        let age = Timestamp::now().duration_since(daemon.last_heartbeat.unwrap()).unsigned_abs();
        assert!(daemon.required && age < SOON, "{daemon:?}");
    }
    let state = |name: &str| seen.locations.iter().find(|one| one.name == name).unwrap().state.clone();
    assert_eq!(state("pipelines"), LocationState::Loaded);
    let LocationState::Failed { class, error } = state("broken") else { panic!("{seen:?}") };
    assert!(class.starts_with("Dagster") && !error.is_empty(), "{class}");
    assert_eq!((seen.active_count, seen.active.len(), seen.backfills.len()), (0, 0, 0));
    assert_eq!(seen.last_ended(), None);

    let [nightly, off] = &seen.schedules[..] else { panic!("{seen:?}") };
    assert_eq!(
        (nightly.name.as_str(), nightly.location.as_str(), nightly.repository.as_str()),
        ("nightly", "pipelines", "sync")
    );
    assert_eq!((nightly.cron.as_str(), nightly.timezone.as_deref()), ("0 1 * * *", Some("Europe/London")));
    assert!(nightly.running && nightly.next_tick == nightly.future.first().copied() && nightly.future.len() == 10);
    assert!(nightly.future.is_sorted() && nightly.future[0] > Timestamp::now());
    assert!(!off.running && off.next_tick.is_none() && off.future.len() == 10, "{off:?}");
    let [chain, resting] = &seen.sensors[..] else { panic!("{seen:?}") };
    assert!(chain.running && chain.min_interval == Duration::from_secs(3600) && chain.next_tick.is_some());
    let tick = chain.last_tick.as_ref().unwrap();
    assert!(tick.has_cursor && tick.run_ids.is_empty() && tick.status.as_str() == "SKIPPED", "{tick:?}");
    assert!(!resting.running && resting.last_tick.is_none() && resting.next_tick.is_none());

    // A run, from its launch to its end.
    let id = client.launch(&launch("slow", Some(json!({"ops": {"waits": {"config": {"seconds": 5}}}})))).await.unwrap();
    let seen = client.observe().await.unwrap();
    assert_eq!((seen.active_count, seen.active[0].id.as_str(), seen.active[0].job.as_str()), (1, id.as_str(), "slow"));
    assert_eq!(seen.active[0].tags["dataset"], "ssda903");
    assert_eq!(client.runs_by_tag(COMMAND_TAG, "0190").await.unwrap()[0].id, id);
    assert!(client.runs_by_tag(COMMAND_TAG, "0191").await.unwrap().is_empty());
    let running = eventually("its first step runs", SOON, async || {
        let run = client.run(&id).await.unwrap();
        run.steps.iter().any(|step| step.status == StepStatus::InProgress).then_some(run)
    })
    .await;
    assert_eq!((running.done(), running.total), (0, Some(2)));
    let ended = eventually("it is over", SOON, async || {
        let run = client.run(&id).await.unwrap();
        run.run.status.has_ended().then_some(run)
    })
    .await;
    assert_eq!((ended.run.status, ended.done()), (RunStatus::Success, 2));
    assert_eq!(ended.steps.iter().map(|step| step.key.as_str()).collect::<Vec<_>>(), ["waits", "ends"]);
    let last = client.observe().await.unwrap().last_ended().cloned().unwrap();
    assert!(last.id == id && last.ended > last.started && last.started > last.created, "{last:?}");

    // One that fails, taken up again where it failed.
    let failing = client.launch(&launch("bad", None)).await.unwrap();
    eventually("it has failed", SOON, async || {
        (client.run(&failing).await.unwrap().run.status == RunStatus::Failure).then_some(())
    })
    .await;
    let events = client.events(&failing, None).await.unwrap();
    let told = events.events.iter().find(|event| event.kind == "STEP_FAILURE").unwrap();
    assert!(told.step.as_deref() == Some("breaks") && told.message.contains("Mary Smith"), "{told:?}");
    assert!(events.events.iter().any(|event| event.kind == "LOG_MESSAGE" && event.message == "it begins"));
    let after = client.events(&failing, events.cursor.as_deref()).await.unwrap();
    assert!(after.events.len() < events.events.len() && !after.more, "{after:?}");
    let again = client.re_execute_from_failure(&failing, &[(COMMAND_TAG.into(), "0192".into())]).await.unwrap();
    let again =
        &client.runs_by_tag(COMMAND_TAG, "0192").await.unwrap().into_iter().find(|run| run.id == again).unwrap();
    assert_eq!(again.tags["dagster/parent_run_id"], failing);

    // One that is ended.
    let long =
        client.launch(&launch("slow", Some(json!({"ops": {"waits": {"config": {"seconds": 600}}}})))).await.unwrap();
    eventually("it runs", SOON, async || {
        (client.run(&long).await.unwrap().run.status == RunStatus::Started).then_some(())
    })
    .await;
    client.terminate(&long).await.unwrap();
    eventually("it was ended", SOON, async || {
        (client.run(&long).await.unwrap().run.status == RunStatus::Canceled).then_some(())
    })
    .await;
    let (code, message) = failure(client.terminate(&long).await);
    assert_eq!(code, FailureCode::Conflict, "{message}");
    let asked = RunsAsked { job: Some("slow".into()), limit: 1, ..RunsAsked::default() };
    assert_eq!(client.runs(&asked).await.unwrap().iter().map(|run| &run.id).collect::<Vec<_>>(), [&long]);
    let asked = RunsAsked { statuses: vec![RunStatus::Success], limit: 500, ..RunsAsked::default() };
    assert_eq!(client.runs(&asked).await.unwrap().len(), 1);

    // What there is not, and what is wrong.
    assert_eq!(client.reload("pipelines").await.unwrap(), LocationState::Loaded);
    assert!(matches!(client.reload("broken").await.unwrap(), LocationState::Failed { .. }));
    let (code, message) = failure(client.reload("pipeline").await);
    assert!(code == FailureCode::NotFound && message.contains("there is pipelines, broken"), "{message}");
    let (code, message) = failure(client.launch(&launch("god", None)).await);
    assert!(code == FailureCode::NotFound && message.contains("good (sync in pipelines)"), "{message}");
    let (code, message) = failure(client.launch(&launch("slow", None)).await);
    assert!(code == FailureCode::Rejected && message.contains("missing required field"), "{message}");
    let wrong = json!({"ops": {"waits": {"config": {"seconds": "Mary Smith"}}}});
    let (code, message) = failure(client.launch(&launch("slow", Some(wrong))).await);
    assert!(code == FailureCode::Rejected && message.contains("ops.waits.config.seconds"), "{message}");
    assert!(!message.contains("Mary"), "{message}");
    assert_eq!(failure(client.run("nobody").await).0, FailureCode::NotFound);
    assert_eq!(failure(client.terminate("nobody").await).0, FailureCode::NotFound);
    assert_eq!(failure(client.events("nobody", None).await).0, FailureCode::NotFound);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_daemon_there_is_no_heartbeat_and_what_is_launched_waits() {
    let dagster = Dagster::without_daemon("/la/dagster").await;
    let client = client(&format!("{}/", dagster.url())).await;
    let first = client.launch(&launch("good", None)).await.unwrap();
    let second = client.launch(&launch("good", None)).await.unwrap();
    let seen = client.observe().await.unwrap();
    assert!(seen.daemons.iter().all(|daemon| daemon.last_heartbeat.is_none()), "{seen:?}");
    assert_eq!(seen.active.iter().map(|run| &run.id).collect::<Vec<_>>(), [&second, &first], "the newest first");
    assert!(seen.active.iter().all(|run| run.status == RunStatus::Queued));
}

#[tokio::test(flavor = "multi_thread")]
async fn more_runs_than_one_page_are_all_looked_at() {
    let run = |at: u32| json!({"runId": format!("{at}"), "jobName": "clean", "status": "QUEUED", "tags": []});
    let page = move |from: u32, to: u32| -> Vec<Value> { (from..to).map(run).collect() };
    let faulty = Faulty::start(move |_, question| {
        let mut data = whole();
        data["active"]["count"] = json!(250);
        data["active"]["results"] = page(0, 100).into();
        let (from, to) = match question["variables"]["after"].as_str() {
            Some(last) => (last.parse::<u32>().unwrap() + 1, 250),
            None => return Reply::Json(200, json!({"data": data})),
        };
        let runs = json!({"__typename": "Runs", "results": page(from, to.min(from + 100))});
        Reply::Json(200, json!({"data": {"runs": runs}}))
    })
    .await;
    let seen = client(&faulty.url).await.observe().await.unwrap();
    assert_eq!((seen.active_count, seen.active.len(), faulty.asked().len()), (250, 250, 3));
    assert!(seen.active.iter().enumerate().all(|(at, run)| run.id == at.to_string()), "each once, in their order");
}

/// What Dagster 1.13 answers to a look, in short.
fn whole() -> Value {
    let runs = |results: Value| json!({"__typename": "Runs", "count": 1, "results": results});
    let none = json!({"__typename": "PartitionBackfills", "results": []});
    let run = |id: &str, status: &str, end: Value| json!({"runId": id, "jobName": "clean", "status": status, "creationTime": 1.0, "startTime": 2.0, "endTime": end, "tags": []});
    json!({
        "version": "1.13.27",
        "instance": {"daemonHealth": {"allDaemonStatuses": [
            {"daemonType": "SENSOR", "required": true, "lastHeartbeatTime": 5.5, "lastHeartbeatErrors": [{"className": "E"}]},
        ]}},
        "workspaceOrError": {"__typename": "Workspace", "locationEntries": [
            {"name": "pipelines", "loadStatus": "LOADED", "locationOrLoadError": {"__typename": "RepositoryLocation"}},
        ]},
        "active": runs(json!([run("a", "STARTED", Value::Null)])),
        "ended": runs(json!([run("b", "SUCCESS", json!(9.0))])),
        "lately": runs(json!([run("c", "FAILURE", json!(10.0)), run("b", "SUCCESS", json!(9.0))])),
        "requested": {"__typename": "PartitionBackfills", "results": [{"id": "x", "status": "REQUESTED", "numPartitions": 3}]},
        "canceling": none,
        "failing": none,
        "repositoriesOrError": {"__typename": "RepositoryConnection", "nodes": [{
            "name": "sync", "location": {"name": "pipelines"},
            "schedules": [{
                "name": "nightly", "cronSchedule": "0 1 * * *", "executionTimezone": "UTC",
                "scheduleState": {"status": "RUNNING", "nextTick": {"timestamp": 100.0}, "ticks": []},
                "futureTicks": {"results": [{"timestamp": 100.0}]},
            }],
            "sensors": [{
                "name": "chain", "minIntervalSeconds": 60, "nextTick": {"timestamp": 70.0},
                "sensorState": {"status": "RUNNING", "ticks": [
                    {"timestamp": 10.0, "status": "SUCCESS", "runIds": ["a"], "runKeys": ["k"], "cursor": "c"}]},
            }],
        }]},
    })
}

/// What a Dagster answers that does not know these words: their lines, as GraphQL tells them.
fn not_known(question: &Value, words: &[&str]) -> Option<Value> {
    let text = question["query"].as_str().unwrap();
    let lines = text.lines().enumerate().filter(|(_, line)| words.iter().any(|word| line.contains(word)));
    let error = |(at, line): (usize, &str)| json!({"message": format!("Cannot query field on '{line}'"), "locations": [{"line": at + 1, "column": 1}]});
    let errors: Vec<Value> = lines.map(error).collect();
    (!errors.is_empty()).then(|| json!({"data": null, "errors": errors}))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_another_version_does_not_know_is_left_out_and_named() {
    let unknown = ["runKeys", "failing:", "lately:", "numPartitions", "count #", "lastHeartbeatErrors"];
    let faulty = Faulty::start(move |_, question| match not_known(question, &unknown) {
        Some(errors) => Reply::Json(400, errors),
        None => {
            let mut data = whole();
            for part in ["failing", "lately"] {
                data.as_object_mut().unwrap().remove(part);
            }
            data["active"]["count"].take();
            // What such a version leaves empty.
            data["repositoriesOrError"]["nodes"][0]["schedules"][0]["futureTicks"].take();
            data["repositoriesOrError"]["nodes"][0]["sensors"][0]["minIntervalSeconds"].take();
            Reply::Json(200, json!({"data": data}))
        }
    })
    .await;
    let seen = client(&faulty.url).await.observe().await.unwrap();
    assert_eq!(
        seen.degraded,
        [
            "errors of daemons",
            "future ticks of schedules",
            "intervals of sensors",
            "run keys of ticks",
            "runs that ended lately",
            "sizes of backfills",
            "the number of runs",
        ]
    );
    assert_eq!((seen.active_count, seen.backfills[0].partitions), (1, Some(3)));
    assert_eq!(seen.last_ended().cloned().unwrap().id, "b");
    assert_eq!(faulty.asked().len(), 2, "all that is not known is told at once");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_whole_answer_needs_one_question() {
    let faulty = Faulty::start(|_, _| Reply::Json(200, json!({"data": whole()}))).await;
    let seen = client(&faulty.url).await.observe().await.unwrap();
    assert_eq!(faulty.asked().len(), 1);
    assert!(seen.degraded.is_empty(), "{seen:?}");
    assert_eq!(seen.last_ended().cloned().unwrap().id, "c", "the one that ended last, not the one that was made last");
    assert_eq!(seen.daemons[0].errors, 1);
    let tick = seen.sensors[0].last_tick.clone().unwrap();
    assert_eq!((tick.run_ids.len(), tick.run_keys, tick.has_cursor), (1, 1, true));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_whole_answer_is_an_error_and_never_an_idle_dagster() {
    let python = |part: &str| {
        let mut data = whole();
        data[part] =
            json!({"__typename": "PythonError", "className": "OperationalError", "message": "password=hunter2"});
        json!({"data": data})
    };
    let without = |pointer: &str| {
        let mut data = whole();
        *data.pointer_mut(pointer).unwrap() = Value::Null;
        json!({"data": data})
    };
    let partly = {
        let mut answer = without("/active/results/0/status");
        answer["errors"] = json!([{"message": "hunter2", "path": ["active", "results", 0, "status"]}]);
        answer
    };
    let unauthorized = {
        let mut data = whole();
        data["active"] = json!({"__typename": "UnauthorizedError", "message": "no"});
        json!({"data": data})
    };
    let needed = |question: &Value| not_known(question, &["workspaceOrError"]).unwrap();
    use FailureCode::{AccessDenied, Rejected, Throttled, Unavailable};
    let html = || "<html>hunter2</html>".to_owned();
    let mut cases: Vec<(&str, Reply, FailureCode)> = vec![
        ("an error of Dagster's", Reply::Json(200, python("active")), Unavailable),
        ("another one", Reply::Json(200, python("repositoriesOrError")), Unavailable),
        ("a third one", Reply::Json(200, python("requested")), Unavailable),
        ("not allowed", Reply::Json(200, unauthorized), AccessDenied),
        ("a part", Reply::Json(200, partly), Unavailable),
        ("a run without a status", Reply::Json(200, without("/active/results/0/status")), Unavailable),
        ("no runs", Reply::Json(200, without("/active")), Unavailable),
        ("no list of runs", Reply::Json(200, without("/active/results")), Unavailable),
        ("no repositories", Reply::Json(200, without("/repositoriesOrError/nodes")), Unavailable),
        ("no state", Reply::Json(200, without("/repositoriesOrError/nodes/0/schedules/0/scheduleState")), Unavailable),
        ("no daemons", Reply::Json(200, without("/instance")), Unavailable),
        ("nothing", Reply::Json(200, json!({"data": null})), Unavailable),
        ("no object", Reply::Json(200, json!([])), Unavailable),
        ("a page", Reply::Text(200, "text/html; charset=utf-8", html()), Unavailable),
        ("a page of a proxy", Reply::Text(502, "text/html", html()), Unavailable),
        ("a sign-in", Reply::Text(403, "text/html", html()), AccessDenied),
        ("a limit", Reply::Text(429, "text/plain", "slow down".into()), Throttled),
        ("half an answer", Reply::Half, Unavailable),
        ("no end", Reply::Endless, Rejected),
    ];
    for (what, reply, code) in cases.drain(..) {
        let faulty = Faulty::start(move |_, _| reply.clone()).await;
        let (told, message) = failure(client(&faulty.url).await.observe().await);
        assert_eq!(told, code, "{what}: {message}");
        assert!(message.starts_with("cannot look at Dagster: "), "{what}: {message}");
        assert!(!message.contains("hunter2"), "{what}: {message}");
    }
    let faulty = Faulty::start(move |_, question| Reply::Json(400, needed(question))).await;
    let (code, message) = failure(client(&faulty.url).await.observe().await);
    assert!(code == Rejected && message.contains("1.8 to 1.13"), "{message}");

    // Nobody is there, or nobody answers.
    let (code, message) = failure(client("http://127.0.0.1:9").await.observe().await);
    assert!(code == Unavailable && message.contains("there is no connection"), "{message}");
    let faulty = Faulty::start(|_, _| Reply::Silent).await;
    let began = Instant::now();
    let (code, message) = failure(client(&faulty.url).await.observe().await);
    assert!(code == Unavailable && message.contains("no whole answer within 20s"), "{message}");
    assert!(began.elapsed() < Duration::from_secs(25));
}
