//! Backups of a running hub, over a socket in its folder that only its own user can open.
//!
//! Whoever connects gets a whole, consistent backup and the end of the stream; there is no request to parse.

use std::{
    fs,
    io::{self, Write},
    os::unix::{fs::PermissionsExt as _, net::UnixStream as Blocking},
    path::{Path, PathBuf},
    time::Duration,
};

use sfdata_common::error::chain;
use tokio::net::UnixListener;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{info, warn};

use crate::{
    metrics::Metrics,
    store::{Store, backup},
};

const SOCKET: &str = "admin.sock";
/// A reader that stalls must not hold up the store's writer for longer.
const STALL: Duration = Duration::from_secs(10);

/// Why there is no socket.
#[derive(Debug, thiserror::Error)]
#[error("cannot make the socket {path}")]
pub struct Error {
    path: PathBuf,
    #[source]
    source: io::Error,
}

/// Serve backups until `stop`.
pub(crate) fn listen(data_dir: &Path, store: Store, tasks: &TaskTracker, stop: CancellationToken) -> Result<(), Error> {
    let path = data_dir.join(SOCKET);
    let attempt = || {
        // The store's lock is ours, so a socket that is there is left over.
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(&path)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
        Ok(listener)
    };
    let listener = attempt().map_err(|source| Error { path: path.clone(), source })?;
    tasks.spawn(async move {
        loop {
            let stream = tokio::select! {
                () = stop.cancelled() => break,
                accepted = listener.accept() => accepted,
            };
            let written = async {
                let stream = stream?.0.into_std()?;
                stream.set_nonblocking(false)?;
                stream.set_write_timeout(Some(STALL))?;
                store.backup(Box::new(stream)).await
            };
            match written.await {
                Ok(summary) => info!(records = summary.records, "a backup was taken"),
                Err(error) => warn!(error = %chain(&error), "a backup failed"),
            }
        }
        let _ = fs::remove_file(&path);
    });
    Ok(())
}

/// Write a backup of the hub in `data_dir` to `out`: from the running hub, or from the store when none runs.
pub async fn backup(data_dir: &Path, mut out: Box<dyn Write + Send>) -> Result<backup::Summary, backup::Error> {
    match Blocking::connect(data_dir.join(SOCKET)) {
        Ok(stream) => {
            let copy = move || {
                let mut spool = tempfile::tempfile()?;
                io::copy(&mut &stream, &mut spool)?;
                io::Seek::rewind(&mut spool)?;
                let summary = backup::read(&spool, |_, _| Ok(()))?;
                io::Seek::rewind(&mut spool)?;
                io::copy(&mut spool, &mut out)?;
                out.flush()?;
                Ok(summary)
            };
            tokio::task::spawn_blocking(copy).await.map_err(io::Error::other)?
        }
        Err(_) => {
            let store = Store::open(data_dir, Metrics::default())?;
            let summary = store.backup(out).await;
            store.close().await;
            summary
        }
    }
}
