//! sled, as the journal and the book of arrivals use it: opened alone, written in batches, synced by us.

use std::{
    error,
    fs::File,
    io,
    panic::{self, AssertUnwindSafe},
    path::Path,
    time::Duration,
};

/// How often, and after which pause each, opening is tried again.
const OPEN_TRIES: u32 = 50;
const OPEN_PAUSE: Duration = Duration::from_millis(20);

/// An open database.
#[derive(Debug)]
pub(crate) struct Database {
    pub(crate) db: sled::Db,
    file: File,
}

/// Why one is not open.
#[derive(Debug)]
pub(crate) enum OpenError {
    /// The system does not let it be: most often another process has it.
    Io(io::Error),
    /// It can't be read.
    Damaged,
}

impl Database {
    /// Open the one in this folder, or make it.
    pub(crate) fn open(path: &Path) -> Result<Self, OpenError> {
        let config = sled::Config::new().path(path).flush_every_ms(None).cache_capacity(4 * 1024 * 1024);
        let mut tries = 0;
        let db = loop {
            // sled panics on some damage that it does not expect.
            match panic::catch_unwind(AssertUnwindSafe(|| config.open())) {
                Ok(Ok(db)) => break db,
                // Of one that was just closed, threads of sled's hold the lock for a moment longer.
                Ok(Err(sled::Error::Io(_))) if tries < OPEN_TRIES => {
                    tries += 1;
                    #[expect(clippy::disallowed_methods, reason = "once, at the start, before anything else runs")]
                    std::thread::sleep(OPEN_PAUSE);
                }
                Ok(Err(sled::Error::Io(source))) => return Err(OpenError::Io(source)),
                Ok(Err(_)) | Err(_) => return Err(OpenError::Damaged),
            }
        };
        let file = File::open(path.join("db")).map_err(OpenError::Io)?;
        Ok(Self { db, file })
    }

    /// sled's flush does not survive a power cut (its issues 1351 and 1452); the sync does.
    pub(crate) fn sync(&self) -> Result<(), Box<dyn error::Error + Send + Sync>> {
        self.db.flush()?;
        Ok(self.file.sync_data()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_that_is_just_being_closed_is_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().to_owned();
        let before = Database::open(&path).unwrap();
        let opening = tokio::task::spawn_blocking(move || Database::open(&path).is_ok());
        tokio::time::sleep(10 * OPEN_PAUSE).await;
        drop(before);
        assert!(opening.await.unwrap());
    }
}
