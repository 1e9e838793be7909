//! Many LAs with real certificates and links, and made-up platforms: what an overview of a whole region looks like.

use std::time::Duration;

use anyhow::Result;
use sfdata_common::{
    Timestamp, channel,
    ids::AgentId,
    keys::SigningKey,
    peer::Subject,
    usage::{Component, Hour, Key, Meter, Record, days::day_number},
};
use sfdata_hub::{
    enrol::identity::HubKeys,
    history::History,
    metrics::Metrics,
    store::{Batch, Store, keys, records},
};
use sfdata_proto::v1::{self as wire, connect_request::Message as FromAgent};

use crate::{
    fleet::{Fleet, TRUST_DOMAIN},
    rogue::{RogueAgent, tls_by},
};

/// Days of usage that each tells.
const DAYS: u32 = 30;
const LIFE: Duration = Duration::from_secs(24 * 3600);
/// Those that have a history of two days; the others are new.
const OLD: usize = 2;

/// LAs that are connected.
pub struct Crowd {
    members: Vec<(AgentId, RogueAgent)>,
}

impl Crowd {
    /// Enter them in the registry of a hub that is stopped meanwhile, connect them, and have each tell how it is and what
    /// it used. (Over the wire, so many would need minutes: the hub lets an address enrol 60 times a minute.)
    pub async fn join(fleet: &mut Fleet, count: usize) -> Result<Self> {
        let ids: Vec<AgentId> =
            (0..count).map(|number| format!("council-{number:03}").parse()).collect::<Result<_, _>>()?;
        let now = Timestamp::now();
        fleet.stop_hub().await;
        let data_dir = fleet.hub_config.data_dir.clone();
        let store = Store::open(&data_dir, Metrics::default())?;
        let mut batch = Batch::default();
        for id in &ids {
            let joined = records::Agent {
                account: "000000000000".into(),
                groups: vec!["pilot".into()],
                receipt_key: SigningKey::generate()?.public().as_bytes().to_vec().into(),
                version: env!("CARGO_PKG_VERSION").into(),
                since: now.as_millisecond(),
                ..Default::default()
            };
            batch.put(keys::agent(id), &joined);
        }
        store.commit(batch).await?;
        past(&store, &ids[..count.min(OLD)], now).await?;
        store.close().await;
        drop(store);
        fleet.start_hub().await;
        let authority = HubKeys::open_or_create(&data_dir, TRUST_DOMAIN, "core", now)?.authority;
        let mut members = Vec::with_capacity(count);
        for (number, id) in ids.into_iter().enumerate() {
            let tls = tls_by(&authority, fleet, &Subject::Agent(id.clone()), LIFE, now)?;
            let hello = wire::Hello {
                boot_id: id.to_string(),
                version: env!("CARGO_PKG_VERSION").into(),
                clock_unix_ms: now.as_millisecond(),
                epoch: 1,
                trust_version: fleet.bundle.version,
                ..Default::default()
            };
            let link = RogueAgent::on(channel::open(&fleet.alice.address, tls), Some(hello)).await?;
            link.send(FromAgent::Health(Box::new(health(number, now)))).await;
            link.send(FromAgent::Usage(usage(number, now))).await;
            if number.is_multiple_of(2) {
                link.send(FromAgent::Bill(bill(number, now))).await;
            }
            members.push((id, link));
        }
        Ok(Self { members })
    }

    /// Its id.
    pub fn id(&self, number: usize) -> &AgentId {
        &self.members[number].0
    }

    /// Have one of them report this.
    pub async fn tell(&self, number: usize, health: wire::Health) {
        self.members[number].1.send(FromAgent::Health(Box::new(health))).await;
    }
}

/// A platform as most are: asleep or awake, three services, a database, two jobs.
pub fn health(number: usize, now: Timestamp) -> wire::Health {
    let awake = number.is_multiple_of(4);
    let service = |role: &str, image: &str| wire::EcsServiceState {
        name: format!("dagster-{role}"),
        role: role.into(),
        status: "ACTIVE".into(),
        desired: u32::from(awake),
        running: u32::from(awake),
        image: format!("000000000000.dkr.ecr.eu-west-2.amazonaws.com/{image}:2026-11"),
        task_definition: format!("{role}:12"),
        ..Default::default()
    };
    let earlier = |minutes: i64| now.as_millisecond() - minutes * 60_000;
    let job = |name: &str, failing: u32| wire::JobHealth {
        job: name.into(),
        succeeded: 40,
        failed: failing.into(),
        failing,
        last_success_unix_ms: earlier(600),
        last_failure_unix_ms: if failing > 0 { earlier(30) } else { 0 },
        ..Default::default()
    };
    wire::Health {
        taken_unix_ms: now.as_millisecond(),
        agent_version: env!("CARGO_PKG_VERSION").into(),
        uptime_seconds: 86_400,
        ecs: Some(wire::EcsHealth {
            cluster: "dagster".into(),
            services: vec![
                service("webserver", "dagster"),
                service("daemon", "dagster"),
                service("code-server", "pipelines"),
            ],
            error: String::new(),
        }),
        aurora: Some(wire::AuroraHealth {
            state: Some(wire::AuroraState {
                cluster: "dagster".into(),
                status: "available".into(),
                engine: "aurora-postgresql".into(),
                engine_version: "16.4".into(),
                max_acu: 4.0,
                auto_pause_seconds: 300,
                instances: 1,
                ..Default::default()
            }),
            error: String::new(),
        }),
        power: Some(wire::PowerState {
            mode: wire::PowerMode::Automatic.into(),
            phase: if awake { wire::PowerPhase::Awake } else { wire::PowerPhase::Asleep }.into(),
            generation: 7,
            since_unix_ms: earlier(12),
            cause: if awake { "arrival" } else { "" }.into(),
            reasons: Vec::from_iter(awake.then(|| wire::PowerReason {
                kind: "runs".into(),
                count: 2,
                ..Default::default()
            })),
            ..Default::default()
        }),
        runs: Some(wire::RunsHealth {
            jobs: vec![job("ssda903_job", u32::from(number % 16 == 3)), job("cin_job", 0)],
            datasets: vec![wire::DatasetHealth { dataset: "ssda903".into(), last_success_unix_ms: earlier(600) }],
        }),
        certificate_expires_unix_ms: (now + 30 * 24 * LIFE / 24).as_millisecond(),
        ..Default::default()
    }
}

fn usage(number: usize, now: Timestamp) -> wire::UsageBatch {
    let today = Hour::of(now).day();
    let mut records = Vec::new();
    let mut add = |hour: Hour, key: Key, amount: u64| {
        let revision = records.len() as u64 + 1;
        records.push(wire::UsageRecord::from(&Record { revision, hour, key, amount }));
    };
    for day in today - DAYS..today {
        let hour = Hour(day * 24 + 8);
        let seconds = 900 + u64::from(day % 7) * 300 + number as u64 % 5 * 60;
        let cause = || Some(if day % 3 == 0 { "schedule" } else { "arrival" }.parse().expect("a label"));
        let of = |meter, component| Key { cause: cause(), ..Key::new(meter, component) };
        add(hour, of(Meter::Awake, Component::Platform), seconds);
        add(hour, of(Meter::FargateCpu, Component::Daemon), seconds * 512);
        add(hour, of(Meter::FargateMemory, Component::Daemon), seconds * 1024);
        add(hour, of(Meter::AuroraCapacity, Component::Database), seconds * 500);
        let bytes = (8 << 30) + u64::from(day - (today - DAYS)) * (200 << 20);
        add(Hour(day * 24), Key::new(Meter::S3Stored, Component::DataStore), 24 * bytes);
        add(hour, Key::new(Meter::S3Requests, Component::DataStore), seconds * 3);
        add(hour, Key::new(Meter::LogsIngested, Component::Logs), seconds << 16);
    }
    wire::UsageBatch { book: number as u64 + 1, region: "eu-west-2".into(), records }
}

/// Of the present month and the one before, as half of the LAs let it be read.
fn bill(number: usize, now: Timestamp) -> wire::Bill {
    let this = now.to_zoned(jiff::tz::TimeZone::UTC).date().first_of_month();
    let last = this.yesterday().map_or(this, jiff::civil::Date::first_of_month);
    let month = |first_day, amount_micros, estimated| wire::BillMonth {
        first_day,
        currency: "USD".into(),
        amount_micros,
        estimated,
    };
    let cost = 21_370_000 + 10_000 * i64::try_from(number).unwrap_or_default();
    let months = vec![month(day_number(last), cost, false), month(day_number(this), cost / 2, true)];
    wire::Bill { book: number as u64 + 1, revision: 1, read_unix_ms: now.as_millisecond(), months }
}

/// Let a hub see two days of them, minute by minute: a nightly schedule, files by day, something that fails, an hour in which the hub did not run.
async fn past(store: &Store, ids: &[AgentId], now: Timestamp) -> Result<()> {
    use wire::{AgentState, HealthWord, PowerPhase};
    let history = History::new(store.clone());
    for back in (0..2 * 24 * 60_u64).rev() {
        let at = now - Duration::from_secs(back * 60);
        let agents = ids.iter().enumerate().map(|(number, id)| {
            let minute = (at.as_second() / 60) as usize + number * 45;
            let (hour, minute) = (minute / 60 % 24, minute % 60);
            let (phase, cause) = match (hour, minute) {
                (3, 0..2) | (11 | 15, 0..3) => {
                    (PowerPhase::Waking, if hour == 3 { "schedule-soon" } else { "arrivals" })
                }
                (3, 2..50) => (PowerPhase::Awake, "schedule-soon"),
                (11 | 15, 3..35) => (PowerPhase::Awake, "arrivals"),
                (15, 35..58) => (PowerPhase::Awake, "person"),
                (3, 50..52) | (11, 35..37) | (15, 58..60) => (PowerPhase::Draining, "arrivals"),
                _ => (PowerPhase::Asleep, ""),
            };
            let word = match hour {
                15 => HealthWord::Failing,
                12 | 13 => HealthWord::Degraded,
                _ if phase == PowerPhase::Asleep => HealthWord::Asleep,
                _ => HealthWord::Healthy,
            };
            let power = wire::PowerState { phase: phase.into(), cause: cause.into(), ..Default::default() };
            wire::AgentSummary {
                agent_id: id.to_string(),
                state: AgentState::Connected.into(),
                health_word: word.into(),
                health: Some(wire::Health { power: Some(power), ..health(number, at) }),
                ..Default::default()
            }
        });
        if !(20 * 60..21 * 60).contains(&back) {
            history.look(&agents.collect::<Vec<_>>(), at)?;
        }
        if back.is_multiple_of(60) {
            history.pass(at).await?;
        }
    }
    Ok(history.close(now).await?)
}
