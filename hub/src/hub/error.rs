//! Why a hub does not start, or ends.

use std::{io, path::PathBuf};

use jiff::Timestamp;
use sfdata_common::telemetry::traces;

use crate::{
    admin,
    alerts::channels,
    config,
    enrol::{identity, serving, tokens},
    fleet, queue, server,
    signer::kms,
    store, trust,
};

/// Why the hub does not start, or ends.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Keys and certificates in `data_dir`.
    #[error(transparent)]
    Identity(#[from] identity::Error),
    /// There is no hub in `data_dir`.
    #[error("there is no hub in {0} yet; run `sfdata-hub init` first")]
    NoHub(PathBuf),
    /// The store.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// Bundles and epoch.
    #[error(transparent)]
    Trust(#[from] trust::Error),
    /// The registry.
    #[error(transparent)]
    Fleet(#[from] fleet::Error),
    /// What has not ended.
    #[error(transparent)]
    Queue(#[from] queue::Error),
    /// Invitations.
    #[error(transparent)]
    Tokens(#[from] tokens::Error),
    /// TLS.
    #[error(transparent)]
    Serving(#[from] serving::Error),
    /// The policy.
    #[error(transparent)]
    Policy(#[from] config::Problem),
    /// Who is told of alerts.
    #[error(transparent)]
    Channels(#[from] channels::Error),
    /// Where traces go.
    #[error(transparent)]
    Telemetry(#[from] traces::Error),
    /// A listener.
    #[error(transparent)]
    Server(#[from] server::Error),
    /// The socket for backups.
    #[error(transparent)]
    Admin(#[from] admin::Error),
    /// The dispatch key in KMS.
    #[error(transparent)]
    Kms(#[from] kms::Error),
    /// The socket for the hub's keys.
    #[error("cannot make the socket for `sfdata-hub rotate` in data_dir")]
    Keys(#[source] io::Error),
    /// The operations listener or another part of the system.
    #[error("the hub's operations listener failed")]
    Ops(#[source] io::Error),
    /// The clock is far off.
    #[error(
        "this machine's clock says {now}, which is before the hub's own keys were made ({made}); \
         set the clock (timedatectl), then start again"
    )]
    Clock {
        /// What it says.
        now: Timestamp,
        /// Latest time on record.
        made: Timestamp,
    },
}
