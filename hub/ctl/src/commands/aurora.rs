//! `hubctl aurora`: the database of an LA's platform.

use clap::{Args, Subcommand};
use sfdata_common::command::{self, Action};

use crate::{cli::Context, exit::Exit, order::Order};

/// See the Aurora database of Dagster
#[derive(Debug, Subcommand)]
pub(crate) enum Aurora {
    Status(Status),
}

impl Aurora {
    pub(super) async fn run(self, context: &Context) -> anyhow::Result<Exit> {
        match self {
            Self::Status(status) => status.run(context).await,
        }
    }
}

/// Show the database's state, capacity range and pausing
#[derive(Debug, Args)]
pub(crate) struct Status {
    #[command(flatten)]
    order: Order,
}

impl Status {
    async fn run(self, context: &Context) -> anyhow::Result<Exit> {
        self.order.run(context, Action::Aurora(command::Aurora::Status)).await
    }
}
