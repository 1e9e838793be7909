//! Asleep unless there is a reason: the services at the stand-in, a real Dagster beside them.

#![expect(clippy::unwrap_used, reason = "what tests share is not in a test, as clippy sees it")]

use std::time::Duration;

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
use sfdata_proto::v1::{PowerPhase, PowerResult, PowerState, action_result::Kind};
use sfdata_tests::{dagster::Dagster, eventually, fleet::Fleet};

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
    eventually(&format!("the platform is {phase:?}"), SOON, async || {
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
