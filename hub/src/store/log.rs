//! The log: what makes a commit durable. One file of fixed size that is written in place, so that a commit is one write and
//! one `fdatasync` that has no metadata to write.
//!
//! The database behind it takes the same changes and writes them when it likes. From time to time the database is made
//! durable itself and the log begins anew; after a crash, what the log holds is applied once more, in order. Changes are
//! whole values, so repeating them is harmless.
//! Invariant: a change is in the database only if it is durable here, or the database was made durable since.
//!
//! Layout: a head (generation, audit entries at its beginning, digest), then frames (generation, index, length, digest of
//! these and of the changes, changes). A frame of another generation is what an earlier one left behind.

use std::{
    fs::File,
    io::{self, Read as _},
    os::unix::fs::{FileExt as _, OpenOptionsExt as _},
    path::Path,
};

use prost::Message;
use rustix::fs::{FlockOperation, flock};
use sfdata_common::keys::{random, sha256};

use crate::metrics::Kept;

pub(super) const FILE: &str = "log";
/// A second of the heaviest load; at an operator's pace, a day.
const BYTES: usize = 16 * 1024 * 1024;
/// Random, one for each beginning.
type Generation = [u8; 8];
/// Generation and audit entries; a digest follows.
const BEGINNING: usize = 16;
/// Generation, index and length of a frame; a digest follows.
const HEAD: usize = 20;
const DIGEST: usize = 32;
/// In place of a value's length: the key is removed.
const REMOVED: u32 = u32::MAX;

/// Changes in the order in which they were made, as they stand in the log.
#[derive(Default)]
pub(super) struct Changes(Vec<u8>);

impl Changes {
    pub(super) fn put(&mut self, key: &[u8], record: &impl Message) {
        self.key(key);
        self.0.extend_from_slice(&(record.encoded_len() as u32).to_be_bytes());
        record.encode(&mut self.0).unwrap_or_default(); // a Vec always has room
    }

    pub(super) fn remove(&mut self, key: &[u8]) {
        self.key(key);
        self.0.extend_from_slice(&REMOVED.to_be_bytes());
    }

    fn key(&mut self, key: &[u8]) {
        self.0.extend_from_slice(&(key.len() as u32).to_be_bytes());
        self.0.extend_from_slice(key);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn append(&mut self, later: &Self) {
        self.0.extend_from_slice(&later.0);
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    /// Make them in the database, and count what it keeps. One by one: sled's own batches write twice to the disk, and the
    /// log makes a commit whole.
    pub(super) fn apply(&self, db: &sled::Db, kept: &Kept) -> io::Result<()> {
        let mut rest = &self.0[..];
        while let Some((key, value)) = change(&mut rest) {
            let made = match value {
                Some(value) => db.insert(key, value),
                None => db.remove(key),
            };
            let before = made.map_err(io::Error::other)?;
            kept.changed(key, before.map(|before| before.len()), value.map(<[u8]>::len));
        }
        Ok(())
    }
}

fn change<'a>(rest: &mut &'a [u8]) -> Option<(&'a [u8], Option<&'a [u8]>)> {
    let mut take = |length: usize| {
        let (taken, left) = rest.split_at_checked(length)?;
        *rest = left;
        Some(taken)
    };
    let length = number(take(4)?)?;
    let key = take(length as usize)?;
    let value = match number(take(4)?)? {
        REMOVED => None,
        length => Some(take(length as usize)?),
    };
    Some((key, value))
}

fn number(bytes: &[u8]) -> Option<u32> {
    array(bytes).map(u32::from_be_bytes)
}

fn array<const N: usize>(bytes: &[u8]) -> Option<[u8; N]> {
    bytes.first_chunk().copied()
}

/// The open log.
pub(super) struct Log {
    file: File,
    generation: Generation,
    index: u64,
    end: usize,
    frame: Vec<u8>,
}

/// What the database must have held when the log began: audit entries.
pub(super) struct Began(pub(super) u64);

impl Log {
    /// Make one in `folder` that begins with so many audit entries in the database.
    pub(super) fn create(folder: &Path, entries: u64) -> io::Result<Self> {
        let file = File::options().write(true).create_new(true).mode(0o600).open(folder.join(FILE))?;
        // Written, not only allocated: a block that was never written costs metadata at its first write.
        file.write_all_at(&vec![0; BYTES], 0)?;
        file.sync_all()?;
        File::open(folder)?.sync_all()?;
        let mut log = Self { file, generation: Generation::default(), index: 0, end: 0, frame: Vec::new() };
        log.restart(entries)?;
        Ok(log)
    }

    /// Open the one in `folder`, and hand out what it holds: what was there when it began, then commit by commit. Make
    /// the database durable with that, then [`Log::restart`].
    pub(super) fn open(
        folder: &Path,
        began: impl FnOnce(Began) -> io::Result<()>,
        mut each: impl FnMut(&Changes) -> io::Result<()>,
    ) -> io::Result<Self> {
        let mut file = File::options().read(true).write(true).open(folder.join(FILE))?;
        keep_alone(&file)?; // before it is read
        let mut bytes = Vec::with_capacity(BYTES);
        file.read_to_end(&mut bytes)?;
        if bytes.len() < BYTES {
            return Err(io::Error::other(format!("the log has {} bytes, not {BYTES}", bytes.len())));
        }
        let (beginning, rest) = bytes.split_at(BEGINNING);
        if !rest.starts_with(&sha256(beginning)) {
            return Err(io::Error::other("the log's beginning is damaged"));
        }
        let mut log = Self {
            file,
            generation: array(beginning).unwrap_or_default(),
            index: 0,
            end: BEGINNING + DIGEST,
            frame: Vec::new(),
        };
        began(Began(array(&beginning[8..]).map_or(0, u64::from_be_bytes)))?;
        while let Some(changes) = log.frame_at_end(&bytes) {
            each(&Changes(changes.to_vec()))?;
            log.end += HEAD + DIGEST + changes.len();
            log.index += 1;
        }
        // Each frame is durable before the next is written: one that a crash cut off is the last.
        let next = log.head(log.index + 1, 0);
        if memchr::memmem::find(&bytes[log.end..], &next[..16]).is_some() {
            return Err(io::Error::other(format!(
                "the log's frame {} is damaged, and later ones are there",
                log.index
            )));
        }
        Ok(log)
    }

    /// Keep one that was just made for this process alone, as [`Log::open`] does.
    pub(super) fn lock(&self) -> io::Result<()> {
        keep_alone(&self.file)
    }

    /// One that was cut off, or is of an earlier generation, is none: nobody was told of it, or it is in the database.
    fn frame_at_end<'a>(&self, bytes: &'a [u8]) -> Option<&'a [u8]> {
        let (head, rest) = bytes.get(self.end..)?.split_at_checked(HEAD)?;
        let (digest, rest) = rest.split_at_checked(DIGEST)?;
        let changes = rest.get(..number(&head[16..])? as usize)?;
        let whole = head == self.head(self.index, changes.len()) && digest == digest_of(head, changes);
        whole.then_some(changes)
    }

    fn head(&self, index: u64, length: usize) -> [u8; HEAD] {
        let mut head = [0; HEAD];
        head[..8].copy_from_slice(&self.generation);
        head[8..16].copy_from_slice(&index.to_be_bytes());
        head[16..].copy_from_slice(&(length as u32).to_be_bytes());
        head
    }

    /// Whether these go behind what is there. Behind nothing everything goes: the file grows then.
    pub(super) fn has_room(&self, changes: &Changes) -> bool {
        self.index == 0 || self.end + HEAD + DIGEST + changes.0.len() <= BYTES
    }

    /// Append one commit; durable when this returns.
    pub(super) fn append(&mut self, changes: &Changes) -> io::Result<()> {
        let head = self.head(self.index, changes.0.len());
        self.frame.clear();
        self.frame.extend_from_slice(&head);
        self.frame.extend_from_slice(&digest_of(&head, &changes.0));
        self.frame.extend_from_slice(&changes.0);
        self.file.write_all_at(&self.frame, self.end as u64)?;
        self.file.sync_data()?;
        self.end += self.frame.len();
        self.index += 1;
        Ok(())
    }

    /// Begin anew: all that it holds is durable in the database, which has so many audit entries. The beginning lies in
    /// one sector, so that a crash leaves the old one or the new one.
    pub(super) fn restart(&mut self, entries: u64) -> io::Result<()> {
        self.generation = random().map_err(io::Error::other)?;
        let mut beginning = self.generation.to_vec();
        beginning.extend_from_slice(&entries.to_be_bytes());
        beginning.extend_from_slice(&sha256(&beginning));
        self.file.write_all_at(&beginning, 0)?;
        self.file.sync_data()?;
        if self.end > BYTES {
            self.file.set_len(BYTES as u64)?;
        }
        (self.index, self.end) = (0, beginning.len());
        Ok(())
    }
}

fn digest_of(head: &[u8], changes: &[u8]) -> [u8; DIGEST] {
    // The digest of the changes stands for them, so that they are not copied.
    let mut text = head.to_vec();
    text.extend_from_slice(&sha256(changes));
    sha256(&text)
}

/// For this process alone, as long as it is open. The database's own lock does not do: on NFS (EFS) a hub that was cut off for so
/// long that the next one was let in gets errors from those files alone that it had locked, and would go on writing into the
/// next one's log.
fn keep_alone(file: &File) -> io::Result<()> {
    Ok(flock(file, FlockOperation::NonBlockingLockExclusive)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changes(text: &str) -> Changes {
        let mut changes = Changes::default();
        changes.put(text.as_bytes(), &text.to_owned());
        changes.remove(b"gone");
        changes
    }

    fn read(folder: &Path) -> io::Result<(Log, u64, Vec<Vec<u8>>)> {
        let (mut entries, mut held) = (0, Vec::new());
        let began = |Began(count)| {
            entries = count;
            Ok(())
        };
        let log = Log::open(folder, began, |changes| {
            held.push(changes.0.clone());
            Ok(())
        })?;
        Ok((log, entries, held))
    }

    fn held(folder: &Path) -> Vec<Vec<u8>> {
        read(folder).unwrap().2
    }

    #[test]
    fn what_was_appended_is_found_and_what_is_behind_the_end_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let mut log = Log::create(folder.path(), 0).unwrap();
        assert!(held(folder.path()).is_empty());
        ["a", "b", "c"].iter().for_each(|text| log.append(&changes(text)).unwrap());
        let (mut log, entries, found) = read(folder.path()).unwrap();
        assert_eq!((entries, found), (0, ["a", "b", "c"].map(|text| changes(text).0).to_vec()));
        log.append(&changes("d")).unwrap();
        drop(log);
        assert_eq!(held(folder.path()).len(), 4, "it goes on where it ended");

        let (mut log, ..) = read(folder.path()).unwrap();
        log.restart(7).unwrap();
        drop(log);
        let (mut log, entries, found) = read(folder.path()).unwrap();
        assert_eq!((entries, found.len()), (7, 0));
        log.append(&changes("e")).unwrap();
        drop(log);
        assert_eq!(held(folder.path()), [changes("e").0]);
    }

    #[test]
    fn a_frame_that_was_cut_off_is_none_and_one_before_others_is_damage() {
        let folder = tempfile::tempdir().unwrap();
        let mut log = Log::create(folder.path(), 0).unwrap();
        let beginning = log.end;
        log.append(&changes("a")).unwrap();
        let whole = log.end;
        log.append(&changes("b")).unwrap();
        let file = File::options().read(true).write(true).open(folder.path().join(FILE)).unwrap();
        for at in 0..log.end {
            let mut byte = [0];
            file.read_exact_at(&mut byte, at as u64).unwrap();
            file.write_all_at(&[!byte[0]], at as u64).unwrap();
            let found = read(folder.path());
            if at < beginning {
                assert!(found.is_err_and(|error| error.to_string().contains("beginning")), "byte {at}");
            } else if at < whole {
                assert!(found.is_err_and(|error| error.to_string().contains("frame 0")), "byte {at}");
            } else {
                assert_eq!(found.unwrap().2, [changes("a").0], "byte {at}");
            }
            file.write_all_at(&byte, at as u64).unwrap();
        }
        assert_eq!(held(folder.path()).len(), 2);
    }

    #[test]
    fn it_is_one_processs_until_that_lets_go_of_it() {
        let folder = tempfile::tempdir().unwrap();
        drop(Log::create(folder.path(), 0).unwrap());
        let open = read(folder.path()).unwrap();
        assert_eq!(read(folder.path()).err().unwrap().kind(), io::ErrorKind::WouldBlock);
        drop(open);
        read(folder.path()).unwrap();
    }

    #[test]
    fn it_is_full_before_it_ends_and_takes_any_commit_when_empty() {
        let folder = tempfile::tempdir().unwrap();
        let mut log = Log::create(folder.path(), 0).unwrap();
        let of = |bytes: usize| Changes(vec![1; bytes]);
        log.append(&of(1)).unwrap();
        let rest = BYTES - log.end - HEAD - DIGEST;
        assert!(!log.has_room(&of(rest + 1)));
        assert!(log.has_room(&of(rest)));
        log.append(&of(rest)).unwrap();
        assert!(!log.has_room(&of(0)));
        assert_eq!(held(folder.path()).len(), 2);

        log.restart(0).unwrap();
        assert!(log.has_room(&of(2 * BYTES)));
        log.append(&of(2 * BYTES)).unwrap();
        assert_eq!(held(folder.path()), [of(2 * BYTES).0]);
        log.restart(0).unwrap();
        assert_eq!(log.file.metadata().unwrap().len(), BYTES as u64);
        assert!(held(folder.path()).is_empty());
    }
}
