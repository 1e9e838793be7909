//! How each LA is, in one word, and what makes it so: judged from what it reported last, beside the rest of the fleet.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use jiff::Timestamp;
use serde::Deserialize;
use sfdata_common::{limits, report::FULL};
use sfdata_proto::v1::{
    AgentState, AgentSummary, EcsServiceState, Health, HealthReason, HealthReasonKind as Kind, HealthWord, PowerPhase,
};

/// What most have is known from so many on.
const MOST: usize = 3;
/// A file waits for as long as it takes to wake Dagster; beyond that something is wrong.
const WAITS: Duration = Duration::from_secs(3600);
/// Faults of power's with which the platform does its work all the same.
const LIGHT: [&str; 7] = [
    "sensor-late",
    "tick-missing",
    "long-awake",
    "ecs-unreadable",
    "dagster-unreadable",
    "database-unreadable",
    "arrivals-unreadable",
];

/// The `[health]` section.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Rules {
    /// A dataset that had no successful run for so long is told of.
    #[serde(with = "humantime_serde")]
    pub no_delivery: Duration,
    /// The same for single datasets, such as those that are due once a year.
    pub datasets: BTreeMap<String, Rhythm>,
}

/// How often a dataset is to be delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rhythm {
    /// As in [`Rules::no_delivery`].
    #[serde(with = "humantime_serde")]
    pub no_delivery: Duration,
}

impl Default for Rules {
    fn default() -> Self {
        Self { no_delivery: Duration::from_secs(35 * 24 * 3600), datasets: BTreeMap::new() }
    }
}

/// Judges by the configuration.
#[derive(Debug, Clone)]
pub struct Judge {
    rules: Rules,
    /// An agent renews its certificate at half of its life: with less than this left, renewing has failed for long.
    certificate: Duration,
}

/// What most of the fleet has.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Norms {
    version: Option<String>,
    /// Digests by role.
    images: HashMap<String, String>,
}

impl Norms {
    /// Of those that are connected.
    pub fn of(agents: &[AgentSummary]) -> Self {
        let connected = || agents.iter().filter(|agent| agent.state() == AgentState::Connected);
        let services = connected().flat_map(|agent| agent.health.iter().flat_map(services));
        let mut digests: HashMap<String, Vec<String>> = HashMap::new();
        for service in services.filter(|service| has_known_image(service)) {
            digests.entry(service.role.clone()).or_default().push(service.image_digest.clone());
        }
        let images = digests.into_iter().filter_map(|(role, digests)| Some((role, most(digests)?)));
        Self { version: most(connected().map(|agent| agent.version.clone()).collect()), images: images.collect() }
    }
}

/// What more than half of them are.
fn most(all: Vec<String>) -> Option<String> {
    let total = all.len();
    let mut counts: HashMap<String, usize> = HashMap::new();
    for one in all {
        *counts.entry(one).or_default() += 1;
    }
    let (most, count) = counts.into_iter().max_by_key(|(_, count)| *count)?;
    (total >= MOST && 2 * count > total).then_some(most)
}

fn services(health: &Health) -> &[EcsServiceState] {
    health.ecs.as_ref().map_or(&[], |ecs| &ecs.services)
}

/// Code servers run each LA's own pipelines.
fn has_known_image(service: &EcsServiceState) -> bool {
    matches!(service.role.as_str(), "webserver" | "daemon") && !service.image_digest.is_empty()
}

/// How bad a reason is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Weight {
    Told,
    Degrades,
    Fails,
}

fn weight(reason: &HealthReason) -> Weight {
    match reason.kind() {
        Kind::VersionDiffers | Kind::ImageDiffers | Kind::DatabaseNeverPauses => Weight::Told,
        Kind::Unreadable if reason.name == "arrivals" => Weight::Degrades,
        Kind::PowerFault if LIGHT.contains(&reason.name.as_str()) => Weight::Degrades,
        Kind::Unreadable | Kind::ServiceDown | Kind::PowerFault => Weight::Fails,
        _ => Weight::Degrades,
    }
}

impl Judge {
    /// For certificates that live so long.
    pub fn new(rules: Rules, lifetime: Duration) -> Self {
        Self { rules, certificate: lifetime / 4 }
    }

    /// Every agent's word, and its reasons, the worst first.
    pub fn fill(&self, agents: &mut [AgentSummary], now: Timestamp) {
        let norms = Norms::of(agents);
        for agent in agents {
            let (word, reasons) = self.judge(agent, &norms, now);
            (agent.health_word, agent.health_reasons) = (word.into(), reasons);
        }
    }

    fn judge(&self, agent: &AgentSummary, norms: &Norms, now: Timestamp) -> (HealthWord, Vec<HealthReason>) {
        let Some(health) = agent.health.as_ref().filter(|_| agent.state() == AgentState::Connected) else {
            return unheard(agent);
        };
        let mut reasons = Vec::new();
        if !agent.note.is_empty() {
            reasons.push(reason(Kind::Diverged));
        }
        let known = norms.version.as_ref().filter(|version| **version != agent.version);
        reasons.extend(known.map(|version| named(Kind::VersionDiffers, version)));
        reasons.extend(of_services(health, norms));
        reasons.extend(of_runs(health, &self.rules, now));
        reasons.extend(of_power(health));
        reasons.extend(of_arrivals(health, now));
        let skew = health.clock_skew_ms.unsigned_abs();
        if u128::from(skew) > limits::CLOCK_SKEW.as_millis() / 2 {
            reasons.push(HealthReason { count: skew, ..reason(Kind::ClockSkew) });
        }
        let expires = health.certificate_expires_unix_ms;
        if expires > 0 && expires.saturating_sub(now.as_millisecond()) < millis(self.certificate) {
            reasons.push(HealthReason { at_unix_ms: expires, ..reason(Kind::CertificateExpires) });
        }
        reasons.sort_by_key(|reason| std::cmp::Reverse(weight(reason)));
        let word = match &health.hold {
            None => word(&reasons, health),
            Some(hold) => {
                reasons.insert(0, HealthReason { at_unix_ms: hold.since_unix_ms, ..reason(Kind::Held) });
                HealthWord::Held
            }
        };
        (word, reasons)
    }
}

/// Of one that is not there: what it was like before says nothing of now.
fn unheard(agent: &AgentSummary) -> (HealthWord, Vec<HealthReason>) {
    let at_unix_ms = agent.since_unix_ms;
    let why = match agent.state() {
        AgentState::Connected => return (HealthWord::Healthy, Vec::new()), // it has only just come
        AgentState::Invited | AgentState::Unspecified => reason(Kind::NeverJoined),
        AgentState::Away => HealthReason { at_unix_ms, ..reason(Kind::Away) },
        AgentState::Locked => HealthReason { at_unix_ms, ..reason(Kind::Locked) },
    };
    (HealthWord::Away, vec![why])
}

fn word(reasons: &[HealthReason], health: &Health) -> HealthWord {
    match reasons.iter().map(weight).max() {
        Some(Weight::Fails) => HealthWord::Failing,
        Some(Weight::Degrades) => HealthWord::Degraded,
        Some(Weight::Told) | None => match health.power.as_ref().map(|power| power.phase()) {
            Some(PowerPhase::Asleep) => HealthWord::Asleep,
            _ => HealthWord::Healthy,
        },
    }
}

fn of_services(health: &Health, norms: &Norms) -> Vec<HealthReason> {
    let mut reasons = Vec::new();
    let unreadable = [
        ("services", health.ecs.as_ref().map(|ecs| &ecs.error)),
        ("database", health.aurora.as_ref().map(|aurora| &aurora.error)),
        ("arrivals", health.arrivals.as_ref().map(|arrivals| &arrivals.error)),
    ];
    let unreadable =
        unreadable.into_iter().filter(|(_, error)| error.is_some_and(|error| !error.is_empty() && error != FULL));
    reasons.extend(unreadable.map(|(name, _)| named(Kind::Unreadable, name)));
    for service in services(health) {
        let failed: u64 = service.deployments.iter().map(|deployment| u64::from(deployment.failed_tasks)).sum();
        let gave_up = service.deployments.iter().any(|deployment| deployment.rollout_state == "FAILED");
        if service.running < service.desired && (failed > 0 || gave_up) {
            reasons.push(HealthReason { count: failed, ..named(Kind::ServiceDown, &service.name) });
        }
        let usual = norms.images.get(&service.role).filter(|_| has_known_image(service));
        if usual.is_some_and(|usual| *usual != service.image_digest) {
            reasons.push(named(Kind::ImageDiffers, &service.name));
        }
    }
    if let Some(state) = health.aurora.as_ref().and_then(|aurora| aurora.state.as_ref())
        && state.instance_class.is_empty()
        && state.auto_pause_seconds == 0
    {
        reasons.push(named(Kind::DatabaseNeverPauses, &state.cluster));
    }
    reasons
}

fn of_runs(health: &Health, rules: &Rules, now: Timestamp) -> Vec<HealthReason> {
    let Some(runs) = &health.runs else { return Vec::new() };
    let failing = runs.jobs.iter().filter(|job| job.failing > 0).map(|job| HealthReason {
        count: job.failing.into(),
        at_unix_ms: job.last_failure_unix_ms,
        ..named(Kind::RunFailed, &job.job)
    });
    let late = runs.datasets.iter().filter(|dataset| {
        let usual = rules.datasets.get(&dataset.dataset).map_or(rules.no_delivery, |rhythm| rhythm.no_delivery);
        now.as_millisecond().saturating_sub(dataset.last_success_unix_ms) > millis(usual)
    });
    let late = late.map(|dataset| HealthReason {
        at_unix_ms: dataset.last_success_unix_ms,
        ..named(Kind::NoDelivery, &dataset.dataset)
    });
    failing.chain(late).collect()
}

fn of_power(health: &Health) -> Vec<HealthReason> {
    let mut kinds: Vec<&str> = health.power.iter().flat_map(|power| &power.faults).map(|fault| &*fault.kind).collect();
    kinds.sort_unstable();
    kinds.dedup();
    kinds.into_iter().map(|kind| named(Kind::PowerFault, kind)).collect()
}

fn of_arrivals(health: &Health, now: Timestamp) -> Vec<HealthReason> {
    let Some(arrivals) = &health.arrivals else { return Vec::new() };
    let mut reasons = Vec::new();
    if arrivals.parked > 0 {
        reasons.push(HealthReason { count: arrivals.parked.into(), ..reason(Kind::ArrivalsParked) });
    }
    let full = arrivals.error == FULL && arrivals.waiting > 0;
    if full
        || arrivals.oldest_unix_ms > 0 && now.as_millisecond().saturating_sub(arrivals.oldest_unix_ms) > millis(WAITS)
    {
        let (count, at_unix_ms) = (arrivals.waiting.into(), arrivals.oldest_unix_ms);
        reasons.push(HealthReason { count, at_unix_ms, ..reason(Kind::ArrivalsWaiting) });
    }
    reasons
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

fn reason(kind: Kind) -> HealthReason {
    HealthReason { kind: kind.into(), ..Default::default() }
}

fn named(kind: Kind, name: &str) -> HealthReason {
    HealthReason { name: name.to_owned(), ..reason(kind) }
}

#[cfg(test)]
mod tests;
