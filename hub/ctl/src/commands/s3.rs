//! `hubctl s3`: the buckets of an LA's platform.

mod ensure;
mod quarantine;
mod share;
mod url;
mod usage;

use clap::Subcommand;

use crate::{cli::Context, exit::Exit};

/// See the buckets of the platform, make them secure, and share
#[derive(Debug, Subcommand)]
pub(crate) enum S3 {
    Usage(usage::Usage),
    Drift(ensure::Drift),
    Ensure(ensure::Ensure),
    #[command(subcommand)]
    Share(share::Share),
    Quarantine(quarantine::Quarantine),
    UploadUrl(url::UploadUrl),
    DownloadUrl(url::DownloadUrl),
}

impl S3 {
    pub(super) async fn run(self, context: &Context) -> anyhow::Result<Exit> {
        match self {
            Self::Usage(usage) => usage.run(context).await,
            Self::Drift(drift) => drift.run(context).await,
            Self::Ensure(ensure) => ensure.run(context).await,
            Self::Share(share) => share.run(context).await,
            Self::Quarantine(quarantine) => quarantine.run(context).await,
            Self::UploadUrl(url) => url.run(context).await,
            Self::DownloadUrl(url) => url.run(context).await,
        }
    }
}
