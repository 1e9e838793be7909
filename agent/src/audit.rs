//! The agent's own copy of what concerns it: one line of JSON for each command that used up a number, each linked to the
//! one before by its hash. The LA can read it while the agent runs, and compare it with the hub's record.

use std::{
    fs::{File, OpenOptions},
    io::{self, BufRead as _, BufReader, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sfdata_common::keys::sha256;

const FILE: &str = "audit.jsonl";

/// Why the record can't be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Reading or writing.
    #[error("cannot read or write {path}")]
    File {
        /// Which.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The chain does not hold.
    #[error("line {line} of {path} does not follow from the line before: the record was changed or cut there")]
    Broken {
        /// Which.
        path: PathBuf,
        /// From 1.
        line: u64,
    },
}

/// One line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// From 0.
    pub index: u64,
    /// RFC 3339.
    pub at: Timestamp,
    /// Its place in the agent's order, as in `1.17`.
    pub position: String,
    /// Which command.
    pub command_id: String,
    /// What it ordered, where the agent could read it.
    pub action: String,
    /// Who ordered it.
    pub operator: String,
    /// SHA-256 over the signed command, in hex.
    pub digest: String,
    /// How it ended: `succeeded`, `failed: …`, `refused: …`.
    pub outcome: String,
    /// SHA-256 over the hash of the line before and this line without its own hash, in hex.
    #[serde(default)]
    pub hash: String,
}

impl Entry {
    fn hash_after(&self, previous: &str) -> String {
        let plain = Self { hash: String::new(), ..self.clone() };
        let text = serde_json::to_string(&plain).unwrap_or_default();
        hex::encode(sha256(format!("{previous}{text}").as_bytes()))
    }
}

/// The record, open for appending; `None` inside keeps nothing.
pub struct Log {
    open: Mutex<Option<Open>>,
}

struct Open {
    file: File,
    path: PathBuf,
    next: u64,
    hash: String,
}

impl Log {
    /// Open the record of the agent in `data_dir`, or begin it. A last line that a crash cut off is completed by a new one.
    pub fn open(data_dir: &Path) -> Result<Self, Error> {
        let path = data_dir.join(FILE);
        let failed = |source| Error::File { path: path.clone(), source };
        let (mut next, mut hash, mut length) = (0, String::new(), 0);
        if path.exists() {
            for entry in read(data_dir)? {
                let (entry, end) = entry?;
                (next, hash, length) = (entry.index + 1, entry.hash, end);
            }
        }
        let file = OpenOptions::new().create(true).append(true).mode(0o600).open(&path).map_err(failed)?;
        file.set_len(length).map_err(failed)?;
        Ok(Self { open: Mutex::new(Some(Open { file, path, next, hash })) })
    }

    /// A record that keeps nothing.
    pub fn none() -> Self {
        Self { open: Mutex::new(None) }
    }

    /// Append; index and hash are given here. Durable when this returns.
    pub fn append(&self, mut entry: Entry) -> Result<(), Error> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(open) = open.as_mut() else { return Ok(()) };
        entry.index = open.next;
        entry.hash = entry.hash_after(&open.hash);
        let line = serde_json::to_string(&entry).unwrap_or_default() + "\n";
        let written = open.file.write_all(line.as_bytes()).and_then(|()| open.file.sync_data());
        written.map_err(|source| Error::File { path: open.path.clone(), source })?;
        (open.next, open.hash) = (entry.index + 1, entry.hash);
        Ok(())
    }
}

/// Read and check the record of the agent in `data_dir`: each entry with the offset where its line ends.
pub fn read(data_dir: &Path) -> Result<impl Iterator<Item = Result<(Entry, u64), Error>> + use<>, Error> {
    let path = data_dir.join(FILE);
    let file = File::open(&path).map_err(|source| Error::File { path: path.clone(), source })?;
    let mut lines = BufReader::new(file);
    let (mut line, mut hash, mut end) = (0, String::new(), 0);
    Ok(std::iter::from_fn(move || {
        let mut text = String::new();
        match lines.read_line(&mut text) {
            Ok(_) if !text.ends_with('\n') => return None, // the end, or a line that a crash cut off
            Ok(length) => end += length as u64,
            Err(source) => return Some(Err(Error::File { path: path.clone(), source })),
        }
        line += 1;
        let entry = serde_json::from_str::<Entry>(&text).ok();
        let entry = entry.filter(|entry| entry.index + 1 == line && entry.hash == entry.hash_after(&hash));
        let Some(entry) = entry else { return Some(Err(Error::Broken { path: path.clone(), line })) };
        hash.clone_from(&entry.hash);
        Some(Ok((entry, end)))
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(id: &str) -> Entry {
        Entry {
            index: 0,
            at: Timestamp::from_second(1).unwrap(),
            position: "1.1".into(),
            command_id: id.into(),
            action: "ecs.status".into(),
            operator: "alice".into(),
            digest: "00".into(),
            outcome: "succeeded".into(),
            hash: String::new(),
        }
    }

    #[test]
    fn the_record_goes_on_after_a_restart_and_shows_a_change() {
        let folder = tempfile::tempdir().unwrap();
        Log::open(folder.path()).unwrap().append(entry("a")).unwrap();
        let log = Log::open(folder.path()).unwrap();
        log.append(entry("b")).unwrap();
        let path = folder.path().join(FILE);
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, format!("{text}{{\"cut")).unwrap();
        let log = Log::open(folder.path()).unwrap();
        log.append(entry("c")).unwrap();
        let ids: Vec<String> = read(folder.path()).unwrap().map(|entry| entry.unwrap().0.command_id).collect();
        assert_eq!(ids, ["a", "b", "c"]);
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, text.replacen("alice", "mallory", 1)).unwrap();
        assert!(matches!(read(folder.path()).unwrap().next(), Some(Err(Error::Broken { line: 1, .. }))));
    }
}
