//! The LA's word on commands that its policy lets in on approval alone.
//!
//! Two files a command in the agent's folder: what waits, written by the agent, and the word on it, written by
//! `sfdata-agent approve` or `refuse`. Both work whether or not the agent runs, and outlive restarts. Whoever cannot write
//! there has no say: no hub and no operator. A word counts for the one command whose digest it names.

use std::{
    collections::HashMap,
    fs::{self, File},
    io::{self, Read as _},
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _},
    path::{Path, PathBuf},
};

use jiff::Timestamp;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use sfdata_common::{
    command::{Command, Mode},
    ids::CommandId,
    keyfile, limits,
};
use tracing::warn;

use crate::verify::Verified;

const FOLDER: &str = "approvals";
const WAITS: &str = "waits.json";
const WORD: &str = "word.json";

/// Why a word could not be given.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nothing waits under that id.
    #[error("no command {0} waits for approval; see sfdata-agent approvals")]
    Unknown(CommandId),
    /// The word is there.
    #[error("command {id} was {given} already, by {by} at {at}")]
    Given {
        /// Which.
        id: CommandId,
        /// `approved` or `refused`.
        given: &'static str,
        /// By whom.
        by: String,
        /// When.
        at: Timestamp,
    },
    /// It has expired.
    #[error("command {id} expired at {until}; the operator has to order it anew")]
    Expired {
        /// Which.
        id: CommandId,
        /// When.
        until: Timestamp,
    },
    /// Reading or writing.
    #[error(transparent)]
    File(#[from] keyfile::Error),
    /// The folder.
    #[error("cannot read or make {path}; run this as the user that the agent runs as")]
    Folder {
        /// Which.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// A command that waits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waiting {
    /// Its id.
    #[serde(with = "as_text")]
    pub id: CommandId,
    /// What it orders.
    pub action: String,
    /// Its class.
    pub class: String,
    /// Who orders it.
    pub operator: String,
    /// Why, in the operator's words.
    pub reason: String,
    /// Which agents it is for; this one is among them.
    pub targets: Vec<String>,
    /// All that it says.
    pub command: String,
    /// The plan that the operator has seen and agreed to, in hex.
    pub plan: Option<String>,
    /// SHA-256 over the signed command, in hex.
    pub digest: String,
    /// Since when it waits.
    pub since: Timestamp,
    /// It expires then.
    pub until: Timestamp,
}

mod as_text {
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    use super::CommandId;

    pub(super) fn serialize<S: Serializer>(id: &CommandId, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(id)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<CommandId, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

impl Waiting {
    /// What the LA is to know of a command.
    pub fn of(verified: &Verified, since: Timestamp) -> Self {
        let Command { id, action, targets, expires, operator, reason, mode, .. } = verified.command();
        Self {
            id: *id,
            action: action.name().to_owned(),
            class: verified.command().class().to_string(),
            operator: operator.to_string(),
            reason: reason.clone(),
            targets: targets.iter().map(ToString::to_string).collect(),
            command: format!("{action:?}"),
            plan: if let Mode::ActIfPlan(digest) = mode { Some(hex::encode(digest)) } else { None },
            digest: hex::encode(verified.digest()),
            since,
            until: *expires,
        }
    }
}

/// What the LA said to one command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Word {
    /// Of the command, in hex.
    pub digest: String,
    /// Yes, or no.
    pub approved: bool,
    /// Why, in the LA's words; the operator is told when it is refused.
    pub reason: String,
    /// Name of the system's user who gave it.
    pub by: String,
    /// When.
    pub at: Timestamp,
}

impl Word {
    /// `approved` or `refused`.
    pub fn name(&self) -> &'static str {
        if self.approved { "approved" } else { "refused" }
    }
}

/// The words of one agent's LA.
#[derive(Debug, Clone)]
pub struct Approvals {
    /// `None` has none: what waits, waits in vain.
    folder: Option<PathBuf>,
}

impl Approvals {
    /// Of the agent in `data_dir`.
    pub fn new(data_dir: &Path) -> Self {
        Self { folder: Some(data_dir.join(FOLDER)) }
    }

    /// For an agent whose LA has no say.
    pub fn none() -> Self {
        Self { folder: None }
    }

    fn file(&self, id: CommandId, what: &str) -> Option<PathBuf> {
        Some(self.folder.as_ref()?.join(format!("{id}.{what}")))
    }

    /// Show that a command waits.
    pub fn ask(&self, waiting: &Waiting) -> Result<(), Error> {
        let (Some(folder), Some(file)) = (&self.folder, self.file(waiting.id, WAITS)) else { return Ok(()) };
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(folder);
        made.map_err(|source| Error::Folder { path: folder.clone(), source })?;
        Ok(keyfile::write(&file, &serde_json::to_vec_pretty(waiting).unwrap_or_default())?)
    }

    /// The LA's word on the command of this digest, if it has given one.
    pub fn word(&self, id: CommandId, digest: &[u8; 32]) -> Option<Word> {
        let file = self.file(id, WORD)?;
        let word: Word = match read(&file) {
            Ok(word) => word?,
            Err(error) => {
                warn!(command = %id, file = %file.display(), %error, "the LA's word on a command does not count");
                return None;
            }
        };
        if word.digest != hex::encode(digest) {
            warn!(command = %id, file = %file.display(), "the LA's word is on a command of another digest and does not count");
            return None;
        }
        Some(word)
    }

    /// A command waits no more.
    pub fn over(&self, id: CommandId) {
        for file in [WAITS, WORD].into_iter().filter_map(|what| self.file(id, what)) {
            let _ = fs::remove_file(file);
        }
    }

    /// Forget all but these: a command may have ended while its files could not be removed.
    pub fn keep(&self, ids: &[CommandId]) {
        let Some(folder) = &self.folder else { return };
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let id = name.split('.').next().and_then(|id| id.parse::<CommandId>().ok());
            if id.is_none_or(|id| !ids.contains(&id)) {
                let _ = fs::remove_file(entry.path());
            }
        }
    }

    /// What waits, oldest first, each with the word that was given and is not yet taken up.
    pub fn list(&self) -> Result<Vec<(Waiting, Option<Word>)>, Error> {
        let Some(folder) = &self.folder else { return Ok(Vec::new()) };
        let entries = match fs::read_dir(folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            read => read.map_err(|source| Error::Folder { path: folder.clone(), source })?,
        };
        let ids = entries.flatten().filter_map(|entry| {
            let name = entry.file_name().to_string_lossy().into_owned();
            name.strip_suffix(WAITS)?.strip_suffix('.')?.parse().ok()
        });
        let each = ids.filter_map(|id: CommandId| {
            let waiting: Waiting = read(&self.file(id, WAITS)?).ok()??;
            let word = read(&self.file(id, WORD)?).ok().flatten();
            Some((waiting, word))
        });
        let mut list: Vec<_> = each.collect();
        list.sort_by_key(|(waiting, _)| (waiting.since, waiting.id));
        Ok(list)
    }

    /// Give the LA's word on a command that waits.
    pub fn give(&self, id: CommandId, approved: bool, reason: &str, now: Timestamp) -> Result<Waiting, Error> {
        let (Some(waits), Some(file)) = (self.file(id, WAITS), self.file(id, WORD)) else {
            return Err(Error::Unknown(id));
        };
        let waiting: Waiting = match read(&waits) {
            Ok(Some(waiting)) => waiting,
            Ok(None) => return Err(Error::Unknown(id)),
            Err(source) => return Err(Error::Folder { path: waits, source }),
        };
        if let Ok(Some(given)) = read::<Word>(&file)
            && given.digest == waiting.digest
        {
            return Err(Error::Given { id, given: given.name(), by: given.by, at: given.at });
        }
        if waiting.until <= now {
            return Err(Error::Expired { id, until: waiting.until });
        }
        let word = Word { digest: waiting.digest.clone(), approved, reason: reason.to_owned(), by: user(), at: now };
        keyfile::write(&file, &serde_json::to_vec_pretty(&word).unwrap_or_default())?;
        Ok(waiting)
    }
}

/// A file that nobody can have written but the agent's own user or root; `None` if there is none.
fn read<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, io::Error> {
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened?,
    };
    let facts = file.metadata()?;
    let ours = [0, rustix::process::geteuid().as_raw()];
    if !ours.contains(&facts.uid()) || facts.mode() & 0o022 != 0 {
        return Err(io::Error::other("somebody else could have written it: it is not the agent's user's alone"));
    }
    let mut bytes = Vec::new();
    file.take(limits::APPROVAL_BYTES).read_to_end(&mut bytes)?;
    Ok(Some(serde_json::from_slice(&bytes)?))
}

/// Name of the system's user of this process.
fn user() -> String {
    let id = rustix::process::getuid().as_raw().to_string();
    let known: HashMap<String, String> = fs::read_to_string("/etc/passwd")
        .unwrap_or_default()
        .lines()
        .filter_map(|line| {
            let mut fields = line.split(':');
            let name = fields.next()?.to_owned();
            Some((fields.nth(1)?.to_owned(), name))
        })
        .collect();
    known.get(&id).cloned().unwrap_or_else(|| format!("uid {id}"))
}

#[cfg(test)]
mod tests {
    use std::{os::unix::fs::PermissionsExt as _, time::Duration};

    use super::*;

    fn waiting(now: Timestamp) -> Waiting {
        Waiting {
            id: CommandId::generate(),
            action: "ecs.deploy".into(),
            class: "change".into(),
            operator: "alice".into(),
            reason: "a test".into(),
            targets: vec!["la-0".into()],
            command: "Deploy".into(),
            plan: None,
            digest: hex::encode([7; 32]),
            since: now,
            until: now + Duration::from_secs(60),
        }
    }

    #[test]
    fn a_word_counts_for_one_command_once() {
        let folder = tempfile::tempdir().unwrap();
        let (approvals, now) = (Approvals::new(folder.path()), Timestamp::from_second(1_800_000_000).unwrap());
        let asked = waiting(now);
        assert!(matches!(approvals.give(asked.id, true, "", now), Err(Error::Unknown(_))), "nothing waits yet");
        assert!(approvals.list().unwrap().is_empty());
        approvals.ask(&asked).unwrap();
        assert_eq!(approvals.list().unwrap(), [(asked.clone(), None)]);
        assert_eq!(approvals.word(asked.id, &[7; 32]), None);
        assert_eq!(approvals.give(asked.id, true, "", now).unwrap(), asked);
        assert!(matches!(approvals.give(asked.id, false, "no", now), Err(Error::Given { given: "approved", .. })));
        assert_eq!(approvals.word(asked.id, &[8; 32]), None, "it is on another command");
        let word = approvals.word(asked.id, &[7; 32]).unwrap();
        assert!(word.approved && !word.by.is_empty() && word.at == now);
        approvals.keep(&[asked.id]);
        assert_eq!(approvals.list().unwrap().len(), 1);
        approvals.over(asked.id);
        assert!(approvals.list().unwrap().is_empty() && approvals.word(asked.id, &[7; 32]).is_none());
    }

    #[test]
    fn a_word_that_others_could_have_written_does_not_count() {
        let folder = tempfile::tempdir().unwrap();
        let (approvals, now) = (Approvals::new(folder.path()), Timestamp::from_second(1_800_000_000).unwrap());
        let asked = waiting(now);
        approvals.ask(&asked).unwrap();
        approvals.give(asked.id, true, "", now).unwrap();
        let file = approvals.file(asked.id, WORD).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o666)).unwrap();
        assert_eq!(approvals.word(asked.id, &[7; 32]), None);
        fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(approvals.word(asked.id, &[7; 32]).is_some());
        fs::write(&file, "{").unwrap();
        assert_eq!(approvals.word(asked.id, &[7; 32]), None);
    }

    #[test]
    fn what_has_expired_cannot_be_approved() {
        let folder = tempfile::tempdir().unwrap();
        let (approvals, now) = (Approvals::new(folder.path()), Timestamp::from_second(1_800_000_000).unwrap());
        let asked = waiting(now);
        approvals.ask(&asked).unwrap();
        assert!(matches!(approvals.give(asked.id, true, "", asked.until), Err(Error::Expired { .. })));
        approvals.keep(&[]);
        assert!(approvals.list().unwrap().is_empty());
    }
}
