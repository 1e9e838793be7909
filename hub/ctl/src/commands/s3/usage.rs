//! `hubctl s3 usage`: how much is in the buckets.

use clap::Args;
use sfdata_common::command::{self, Action};

use crate::{cli::Context, exit::Exit, order::Order};

/// Count the objects and bytes of each bucket
#[derive(Debug, Args)]
pub(crate) struct Usage {
    #[command(flatten)]
    order: Order,
}

impl Usage {
    pub(super) async fn run(self, context: &Context) -> anyhow::Result<Exit> {
        self.order.run(context, Action::S3(command::S3::Usage)).await
    }
}
