//! A region of LAs as a hub sees it on a working day: each holds a connection of its own and tells, as often as agents do and as
//! much, how its platform is and what it used. What it tells is made up.

use std::{sync::Arc, time::Duration};

use anyhow::{Context as _, Result, anyhow, bail};
use arc_swap::ArcSwap;
use prost::Message as _;
use sfdata_common::{
    Timestamp, channel, limits,
    tls::{self, Identity, Knows},
    usage::{Component, Hour, Key, Meter, Record},
};
use sfdata_proto::v1::{self as wire, connect_request::Message as FromAgent, connect_response::Message as FromHub};
use sfdata_tests::{crowd, rogue::RogueAgent};
use tokio::{
    sync::mpsc,
    task::JoinSet,
    time::{Instant, interval_at, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::estate::{Estate, TRUST_DOMAIN};

/// How often an agent looks at what was used.
const USAGE: Duration = Duration::from_secs(300);
/// Jobs of a platform.
const JOBS: [&str; 10] = [
    "annex_a",
    "cin_census",
    "clean",
    "csww",
    "fostering",
    "pan_region",
    "pnw_census",
    "school_census",
    "sen2",
    "ssda903",
];
/// Hours of a day in which a platform is awake.
const AWAKE: u32 = 3;
const KEPT_WITHIN: Duration = Duration::from_secs(60);

/// All LAs of an estate.
pub(crate) struct Region {
    las: Vec<La>,
}

struct La {
    number: usize,
    identity: Identity,
    /// Of its book of usage.
    revision: u64,
    link: Option<RogueAgent>,
}

/// What was told to catch up, and confirmed.
pub(crate) struct CaughtUp {
    pub(crate) records: u64,
    pub(crate) time: Duration,
    /// Seconds that all platforms together were awake.
    pub(crate) awake: u64,
}

impl Region {
    /// Nobody is connected yet.
    pub(crate) fn new(estate: &Estate) -> Result<Self> {
        let identities = estate.agent_certificates()?.into_iter().enumerate();
        let las = identities.map(|(number, identity)| La { number, identity, revision: 0, link: None });
        Ok(Self { las: las.collect() })
    }

    /// Connect each, and wait until the hub has welcomed it. Nothing else is told yet.
    pub(crate) async fn connect(&mut self, estate: &Estate) -> Result<()> {
        for la in &mut self.las {
            la.connect(estate).await?;
        }
        Ok(())
    }

    pub(crate) fn disconnect(&mut self) {
        self.las.iter_mut().for_each(|la| la.link = None);
    }

    /// Have all tell at once what they used in as long as agents keep it; each waits for the hub's word before it goes on.
    pub(crate) async fn catch_up(&mut self) -> Result<CaughtUp> {
        let now = Hour::of(Timestamp::now());
        let kept = u32::try_from(limits::USAGE_KEPT.as_secs() / 3600)?;
        let batches = self.las.iter_mut().map(|la| la.history(now.0 - kept + 1, now.0));
        let batches: Vec<Vec<wire::UsageBatch>> = batches.collect();
        let all = || batches.iter().flatten().flat_map(|batch| &batch.records);
        let awake = all().filter(|record| record.meter() == Meter::Awake).map(|record| record.amount).sum();
        let records = u64::try_from(all().count())?;
        let began = Instant::now();
        let mut telling = JoinSet::new();
        for (mut la, batches) in self.las.drain(..).zip(batches) {
            telling.spawn(async move {
                for batch in batches {
                    la.tell_usage(batch).await?;
                }
                Ok::<_, anyhow::Error>(la)
            });
        }
        while let Some(la) = telling.join_next().await {
            self.las.push(la.map_err(|_| anyhow!("a task panicked"))??);
        }
        let time = began.elapsed();
        self.las.sort_by_key(|la| la.number);
        Ok(CaughtUp { records, time, awake })
    }

    /// Have all report from now on.
    pub(crate) fn report(self) -> Reporting {
        let (stop, mut tasks, count) = (CancellationToken::new(), JoinSet::new(), self.las.len());
        let mut causes = Vec::with_capacity(count);
        for la in self.las {
            let (cause, told) = mpsc::channel(1);
            causes.push(cause);
            tasks.spawn(la.report(count, told, stop.clone()));
        }
        Reporting { causes, stop, tasks }
    }
}

/// LAs that report.
pub(crate) struct Reporting {
    causes: Vec<mpsc::Sender<String>>,
    stop: CancellationToken,
    tasks: JoinSet<Result<()>>,
}

impl Reporting {
    /// Have one say at once that it is awake for this.
    pub(crate) async fn wake(&self, number: usize, cause: &str) -> Result<()> {
        self.causes.get(number).context("no such LA")?.send(cause.to_owned()).await.context("it reports no more")
    }

    /// No more; fails if one of them was not heard to the end.
    pub(crate) async fn end(mut self) -> Result<()> {
        self.stop.cancel();
        while let Some(la) = self.tasks.join_next().await {
            la.map_err(|_| anyhow!("a task panicked"))??;
        }
        Ok(())
    }
}

impl La {
    async fn connect(&mut self, estate: &Estate) -> Result<()> {
        let cas = &estate.bundle.ca_certificates;
        let tls = tls::client(Some(&self.identity), Knows::Cas { certificates: cas, trust_domain: TRUST_DOMAIN })?;
        let hello = wire::Hello {
            boot_id: self.number.to_string(),
            version: env!("CARGO_PKG_VERSION").into(),
            clock_unix_ms: Timestamp::now().as_millisecond(),
            epoch: 1,
            trust_version: estate.bundle.version,
            ..Default::default()
        };
        let tls = Arc::new(ArcSwap::new(tls));
        let mut link = RogueAgent::on(channel::open(&estate.address.to_string(), tls), Some(hello)).await?;
        let Some(FromHub::Welcome(_)) = link.next().await? else { bail!("LA {} is not welcome", self.number) };
        self.link = Some(link);
        Ok(())
    }

    fn link(&mut self) -> Result<&mut RogueAgent> {
        self.link.as_mut().context("an LA that is not connected")
    }

    /// What it used in these hours, as it waits in the agent's book.
    fn history(&mut self, from: u32, until: u32) -> Vec<wire::UsageBatch> {
        let records: Vec<_> = (from..until)
            .flat_map(|hour| self.used(Hour(hour), is_awake(self.number, hour), awake_seconds(self.number, hour)))
            .collect();
        records.chunks(limits::USAGE_BATCH).map(|some| self.batch(some.to_vec())).collect()
    }

    fn batch(&mut self, amounts: Vec<(Hour, Key, u64)>) -> wire::UsageBatch {
        let records = amounts.into_iter().map(|(hour, key, amount)| {
            self.revision += 1;
            wire::UsageRecord::from(&Record { revision: self.revision, hour, key, amount })
        });
        let records = records.collect();
        wire::UsageBatch { book: self.number as u64 + 1, region: "eu-west-2".into(), records }
    }

    /// Services, database and runs of an hour that is so old; and once a day what the buckets hold.
    fn used(&self, hour: Hour, awake: bool, seconds: u64) -> Vec<(Hour, Key, u64)> {
        let mut amounts = Vec::new();
        if hour.0.is_multiple_of(24) {
            let buckets = [Component::DataStore, Component::Workspace, Component::Shared, Component::Backup];
            let stored = |bucket| (Key::new(Meter::S3Stored, bucket), 24 << 30);
            amounts.extend(buckets.map(stored));
        }
        if awake {
            let cause = if hour.0.is_multiple_of(2) { "arrival" } else { "schedule" };
            let of = |meter, component| Key { cause: cause.parse().ok(), ..Key::new(meter, component) };
            amounts.push((of(Meter::Awake, Component::Platform), seconds));
            amounts.push((of(Meter::AuroraCapacity, Component::Database), seconds * 700));
            for service in [Component::Webserver, Component::Daemon, Component::CodeServer] {
                amounts.push((of(Meter::FargateCpu, service), seconds * 512));
                amounts.push((of(Meter::FargateMemory, service), seconds * 1024));
            }
            for run in 0..2 {
                let job = JOBS[(self.number + hour.0 as usize + run) % JOBS.len()];
                let of = |meter| Key { spot: true, job: job.parse().ok(), ..of(meter, Component::Run) };
                amounts.push((of(Meter::FargateCpu), seconds * 256));
                amounts.push((of(Meter::FargateMemory), seconds * 1024));
            }
        }
        amounts.into_iter().map(|(key, amount)| (hour, key, amount)).collect()
    }

    async fn tell_usage(&mut self, batch: wire::UsageBatch) -> Result<()> {
        let last = batch.records.last().map_or(0, |record| record.revision);
        let (number, link) = (self.number, self.link()?);
        link.send(FromAgent::Usage(batch)).await;
        let kept = async {
            loop {
                let message = link.incoming.message().await?.context("the hub ended the link")?.message;
                if matches!(message, Some(FromHub::UsageKept(kept)) if kept.revision == last) {
                    return Ok(());
                }
            }
        };
        timeout(KEPT_WITHIN, kept).await.with_context(|| format!("usage of LA {number} is not confirmed"))?
    }

    /// Report as agents do until `stop`: how it is every thirty seconds, and at once when that changes; what it used every five
    /// minutes. Its platform changes as often.
    async fn report(mut self, count: usize, mut causes: mpsc::Receiver<String>, stop: CancellationToken) -> Result<()> {
        // Spread evenly, as those of agents are that began at any time.
        let place = self.number as u32;
        let first = |every: Duration| Instant::now() + every * place / count as u32;
        let mut beat = interval_at(first(limits::HEALTH_INTERVAL), limits::HEALTH_INTERVAL);
        let mut look = interval_at(first(USAGE), USAGE);
        let (began, mut turn, mut cause) = (Instant::now(), 0, None);
        self.tell_health(turn, began, cause.as_ref()).await?;
        loop {
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                message = self.link()?.incoming.message() => drop(message?.context("the hub ended the link")?),
                _ = beat.tick() => self.tell_health(turn, began, cause.as_ref()).await?,
                Some(told) = causes.recv() => {
                    cause = Some(told);
                    self.tell_health(turn, began, cause.as_ref()).await?;
                }
                _ = look.tick() => {
                    turn += 1;
                    self.tell_health(turn, began, cause.as_ref()).await?;
                    let now = Timestamp::now();
                    let seconds = u64::try_from(now.as_second() - Hour::of(now).begin())?;
                    let used = self.used(Hour::of(now), true, seconds);
                    let batch = self.batch(used);
                    self.link()?.send(FromAgent::Usage(batch)).await;
                }
            }
        }
    }

    async fn tell_health(&mut self, turn: usize, began: Instant, cause: Option<&String>) -> Result<()> {
        let mut health = health(self.number + turn, Timestamp::now());
        health.uptime_seconds = began.elapsed().as_secs();
        if let (Some(cause), Some(power)) = (cause, &mut health.power) {
            power.cause.clone_from(cause);
            power.phase = wire::PowerPhase::Awake.into();
        }
        self.link()?.send(FromAgent::Health(Box::new(health))).await;
        Ok(())
    }
}

fn is_awake(number: usize, hour: u32) -> bool {
    (hour as usize * 5 + number) % 24 < AWAKE as usize
}

/// Of an hour; no two LAs have the same history.
fn awake_seconds(number: usize, hour: u32) -> u64 {
    600 + (number as u64 * 7919 + u64::from(hour) * 104_729) % 3_001
}

/// Of one report.
pub(crate) fn report_bytes() -> usize {
    health(0, Timestamp::now()).encoded_len()
}

/// All that an agent tells of a platform with a dozen jobs.
fn health(number: usize, now: Timestamp) -> wire::Health {
    let mut health = crowd::health(number, now);
    let earlier = |minutes: i64| now.as_millisecond() - minutes * 60_000;
    for service in health.ecs.iter_mut().flat_map(|ecs| &mut ecs.services) {
        service.image_digest = format!("sha256:{}", "0f".repeat(32));
        service.deployments = vec![wire::EcsDeployment {
            id: "ecs-svc/1234567890123456789".into(),
            status: "PRIMARY".into(),
            rollout_state: "COMPLETED".into(),
            desired: service.desired,
            running: service.running,
            ..Default::default()
        }];
    }
    if let Some(runs) = &mut health.runs {
        let well = runs.jobs.last().cloned().unwrap_or_default();
        runs.jobs.extend(JOBS.map(|name| wire::JobHealth { job: name.into(), ..well.clone() }));
        let dataset = |name: &str| wire::DatasetHealth { dataset: name.into(), last_success_unix_ms: earlier(600) };
        runs.datasets = JOBS.map(dataset).to_vec();
    }
    health.journal = Some(wire::JournalHealth::default());
    health.arrivals =
        Some(wire::ArrivalsHealth { last_unix_ms: earlier(600), source: "queue".into(), ..Default::default() });
    health
}
