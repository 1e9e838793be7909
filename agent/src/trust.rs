//! The trust bundle that this agent goes by. Pinned at enrolment; each newer one must follow from the one before.

use std::{path::PathBuf, sync::Arc};

use arc_swap::ArcSwap;
use sfdata_common::{
    keyfile,
    trust::{self, Bundle},
};
use sfdata_proto::v1 as wire;
use tokio::sync::watch;

const FILE: &str = "trust.pem";

/// Why a bundle was not taken.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It does not verify.
    #[error(transparent)]
    Bundle(#[from] trust::Error),
    /// Its file.
    #[error(transparent)]
    File(#[from] keyfile::Error),
}

/// The current bundle; share it by `Arc`.
pub struct Trust {
    current: ArcSwap<Bundle>,
    /// Where it is kept; `None` keeps it in memory.
    path: Option<PathBuf>,
    changes: watch::Sender<u64>,
}

impl Trust {
    /// Begin with the bundle that enrolment gave, and keep it.
    pub fn create(data_dir: &std::path::Path, envelope: &wire::Envelope, pin: &[u8]) -> Result<Self, Error> {
        let bundle = Bundle::verify_first(envelope, Some(pin))?;
        let path = data_dir.join(FILE);
        keyfile::write(&path, trust::to_pem(envelope).as_bytes())?;
        Ok(Self::of(bundle, Some(path)))
    }

    /// Go on with the bundle that was kept. The folder is as trusted as the keys that lie beside it.
    pub fn open(data_dir: &std::path::Path) -> Result<Self, Error> {
        let path = data_dir.join(FILE);
        let envelope = trust::from_pem(&keyfile::read(&path)?)?;
        Ok(Self::of(Bundle::verify_first(&envelope, None)?, Some(path)))
    }

    /// Hold a bundle in memory only.
    pub fn in_memory(bundle: Bundle) -> Self {
        Self::of(bundle, None)
    }

    fn of(bundle: Bundle, path: Option<PathBuf>) -> Self {
        Self { current: ArcSwap::from_pointee(bundle), path, changes: watch::channel(0).0 }
    }

    /// The bundle to go by now.
    pub fn bundle(&self) -> Arc<Bundle> {
        self.current.load_full()
    }

    /// Take the bundle that follows; durable before it is used.
    pub fn accept(&self, envelope: &wire::Envelope) -> Result<u64, Error> {
        let next = self.bundle().verify_next(envelope)?;
        if let Some(path) = &self.path {
            keyfile::write(path, trust::to_pem(envelope).as_bytes())?;
        }
        let version = next.version;
        self.current.store(Arc::new(next));
        self.changes.send_modify(|count| *count += 1);
        Ok(version)
    }

    /// Notified when a newer bundle was taken.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }
}
