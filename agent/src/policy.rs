//! The LA's own say: its policy, and the hold that refuses everything but reads at once.
//!
//! Both are files that the hub can neither read nor change. The hold is a file of its own, so that
//! `sfdata-agent hold` works whether or not the agent runs, and outlives restarts.

use std::{
    io,
    path::{Path, PathBuf},
};

use jiff::Timestamp;
use sfdata_common::{
    keyfile,
    policy::{self, Policy},
};
use sfdata_proto::v1::Hold;

/// Permits read, operate and change; refuses data and destroy.
pub const DEFAULT: &str = include_str!("../../deploy/config/agent.cedar");
const HOLD_FILE: &str = "hold";

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
    /// Taking the hold away failed.
    #[error("cannot remove {path}")]
    Remove {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// Read the LA's policy, or take the default that ships.
pub fn load(path: Option<&Path>) -> Result<Policy, Error> {
    let (path, text) = match path {
        Some(path) => (path, String::from_utf8_lossy(&keyfile::read(path)?).into_owned()),
        None => (Path::new("agent.cedar"), DEFAULT.to_owned()),
    };
    Policy::parse(&text).map_err(|source| Error::Policy { path: path.into(), source })
}

/// The LA's hold on its agent; asked at every command.
#[derive(Debug, Clone)]
pub struct Brake {
    /// `None` never holds.
    path: Option<PathBuf>,
}

impl Brake {
    /// The hold of the agent in `data_dir`.
    pub fn new(data_dir: &Path) -> Self {
        Self { path: Some(data_dir.join(HOLD_FILE)) }
    }

    /// For an agent that nobody can hold.
    pub fn none() -> Self {
        Self { path: None }
    }

    /// The hold in force: its first line is since when, the rest is why. A file that can't be read holds as well.
    pub fn held(&self) -> Option<Hold> {
        let path = self.path.as_ref()?;
        match std::fs::read_to_string(path) {
            Ok(text) => {
                let (since, reason) = text.split_once('\n').unwrap_or(("", &text));
                let since_unix_ms = since.parse().map_or(0, |at: Timestamp| at.as_millisecond());
                Some(Hold { reason: reason.trim_end().to_owned(), since_unix_ms })
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => Some(Hold { reason: format!("the hold file cannot be read: {error}"), since_unix_ms: 0 }),
        }
    }

    /// Refuse everything but reads from now on.
    pub fn hold(&self, reason: &str, now: Timestamp) -> Result<(), Error> {
        let Some(path) = &self.path else { return Ok(()) };
        Ok(keyfile::write(path, format!("{now}\n{reason}\n").as_bytes())?)
    }

    /// Let commands in again. Harmless when nothing is held.
    pub fn release(&self) -> Result<(), Error> {
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
        brake.release().unwrap();
        assert_eq!(brake.held(), None);
    }

    #[test]
    fn the_policy_that_ships_is_valid() {
        load(None).unwrap();
    }
}
