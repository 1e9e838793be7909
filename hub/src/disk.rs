//! Room on the disk that holds the store. The hub takes no new command when little is left, so that what
//! was begun can be finished; it never finds out by a failed write.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use sfdata_common::limits;

/// Too little room.
#[derive(Debug, Clone, thiserror::Error)]
#[error(
    "the hub's disk has {free_bytes} bytes free at {path} and keeps {} in reserve; \
     free some space, then try again",
    limits::DISK_RESERVE_BYTES
)]
pub struct Low {
    /// Where.
    pub path: PathBuf,
    /// How much.
    pub free_bytes: u64,
}

/// Knows how much room there was when it last looked.
#[derive(Debug, Clone)]
pub struct Gauge {
    path: PathBuf,
    free: Arc<AtomicU64>,
}

impl Gauge {
    /// For the disk of that folder.
    pub fn new(path: &Path) -> Self {
        let gauge = Self { path: path.into(), free: Arc::new(AtomicU64::new(u64::MAX)) };
        gauge.pass();
        gauge
    }

    /// Look again. Harmless to repeat.
    pub fn pass(&self) {
        if let Ok(stat) = rustix::fs::statvfs(&self.path) {
            self.free.store(stat.f_bavail.saturating_mul(stat.f_frsize), Ordering::Relaxed);
        }
    }

    /// Whether there is room for something new.
    pub fn check(&self) -> Result<(), Low> {
        let free_bytes = self.free.load(Ordering::Relaxed);
        if free_bytes < limits::DISK_RESERVE_BYTES {
            return Err(Low { path: self.path.clone(), free_bytes });
        }
        Ok(())
    }
}
