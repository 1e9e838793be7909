//! The word and the reasons, one fact after the other.

use sfdata_proto::v1::{
    ArrivalsHealth, DatasetHealth, EcsDeployment, EcsHealth, Hold, JobHealth, PowerFault, PowerState, RunsHealth,
};

use super::*;

const DAY: i64 = 24 * 3_600_000;

fn now() -> Timestamp {
    Timestamp::from_millisecond(1_000 * DAY).unwrap()
}

fn agent(health: Health) -> AgentSummary {
    AgentSummary {
        state: AgentState::Connected.into(),
        version: "0.1.0".into(),
        health: Some(health),
        ..Default::default()
    }
}

fn judged(health: Health) -> (HealthWord, Vec<(Kind, String)>) {
    judged_agent(agent(health))
}

fn judged_agent(agent: AgentSummary) -> (HealthWord, Vec<(Kind, String)>) {
    let judge = Judge::new(Rules::default(), Duration::from_secs(24 * 3600));
    let mut agents = [agent];
    judge.fill(&mut agents, now());
    let [agent] = agents;
    let reasons = agent.health_reasons.iter().map(|reason| (reason.kind(), reason.name.clone()));
    (agent.health_word(), reasons.collect())
}

fn fault(kind: &str) -> Health {
    let faults = vec![PowerFault { kind: kind.into(), ..Default::default() }];
    Health { power: Some(PowerState { faults, ..Default::default() }), ..Default::default() }
}

fn service(running: u32, rollout_state: &str, failed_tasks: u32) -> Health {
    let deployment = EcsDeployment { rollout_state: rollout_state.into(), failed_tasks, ..Default::default() };
    let service = EcsServiceState {
        name: "code".into(),
        desired: 1,
        running,
        deployments: vec![deployment],
        ..Default::default()
    };
    Health { ecs: Some(EcsHealth { services: vec![service], ..Default::default() }), ..Default::default() }
}

#[test]
fn each_thing_that_is_wrong_has_its_word_and_its_reason() {
    let asleep = PowerState { phase: PowerPhase::Asleep.into(), ..Default::default() };
    let runs = |failing, delivered: i64| {
        let job = JobHealth { job: "clean".into(), failing, ..Default::default() };
        let dataset = DatasetHealth { dataset: "cin".into(), last_success_unix_ms: now().as_millisecond() - delivered };
        Health { runs: Some(RunsHealth { jobs: vec![job], datasets: vec![dataset] }), ..Default::default() }
    };
    let arrivals = |arrivals| Health { arrivals: Some(arrivals), ..Default::default() };
    let waits = |ago: i64| {
        let oldest_unix_ms = now().as_millisecond() - ago;
        arrivals(ArrivalsHealth { waiting: 1, oldest_unix_ms, ..Default::default() })
    };
    let ends_in = |hours: i64| Health {
        certificate_expires_unix_ms: now().as_millisecond() + hours * 3_600_000,
        ..Default::default()
    };
    let skew = |clock_skew_ms| Health { clock_skew_ms, ..Default::default() };
    let blind = EcsHealth { error: "access-denied".into(), ..Default::default() };
    let parked = ArrivalsHealth { parked: 2, error: "full".into(), ..Default::default() };
    type Case = (Health, HealthWord, Vec<(Kind, &'static str)>);
    let cases: Vec<Case> = vec![
        (Health::default(), HealthWord::Healthy, vec![]),
        (Health { power: Some(asleep), ..Default::default() }, HealthWord::Asleep, vec![]),
        (fault("stuck-waking"), HealthWord::Failing, vec![(Kind::PowerFault, "stuck-waking")]),
        (fault("sensor-late"), HealthWord::Degraded, vec![(Kind::PowerFault, "sensor-late")]),
        (service(0, "IN_PROGRESS", 0), HealthWord::Healthy, vec![]),
        (service(0, "IN_PROGRESS", 2), HealthWord::Failing, vec![(Kind::ServiceDown, "code")]),
        (service(0, "FAILED", 0), HealthWord::Failing, vec![(Kind::ServiceDown, "code")]),
        (service(1, "COMPLETED", 2), HealthWord::Healthy, vec![]),
        (runs(2, 0), HealthWord::Degraded, vec![(Kind::RunFailed, "clean")]),
        (runs(0, 34 * DAY), HealthWord::Healthy, vec![]),
        (runs(0, 36 * DAY), HealthWord::Degraded, vec![(Kind::NoDelivery, "cin")]),
        (waits(59 * 60_000), HealthWord::Healthy, vec![]),
        (waits(61 * 60_000), HealthWord::Degraded, vec![(Kind::ArrivalsWaiting, "")]),
        (arrivals(parked), HealthWord::Degraded, vec![(Kind::ArrivalsParked, "")]),
        (
            arrivals(ArrivalsHealth { error: "throttled".into(), ..Default::default() }),
            HealthWord::Degraded,
            vec![(Kind::Unreadable, "arrivals")],
        ),
        (
            arrivals(ArrivalsHealth { waiting: 9, error: "full".into(), ..Default::default() }),
            HealthWord::Degraded,
            vec![(Kind::ArrivalsWaiting, "")],
        ),
        (ends_in(7), HealthWord::Healthy, vec![]),
        (ends_in(5), HealthWord::Degraded, vec![(Kind::CertificateExpires, "")]),
        (ends_in(-5), HealthWord::Degraded, vec![(Kind::CertificateExpires, "")]),
        (skew(-16_000), HealthWord::Degraded, vec![(Kind::ClockSkew, "")]),
        (skew(i64::MIN), HealthWord::Degraded, vec![(Kind::ClockSkew, "")]),
        (Health { ecs: Some(blind), ..Default::default() }, HealthWord::Failing, vec![(Kind::Unreadable, "services")]),
    ];
    for (health, word, reasons) in cases {
        let reasons = reasons.into_iter().map(|(kind, name)| (kind, name.to_owned())).collect();
        assert_eq!(judged(health.clone()), (word, reasons), "{health:?}");
    }
}

#[test]
fn who_is_not_there_is_away_whatever_was_reported_and_a_hold_comes_before_faults() {
    let at = |state: AgentState| AgentSummary { state: state.into(), ..agent(fault("stuck-waking")) };
    for (state, kind) in
        [(AgentState::Away, Kind::Away), (AgentState::Locked, Kind::Locked), (AgentState::Invited, Kind::NeverJoined)]
    {
        assert_eq!(judged_agent(at(state)), (HealthWord::Away, vec![(kind, String::new())]));
    }
    let held = Health { hold: Some(Hold::default()), ..fault("stuck-waking") };
    let reasons = vec![(Kind::Held, String::new()), (Kind::PowerFault, "stuck-waking".into())];
    assert_eq!(judged(held), (HealthWord::Held, reasons));
    let new = AgentSummary { health: None, ..agent(Health::default()) };
    assert_eq!(judged_agent(new), (HealthWord::Healthy, vec![]));
}

#[test]
fn who_differs_from_most_is_told_and_not_blamed() {
    let service = |digest: &str| EcsServiceState {
        name: "dagster-daemon".into(),
        role: "daemon".into(),
        image_digest: digest.into(),
        ..Default::default()
    };
    let one = |version: &str, digest: &str| AgentSummary {
        version: version.into(),
        ..agent(Health {
            ecs: Some(EcsHealth { services: vec![service(digest)], ..Default::default() }),
            ..Default::default()
        })
    };
    let judge = Judge::new(Rules::default(), Duration::from_secs(24 * 3600));
    let mut agents = [one("0.2.0", "sha256:b"), one("0.2.0", "sha256:b"), one("0.1.0", "sha256:a")];
    judge.fill(&mut agents, now());
    let reasons = |agent: &AgentSummary| {
        agent.health_reasons.iter().map(|reason| (reason.kind(), reason.name.clone())).collect::<Vec<_>>()
    };
    assert_eq!(reasons(&agents[0]), []);
    let differs = [(Kind::VersionDiffers, "0.2.0".to_owned()), (Kind::ImageDiffers, "dagster-daemon".to_owned())];
    assert_eq!(reasons(&agents[2]), differs);
    assert_eq!(agents[2].health_word(), HealthWord::Healthy);
    let mut two = [one("0.2.0", "sha256:b"), one("0.1.0", "sha256:a")];
    judge.fill(&mut two, now());
    assert!(two.iter().all(|agent| agent.health_reasons.is_empty()), "of two nobody knows who is odd");
}

#[test]
fn a_dataset_may_have_a_rhythm_of_its_own() {
    let days = |days: u64| Duration::from_secs(days * 24 * 3600);
    let datasets = BTreeMap::from([("cin".to_owned(), Rhythm { no_delivery: days(400) })]);
    let rules = Rules { no_delivery: days(10), datasets };
    let dataset = |name: &str| DatasetHealth { dataset: name.into(), last_success_unix_ms: 980 * DAY };
    let runs = RunsHealth { jobs: vec![], datasets: vec![dataset("cin"), dataset("ssda903")] };
    let mut agents = [agent(Health { runs: Some(runs), ..Default::default() })];
    Judge::new(rules, Duration::from_secs(24 * 3600)).fill(&mut agents, now());
    assert_eq!(agents[0].health_reasons.len(), 1);
    assert_eq!(agents[0].health_reasons[0].name, "ssda903");
}
