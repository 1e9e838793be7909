//! The durable store: the only place that names a database.
//!
//! One ordered map of keys ([`keys`]) to versioned records ([`records`]). Reads go straight to it; every write is a
//! [`Batch`] handed to one writer thread ([`writer`]), which gathers whatever waits, makes it durable in its [`log`]
//! with one flush, and only then answers. A batch is whole or not there. The audit chain is
//! linked by the writer, so that its order is the order of what became durable.
//! A store that can't be written has failed for good: the hub stops, and what was answered is safe.

pub mod backup;
pub mod keys;
mod kept;
mod log;
pub mod records;
mod writer;

use std::{
    io,
    panic::{self, AssertUnwindSafe},
    path::{Path, PathBuf},
    sync::Arc,
};

use prost::Message;
use sfdata_proto::v1::AuditEntry;
use tokio::sync::{oneshot, watch};

use log::{Began, Log};
pub use writer::{Batch, Written, is_hashed};

use crate::metrics::{Kept, Metrics};

/// Version of the record layout that this release writes; it reads this one.
const SCHEMA: u8 = 1;
const FOLDER: &str = "store";
/// sled writes so much at a time; with less, waking its threads costs more than the writing.
const SEGMENT_BYTES: usize = 2 * 1024 * 1024;

/// Why the store could not be used.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// No store where one is expected.
    #[error("there is no store in {path}; run `sfdata-hub init` for a new hub, or `sfdata-hub restore` from a backup")]
    Absent {
        /// The folder looked into.
        path: PathBuf,
    },
    /// A store where none is expected.
    #[error("there is a store in {path} already; nothing was changed")]
    Present {
        /// The folder looked into.
        path: PathBuf,
    },
    /// Somebody else has it open.
    #[error("the store in {path} is in use by another process; stop the other sfdata-hub first")]
    InUse {
        /// The folder.
        path: PathBuf,
    },
    /// It can't be read.
    #[error(
        "the store in {path} is damaged; run `sfdata-hub restore --from BACKUP --set-aside`, which keeps it beside the new one"
    )]
    Damaged {
        /// The folder.
        path: PathBuf,
        /// What the database said.
        #[source]
        source: Arc<dyn std::error::Error + Send + Sync>,
    },
    /// A later release wrote it.
    #[error(
        "the store in {path} has layout {found}; this release knows {SCHEMA}. Run the release that wrote it, or a later one"
    )]
    Schema {
        /// The folder.
        path: PathBuf,
        /// Version found.
        found: u8,
    },
    /// A record that does not decode.
    #[error("a record of the store does not decode (key {key}); stop the hub and restore a backup")]
    Record {
        /// The key, with what is not printable escaped.
        key: String,
    },
    /// Writing failed; the hub stops.
    #[error(
        "cannot write the store in {path}; free space on that disk or mend it, then start the hub again. Nothing that was confirmed is lost"
    )]
    Write {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: Arc<io::Error>,
    },
    /// The writer is gone because it failed or because the hub stops.
    #[error("the store takes no more writes: the hub is stopping")]
    Stopped,
}

/// The open store; cheap to clone.
#[derive(Clone)]
pub struct Store {
    db: sled::Db,
    path: PathBuf,
    writer: writer::Handle,
    kept: Kept,
}

impl Store {
    /// Make a new, empty store in `data_dir`.
    pub fn create(data_dir: &Path, metrics: Metrics) -> Result<Self, Error> {
        let path = data_dir.join(FOLDER);
        if path.exists() {
            return Err(Error::Present { path });
        }
        let db = open_sled(&path)?;
        let log = Log::create(&path, 0).map_err(|source| failed(&path, source))?;
        log.lock().map_err(|source| failed(&path, source))?;
        db.insert(keys::SCHEMA, &[SCHEMA]).map_err(|source| damaged(&path, source))?;
        metrics.kept.changed(keys::SCHEMA, None, Some(1));
        writer::sync(&db, &path).map_err(|source| failed(&path, source))?;
        Self::start(db, log, path, metrics)
    }

    /// Open the store in `data_dir`; one that is absent or damaged is an error, never made anew.
    pub fn open(data_dir: &Path, metrics: Metrics) -> Result<Self, Error> {
        let path = data_dir.join(FOLDER);
        if !path.join("db").exists() {
            return Err(Error::Absent { path });
        }
        let db = surely(&path, || open_sled(&path))?;
        match db.get(keys::SCHEMA).map_err(|source| damaged(&path, source))? {
            Some(version) if version.as_ref() == [SCHEMA] => {
                let log = surely(&path, || Self::settle(&db, &path))?;
                surely(&path, || whole(&db, &metrics.kept).map_err(|source| damaged(&path, source)))?;
                Self::start(db, log, path, metrics)
            }
            Some(version) => Err(Error::Schema { path, found: version.first().copied().unwrap_or_default() }),
            None => Err(damaged(&path, io::Error::other("the layout's version is missing"))),
        }
    }

    /// Change a record of a closed store behind its back.
    #[cfg(test)]
    pub(crate) fn alter(data_dir: &Path, key: &[u8], change: impl FnOnce(&mut [u8])) {
        let db = open_sled(&Self::folder(data_dir)).unwrap();
        let mut value = db.get(key).unwrap().unwrap().to_vec();
        change(&mut value);
        db.insert(key, value).unwrap();
        db.flush().unwrap();
    }

    /// Where the store of `data_dir` lies.
    pub fn folder(data_dir: &Path) -> PathBuf {
        data_dir.join(FOLDER)
    }

    /// Whether `data_dir` holds a store.
    pub fn exists(data_dir: &Path) -> bool {
        data_dir.join(FOLDER).exists()
    }

    /// Put into the database what only the log held when the hub last ended.
    fn settle(db: &sled::Db, path: &Path) -> Result<Log, Error> {
        // sled takes a damaged end for one that a crash cut off, and drops it without a word.
        let began = |Began(entries)| match entries_of(db)? {
            found if found < entries => {
                Err(io::Error::other(format!("the audit record ends at {found}, and had {entries} entries")))
            }
            _ => Ok(()),
        };
        let uncounted = Kept::default(); // all of it is counted when this is done
        let each = |changes: &log::Changes| changes.apply(db, &uncounted);
        let mut log = Log::open(path, began, each).map_err(|source| match source.kind() {
            io::ErrorKind::WouldBlock => Error::InUse { path: path.into() },
            _ => damaged(path, source),
        })?;
        let entries = entries_of(db).map_err(|source| damaged(path, source))?;
        writer::sync(db, path).and_then(|()| log.restart(entries)).map_err(|source| failed(path, source))?;
        Ok(log)
    }

    fn start(db: sled::Db, log: Log, path: PathBuf, metrics: Metrics) -> Result<Self, Error> {
        let head = match last(&db, keys::AUDIT).map_err(|source| damaged(&path, source))? {
            None => writer::AuditHead::default(),
            Some((key, value)) => {
                let entry: AuditEntry = decode(&key, &value)?;
                writer::AuditHead { next: entry.index + 1, hash: entry.hash }
            }
        };
        let kept = metrics.kept.clone();
        let writer = writer::start(db.clone(), log, path.clone(), head, metrics);
        let writer = writer.map_err(|source| failed(&path, source))?;
        Ok(Self { db, path, writer, kept })
    }

    /// Hand a batch to the writer now, in the order of the calls; durable when the returned future says so.
    pub fn submit(&self, batch: Batch) -> Written {
        self.writer.submit(batch)
    }

    /// Write a batch and wait until it is durable.
    pub async fn commit(&self, batch: Batch) -> Result<(), Error> {
        self.submit(batch).await
    }

    /// Tells how a write failed, once one has.
    pub fn failed(&self) -> watch::Receiver<Option<Error>> {
        self.writer.failed()
    }

    /// Write everything, as it stands between two commits, to `out`.
    pub async fn backup(&self, out: Box<dyn io::Write + Send>) -> Result<backup::Summary, backup::Error> {
        let (reply, answer) = oneshot::channel();
        self.writer.backup(out, reply);
        answer.await.unwrap_or(Err(backup::Error::Store(Error::Stopped)))
    }

    /// Stop the writer after what was handed to it is durable.
    pub async fn close(&self) {
        self.writer.close().await;
    }

    /// Read one record.
    pub fn get<R: Message + Default>(&self, key: &[u8]) -> Result<Option<R>, Error> {
        let value = self.db.get(key).map_err(|source| damaged(&self.path, source))?;
        value.map(|value| decode(key, &value)).transpose()
    }

    /// Read the records whose keys begin with `prefix`, in order; keys come without the prefix.
    pub fn scan<R: Message + Default>(
        &self,
        prefix: &[u8],
    ) -> impl DoubleEndedIterator<Item = Result<(Vec<u8>, R), Error>> {
        let (path, skip) = (self.path.clone(), prefix.len());
        self.db.scan_prefix(prefix).map(move |item| {
            let (key, value) = item.map_err(|source| damaged(&path, source))?;
            Ok((key[skip..].to_vec(), decode(&key, &value)?))
        })
    }

    /// Read the records from one key until before another, in order; keys come whole.
    pub fn range<R: Message + Default>(
        &self,
        from: Vec<u8>,
        until: Vec<u8>,
    ) -> impl Iterator<Item = Result<(Vec<u8>, R), Error>> {
        let path = self.path.clone();
        self.db.range(from..until).map(move |item| {
            let (key, value) = item.map_err(|source| damaged(&path, source))?;
            Ok((key.to_vec(), decode(&key, &value)?))
        })
    }

    /// Audit entries from index `from` on.
    pub fn audit(&self, from: u64) -> impl Iterator<Item = Result<AuditEntry, Error>> + use<> {
        let path = self.path.clone();
        let end = keys::audit_end();
        self.db.range(keys::audit(from)..end).map(move |item| {
            let (key, value) = item.map_err(|source| damaged(&path, source))?;
            decode(&key, &value)
        })
    }

    /// The index that the next audit entry will have.
    pub fn audit_next(&self) -> Result<u64, Error> {
        let last = last(&self.db, keys::AUDIT).map_err(|source| damaged(&self.path, source))?;
        last.map_or(Ok(0), |(key, value)| decode::<AuditEntry>(&key, &value).map(|entry| entry.index + 1))
    }
}

fn open_sled(path: &Path) -> Result<sled::Db, Error> {
    let config = sled::Config::new().path(path).flush_every_ms(None).cache_capacity(64 * 1024 * 1024);
    config.segment_size(SEGMENT_BYTES).open().map_err(|source| match &source {
        sled::Error::Io(error) if error.kind() == io::ErrorKind::WouldBlock || error.to_string().contains("lock") => {
            Error::InUse { path: path.into() }
        }
        _ => damaged(path, source),
    })
}

/// sled panics on some damage that it does not expect.
fn surely<T>(path: &Path, look: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
    let looked = panic::catch_unwind(AssertUnwindSafe(look));
    looked.unwrap_or_else(|_| Err(damaged(path, io::Error::other("the database gave up on it"))))
}

/// Read everything once, and count it: sled itself finds damage only where it happens to read, which may be months later. An
/// audit record with a gap has lost what stood there, and what else has can't be told.
fn whole(db: &sled::Db, kept: &Kept) -> io::Result<()> {
    let mut next = 0_u64;
    for item in db.iter() {
        let (key, value) = item.map_err(io::Error::other)?;
        kept.changed(&key, None, Some(value.len()));
        if let Some(index) = key.strip_prefix(keys::AUDIT) {
            if index != next.to_be_bytes() {
                return Err(io::Error::other(format!("the audit record has no entry {next}")));
            }
            next += 1;
        }
    }
    Ok(())
}

fn last(db: &sled::Db, prefix: &[u8]) -> sled::Result<Option<(sled::IVec, sled::IVec)>> {
    db.scan_prefix(prefix).next_back().transpose()
}

/// How many audit entries there are, by the last one's index.
fn entries_of(db: &sled::Db) -> io::Result<u64> {
    let Some((key, _)) = last(db, keys::AUDIT).map_err(io::Error::other)? else { return Ok(0) };
    let index = key.strip_prefix(keys::AUDIT).and_then(|index| index.try_into().ok()).map(u64::from_be_bytes);
    index.map(|index| index + 1).ok_or_else(|| io::Error::other("an audit entry without an index"))
}

fn damaged(path: &Path, source: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::Damaged { path: path.into(), source: Arc::new(source) }
}

fn failed(path: &Path, source: io::Error) -> Error {
    Error::Write { path: path.into(), source: Arc::new(source) }
}

fn decode<R: Message + Default>(key: &[u8], value: &[u8]) -> Result<R, Error> {
    R::decode(value).map_err(|_| Error::Record { key: key.escape_ascii().to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn epoch(number: u64) -> records::Epoch {
        records::Epoch { number, statement: None }
    }

    /// What lies on the disk now, as a crash would leave it.
    fn crashed(home: &tempfile::TempDir) -> tempfile::TempDir {
        fn copy(from: &Path, to: &Path) {
            std::fs::create_dir(to).unwrap();
            for entry in std::fs::read_dir(from).unwrap() {
                let (path, to) = (entry.as_ref().unwrap().path(), to.join(entry.unwrap().file_name()));
                if path.is_dir() { copy(&path, &to) } else { _ = std::fs::copy(&path, &to).unwrap() }
            }
        }
        let left = tempfile::tempdir().unwrap();
        copy(&Store::folder(home.path()), &Store::folder(left.path()));
        left
    }

    #[tokio::test]
    async fn what_was_answered_is_there_after_a_crash() {
        let home = tempfile::tempdir().unwrap();
        let store = Store::create(home.path(), Metrics::default()).unwrap();
        for number in 1..=3 {
            store.commit(Batch::default()).await.unwrap();
            let mut batch = Batch::default();
            batch.put(keys::EPOCH.to_vec(), &epoch(number));
            batch.put(vec![b'z', number as u8], &epoch(number));
            batch.delete(vec![b'z', number as u8 - 1]);
            batch.audit(AuditEntry { kind: number.to_string(), ..Default::default() });
            store.commit(batch).await.unwrap();
        }
        let crashed = crashed(&home);
        let again = Store::open(crashed.path(), Metrics::default()).unwrap();
        assert_eq!(again.get(keys::EPOCH).unwrap(), Some(epoch(3)));
        assert_eq!(again.scan::<records::Epoch>(b"z").count(), 1);
        let kinds: Vec<String> = again.audit(0).map(|entry| entry.unwrap().kind).collect();
        assert_eq!(kinds, ["1", "2", "3"]);
        again.close().await;
        store.close().await;
    }

    #[tokio::test]
    async fn what_is_larger_than_the_log_or_fills_it_is_there_as_well() {
        let home = tempfile::tempdir().unwrap();
        let store = Store::create(home.path(), Metrics::default()).unwrap();
        let mebibyte = || AuditEntry { detail: "x".repeat(1024 * 1024), ..Default::default() };
        for (number, entries) in [(1, 1), (2, 17), (3, 10), (4, 10)] {
            let mut batch = Batch::default();
            batch.put(keys::EPOCH.to_vec(), &epoch(number));
            (0..entries).for_each(|_| batch.audit(mebibyte()));
            store.commit(batch).await.unwrap();
            let crashed = crashed(&home);
            let again = Store::open(crashed.path(), Metrics::default()).unwrap();
            assert_eq!(again.get(keys::EPOCH).unwrap(), Some(epoch(number)));
            again.close().await;
        }
        assert_eq!(store.audit(0).count(), 38);
        store.close().await;
    }

    #[tokio::test]
    async fn a_store_without_its_log_is_damaged() {
        let home = tempfile::tempdir().unwrap();
        Store::create(home.path(), Metrics::default()).unwrap().close().await;
        std::fs::remove_file(Store::folder(home.path()).join("log")).unwrap();
        assert!(matches!(Store::open(home.path(), Metrics::default()), Err(Error::Damaged { .. })));
    }
}
