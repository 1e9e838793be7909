//! The state on disk: one small file that is replaced whole, so that it is either the old one or the new one.

use std::path::{Path, PathBuf};

use jiff::Timestamp;
use sfdata_common::{error::chain, keyfile};

use super::state::State;

const FILE: &str = "power.json";

/// Where the state is kept.
#[derive(Debug, Clone)]
pub(super) struct Store {
    path: PathBuf,
}

impl Store {
    /// Of the agent in `data_dir`.
    pub(super) fn new(data_dir: &Path) -> Self {
        Self { path: data_dir.join(FILE) }
    }

    /// What was kept last. Where there is nothing, or nothing that can be read, the platform counts as awake, which loses
    /// nothing: it is looked at before it is put to sleep.
    pub(super) fn load(&self, now: Timestamp) -> State {
        if !self.path.exists() {
            return State::new(now);
        }
        let kept = keyfile::read(&self.path).map_err(|error| chain(&error).to_string());
        match kept.and_then(|text| serde_json::from_slice(&text).map_err(|error| error.to_string())) {
            Ok(state) => state,
            Err(error) => {
                tracing::error!(path = %self.path.display(), error, "what was remembered of the platform's sleep cannot be read; it counts as awake");
                State::new(now)
            }
        }
    }

    /// Keep it; durable when this returns.
    pub(super) async fn save(&self, state: &State) -> Result<(), String> {
        let text = serde_json::to_vec(state).map_err(|error| error.to_string())?;
        let path = self.path.clone();
        let write = move || keyfile::write(&path, &text).map_err(|error| chain(&error).to_string());
        tokio::task::spawn_blocking(write).await.map_err(|error| error.to_string())?
    }
}
