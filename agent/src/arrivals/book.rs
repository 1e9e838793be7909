//! What the agent knows of arrivals, durably: which wait, which are parked, which were handed on, and how far it has listed.
//!
//! Invariants: an arrival is in at most one of the three; what a method tells is durable before it returns; memory changes
//! only after the disk, and both or neither, also when whoever asked has given up. Waiting and parked arrivals have their
//! keys in here, which is a disk of the LA's; what was handed on is known by its digest alone.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    io, panic,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use jiff::Timestamp;
use prost::Message;
use sfdata_common::{command::ArrivalId, limits};
use sfdata_proto::v1::ParkReason;
use tokio::sync::watch;

use super::{Waiting, event::Arrival};
use crate::database::{Database, OpenError};

const FOLDER: &str = "arrivals";
const WAITS: u8 = b'w';
const PARKED: u8 = b'p';
const SETTLED: u8 = b's';
const LAST: &[u8] = b"last";
const LISTED: &[u8] = b"listed";

/// Why the book can't be used.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// It can't be opened.
    #[error("the book of arrivals in {path} cannot be opened; is another agent running on it?")]
    Open {
        /// Where.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: Arc<io::Error>,
    },
    /// A record does not decode.
    #[error(
        "the book of arrivals in {path} is damaged; move it away and start the agent again: with a queue, what waits \
         comes once more, and Dagster tells by the runs' tags what was launched; without one, all that is in the bucket \
         then counts as seen, so that what had not been handed on has to be put there once more"
    )]
    Damaged {
        /// Where.
        path: PathBuf,
    },
    /// It can't be written.
    #[error(
        "the book of arrivals in {path} cannot be written; free space on that disk or mend it, then start the agent again"
    )]
    Write {
        /// Where.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: Arc<io::Error>,
    },
    /// There may be no room to write it.
    #[error(
        "the disk of the book of arrivals in {path} has {free_bytes} bytes free and {} are kept in reserve; free space \
         on it: until then what arrives stays in the queue, or is listed later",
        limits::ARRIVALS_RESERVE_BYTES
    )]
    Low {
        /// Where.
        path: PathBuf,
        /// How much there is.
        free_bytes: u64,
    },
}

/// Of each arrival something.
pub(super) type Each<T> = Vec<(ArrivalId, T)>;

/// An arrival that is to be handed on.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Waits {
    #[prost(string, tag = "1")]
    pub(super) key: String,
    #[prost(string, tag = "2")]
    pub(super) mark: String,
    #[prost(uint64, tag = "3")]
    pub(super) size: u64,
    /// When S3 had it.
    #[prost(int64, tag = "4")]
    pub(super) at: i64,
    /// When the agent learnt of it.
    #[prost(int64, tag = "5")]
    pub(super) since: i64,
    /// The run that it is, or may be, part of.
    #[prost(bytes = "vec", tag = "6")]
    pub(super) batch: Vec<u8>,
    /// When that was last to be launched; 0 when it was not, as far as is known.
    #[prost(int64, tag = "7")]
    pub(super) asked: i64,
}

impl Waits {
    pub(super) fn new(arrival: Arrival, now: Timestamp) -> Self {
        let Arrival { key, mark, size, at } = arrival;
        Self { key, mark, size, at, since: now.as_millisecond(), batch: Vec::new(), asked: 0 }
    }
}

/// What a person has to look at.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Parks {
    #[prost(enumeration = "ParkReason", tag = "1")]
    pub(super) reason: i32,
    #[prost(string, tag = "2")]
    pub(super) detail: String,
    #[prost(int64, tag = "3")]
    pub(super) parked: i64,
    /// Where it was understood.
    #[prost(message, optional, tag = "4")]
    pub(super) arrival: Option<Waits>,
    /// Where it was not: the record, or the message, or its beginning.
    #[prost(string, tag = "5")]
    pub(super) body: String,
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
pub(super) struct Settled {
    #[prost(int64, tag = "1")]
    until: i64,
    /// When S3 had it.
    #[prost(int64, tag = "2")]
    at: i64,
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
pub(super) struct Listed {
    /// S3's own time of the newest object, or of the last listing.
    #[prost(int64, tag = "1")]
    pub(super) reached: i64,
    /// What S3 had by then is known, also where the book has forgotten it.
    #[prost(int64, tag = "2")]
    pub(super) floor: i64,
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
struct Last {
    #[prost(int64, tag = "1")]
    at: i64,
}

/// All of it, in memory.
#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) waiting: BTreeMap<ArrivalId, Waits>,
    pub(super) parked: BTreeMap<ArrivalId, Parks>,
    settled: HashMap<ArrivalId, Settled>,
    oldest: BTreeSet<(i64, ArrivalId)>,
    pub(super) last: Option<i64>,
    pub(super) listed: Option<Listed>,
}

/// One step from a durable state to the next.
#[derive(Debug)]
enum Change {
    Wait(ArrivalId, Waits),
    Unwait(ArrivalId),
    Park(ArrivalId, Parks),
    Unpark(ArrivalId),
    Settle(ArrivalId, Settled),
    Forget(ArrivalId),
    Last(i64),
    Listed(Listed),
}

/// What there was to take in, and whether there was room for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Taken {
    /// All of it is in the book.
    All,
    /// Nothing was taken in: too many wait for so many more.
    Full(usize),
    /// Only what waits was taken in: too many are parked for so many more.
    ParkFull(usize),
}

/// The book. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Book {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    state: Mutex<State>,
    /// Held from deciding to having changed memory.
    writing: Mutex<()>,
    disk: Disk,
    seen: watch::Sender<Waiting>,
    failed: watch::Sender<Option<Error>>,
}

#[derive(Debug)]
struct Disk {
    database: Database,
    path: PathBuf,
}

impl Book {
    /// Open the book of an agent, or begin one.
    pub(super) fn open(data_dir: &Path) -> Result<Self, Error> {
        let disk = Disk::open(data_dir)?;
        let state = disk.load()?;
        let seen = watch::channel(Waiting::of(&state)).0;
        let (state, failed) = (Mutex::new(state), watch::channel(None).0);
        Ok(Self { inner: Arc::new(Inner { state, writing: Mutex::default(), disk, seen, failed }) })
    }

    /// Tells how a write failed, once one has. The database writes no more then, so that the process must end.
    pub(super) fn failed(&self) -> watch::Receiver<Option<Error>> {
        self.inner.failed.subscribe()
    }

    /// Whether there is room on the disk for what one call brings.
    pub(super) fn has_disk(&self) -> Result<(), Error> {
        let path = &self.inner.disk.path;
        let Ok(stat) = rustix::fs::statvfs(path) else { return Ok(()) };
        let free_bytes = stat.f_bavail.saturating_mul(stat.f_frsize);
        if free_bytes < limits::ARRIVALS_RESERVE_BYTES {
            return Err(Error::Low { path: path.clone(), free_bytes });
        }
        Ok(())
    }

    /// How many wait, and whether that is known; told anew with each change.
    pub(super) fn seen(&self) -> &watch::Sender<Waiting> {
        &self.inner.seen
    }

    /// Look at what it holds.
    pub(super) fn look<R>(&self, at: impl FnOnce(&State) -> R) -> R {
        at(&self.inner.state())
    }

    /// Take in what one message or one page tells: what is known already is not taken in again. What has to be parked and
    /// finds no room does not keep the rest out.
    pub(super) async fn take_in(&self, arrivals: Each<Waits>, odd: Each<Parks>) -> Result<Taken, Error> {
        self.change(move |state, changes| {
            let (mut new, mut news) = (BTreeMap::new(), BTreeMap::new());
            new.extend(arrivals.into_iter().filter(|(id, _)| !state.knows(id)));
            news.extend(odd.into_iter().filter(|(id, _)| !state.knows(id)));
            if !new.is_empty() && state.waiting.len() + new.len() > limits::ARRIVALS_WAITING {
                return Taken::Full(new.len());
            }
            changes.extend(new.into_iter().map(|(id, waits)| Change::Wait(id, waits)));
            if !news.is_empty() && state.parked.len() + news.len() > limits::ARRIVALS_PARKED {
                return Taken::ParkFull(news.len());
            }
            changes.extend(news.into_iter().map(|(id, parks)| Change::Park(id, parks)));
            Taken::All
        })
        .await
    }

    /// These were handed on.
    pub(super) async fn handed_on(&self, ids: Vec<ArrivalId>, now: Timestamp) -> Result<(), Error> {
        self.change(move |state, changes| {
            for id in ids {
                state.settle(id, now, changes);
            }
            state.forget(now, changes);
            changes.push(Change::Last(now.as_millisecond())); // also where the clock was ahead and was set back
        })
        .await
    }

    /// These are in the bucket already when it is looked at for the first time.
    pub(super) async fn know(&self, known: Each<i64>, now: Timestamp) -> Result<(), Error> {
        self.change(move |state, changes| {
            let until = now.as_millisecond() + limits::ARRIVALS_KNOWN.as_millis() as i64;
            let new = known.into_iter().filter(|(id, _)| !state.knows(id));
            changes.extend(new.map(|(id, at)| Change::Settle(id, Settled { until, at })));
            state.forget(now, changes);
        })
        .await
    }

    /// The bucket was listed whole. `floor`: what S3 had by then is known although the book does not have it.
    pub(super) async fn listed(&self, reached: i64, floor: i64) -> Result<(), Error> {
        self.change(move |state, changes| {
            let before = state.listed.unwrap_or_default();
            let listed = Listed { reached: reached.max(before.reached), floor: floor.max(before.floor) };
            changes.push(Change::Listed(listed));
        })
        .await
    }

    /// These go on together, as one run of this id.
    pub(super) async fn bind(&self, ids: Vec<ArrivalId>, batch: ArrivalId) -> Result<(), Error> {
        self.change(move |state, changes| {
            for id in ids {
                if let Some(waits) = state.waiting.get(&id) {
                    let batch = batch.as_bytes().to_vec();
                    changes.push(Change::Wait(id, Waits { batch, ..waits.clone() }));
                }
            }
        })
        .await
    }

    /// These are to be launched, or were not.
    pub(super) async fn asked(&self, ids: Vec<ArrivalId>, at: Option<Timestamp>) -> Result<(), Error> {
        self.change(move |state, changes| {
            let asked = at.map_or(0, Timestamp::as_millisecond);
            let waiting = ids.into_iter().filter_map(|id| state.waiting.get(&id).map(|waits| (id, waits.clone())));
            changes.extend(waiting.map(|(id, waits)| Change::Wait(id, Waits { asked, ..waits })));
        })
        .await
    }

    /// Dagster refused these for good; `false` when there is no room for them, so that they wait on.
    pub(super) async fn refused(&self, ids: Vec<ArrivalId>, detail: String, now: Timestamp) -> Result<bool, Error> {
        self.change(move |state, changes| {
            if state.parked.len() + ids.len() > limits::ARRIVALS_PARKED {
                return false;
            }
            for id in ids {
                if let Some(waits) = state.waiting.get(&id) {
                    let arrival = Some(Waits { batch: Vec::new(), asked: 0, ..waits.clone() });
                    let (reason, parked) = (ParkReason::Refused.into(), now.as_millisecond());
                    let parks = Parks { reason, detail: detail.clone(), parked, arrival, body: String::new() };
                    changes.extend([Change::Unwait(id), Change::Park(id, parks)]);
                }
            }
            true
        })
        .await
    }

    /// A parked one gives way to what was found in it this time: it waits, or is parked anew.
    pub(super) async fn replace(
        &self,
        id: ArrivalId,
        arrivals: Each<Waits>,
        odd: Each<Parks>,
        now: Timestamp,
    ) -> Result<Taken, Error> {
        self.change(move |state, changes| {
            let others = |other: &ArrivalId| *other == id || !state.knows(other);
            let waits: Vec<_> = arrivals.into_iter().filter(|(id, _)| others(id)).collect();
            if state.waiting.len() + waits.len() > limits::ARRIVALS_WAITING {
                return Taken::Full(waits.len());
            }
            changes.push(Change::Unpark(id));
            let mut kept = waits.iter().any(|(other, _)| *other == id);
            changes.extend(waits.into_iter().map(|(id, waits)| Change::Wait(id, waits)));
            for (other, parks) in odd.into_iter().filter(|(other, _)| others(other)) {
                kept |= other == id;
                changes.push(Change::Park(other, parks));
            }
            if !kept {
                state.settle(id, now, changes); // its message may come again
            }
            Taken::All
        })
        .await
    }

    /// It is not handed on, and known for as long as if it had been.
    pub(super) async fn drop(&self, id: ArrivalId, now: Timestamp) -> Result<(), Error> {
        self.change(move |state, changes| {
            if state.parked.contains_key(&id) {
                changes.push(Change::Unpark(id));
            }
            state.settle(id, now, changes);
            state.forget(now, changes);
        })
        .await
    }

    /// When an arrival was handed on last. A clock that was ahead then leaves no time to come: from `now` on it is now.
    pub(super) fn last(&self, now: Timestamp) -> Option<Timestamp> {
        let mut state = self.inner.state();
        state.last = state.last.map(|last| last.min(now.as_millisecond()));
        state.last.and_then(|last| Timestamp::from_millisecond(last).ok())
    }

    /// Everything that is to change goes through here: decided on one state, durable, then in memory.
    async fn change<R: Send + 'static>(
        &self,
        decide: impl FnOnce(&State, &mut Vec<Change>) -> R + Send + 'static,
    ) -> Result<R, Error> {
        let inner = Arc::clone(&self.inner);
        let change = move || {
            let _writing = inner.writing.lock().unwrap_or_else(PoisonError::into_inner);
            let mut changes = Vec::new();
            let said = decide(&inner.state(), &mut changes);
            if changes.is_empty() {
                return Ok(said);
            }
            inner.disk.write(&changes).inspect_err(|error| drop(inner.failed.send_replace(Some(error.clone()))))?;
            let mut state = inner.state();
            changes.into_iter().for_each(|change| state.apply(change));
            let now = Waiting::of(&state);
            // Who looks again at each change is not to be called by what it notes itself.
            inner.seen.send_if_modified(|seen| {
                let before = (seen.count, seen.oldest);
                (seen.count, seen.oldest) = (now.count, now.oldest);
                before != (now.count, now.oldest)
            });
            Ok(said)
        };
        match tokio::task::spawn_blocking(change).await {
            Ok(changed) => changed,
            Err(error) => panic::resume_unwind(error.into_panic()),
        }
    }
}

impl Inner {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How many more may wait, and be parked.
#[derive(Debug, Clone, Copy)]
pub(super) struct Room {
    waiting: usize,
    parked: usize,
}

impl Room {
    pub(super) fn of(state: &State) -> Self {
        Self {
            waiting: limits::ARRIVALS_WAITING.saturating_sub(state.waiting.len()),
            parked: limits::ARRIVALS_PARKED.saturating_sub(state.parked.len()),
        }
    }

    /// Take the room that one message lacked, if it is there now.
    pub(super) fn take(&mut self, taken: Taken) -> bool {
        let (room, more) = match taken {
            Taken::All => return true,
            Taken::Full(more) => (&mut self.waiting, more),
            Taken::ParkFull(more) => (&mut self.parked, more),
        };
        let left = room.checked_sub(more);
        *room = left.unwrap_or(*room);
        left.is_some()
    }
}

impl State {
    /// Whether it waits, is parked, or was handed on or dropped.
    pub(super) fn knows(&self, id: &ArrivalId) -> bool {
        self.waiting.contains_key(id) || self.parked.contains_key(id) || self.settled.contains_key(id)
    }

    /// Whether it was handed on or dropped.
    pub(super) fn has_settled(&self, id: &ArrivalId) -> bool {
        self.settled.contains_key(id)
    }

    fn settle(&self, id: ArrivalId, now: Timestamp, changes: &mut Vec<Change>) {
        let now_ms = now.as_millisecond();
        let at = self.waiting.get(&id).map_or(now_ms, |waits| waits.at);
        if self.waiting.contains_key(&id) {
            changes.push(Change::Unwait(id));
        }
        let until = now_ms + limits::ARRIVALS_KNOWN.as_millis() as i64;
        changes.push(Change::Settle(id, Settled { until, at }));
    }

    /// Forget what is past its time, and what is too much; but nothing that a listing would take for new.
    fn forget(&self, now: Timestamp, changes: &mut Vec<Change>) {
        let new = changes.iter().filter(|change| matches!(change, Change::Settle(..))).count();
        let mut excess = (self.settled.len() + new).saturating_sub(limits::ARRIVALS_KNOWN_MOST);
        let mut listed = self.listed;
        let mut forgotten: BTreeSet<ArrivalId> = BTreeSet::new();
        for (until, id) in self.oldest.iter().take(new + excess) {
            let at = self.settled.get(id).map_or(0, |settled| settled.at);
            let listed_again = listed.is_some_and(|listed| at > super::source::overlap(listed));
            if excess == 0 && (*until > now.as_millisecond() || listed_again) {
                break;
            }
            excess = excess.saturating_sub(1);
            if let Some(listed) = listed.as_mut().filter(|_| listed_again) {
                listed.floor = listed.floor.max(at);
            }
            forgotten.insert(*id);
        }
        let again: BTreeSet<ArrivalId> = changes
            .iter()
            .filter_map(|change| match change {
                Change::Forget(id) | Change::Settle(id, _) => Some(*id),
                _ => None,
            })
            .collect();
        changes.extend(forgotten.difference(&again).map(|id| Change::Forget(*id)));
        if listed != self.listed {
            changes.extend(listed.map(Change::Listed));
        }
    }

    fn apply(&mut self, change: Change) {
        match change {
            Change::Wait(id, waits) => {
                self.waiting.insert(id, waits);
            }
            Change::Unwait(id) => {
                self.waiting.remove(&id);
            }
            Change::Park(id, parks) => {
                self.parked.insert(id, parks);
            }
            Change::Unpark(id) => {
                self.parked.remove(&id);
            }
            Change::Settle(id, settled) => {
                self.oldest.insert((settled.until, id));
                if let Some(before) = self.settled.insert(id, settled).filter(|before| before.until != settled.until) {
                    self.oldest.remove(&(before.until, id));
                }
            }
            Change::Forget(id) => {
                if let Some(settled) = self.settled.remove(&id) {
                    self.oldest.remove(&(settled.until, id));
                }
            }
            Change::Last(at) => self.last = Some(at),
            Change::Listed(listed) => self.listed = Some(listed),
        }
    }
}

fn key(kind: u8, id: &ArrivalId) -> Vec<u8> {
    [&[kind, b'/'], &id.as_bytes()[..]].concat()
}

impl Disk {
    fn open(data_dir: &Path) -> Result<Self, Error> {
        let path = data_dir.join(FOLDER);
        match Database::open(&path) {
            Ok(database) => Ok(Self { database, path }),
            Err(OpenError::Io(source)) => Err(Error::Open { path, source: Arc::new(source) }),
            Err(OpenError::Damaged) => Err(Error::Damaged { path }),
        }
    }

    fn write(&self, changes: &[Change]) -> Result<(), Error> {
        let mut batch = sled::Batch::default();
        for change in changes {
            match change {
                Change::Wait(id, waits) => batch.insert(key(WAITS, id), waits.encode_to_vec()),
                Change::Unwait(id) => batch.remove(key(WAITS, id)),
                Change::Park(id, parks) => batch.insert(key(PARKED, id), parks.encode_to_vec()),
                Change::Unpark(id) => batch.remove(key(PARKED, id)),
                Change::Settle(id, settled) => batch.insert(key(SETTLED, id), settled.encode_to_vec()),
                Change::Forget(id) => batch.remove(key(SETTLED, id)),
                Change::Last(at) => batch.insert(LAST, Last { at: *at }.encode_to_vec()),
                Change::Listed(listed) => batch.insert(LISTED, listed.encode_to_vec()),
            }
        }
        let failed = |source: Box<dyn std::error::Error + Send + Sync>| Error::Write {
            path: self.path.clone(),
            source: Arc::new(io::Error::other(source)),
        };
        self.database.db.apply_batch(batch).map_err(|source| failed(source.into()))?;
        self.database.sync().map_err(failed)
    }

    fn load(&self) -> Result<State, Error> {
        let damaged = || Error::Damaged { path: self.path.clone() };
        let mut state = State::default();
        for item in self.database.db.iter() {
            let (key, value) = item.map_err(|_| damaged())?;
            let change = if key == LAST {
                Last::decode(&value[..]).map(|last| Change::Last(last.at))
            } else if key == LISTED {
                Listed::decode(&value[..]).map(Change::Listed)
            } else {
                let id = key.get(2..).and_then(ArrivalId::from_bytes).ok_or_else(damaged)?;
                match key[0] {
                    WAITS => Waits::decode(&value[..]).map(|waits| Change::Wait(id, waits)),
                    PARKED => Parks::decode(&value[..]).map(|parks| Change::Park(id, parks)),
                    SETTLED => Settled::decode(&value[..]).map(|settled| Change::Settle(id, settled)),
                    _ => return Err(damaged()),
                }
            };
            state.apply(change.map_err(|_| damaged())?);
        }
        Ok(state)
    }
}

#[cfg(test)]
mod tests;
