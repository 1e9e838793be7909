//! What outlives the process: commands seen, work begun, outcomes that the hub has not confirmed.
//!
//! `accept` is durable before an action's first side effect, `finish` before its outcome is sent, `forget` only after
//! the hub's word. Memory holds all of it; the disk is written through, and read at the start only. A journal that
//! is missing where one is expected lets nothing but reads in: an empty memory is what a replay needs.

use std::{
    collections::{BTreeMap, HashMap},
    io, panic,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use jiff::Timestamp;
use prost::Message;
use sfdata_common::{
    ids::{CommandId, Position},
    limits,
    telemetry::traces::TraceContext,
};
use sfdata_proto::v1 as wire;
use tokio::sync::watch;

use crate::{
    database::{Database, OpenError},
    verify::Verified,
};

const FOLDER: &str = "journal";
const POSITION: &[u8] = b"position";
const SEEN: u8 = b's';
const BEGUN: u8 = b'b';
const UNSENT: u8 = b'u';

/// Why the journal can't be used.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// It can't be opened.
    #[error("the journal in {path} cannot be opened; is another agent running on it?")]
    Open {
        /// Where.
        path: PathBuf,
        /// What the database said.
        #[source]
        source: Arc<dyn std::error::Error + Send + Sync>,
    },
    /// A record does not decode.
    #[error("the journal in {path} is damaged; enrol this agent anew: the hub will not repeat what it was told")]
    Damaged {
        /// Where.
        path: PathBuf,
    },
    /// It can't be written.
    #[error("the journal in {path} cannot be written; free space on that disk or mend it, then start the agent again")]
    Write {
        /// Where.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: Arc<io::Error>,
    },
}

#[derive(Clone, PartialEq, prost::Message)]
struct PositionRecord {
    #[prost(uint64, tag = "1")]
    epoch: u64,
    #[prost(uint64, tag = "2")]
    sequence: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct BegunRecord {
    #[prost(message, optional, tag = "1")]
    envelope: Option<wire::Envelope>,
    #[prost(uint64, tag = "2")]
    epoch: u64,
    #[prost(uint64, tag = "3")]
    sequence: u64,
    #[prost(int64, tag = "4")]
    began: i64,
    #[prost(bytes = "bytes", optional, tag = "5")]
    note: Option<Bytes>,
    /// It is not begun before the LA has approved it.
    #[prost(bool, tag = "6")]
    on_approval: bool,
}

#[derive(Clone, PartialEq, prost::Message)]
struct SeenRecord {
    /// Milliseconds since the Unix epoch, after which the id may be forgotten.
    #[prost(int64, tag = "1")]
    until: i64,
}

/// Work that was let in and has not ended.
#[derive(Debug, Clone)]
pub struct Begun {
    /// The command.
    pub verified: Verified,
    /// When it was let in.
    pub began: Timestamp,
    /// Where its trace goes on; not after a restart.
    pub trace: Option<TraceContext>,
}

#[derive(Default)]
struct State {
    last: Position,
    seen: HashMap<CommandId, i64>,
    begun: BTreeMap<CommandId, BegunRecord>,
    unsent: BTreeMap<CommandId, wire::Envelope>,
}

struct Disk {
    database: Database,
    path: PathBuf,
}

/// The journal; share it by `Arc`.
pub struct Journal {
    state: Mutex<State>,
    disk: Option<Arc<Disk>>,
    lost: bool,
    failed: watch::Sender<Option<Error>>,
}

fn key(kind: u8, id: CommandId) -> Vec<u8> {
    [&[kind, b'/'], &id.as_bytes()[..]].concat()
}

impl Journal {
    /// Begin a journal for an agent that has just enrolled. One that is there from an enrolment that did not
    /// come to its end is emptied.
    pub fn create(data_dir: &Path, epoch: u64) -> Result<(), Error> {
        let disk = Disk::open(data_dir)?;
        disk.database.db.clear().map_err(|source| disk.failed(source))?;
        let position = PositionRecord { epoch, sequence: 0 };
        disk.database.db.insert(POSITION, position.encode_to_vec()).map_err(|source| disk.failed(source))?;
        disk.sync()
    }

    /// Open the journal of an enrolled agent.
    pub fn open(data_dir: &Path) -> Result<Self, Error> {
        if !data_dir.join(FOLDER).join("db").exists() {
            return Ok(Self::of(State::default(), None, true));
        }
        let disk = Disk::open(data_dir)?;
        let state = disk.load()?;
        Ok(Self::of(state, Some(disk), false))
    }

    /// A journal that forgets everything with the process: for measuring a hub with many agents in one process.
    pub fn in_memory(epoch: u64) -> Self {
        let state = State { last: Position { epoch, sequence: 0 }, ..State::default() };
        Self::of(state, None, false)
    }

    fn of(state: State, disk: Option<Disk>, lost: bool) -> Self {
        Self { state: Mutex::new(state), disk: disk.map(Arc::new), lost, failed: watch::channel(None).0 }
    }

    /// Tells how a write failed, once one has. From then on memory says more than the disk, so that the process must end.
    pub fn failed(&self) -> watch::Receiver<Option<Error>> {
        self.failed.subscribe()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Why only reads may be let in.
    pub fn fault(&self) -> Option<&'static str> {
        if self.lost {
            Some("the journal of this agent is missing: it no longer knows what it has done; enrol it anew")
        } else if self.state().unsent.len() >= limits::JOURNAL_UNSENT {
            Some("too many outcomes wait for the hub's confirmation")
        } else {
            None
        }
    }

    /// Last position accepted.
    pub fn last(&self) -> Position {
        self.state().last
    }

    /// Whether a command of this id was let in or refused before.
    pub fn has_seen(&self, id: CommandId) -> bool {
        self.state().seen.contains_key(&id)
    }

    /// Ids of work that has not ended.
    pub fn running(&self) -> Vec<CommandId> {
        self.state().begun.keys().copied().collect()
    }

    /// Ids of those that wait for the LA's approval.
    pub fn waiting(&self) -> Vec<CommandId> {
        let state = self.state();
        state.begun.iter().filter(|(_, record)| record.on_approval).map(|(id, _)| *id).collect()
    }

    /// The LA has approved a command: it may begin. Durable when this returns.
    pub async fn approved(&self, id: CommandId) -> Result<(), Error> {
        let mut batch = sled::Batch::default();
        let record = self.state().begun.get(&id).cloned();
        let Some(mut record) = record else { return Ok(()) };
        record.on_approval = false;
        batch.insert(key(BEGUN, id), record.encode_to_vec());
        self.write(batch).await?;
        if let Some(record) = self.state().begun.get_mut(&id) {
            record.on_approval = false;
        }
        Ok(())
    }

    /// Work that was let in before this start and has to be taken up again, in the order in which it was let in.
    pub fn begun(&self) -> Vec<Begun> {
        let state = self.state();
        let each = state.begun.values().filter_map(|record| {
            let position = Position { epoch: record.epoch, sequence: record.sequence };
            let verified = Verified::journalled(record.envelope.clone()?, position, record.on_approval).ok()?;
            let began = Timestamp::from_millisecond(record.began).unwrap_or_default();
            Some(Begun { verified, began, trace: None })
        });
        let mut begun: Vec<Begun> = each.collect();
        begun.sort_by_key(|begun| begun.verified.position());
        begun
    }

    /// Outcomes that the hub has not confirmed, oldest command first, without those that `skip` names.
    pub fn unsent(&self, skip: impl Fn(&CommandId) -> bool) -> Vec<(CommandId, wire::Envelope)> {
        let state = self.state();
        state.unsent.iter().filter(|(id, _)| !skip(id)).map(|(id, receipt)| (*id, receipt.clone())).collect()
    }

    /// How many outcomes the hub has not confirmed.
    pub fn unsent_count(&self) -> usize {
        self.state().unsent.len()
    }

    /// Let a command in: its number is used up, its id is seen, its work is begun. Durable when this returns.
    pub async fn accept(&self, verified: &Verified, now: Timestamp) -> Result<(), Error> {
        let (id, position) = (verified.command().id, verified.position());
        let record = BegunRecord {
            envelope: Some(verified.envelope().clone()),
            epoch: position.epoch,
            sequence: position.sequence,
            began: now.as_millisecond(),
            note: None,
            on_approval: verified.on_approval(),
        };
        let batch = {
            let mut state = self.state();
            let mut batch = state.advance(position);
            batch.insert(key(BEGUN, id), record.encode_to_vec());
            state.forget_seen(now, &mut batch);
            state.see(id, verified.command().expires, &mut batch);
            state.begun.insert(id, record);
            batch
        };
        self.write(batch).await
    }

    /// A number is used up without a command.
    pub async fn skip(&self, position: Position) -> Result<(), Error> {
        let batch = self.state().advance(position);
        self.write(batch).await
    }

    /// Whether the outcome of a command of this id is still to come, or to be confirmed.
    pub fn is_open(&self, id: CommandId) -> bool {
        let state = self.state();
        state.begun.contains_key(&id) || state.unsent.contains_key(&id)
    }

    /// A number is used up by a command that was refused; the receipt says so. Its id is seen until then: what an
    /// operator was told to be refused must not be let in later, under another number.
    pub async fn refuse(
        &self,
        position: Position,
        id: CommandId,
        until: Timestamp,
        receipt: wire::Envelope,
    ) -> Result<(), Error> {
        let batch = {
            let mut state = self.state();
            let mut batch = state.advance(position);
            state.see(id, until, &mut batch);
            batch.insert(key(UNSENT, id), receipt.encode_to_vec());
            batch
        };
        self.write(batch).await?;
        self.state().unsent.insert(id, receipt);
        Ok(())
    }

    /// Let no command of this id in until then: an operator is told that it was not begun and will not be.
    pub async fn bar(&self, id: CommandId, until: Timestamp) -> Result<(), Error> {
        let mut batch = sled::Batch::default();
        self.state().see(id, until, &mut batch);
        self.write(batch).await
    }

    /// Work ended; the receipt says how.
    pub async fn finish(&self, id: CommandId, receipt: wire::Envelope) -> Result<(), Error> {
        let mut batch = sled::Batch::default();
        batch.remove(key(BEGUN, id));
        batch.insert(key(UNSENT, id), receipt.encode_to_vec());
        self.write(batch).await?;
        let mut state = self.state(); // not before it is durable, since what is in it may be sent
        state.begun.remove(&id);
        state.unsent.insert(id, receipt);
        Ok(())
    }

    /// The hub has these outcomes. Need not be durable: what comes back is sent again.
    pub fn forget(&self, ids: &[CommandId]) {
        let mut state = self.state();
        for id in ids {
            state.unsent.remove(id);
            if let Some(disk) = &self.disk {
                let _ = disk.database.db.remove(key(UNSENT, *id)); // flushed with the next change
            }
        }
    }

    /// What an action left for itself before a crash.
    pub fn note(&self, id: CommandId) -> Option<Bytes> {
        self.state().begun.get(&id).and_then(|record| record.note.clone())
    }

    /// Keep a note for an action that is resumed after a crash. Durable when this returns.
    pub async fn keep(&self, id: CommandId, note: Bytes) -> Result<(), Error> {
        let mut batch = sled::Batch::default();
        if let Some(record) = self.state().begun.get_mut(&id) {
            record.note = Some(note);
            batch.insert(key(BEGUN, id), record.encode_to_vec());
        }
        self.write(batch).await
    }

    /// Begin a new epoch, on an operator's word.
    pub async fn enter(&self, epoch: u64) -> Result<(), Error> {
        let batch = self.state().advance(Position { epoch, sequence: 0 });
        self.write(batch).await
    }

    async fn write(&self, batch: sled::Batch) -> Result<(), Error> {
        let Some(disk) = self.disk.clone() else { return Ok(()) };
        let write = move || {
            disk.database.db.apply_batch(batch).map_err(|source| disk.failed(source))?;
            disk.sync()
        };
        let written = match tokio::task::spawn_blocking(write).await {
            Ok(written) => written,
            Err(error) => panic::resume_unwind(error.into_panic()),
        };
        if let Err(error) = &written {
            self.failed.send_replace(Some(error.clone()));
        }
        written
    }
}

impl State {
    fn advance(&mut self, position: Position) -> sled::Batch {
        self.last = position;
        let mut batch = sled::Batch::default();
        batch.insert(POSITION, PositionRecord { epoch: position.epoch, sequence: position.sequence }.encode_to_vec());
        batch
    }

    /// Remember an id until then, with what clocks may differ by; never for a shorter time than before.
    fn see(&mut self, id: CommandId, until: Timestamp, batch: &mut sled::Batch) {
        let until = until.as_millisecond() + limits::CLOCK_SKEW.as_millis() as i64;
        let kept = self.seen.entry(id).or_insert(until);
        *kept = until.max(*kept);
        batch.insert(key(SEEN, id), SeenRecord { until: *kept }.encode_to_vec());
    }

    /// Ids are remembered until their commands have expired everywhere; after that the door refuses them as expired.
    fn forget_seen(&mut self, now: Timestamp, batch: &mut sled::Batch) {
        if self.seen.len() < 1_000 || !self.seen.len().is_multiple_of(100) {
            return;
        }
        let now = now.as_millisecond();
        self.seen.retain(|id, until| {
            let keep = *until > now;
            if !keep {
                batch.remove(key(SEEN, *id));
            }
            keep
        });
    }
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

    fn sync(&self) -> Result<(), Error> {
        self.database.sync().map_err(|source| self.failed(source))
    }

    fn failed(&self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
        Error::Write { path: self.path.clone(), source: Arc::new(io::Error::other(source)) }
    }

    fn load(&self) -> Result<State, Error> {
        let damaged = || Error::Damaged { path: self.path.clone() };
        let mut state = State::default();
        let mut position = None;
        for item in self.database.db.iter() {
            let (key, value) = item.map_err(|_| damaged())?;
            if key == POSITION {
                let record = PositionRecord::decode(&value[..]).map_err(|_| damaged())?;
                position = Some(Position { epoch: record.epoch, sequence: record.sequence });
                continue;
            }
            let id = key.get(2..).and_then(CommandId::from_bytes).ok_or_else(damaged)?;
            match key[0] {
                SEEN => {
                    state.seen.insert(id, SeenRecord::decode(&value[..]).map_err(|_| damaged())?.until);
                }
                BEGUN => {
                    state.begun.insert(id, BegunRecord::decode(&value[..]).map_err(|_| damaged())?);
                }
                UNSENT => {
                    state.unsent.insert(id, wire::Envelope::decode(&value[..]).map_err(|_| damaged())?);
                }
                _ => return Err(damaged()),
            }
        }
        state.last = position.ok_or_else(damaged)?;
        Ok(state)
    }
}
