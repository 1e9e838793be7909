//! Files that arrive: from the queue of S3's events, or by listing the data store, to Dagster.
//!
//! `source` takes in what arrives, `event` understands it, `book` has it durably before anything else happens, so that a
//! restarted agent knows at once what waits; [`Handle::hand_on`] launches it when Dagster is awake. A message is deleted only
//! when each arrival in it was handed on, parked or dropped: until then it is kept hidden, and comes back by itself should
//! the disk be lost. One arrival is one run: by the book, and after a crash by the run's tag at Dagster.
//! Keys of objects leave this folder for the runs' tags, where a rule says so, and sealed to the operator who asks.

mod book;
mod command;
mod event;
mod hand_on;
mod source;

use std::{
    path::Path,
    sync::{Arc, Mutex as StdMutex, MutexGuard, PoisonError},
};

use jiff::Timestamp;
use sfdata_common::{error::chain, limits, outcome::FailureCode};
use sfdata_proto::v1 as wire;
use tokio::sync::{Mutex, Notify, watch};

pub use self::{
    book::Error,
    hand_on::{ARRIVAL_TAG, COUNT_TAG, HandedOn, Launch},
    source::Source,
};
use self::{
    book::{Book, State},
    hand_on::Troubles,
};
use crate::{
    config::{Config, arrivals::Arrivals as Settings},
    services,
};

/// What waits to be handed on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Waiting {
    /// How many arrivals.
    pub count: usize,
    /// Since when the agent knows of the oldest.
    pub oldest: Option<Timestamp>,
    /// There when it is not known whether more has arrived.
    pub unreadable: Option<Unreadable>,
}

/// The queue, or the bucket, does not tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unreadable {
    /// Since when.
    pub since: Timestamp,
    /// What was tried, and what to do.
    pub why: String,
}

impl Waiting {
    fn of(state: &State) -> Self {
        let oldest = state.waiting.values().map(|waits| waits.since).min();
        let oldest = oldest.and_then(|at| Timestamp::from_millisecond(at).ok());
        Self { count: state.waiting.len(), oldest, unreadable: None }
    }
}

/// Arrivals, for those who decide, hand on, report and obey. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Handle {
    /// None where nothing is looked for.
    inner: Option<Arc<Inner>>,
    none: watch::Receiver<Waiting>,
}

#[derive(Debug)]
struct Inner {
    book: Book,
    settings: Settings,
    bucket: String,
    region: String,
    source: &'static str,
    /// One hands on at a time.
    handing_on: Mutex<Troubles>,
    /// Something was handed on, parked or dropped, so that messages may be deleted.
    settled: Notify,
    /// Why messages could not be deleted or hidden the last time.
    kept_back: StdMutex<Option<String>>,
}

impl Handle {
    /// Where nothing is looked for.
    pub fn off() -> Self {
        Self { inner: None, none: watch::channel(Waiting::default()).1 }
    }

    /// Open the book, where the configuration wants arrivals.
    pub fn open(config: &Config) -> Result<Self, Error> {
        let bucket = config.platform.buckets.data_store.clone();
        let Some((settings, bucket)) = config.arrivals.clone().zip(bucket) else { return Ok(Self::off()) };
        Self::with(&config.data_dir, settings, bucket, config.aws.region.clone())
    }

    fn with(data_dir: &Path, settings: Settings, bucket: String, region: String) -> Result<Self, Error> {
        let source = match (&settings.queue, settings.list_every.is_zero()) {
            (Some(_), _) => "queue",
            (None, false) => "listing",
            (None, true) => "off",
        };
        let inner = Inner {
            book: Book::open(data_dir)?,
            settings,
            bucket,
            region,
            source,
            handing_on: Mutex::default(),
            settled: Notify::new(),
            kept_back: StdMutex::default(),
        };
        if source != "off" {
            inner.unreadable("unavailable: it has not been looked at since the agent started".into());
        }
        Ok(Self { inner: Some(Arc::new(inner)), ..Self::off() })
    }

    /// Tells how the book could not be written, once it could not. Nothing is received from then on; the process must end.
    pub fn failed(&self) -> watch::Receiver<Option<Error>> {
        self.inner.as_ref().map_or_else(|| watch::channel(None).1, |inner| inner.book.failed())
    }

    /// Whether anything is looked for.
    pub fn is_on(&self) -> bool {
        self.inner.as_ref().is_some_and(|inner| inner.source != "off")
    }

    /// What waits now.
    pub fn waiting(&self) -> Waiting {
        self.subscribe().borrow().clone()
    }

    /// What was parked.
    pub fn parked(&self) -> usize {
        self.inner.as_ref().map_or(0, |inner| inner.book.look(|state| state.parked.len()))
    }

    /// Wakes whoever waits for a change of [`Handle::waiting`].
    pub fn subscribe(&self) -> watch::Receiver<Waiting> {
        self.inner.as_ref().map_or_else(|| self.none.clone(), |inner| inner.book.seen().subscribe())
    }

    /// When an arrival was handed on last, by this agent or one before it: what sensors have to see has been there since.
    pub fn last_handed_on(&self) -> Option<Timestamp> {
        self.inner.as_ref()?.book.last(Timestamp::now())
    }

    /// Counts and times, for the health report: nothing of what has arrived.
    pub fn health(&self) -> wire::ArrivalsHealth {
        let Some(inner) = &self.inner else {
            return wire::ArrivalsHealth { source: "off".into(), ..Default::default() };
        };
        let Waiting { count, oldest, unreadable } = self.waiting();
        let parked = self.parked();
        let error = match unreadable {
            Some(Unreadable { why, .. }) => why,
            None if parked >= limits::ARRIVALS_PARKED => format!(
                "full: {parked} arrivals are parked, and what cannot be handed on stays in the queue; see hubctl arrivals \
                 list, then retry or drop them"
            ),
            None if count >= limits::ARRIVALS_WAITING => {
                format!("full: {count} arrivals wait, and what comes after them stays in the queue; let Dagster wake")
            }
            None => inner.kept_back().clone().unwrap_or_default(),
        };
        wire::ArrivalsHealth {
            waiting: count.try_into().unwrap_or(u32::MAX),
            parked: parked.try_into().unwrap_or(u32::MAX),
            oldest_unix_ms: oldest.map_or(0, Timestamp::as_millisecond),
            last_unix_ms: self.last_handed_on().map_or(0, Timestamp::as_millisecond),
            source: inner.source.into(),
            error,
        }
    }
}

/// The book's answer, as others tell it.
fn written<T>(result: Result<T, Error>) -> Result<T, services::Error> {
    result.map_err(|error| services::Error::failed(FailureCode::Unavailable, chain(&error).to_string()))
}

impl Inner {
    /// It is not known what arrives; since when is kept.
    fn unreadable(&self, why: String) {
        self.book.seen().send_if_modified(|seen| {
            let since = seen.unreadable.as_ref().map_or_else(Timestamp::now, |before| before.since);
            let now = Some(Unreadable { since, why });
            let changed = seen.unreadable != now;
            seen.unreadable = now;
            changed
        });
    }

    fn kept_back(&self) -> MutexGuard<'_, Option<String>> {
        self.kept_back.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// It is known what arrives.
    fn readable(&self) {
        self.book.seen().send_if_modified(|seen| seen.unreadable.take().is_some());
    }
}

/// How many files a message of a bucket's queue tells of, and how many records of it are for a person to look at.
pub fn told_by(message: &str, now: Timestamp) -> (usize, usize) {
    let place = event::Place { bucket: "store".into(), region: "eu-west-2".into(), account: "111111111111".into() };
    let records = event::read(message, &place, now);
    let odd = records.iter().filter(|record| matches!(record, event::Record::Odd(..))).count();
    (records.len() - odd, odd)
}
