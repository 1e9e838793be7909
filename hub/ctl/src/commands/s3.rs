//! `hubctl s3`: the buckets of an LA's platform.

use clap::{Args, Subcommand};
use sfdata_common::command::{self, Action};

use crate::{cli::Context, exit::Exit, order::Order};

/// See the buckets of the platform
#[derive(Debug, Subcommand)]
pub(crate) enum S3 {
    Usage(Usage),
}

impl S3 {
    pub(super) async fn run(self, context: &Context) -> anyhow::Result<Exit> {
        match self {
            Self::Usage(usage) => usage.run(context).await,
        }
    }
}

/// Count the objects and bytes of each bucket
#[derive(Debug, Args)]
pub(crate) struct Usage {
    #[command(flatten)]
    order: Order,
}

impl Usage {
    async fn run(self, context: &Context) -> anyhow::Result<Exit> {
        self.order.run(context, Action::S3(command::S3::Usage)).await
    }
}
