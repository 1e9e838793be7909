//! Asleep unless there is a reason: the services at the stand-in, a real Dagster beside them.

#![expect(clippy::unwrap_used, reason = "what tests share is not in a test, as clippy sees it")]

use std::{collections::BTreeSet, time::Duration};

use serde_json::{Value, json};
use sfdata_agent::{
    config,
    policy::Sharing,
    power::settings::Settings,
    services::{
        Services,
        dagster::{Dagster as Client, Launch},
    },
};
use sfdata_common::{
    Timestamp,
    command::{Action, Ecs, Power},
    outcome::{FailureCode, Outcome},
};
use sfdata_proto::v1::{PowerMode, PowerPhase, PowerResult, PowerState, action_result::Kind};
use sfdata_tests::{
    dagster::{Dagster, Faulty, Reply},
    eventually,
    fleet::Fleet,
    process::Process,
    settings::write_agent,
};

const SOON: Duration = Duration::from_secs(60);

/// As eager as can be.
fn settings() -> Settings {
    Settings {
        quiet: Duration::from_secs(2),
        person: Duration::from_secs(3),
        margin: Duration::ZERO,
        wake: Duration::from_secs(5),
        ..Settings::default()
    }
}

/// A fleet of one whose power is managed, beside a Dagster.
async fn managed(dagster: &Dagster, settings: Settings) -> Fleet {
    let mut fleet = Fleet::start(1).await;
    fleet.stop_agent(0).await;
    fleet.agents[0].config.dagster = config::Dagster { url: Some(dagster.url()) };
    fleet.agents[0].config.power = Some(settings);
    fleet.start_agent(0).await;
    fleet.connected(0).await;
    fleet
}

async fn run(fleet: &Fleet, action: Power) -> Outcome {
    fleet.alice.run(Action::Power(action), &fleet.agents[0].id).await.unwrap()
}

fn told(outcome: Outcome) -> PowerState {
    match outcome {
        Outcome::Succeeded(result) => match result.kind {
            Some(Kind::Power(PowerResult { power: Some(power), .. })) => power,
            other => panic!("another result: {other:?}"),
        },
        other => panic!("not succeeded: {other:?}"),
    }
}

async fn status(fleet: &Fleet) -> PowerState {
    told(run(fleet, Power::Status).await)
}

fn kinds(power: &PowerState) -> Vec<&str> {
    power.reasons.iter().map(|reason| reason.kind.as_str()).collect()
}

/// Wait until the platform is at this, as the agent's health says.
async fn is_at(fleet: &Fleet, phase: PowerPhase) -> PowerState {
    eventually(&format!("the platform is {phase:?}"), 3 * SOON, async || {
        let health = fleet.alice.agent(&fleet.agents[0].id).await.ok()?.health?;
        health.power.filter(|power| power.phase() == phase)
    })
    .await
}

/// Tasks of a service that have not stopped.
async fn tasks(fleet: &Fleet, service: &str) -> usize {
    let tasks = fleet.aws().all_tasks(&fleet.agents[0].account.id).await.unwrap();
    let group = json!(format!("service:{service}"));
    let lives = |task: &&Value| task["group"] == group && task["status"] != "STOPPED";
    tasks.iter().filter(lives).count()
}

async fn client(dagster: &Dagster, fleet: &Fleet) -> Client {
    let config = &fleet.agents[0].config;
    let services = Services::new(&config.aws, &config.platform, Sharing::none()).await;
    services.with_dagster(&config::Dagster { url: Some(dagster.url()) }).dagster
}

#[tokio::test(flavor = "multi_thread")]
async fn a_platform_sleeps_when_nothing_is_to_be_done_and_never_under_a_run() {
    let dagster = Dagster::whole().await;
    let fleet = managed(&dagster, settings()).await;
    let asleep = is_at(&fleet, PowerPhase::Asleep).await;
    for service in ["webserver", "daemon", "code-server"] {
        assert_eq!(tasks(&fleet, service).await, 0, "{service}");
    }
    let nightly = asleep.alarms.iter().find(|alarm| alarm.kind == "schedule").unwrap();
    assert!(nightly.name.ends_with("/nightly") && nightly.at_unix_ms > Timestamp::now().as_millisecond());
    assert!(nightly.wakes_unix_ms < nightly.at_unix_ms, "it wakes before");

    let awake = told(run(&fleet, Power::Wake { deadline: SOON }).await);
    assert_eq!((awake.phase(), awake.cause.as_str()), (PowerPhase::Awake, "person"));
    for service in ["webserver", "daemon", "code-server"] {
        assert_eq!(tasks(&fleet, service).await, 1, "{service}");
    }
    let config = Some(json!({ "ops": { "waits": { "config": { "seconds": 15.0 } } } }).to_string());
    let launch = Launch { job: "slow".into(), config, ..Launch::default() };
    client(&dagster, &fleet).await.launch(&launch).await.unwrap();
    match run(&fleet, Power::Sleep { deadline: Duration::from_secs(6) }).await {
        Outcome::Failed { code: FailureCode::Deadline, message } => assert!(message.contains("runs"), "{message}"),
        other => panic!("{other:?}"),
    }
    assert_eq!(kinds(&status(&fleet).await), ["runs"]);
    assert_eq!(tasks(&fleet, "daemon").await, 1);
    // The sensor that looks an hour later has yet to see that run: it is woken for, not waited for.
    let asleep = is_at(&fleet, PowerPhase::Asleep).await;
    assert!(asleep.alarms.iter().any(|alarm| alarm.kind == "sensor" && alarm.name.ends_with("/chain")), "{asleep:?}");
    fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_people_ask_for_holds_across_a_restart() {
    let dagster = Dagster::whole().await;
    let mut fleet = managed(&dagster, settings()).await;
    is_at(&fleet, PowerPhase::Asleep).await;
    let until = Timestamp::now() + Duration::from_secs(3600);
    told(run(&fleet, Power::StayAwake { until }).await);
    fleet.stop_agent(0).await;
    fleet.start_agent(0).await;
    fleet.connected(0).await;
    let awake = is_at(&fleet, PowerPhase::Awake).await;
    assert_eq!((kinds(&awake), awake.awake_until_unix_ms), (vec!["stay-awake"], until.as_millisecond()));

    // Left to people, services stay as they are put; taken back, they are brought up again and then sleep.
    told(run(&fleet, Power::SetMode { manual: true }).await);
    fleet.stop_agent(0).await;
    fleet.start_agent(0).await;
    fleet.connected(0).await;
    assert_eq!(status(&fleet).await.mode(), PowerMode::Manual);
    let stop = Action::Ecs(Ecs::Scale { service: "daemon".into(), desired: 0, deadline: SOON });
    assert!(matches!(fleet.alice.run(stop, &fleet.agents[0].id).await.unwrap(), Outcome::Succeeded(_)));
    assert!(matches!(
        run(&fleet, Power::Sleep { deadline: SOON }).await,
        Outcome::Failed { code: FailureCode::Rejected, .. }
    ));
    assert_eq!(tasks(&fleet, "daemon").await, 0);
    told(run(&fleet, Power::SetMode { manual: false }).await);
    let asleep = told(run(&fleet, Power::Sleep { deadline: SOON }).await);
    assert_eq!((asleep.phase(), asleep.cause.as_str()), (PowerPhase::Asleep, "by-hand"), "{asleep:?}");
    fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn services_that_somebody_starts_are_not_taken_away_from_them_at_once() {
    let dagster = Dagster::whole().await;
    let fleet = managed(&dagster, Settings { person: SOON, ..settings() }).await;
    is_at(&fleet, PowerPhase::Asleep).await;
    let start = Action::Ecs(Ecs::Scale { service: "webserver".into(), desired: 1, deadline: SOON });
    assert!(matches!(fleet.alice.run(start, &fleet.agents[0].id).await.unwrap(), Outcome::Succeeded(_)));
    let awake = is_at(&fleet, PowerPhase::Awake).await;
    assert_eq!((kinds(&awake), tasks(&fleet, "daemon").await), (vec!["person"], 1), "all of it is woken");
    fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dagster_that_cannot_be_read_is_busy() {
    let wrong: [fn() -> Reply; 5] = [
        || Reply::Text(200, "text/html", "<html>starting</html>".into()),
        || Reply::Json(200, json!({ "errors": [{ "message": "no" }] })),
        || Reply::Json(200, json!({ "data": { "version": "1.13.27" }, "errors": [{ "message": "in part" }] })),
        || Reply::Text(502, "text/plain", "bad gateway".into()),
        || Reply::Half,
    ];
    let faulty = Faulty::start(move |before, _| wrong[before % wrong.len()]()).await;
    let mut fleet = Fleet::start(1).await;
    fleet.stop_agent(0).await;
    let config = &mut fleet.agents[0].config;
    config.dagster = config::Dagster { url: Some(faulty.url.clone()) };
    // Every look is another wrong answer, and each of them would be the second one that is quiet.
    config.power = Some(Settings { quiet: Duration::from_millis(1), ..settings() });
    fleet.start_agent(0).await;
    fleet.connected(0).await;
    while faulty.asked().len() < 2 * wrong.len() {
        let power = status(&fleet).await; // each is a look of its own
        assert!(matches!(power.phase(), PowerPhase::Awake | PowerPhase::Waking), "{power:?}");
    }
    assert_eq!((tasks(&fleet, "webserver").await, tasks(&fleet, "code-server").await), (1, 1));
    fleet.stop().await;
}

/// When each task of a service began and ended, in seconds; one that has not ended yet ends never.
async fn lives(fleet: &Fleet, service: &str) -> Vec<(f64, f64)> {
    let tasks = fleet.aws().all_tasks(&fleet.agents[0].account.id).await.unwrap();
    let group = json!(format!("service:{service}"));
    let of = tasks.iter().filter(|task| task["group"] == group);
    let life = |task: &Value| (task["created_at"].as_f64().unwrap(), task["stopped_at"].as_f64().unwrap_or(f64::MAX));
    let mut lives: Vec<_> = of.map(life).collect();
    lives.sort_by(|one, other| one.0.total_cmp(&other.0));
    lives
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_in_every_phase_the_agent_goes_on_where_it_was_and_never_runs_two_daemons() {
    let dagster = Dagster::whole().await;
    let mut fleet = managed(&dagster, settings()).await;
    fleet.stop_agent(0).await;
    let folder = fleet.folder.path().to_owned();
    let config = write_agent(&fleet.agents[0].config, &folder.join("agent.toml")).unwrap();
    let start =
        || Process::start("sfdata-agent", &["--config", &config.display().to_string(), "run"], &folder.join("log"));
    let mut agent = start().unwrap();
    let mut killed_at = BTreeSet::new();
    let mut cycles = 0;
    for kill in 0_u64.. {
        tokio::time::sleep(Duration::from_millis(300 + kill * 811 % 2900)).await; // the instant of the kill
        agent.kill();
        let kept = std::fs::read(folder.join("la-0/power.json")).unwrap_or_default(); // not there before the first look
        let state: Value = serde_json::from_slice(&kept).unwrap_or(json!({ "phase": "awake" }));
        killed_at.insert(state["phase"].as_str().unwrap().to_owned());
        agent = start().unwrap();
        if state["phase"] == "asleep" {
            cycles += 1;
            fleet.connected(0).await;
            fleet.alice.submit(Action::Power(Power::Wake { deadline: SOON }), &[&fleet.agents[0].id]).await.unwrap();
        }
        if (cycles > 1 && killed_at.len() == 4) || kill > 60 {
            break;
        }
    }
    assert_eq!(killed_at.len(), 4, "{killed_at:?}");
    fleet.connected(0).await;
    is_at(&fleet, PowerPhase::Asleep).await;
    assert_eq!(told(run(&fleet, Power::Wake { deadline: SOON }).await).phase(), PowerPhase::Awake);
    let daemons = lives(&fleet, "daemon").await;
    assert!(daemons.len() > 2, "it was put to sleep and woken: {daemons:?}");
    assert!(daemons.windows(2).all(|two| two[0].1 <= two[1].0), "one begins before the other has ended: {daemons:?}");
    agent.kill();
    fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_leaves_power_alone_says_so() {
    let fleet = Fleet::start(1).await;
    assert!(matches!(
        run(&fleet, Power::Status).await,
        Outcome::Succeeded(result) if result.kind == Some(Kind::Power(PowerResult::default()))
    ));
    match run(&fleet, Power::Wake { deadline: SOON }).await {
        Outcome::Failed { code: FailureCode::Rejected, message } => assert!(message.contains("[power]"), "{message}"),
        other => panic!("{other:?}"),
    }
    fleet.stop().await;
}
