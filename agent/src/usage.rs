//! What the platform used, metered hour by hour and told until the hub has it.
//!
//! Tasks are looked at every few minutes, which is less than ECS remembers of those that stopped; why the platform is awake is
//! noted as it changes; CloudWatch is asked once an hour. A book that cannot be written is told, and ends nothing.

mod book;
pub mod ledger;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use jiff::Timestamp;
use sfdata_common::{
    error::chain,
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
    power,
    services::{
        Services,
        metered::{CAPACITY_PERIOD, Measured},
    },
};

/// Why the platform is awake is looked at so often, which costs nothing.
const TICK: Duration = Duration::from_secs(5);
/// Tasks are looked at so often: ECS forgets a stopped one after about an hour.
const LOOK: Duration = Duration::from_secs(5 * 60);
/// CloudWatch is asked so often, for more than what came since.
const MEASURE: Duration = Duration::from_secs(3600);
const MEASURED: Duration = Duration::from_secs(3 * 3600);

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
}

/// The book in `data_dir`, and what fills it; neither where it cannot be opened, which is told.
pub fn open(data_dir: &Path, region: &str, services: Services, power: power::Handle) -> (Handle, Option<Meters>) {
    match Book::open(data_dir) {
        Ok((book, ledger)) => {
            let inner = Arc::new(Inner { book: Mutex::new(book), region: region.to_owned(), changed: Notify::new() });
            let meters = Meters { inner: Arc::clone(&inner), ledger, services, power, measured: None };
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
        let (mut look, mut measure) = (Instant::now(), Instant::now());
        loop {
            let pause = tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = sleep(TICK) => Instant::now(),
            };
            self.note_power(Timestamp::now());
            if pause >= measure {
                measure = pause + jittered(MEASURE, 0.1);
                self.measure().await;
            }
            if pause >= look {
                look = pause + jittered(LOOK, 0.1);
                self.look().await;
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
        match self.services.metered.read(MEASURED).await {
            Ok(measured) => self.measured = Some(measured),
            Err(error) => warn!(%error, "the database's capacity and the buckets' size are not metered; the rest is"),
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
        let stored = stored(&measured);
        let ledger = self.ledger.clone();
        let inner = Arc::clone(&self.inner);
        let noted = tokio::task::spawn_blocking(move || {
            let mut book = inner.book();
            let changed = book.note(&ledger, &amounts, whole, last, now)?;
            let more = book.note(&ledger, &stored, |_, _| false, last, now)?;
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

/// Of the buckets, told in the first hour of its day.
fn stored(measured: &Measured) -> Vec<(Hour, BTreeMap<Key, u64>)> {
    let mut hours: BTreeMap<Hour, BTreeMap<Key, u64>> = BTreeMap::new();
    for (component, points) in &measured.stored {
        for (at, bytes) in points {
            let day = at.div_euclid(24 * Hour::SECONDS).clamp(0, i64::from(u32::MAX) / 24);
            let hour = Hour(u32::try_from(day * 24).unwrap_or_default());
            let amount = (bytes * 24.0).round() as u64;
            hours.entry(hour).or_default().insert(Key::new(Meter::S3Stored, *component), amount);
        }
    }
    hours.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_bucket_holds_counts_for_its_day() {
        let day = 495_000 / 24 * 24 * 3600_i64;
        let measured = Measured {
            stored: vec![(Component::Shared, vec![(day, 1000.4), (day + 86_400, 2000.0)])],
            ..Default::default()
        };
        let told = stored(&measured);
        let hour = u32::try_from(day / 3600).unwrap();
        let key = Key::new(Meter::S3Stored, Component::Shared);
        assert_eq!(
            told,
            [(Hour(hour), BTreeMap::from([(key.clone(), 24_010)])), (Hour(hour + 24), BTreeMap::from([(key, 48_000)])),]
        );
    }
}
