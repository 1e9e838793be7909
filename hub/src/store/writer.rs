//! The one writer: a thread that takes whatever waits, makes it durable in the log with one `fdatasync`, applies it to the
//! database, and only then answers everybody.
//!
//! When the log is full, the database is made durable and the log begins anew. sled's own `flush` calls
//! `sync_file_range`, which does not survive a power cut (its issues 1351 and 1452), and it keeps large values in files of
//! their own that it does not sync; so the writer syncs the whole file system before the log is emptied. The database's
//! file alone is synced whenever sled has written, because that may be over what it has moved elsewhere.

use std::{
    fs::File,
    future::Future,
    io,
    path::{Path, PathBuf},
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, ready},
    thread,
    time::{Instant, SystemTime},
};

use bytes::Bytes;
use prost::Message;
use sfdata_common::{audit, limits};
use sfdata_proto::v1::AuditEntry;
use tokio::sync::{mpsc, oneshot, watch};
use tracing::{error, warn};

use super::{
    Error, backup, keys,
    log::{Changes, Log},
};
use crate::metrics::Metrics;

/// Changes that become durable together or not at all.
#[derive(Default)]
pub struct Batch {
    changes: Changes,
    audit: Vec<AuditEntry>,
}

impl Batch {
    /// Write a record.
    pub fn put(&mut self, key: Vec<u8>, record: &impl Message) {
        self.changes.put(&key, record);
    }

    /// Remove a record.
    pub fn delete(&mut self, key: Vec<u8>) {
        self.changes.remove(&key);
    }

    /// Append to the audit record; index and hash are given when it is written.
    pub fn audit(&mut self, entry: AuditEntry) {
        self.audit.push(entry);
    }
}

/// Resolves when a batch is durable.
pub struct Written(oneshot::Receiver<Result<(), Error>>);

impl Future for Written {
    type Output = Result<(), Error>;
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Poll::Ready(ready!(Pin::new(&mut self.0).poll(context)).unwrap_or(Err(Error::Stopped)))
    }
}

/// Where the audit chain ends.
#[derive(Clone)]
pub(super) struct AuditHead {
    pub(super) next: u64,
    pub(super) hash: Bytes,
}

impl Default for AuditHead {
    fn default() -> Self {
        Self { next: 0, hash: Bytes::from_static(&[0; 32]) }
    }
}

enum Job {
    Write(Batch, oneshot::Sender<Result<(), Error>>),
    Backup(Box<dyn io::Write + Send>, oneshot::Sender<Result<backup::Summary, backup::Error>>),
    Close(oneshot::Sender<()>),
}

#[derive(Clone)]
pub(super) struct Handle {
    jobs: mpsc::UnboundedSender<Job>,
    failed: watch::Receiver<Option<Error>>,
    thread: Arc<Mutex<Option<thread::JoinHandle<()>>>>,
}

impl Handle {
    pub(super) fn submit(&self, batch: Batch) -> Written {
        let (reply, answer) = oneshot::channel();
        let _ = self.jobs.send(Job::Write(batch, reply)); // a writer that is gone answers by dropping `reply`
        Written(answer)
    }

    pub(super) fn backup(
        &self,
        out: Box<dyn io::Write + Send>,
        reply: oneshot::Sender<Result<backup::Summary, backup::Error>>,
    ) {
        let _ = self.jobs.send(Job::Backup(out, reply));
    }

    pub(super) fn failed(&self) -> watch::Receiver<Option<Error>> {
        self.failed.clone()
    }

    pub(super) async fn close(&self) {
        let (reply, answer) = oneshot::channel();
        let _ = self.jobs.send(Job::Close(reply));
        let _ = answer.await;
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            let _ = tokio::task::spawn_blocking(move || thread.join()).await;
        }
    }
}

pub(super) fn start(db: sled::Db, log: Log, path: PathBuf, head: AuditHead, metrics: Metrics) -> io::Result<Handle> {
    let (jobs, queue) = mpsc::unbounded_channel();
    let (failing, failed) = watch::channel(None);
    let file = File::open(path.join("db"))?;
    let synced = stamp(&file)?;
    let writer = Writer { db, log, path, file, synced, head, metrics, changes: Changes::default() };
    let thread = thread::Builder::new().name("store".into()).spawn(move || writer.run(queue, &failing))?;
    Ok(Handle { jobs, failed, thread: Arc::new(Mutex::new(Some(thread))) })
}

/// Make what is in the database durable: with all its files, since sled keeps large values beside the one. That one is synced by
/// itself, because on NFS `syncfs` does not wait for the server to have written; the others were, when sled closed them.
pub(super) fn sync(db: &sled::Db, path: &Path) -> io::Result<()> {
    db.flush().map_err(io::Error::other)?;
    File::open(path.join("db"))?.sync_all()?;
    Ok(rustix::fs::syncfs(File::open(path)?)?)
}

type Stamp = (SystemTime, u64);

/// Tells whether sled has written: it writes of its own accord, also over what it has moved elsewhere.
fn stamp(file: &File) -> io::Result<Stamp> {
    let metadata = file.metadata()?;
    Ok((metadata.modified()?, metadata.len()))
}

struct Writer {
    db: sled::Db,
    log: Log,
    path: PathBuf,
    /// The database's file.
    file: File,
    /// When it was last written, and how long it was, when it was last synced.
    synced: Stamp,
    head: AuditHead,
    metrics: Metrics,
    /// Of one commit; kept for its memory.
    changes: Changes,
}

impl Writer {
    fn run(mut self, mut queue: mpsc::UnboundedReceiver<Job>, failing: &watch::Sender<Option<Error>>) {
        let mut waiting = Vec::with_capacity(limits::COMMIT_BATCH);
        while let Some(first) = queue.blocking_recv() {
            let mut next = Some(first);
            let mut other = None;
            while let Some(job) = next {
                match job {
                    Job::Write(batch, reply) => waiting.push((batch, reply)),
                    job => {
                        other = Some(job);
                        break;
                    }
                }
                next = if waiting.len() < limits::COMMIT_BATCH { queue.try_recv().ok() } else { None };
            }
            if !waiting.is_empty() && !self.write(&mut waiting, failing) {
                return;
            }
            match other {
                Some(Job::Backup(out, reply)) => {
                    let _ = reply.send(backup::write(&self.db, out));
                }
                Some(Job::Close(reply)) => {
                    if let Err(error) = self.checkpoint() {
                        warn!(error = %sfdata_common::error::chain(&error), "the next start will read the log");
                    }
                    let _ = reply.send(());
                    return;
                }
                Some(Job::Write(..)) | None => {}
            }
        }
    }

    /// Write what waits; `false` when the store failed and the writer must end.
    fn write(
        &mut self,
        waiting: &mut Vec<(Batch, oneshot::Sender<Result<(), Error>>)>,
        failing: &watch::Sender<Option<Error>>,
    ) -> bool {
        let (began, before) = (Instant::now(), self.head.next);
        let (batches, replies): (Vec<_>, Vec<_>) = waiting.drain(..).unzip();
        let size = batches.len();
        let path = self.path.clone();
        let failed = |source| Error::Write { path, source: Arc::new(source) };
        // What the log has happened, whatever becomes of the database: the next start reads it there.
        let (logged, applied) = match self.log_batches(batches) {
            Ok(head) => (Ok(()), self.apply(head).map_err(failed)),
            Err(source) => (Err(failed(source)), Ok(())),
        };
        self.metrics.store_commit_seconds.observe(began.elapsed().as_secs_f64());
        self.metrics.store_batch_operations.observe(size as f64);
        self.metrics.audit_entries.add(self.head.next - before);
        for reply in replies {
            let _ = reply.send(logged.clone()); // nobody may be waiting for a note
        }
        let Err(error) = logged.and(applied) else { return true };
        error!(error = %sfdata_common::error::chain(&error), "the store failed; the hub stops");
        failing.send_replace(Some(error));
        false
    }

    /// Make them durable in the log; where the audit chain ends then.
    fn log_batches(&mut self, batches: Vec<Batch>) -> io::Result<AuditHead> {
        let mut head = self.head.clone();
        self.changes.clear();
        for batch in batches {
            self.changes.append(&batch.changes);
            for mut entry in batch.audit {
                entry.index = head.next;
                entry.previous_hash = head.hash;
                entry.hash = audit::hash(&entry).to_vec().into();
                self.changes.put(&keys::audit(entry.index), &entry);
                head = AuditHead { next: entry.index + 1, hash: entry.hash };
            }
        }
        if self.changes.is_empty() {
            return Ok(head); // what came before is durable
        }
        if !self.log.has_room(&self.changes) {
            self.checkpoint()?;
        }
        self.log.append(&self.changes)?;
        Ok(head)
    }

    /// Put into the database what the log has.
    fn apply(&mut self, head: AuditHead) -> io::Result<()> {
        self.changes.apply(&self.db, &self.metrics.kept)?;
        if stamp(&self.file)? != self.synced {
            self.file.sync_data()?;
            self.synced = stamp(&self.file)?;
        }
        self.head = head;
        Ok(())
    }

    /// Make the database durable, and the log empty.
    fn checkpoint(&mut self) -> io::Result<()> {
        sync(&self.db, &self.path)?;
        self.synced = stamp(&self.file)?;
        self.log.restart(self.head.next)
    }
}

/// Whether an entry of the audit record has the hash that belongs to it.
pub fn is_hashed(entry: &AuditEntry) -> bool {
    entry.hash == audit::hash(entry).as_slice()
}
