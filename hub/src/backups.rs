//! Backups that the hub takes by itself: files in a folder, the newest of which is never older than it may be.
//!
//! Where the folder is on another disk, or copied away, a lost disk costs what came since. The hub's keys are not in them.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use serde::Deserialize;
use sfdata_common::Timestamp;
use tracing::info;

use crate::store::{Store, backup};

const BEGINNING: &str = "hub-";
const ENDING: &str = ".backup";
/// While it is written. One that is left over was cut off, and is written over.
const UNFINISHED: &str = "unfinished.part";

/// The `[backup]` section.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Where they are put; made if it is not there.
    pub folder: PathBuf,
    /// How old the newest may become.
    #[serde(with = "humantime_serde", default = "six_hours")]
    pub every: Duration,
    /// How many are kept.
    #[serde(default = "a_week")]
    pub keep: usize,
}

fn six_hours() -> Duration {
    Duration::from_secs(6 * 3600)
}

/// Of one every six hours.
fn a_week() -> usize {
    28
}

/// A section that makes no sense.
#[derive(Debug, thiserror::Error)]
#[error(
    "[backup] needs a folder, every of a minute or more and keep of 1 or more, as in folder = \"/var/backups/sfdata-hub\""
)]
pub struct Invalid;

impl Settings {
    pub(crate) fn check(&self) -> Result<(), Invalid> {
        let sensible = !self.folder.as_os_str().is_empty() && self.every >= Duration::from_secs(60) && self.keep > 0;
        sensible.then_some(()).ok_or(Invalid)
    }
}

/// Why there is no new one.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The folder.
    #[error("cannot keep backups in {path}, which [backup] folder names; is it the hub's, and has it room?")]
    Folder {
        /// Which.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The store.
    #[error("cannot take a backup of the store")]
    Store(#[from] backup::Error),
}

/// Take one if the newest is too old, and remove what is more than is kept. Harmless to repeat.
pub(crate) async fn pass(settings: &Settings, store: &Store, now: Timestamp) -> Result<(), Error> {
    let failed = |source| Error::Folder { path: settings.folder.clone(), source };
    let kept = kept(&settings.folder).map_err(failed)?;
    let is_due =
        |newest: &(Timestamp, PathBuf)| now.duration_since(newest.0) >= settings.every.try_into().unwrap_or_default();
    if kept.last().is_none_or(is_due) {
        let part = settings.folder.join(UNFINISHED);
        let file = begin(&part).map_err(failed)?;
        let summary = store.backup(Box::new(file.try_clone().map_err(failed)?)).await?;
        let whole = settings.folder.join(format!("{BEGINNING}{}{ENDING}", now.strftime(STAMP)));
        finish(&file, &part, &whole).map_err(failed)?;
        info!(records = summary.records, file = %whole.display(), "a backup was taken");
    }
    // With the one that was just taken.
    let kept = self::kept(&settings.folder).map_err(failed)?;
    let surplus = kept.len().saturating_sub(settings.keep);
    kept.iter().take(surplus).try_for_each(|(_, path)| fs::remove_file(path)).map_err(failed)
}

const STAMP: &str = "%Y%m%dT%H%M%SZ";

/// The whole ones, oldest first.
fn kept(folder: &Path) -> io::Result<Vec<(Timestamp, PathBuf)>> {
    fs::create_dir_all(folder)?;
    let mut kept = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let stamp = name.strip_prefix(BEGINNING).and_then(|rest| rest.strip_suffix(ENDING));
        let at = stamp.and_then(|stamp| jiff::civil::DateTime::strptime(STAMP, stamp).ok());
        let at = at.and_then(|at| at.to_zoned(jiff::tz::TimeZone::UTC).ok());
        kept.extend(at.map(|at| (at.timestamp(), path)));
    }
    kept.sort();
    Ok(kept)
}

fn begin(part: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(part)
}

fn finish(file: &File, part: &Path, whole: &Path) -> io::Result<()> {
    file.sync_all()?;
    fs::rename(part, whole)?;
    whole.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Metrics;

    const HOUR: Duration = Duration::from_secs(3600);

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<_> =
            fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[tokio::test]
    async fn one_is_taken_when_the_newest_is_too_old_and_so_many_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::create(&folder.path().join("hub"), Metrics::default()).unwrap();
        let settings = Settings { folder: folder.path().join("backups"), every: 6 * HOUR, keep: 2 };
        let begun: Timestamp = "2026-11-01T00:00:00Z".parse().unwrap();
        for hours in 0..=13 {
            pass(&settings, &store, begun + hours * HOUR).await.unwrap();
        }
        assert_eq!(names(&settings.folder), ["hub-20261101T060000Z.backup", "hub-20261101T120000Z.backup"]);
        let newest = File::open(settings.folder.join("hub-20261101T120000Z.backup")).unwrap();
        assert!(backup::read(newest, |_, _| Ok(())).unwrap().records > 0);
        store.close().await;
    }

    #[tokio::test]
    async fn one_that_was_cut_off_is_no_backup_and_what_else_lies_there_stays() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::create(&folder.path().join("hub"), Metrics::default()).unwrap();
        let settings = Settings { folder: folder.path().into(), every: HOUR, keep: 1 };
        for (name, text) in
            [(UNFINISHED, "cut off"), ("hub-notes.backup", "mine"), ("hub-20261101T000000Z.backup", "old")]
        {
            fs::write(folder.path().join(name), text).unwrap();
        }
        pass(&settings, &store, "2026-11-02T00:00:00Z".parse().unwrap()).await.unwrap();
        assert_eq!(names(folder.path()), ["hub", "hub-20261102T000000Z.backup", "hub-notes.backup"]);
        store.close().await;
    }

    #[tokio::test]
    async fn a_folder_that_cannot_be_is_told_by_its_name() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::create(&folder.path().join("hub"), Metrics::default()).unwrap();
        let file = folder.path().join("file");
        fs::write(&file, "").unwrap();
        let settings = Settings { folder: file.join("backups"), every: HOUR, keep: 1 };
        let error = pass(&settings, &store, Timestamp::now()).await.unwrap_err();
        assert!(error.to_string().contains("file/backups"), "{error}");
        store.close().await;
    }
}
