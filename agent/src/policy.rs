//! The LA's own say: its policy, the hold that refuses everything but reads at once, and the revocation of what is shared.
//!
//! All are files that the hub can neither read nor change. Hold and revocation are each a file of its own, so that
//! `sfdata-agent hold` and `share revoke` work whether or not the agent runs, and outlive restarts.

mod calendar;
pub mod explain;
mod rules;

use std::{
    fs::File,
    io,
    path::{Path, PathBuf},
};

use jiff::Timestamp;
use sfdata_common::{config, keyfile, policy};
use sfdata_proto::v1::Hold;
use tracing::warn;

pub use self::{
    calendar::Freeze,
    rules::{Rules, Ruling, Watched},
};

/// Permits read, operate and change, the last not in a freeze; refuses data and destroy.
pub const DEFAULT: &str = include_str!("../../deploy/config/agent.cedar");
const HOLD_FILE: &str = "hold";
const UNSHARED_FILE: &str = "share-revoked";
/// Locked by whoever changes a bucket's policy.
const EDITING_FILE: &str = "bucket-policy.lock";

/// Why the policy or the hold can't be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file.
    #[error(transparent)]
    File(#[from] keyfile::Error),
    /// The text.
    #[error("the policy {path} is not valid")]
    Policy {
        /// Which file.
        path: PathBuf,
        /// Where and why.
        #[source]
        source: policy::Invalid,
    },
    /// The configuration, read anew for its freezes.
    #[error(transparent)]
    Config(#[from] config::Error),
    /// A freeze that can't be meant.
    #[error("freeze {name:?} in {path} {why}")]
    Freeze {
        /// Which file.
        path: PathBuf,
        /// Which.
        name: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// Taking a hold or a revocation away failed.
    #[error("cannot remove {path}")]
    Remove {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// The LA's hold on its agent; asked at every command.
#[derive(Debug, Clone)]
pub struct Brake(Word);

impl Brake {
    /// The hold of the agent in `data_dir`.
    pub fn new(data_dir: &Path) -> Self {
        Self(Word { path: Some(data_dir.join(HOLD_FILE)) })
    }

    /// For an agent that nobody can hold.
    pub fn none() -> Self {
        Self(Word { path: None })
    }

    /// The hold in force.
    pub fn held(&self) -> Option<Hold> {
        self.0.stands()
    }

    /// Refuse everything but reads from now on.
    pub fn hold(&self, reason: &str, now: Timestamp) -> Result<(), Error> {
        self.0.give(reason, now)
    }

    /// Let commands in again. Harmless when nothing is held.
    pub fn release(&self) -> Result<(), Error> {
        self.0.take_back()
    }
}

/// The LA's word that nothing is shared with the core account; asked whenever a policy of a bucket is written.
#[derive(Debug, Clone)]
pub struct Sharing(Word);

impl Sharing {
    /// Of the agent in `data_dir`.
    pub fn new(data_dir: &Path) -> Self {
        Self(Word { path: Some(data_dir.join(UNSHARED_FILE)) })
    }

    /// For an agent whose LA cannot revoke it.
    pub fn none() -> Self {
        Self(Word { path: None })
    }

    /// The revocation in force.
    pub fn revoked(&self) -> Option<Hold> {
        self.0.stands()
    }

    /// Share nothing from now on.
    pub fn revoke(&self, reason: &str, now: Timestamp) -> Result<(), Error> {
        self.0.give(reason, now)
    }

    /// Wait until no other process of this agent changes what is shared, for as long as the answer is held. Who cannot
    /// be kept out is no reason to leave a revocation undone.
    pub async fn alone(&self) -> Option<File> {
        let path = self.0.path.as_ref()?.with_file_name(EDITING_FILE);
        let locked = tokio::task::spawn_blocking(move || {
            // The file may be of another user of this machine.
            let open = File::options().append(true).create(true).open(&path).or_else(|_| File::open(&path));
            open.and_then(|file| file.lock().map(|()| file))
        });
        match locked.await.map_err(io::Error::other).flatten() {
            Ok(file) => Some(file),
            Err(error) => {
                warn!(%error, "another process of this agent is not kept from changing a bucket's policy meanwhile");
                None
            }
        }
    }

    /// Let it be granted again. Harmless when nothing is revoked.
    pub fn allow(&self) -> Result<(), Error> {
        self.0.take_back()
    }
}

/// A word of the LA that stands in a file of its own.
#[derive(Debug, Clone)]
struct Word {
    /// `None` never stands.
    path: Option<PathBuf>,
}

impl Word {
    /// The first line is since when, the rest is why. A file that can't be read stands as well.
    fn stands(&self) -> Option<Hold> {
        let path = self.path.as_ref()?;
        match std::fs::read_to_string(path) {
            Ok(text) => {
                let (since, reason) = text.split_once('\n').unwrap_or(("", &text));
                let since_unix_ms = since.parse().map_or(0, |at: Timestamp| at.as_millisecond());
                Some(Hold { reason: reason.trim_end().to_owned(), since_unix_ms })
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => {
                let reason = format!("{} cannot be read: {error}", path.display());
                Some(Hold { reason, since_unix_ms: 0 })
            }
        }
    }

    fn give(&self, reason: &str, now: Timestamp) -> Result<(), Error> {
        let Some(path) = &self.path else { return Ok(()) };
        Ok(keyfile::write(path, format!("{now}\n{reason}\n").as_bytes())?)
    }

    fn take_back(&self) -> Result<(), Error> {
        let Some(path) = &self.path else { return Ok(()) };
        match std::fs::remove_file(path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                Err(Error::Remove { path: path.clone(), source })
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hold_says_why_and_since_when_and_can_be_released() {
        let folder = tempfile::tempdir().unwrap();
        let brake = Brake::new(folder.path());
        assert_eq!(brake.held(), None);
        brake.release().unwrap();
        let now = Timestamp::from_second(1_000_000).unwrap();
        brake.hold("inspection", now).unwrap();
        assert_eq!(brake.held(), Some(Hold { reason: "inspection".into(), since_unix_ms: 1_000_000_000 }));
        assert_eq!(Sharing::new(folder.path()).revoked(), None, "it is another word");
        brake.release().unwrap();
        assert_eq!(brake.held(), None);
    }

    #[test]
    fn a_revocation_that_cannot_be_read_stands() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join(UNSHARED_FILE)).unwrap();
        assert!(Sharing::new(folder.path()).revoked().unwrap().reason.contains("cannot be read"));
    }
}
