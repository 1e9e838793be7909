//! What the platform used, metered hour by hour and told until the hub has it.
//!
//! Tasks are looked at every few minutes, which is less than ECS remembers of those that stopped; why the platform is awake is
//! noted as it changes; CloudWatch is asked once an hour. A book that cannot be written is told, and ends nothing. Where the LA's
//! file says so, AWS's own bill is read as well, and told beside it.

mod bill;
mod book;
pub mod ledger;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use jiff::Timestamp;
use sfdata_common::{
    error::chain,
    limits,
    retry::jittered,
    usage::{Component, Hour, Key, Meter},
};
use sfdata_proto::v1::{self as wire, PowerMode, PowerPhase};
use tokio::{
    sync::Notify,
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use self::{book::Book, ledger::Ledger};
use crate::{
    config::Config,
    power,
    services::{
        Services,
        metered::{CAPACITY_PERIOD, Measured, Point},
    },
};

/// Why the platform is awake is looked at so often, which costs nothing.
const TICK: Duration = Duration::from_secs(5);
/// Tasks are looked at so often: ECS forgets a stopped one after about an hour.
const LOOK: Duration = Duration::from_secs(5 * 60);
/// CloudWatch is asked so often, for more than what came since.
const MEASURE: Duration = Duration::from_secs(3600);
/// Whether the bill is to be asked for is looked at so often.
const BILL: Duration = Duration::from_secs(3600);

/// What others see of it; clones share it.
#[derive(Debug, Clone)]
pub struct Handle {
    inner: Option<Arc<Inner>>,
}

#[derive(Debug)]
struct Inner {
    book: Mutex<Book>,
    region: String,
    changed: Notify,
    billed: Notify,
}

impl Handle {
    /// One that meters nothing.
    pub fn off() -> Self {
        Self { inner: None }
    }

    /// What the hub may not have; `None` when it has all.
    pub fn batch(&self) -> Option<wire::UsageBatch> {
        let inner = self.inner.as_ref()?;
        inner.book().batch(&inner.region)
    }

    /// Records that the hub has not confirmed.
    pub fn unsent(&self) -> usize {
        self.inner.as_ref().map_or(0, |inner| inner.book().unsent())
    }

    /// The hub has these.
    pub fn kept(&self, kept: &wire::UsageKept) {
        let Some(inner) = &self.inner else { return };
        if let Err(error) = inner.book().kept(kept) {
            warn!(error = %chain(&error), "it is not noted what the hub has of the usage; it is told again");
        }
    }

    /// Resolves when there may be something to tell.
    pub async fn changed(&self) {
        match &self.inner {
            Some(inner) => inner.changed.notified().await,
            None => std::future::pending().await,
        }
    }

    /// A reading of the bill that the hub may not have.
    pub fn bill(&self) -> Option<wire::Bill> {
        self.inner.as_ref()?.book().unsent_bill()
    }

    /// The hub has this reading.
    pub fn bill_kept(&self, kept: &wire::BillKept) {
        let Some(inner) = &self.inner else { return };
        if let Err(error) = inner.book().bill_kept(kept) {
            warn!(error = %chain(&error), "it is not noted that the hub has the bill; it is told again");
        }
    }

    /// Resolves when the bill was read.
    pub async fn billed(&self) {
        match &self.inner {
            Some(inner) => inner.billed.notified().await,
            None => std::future::pending().await,
        }
    }
}

impl Inner {
    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The task behind a [`Handle`].
#[derive(Debug)]
pub struct Meters {
    inner: Arc<Inner>,
    ledger: Ledger,
    services: Services,
    power: power::Handle,
    measured: Option<Measured>,
    /// Those that the platform was last seen to write to.
    log_groups: Vec<String>,
    reads_bill: bool,
}

/// The book of `config`, and what fills it; neither where it cannot be opened, which is told.
pub fn open(config: &Config, services: Services, power: power::Handle) -> (Handle, Option<Meters>) {
    match Book::open(&config.data_dir) {
        Ok((book, ledger)) => {
            let (book, region) = (Mutex::new(book), config.aws.region.clone());
            let inner = Arc::new(Inner { book, region, changed: Notify::new(), billed: Notify::new() });
            let (measured, log_groups, reads_bill) = (None, Vec::new(), config.usage.bill);
            let meters =
                Meters { inner: Arc::clone(&inner), ledger, services, power, measured, log_groups, reads_bill };
            (Handle { inner: Some(inner) }, Some(meters))
        }
        Err(error) => {
            tracing::error!(error = %chain(&error), "what this platform uses is not metered; mend it, then start the agent again");
            (Handle::off(), None)
        }
    }
}

impl Meters {
    /// Meter until stopped.
    pub async fn run(mut self, stop: CancellationToken) {
        let (mut look, mut measure, mut bill) = (Instant::now(), Instant::now(), Instant::now());
        loop {
            let pause = tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = sleep(TICK) => Instant::now(),
            };
            self.note_power(Timestamp::now());
            if pause >= measure {
                measure = pause + jittered(MEASURE, 0.1);
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = self.measure() => {}
                }
            }
            if pause >= look {
                look = pause + jittered(LOOK, 0.1);
                self.look().await;
            }
            if pause >= bill && self.reads_bill {
                bill = pause + jittered(BILL, 0.1);
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = self.read_bill(Timestamp::now()) => {}
                }
            }
        }
    }

    /// Whether the platform is awake, and why. Not durable before the next look: who was killed in between finds since when
    /// the last of it holds with the power controller.
    fn note_power(&mut self, now: Timestamp) {
        let Some(state) = self.power.health() else { return };
        let asleep = state.phase() == PowerPhase::Asleep;
        let since = Timestamp::from_millisecond(state.since_unix_ms).unwrap_or(now).min(now);
        let cause = match state.mode() {
            PowerMode::Manual => Some("manual".to_owned()),
            _ => Some(state.cause).filter(|cause| !cause.is_empty() && !asleep),
        };
        let from = if self.ledger.is_new() { now.as_second() } else { since.as_second() };
        self.ledger.is(from, !asleep, cause.filter(|_| !asleep));
    }

    async fn measure(&mut self) {
        match self.services.ecs.log_groups().await {
            Ok(groups) => self.log_groups = groups.into_iter().take(limits::USAGE_LOG_GROUPS).collect(),
            Err(error) => warn!(%error, "bytes of logs are metered of the log groups that were known before"),
        }
        match self.services.metered.read(&self.log_groups).await {
            Ok(measured) => self.measured = Some(measured),
            Err(error) => warn!(%error, "of database, buckets and logs nothing is metered; the rest is"),
        }
    }

    /// Ask for the bill where it is time to; what came of it is on disk when this returns, or told.
    async fn read_bill(&self, now: Timestamp) {
        let due = Some(self.inner.book().bill().clone()).filter(|bill| bill.is_due(now));
        let Some(asked) = due.map(|bill| bill.asked(now)) else { return };
        let noted = self.inner.book().note_bill(asked);
        if let Err(error) = noted {
            return warn!(error = %chain(&error), "the bill is not read: it could not be noted that it was");
        }
        let (from, until) = bill::span(now);
        let months = match self.services.bill.read(from, until).await {
            Ok(months) => months,
            Err(error) => return warn!(%error, "the bill is not known; it is asked for again in some hours"),
        };
        // Meanwhile the hub may have confirmed the reading before.
        let mut book = self.inner.book();
        let answered = book.bill().answered(now, months);
        match book.note_bill(answered) {
            Ok(()) => self.inner.billed.notify_one(),
            Err(error) => warn!(error = %chain(&error), "what came of reading the bill is not noted; it is read again"),
        }
    }

    async fn look(&mut self) {
        let now = Timestamp::now();
        match self.services.ecs.spans(now.as_second()).await {
            Ok(spans) => {
                if self.power.health().is_none() {
                    let runs = spans.iter().any(|(_, span)| span.until.is_none());
                    self.ledger.is(now.as_second(), runs, None);
                }
                self.ledger.look(now.as_second(), spans);
            }
            Err(error) => return debug!(%error, "tasks could not be looked at; they are made up for by the next look"),
        }
        let (hours, last) = self.ledger.open();
        let measured = self.measured.clone().unwrap_or_default();
        let amounts: Vec<(Hour, BTreeMap<Key, u64>)> = hours
            .map(|hour| {
                let mut amounts = self.ledger.amounts(Hour(hour));
                amounts.extend(self.capacity(&measured, Hour(hour)));
                (Hour(hour), amounts)
            })
            .collect();
        // Of an hour that CloudWatch tells nothing of, what it told before holds.
        let hours_told: BTreeSet<u32> = measured.capacity.iter().map(|(at, _)| hour_of(*at).0).collect();
        let whole = move |hour: Hour, key: &Key| match key.meter {
            Meter::FargateCpu | Meter::FargateMemory | Meter::Awake => true,
            Meter::AuroraCapacity => hours_told.contains(&hour.0),
            _ => false,
        };
        let told = told(&measured);
        let ledger = self.ledger.clone();
        let inner = Arc::clone(&self.inner);
        let noted = tokio::task::spawn_blocking(move || {
            let mut book = inner.book();
            let changed = book.note(&ledger, &amounts, whole, last, now)?;
            let more = book.note(&ledger, &told, |_, _| false, last, now)?;
            Ok::<_, book::Error>(changed || more)
        });
        match noted.await {
            Ok(Ok(changed)) => {
                self.ledger.close();
                if changed {
                    self.inner.changed.notify_one();
                }
            }
            Ok(Err(error)) => warn!(error = %chain(&error), "what was used is not noted; it is tried again"),
            Err(_) => warn!("what was used is not noted; it is tried again"),
        }
    }

    /// Of the database, split by why the platform was awake.
    fn capacity(&self, measured: &Measured, hour: Hour) -> BTreeMap<Key, u64> {
        let mut sums: BTreeMap<Key, f64> = BTreeMap::new();
        for (at, acu) in measured.capacity.iter().filter(|(at, _)| hour_of(*at) == hour) {
            for (seconds, cause) in self.ledger.pieces(*at, at + CAPACITY_PERIOD) {
                let key = Key { cause, ..Key::new(Meter::AuroraCapacity, Component::Database) };
                *sums.entry(key).or_default() += acu * seconds as f64 * 1000.0;
            }
        }
        sums.into_iter().map(|(key, sum)| (key, sum.round() as u64)).collect()
    }
}

fn hour_of(at: i64) -> Hour {
    Timestamp::from_second(at).map_or(Hour(0), Hour::of)
}

/// What CloudWatch tells of the buckets and log groups, by the hour. What a bucket holds is told in the first hour of its day. An
/// hour's bytes of logs are those of all groups, so that the next reading takes their place.
fn told(measured: &Measured) -> Vec<(Hour, BTreeMap<Key, u64>)> {
    let mut hours: BTreeMap<Hour, BTreeMap<Key, f64>> = BTreeMap::new();
    let mut add = |hour: Hour, meter: Meter, component: Component, amount: f64| {
        *hours.entry(hour).or_default().entry(Key::new(meter, component)).or_default() += amount;
    };
    for (component, points) in &measured.stored {
        for (at, bytes) in points {
            add(Hour(hour_of(*at).day() * 24), Meter::S3Stored, *component, bytes * 24.0);
        }
    }
    let requests = measured.requests.iter().map(|(component, points)| (Meter::S3Requests, *component, points));
    let logs = measured.logs.iter().map(|points| (Meter::LogsIngested, Component::Logs, points));
    for (meter, component, points) in requests.chain(logs) {
        points.iter().for_each(|(at, sum): &Point| add(hour_of(*at), meter, component, *sum));
    }
    let whole = |amounts: BTreeMap<Key, f64>| amounts.into_iter().map(|(key, sum)| (key, sum.round() as u64)).collect();
    hours.into_iter().map(|(hour, amounts)| (hour, whole(amounts))).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_a_bucket_holds_counts_for_its_day() {
        let day = 495_000 / 24 * 24 * 3600_i64;
        let measured = Measured {
            stored: vec![(Component::Shared, vec![(day, 1000.4), (day + 86_400, 2000.0)])],
            ..Default::default()
        };
        let told = told(&measured);
        let hour = u32::try_from(day / 3600).unwrap();
        let key = Key::new(Meter::S3Stored, Component::Shared);
        assert_eq!(
            told,
            [(Hour(hour), BTreeMap::from([(key.clone(), 24_010)])), (Hour(hour + 24), BTreeMap::from([(key, 48_000)])),]
        );
    }
    #[derive(Debug, Clone)]
    enum Event {
        /// A task writes so much to this of the groups that the platform has.
        Write(u8, u16),
        /// The platform writes elsewhere from now on.
        Move(u8),
        /// The agent is started anew, by its own files.
        Restart,
        /// The agent's clock is wrong by so many hours at this reading.
        Clock(i64),
    }

    fn event() -> impl Strategy<Value = (i64, Event)> {
        let event = prop_oneof![
            4 => (0_u8..3, any::<u16>()).prop_map(|(group, bytes)| Event::Write(group, bytes)),
            1 => (0_u8..6).prop_map(Event::Move),
            1 => Just(Event::Restart),
            1 => (-30_i64..60).prop_map(Event::Clock),
        ];
        (0_i64..15, event)
    }

    /// What CloudWatch has: bytes by log group and hour.
    type Truth = BTreeMap<(u8, u32), u64>;

    fn reading(truth: &Truth, groups: std::ops::Range<u8>, now: i64) -> Measured {
        let from = (now.div_euclid(86_400) - 3) * 86_400;
        let points = |group: u8| {
            let of = truth.iter().filter(|((one, _), _)| *one == group);
            let points = of.map(|((_, hour), bytes)| (Hour(*hour).begin(), *bytes as f64));
            points.filter(|(at, _)| (from..=now).contains(at)).collect::<Vec<Point>>()
        };
        let logs: Vec<_> = groups.map(points).collect();
        Measured { requests: vec![(Component::Shared, logs[0].clone())], logs, ..Default::default() }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        /// However often an hour is read while it grows, over restarts, with a clock that is set and with log groups that change:
        /// each byte counts at most once, each request once, and each byte once where the log groups stay.
        #[test]
        fn sums_that_are_read_again_and_again_count_once(events in prop::collection::vec(event(), 1..30)) {
            let folder = tempfile::tempdir().unwrap();
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let _entered = runtime.enter();
            let (mut book, _) = Book::open(folder.path()).unwrap();
            let (mut truth, mut first, mut now, mut stays) = (Truth::new(), 0_u8, 495_000 * 3600_i64, true);
            let mut hub: BTreeMap<(u32, Meter), (u64, u64)> = BTreeMap::new();
            let mut read = |book: &mut Book, truth: &Truth, groups: std::ops::Range<u8>, clock: i64| {
                let at = Timestamp::from_second(clock).unwrap();
                let told = told(&reading(truth, groups, clock));
                book.note(&Ledger::default(), &told, |_, _| false, Hour::of(at), at).unwrap();
                for record in book.batch("eu-west-2").into_iter().flat_map(|batch| batch.records) {
                    let known = hub.entry((record.hour, record.meter())).or_default();
                    if record.revision > known.0 {
                        *known = (record.revision, record.amount);
                    }
                }
                hub.clone()
            };
            for (hours, event) in events {
                now += hours * 3600;
                let groups = first..first + 3;
                match event {
                    Event::Write(group, bytes) => {
                        let hour = Hour::of(Timestamp::from_second(now).unwrap());
                        *truth.entry((first + group, hour.0)).or_default() += u64::from(bytes);
                    }
                    Event::Move(to) => (first, stays) = (to, stays && to == first),
                    Event::Restart => {
                        drop(book);
                        (book, _) = Book::open(folder.path()).unwrap();
                    }
                    Event::Clock(wrong) => _ = read(&mut book, &truth, groups.clone(), now + wrong * 3600),
                }
                read(&mut book, &truth, first..first + 3, now);
            }
            let hub = read(&mut book, &truth, first..first + 3, now);
            let sum = |meter| hub.iter().filter(|((_, of), _)| *of == meter).map(|(_, (_, amount))| *amount).sum::<u64>();
            let all: u64 = truth.values().sum();
            prop_assert!(sum(Meter::LogsIngested) <= all);
            if stays {
                let requests: u64 = truth.iter().filter(|((group, _), _)| *group == 0).map(|(_, sum)| *sum).sum();
                prop_assert_eq!((sum(Meter::LogsIngested), sum(Meter::S3Requests)), (all, requests));
            }
        }
    }
}
