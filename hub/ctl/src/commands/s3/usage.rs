//! `hubctl s3 usage`: how much is in the buckets.

use clap::Args;
use sfdata_common::command::{self, Action};

use crate::{cli::Context, exit::Exit, order::Order};

/// Count the objects and bytes of each bucket: all, and what the last 7 and 30 days have brought
///
/// By prefix it is told for each folder of the first level as well, the largest by name. Their names are the LA's own and
/// may speak of its children, so that its policy has to allow data.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  hubctl s3 usage --all
  hubctl s3 usage --by-prefix --agent northshire -o json")]
pub(crate) struct Usage {
    /// By folder of the first level as well
    #[arg(long)]
    by_prefix: bool,
    #[command(flatten)]
    order: Order,
}

impl Usage {
    pub(super) async fn run(self, context: &Context) -> anyhow::Result<Exit> {
        self.order.run(context, Action::S3(command::S3::Usage { by_prefix: self.by_prefix })).await
    }
}
