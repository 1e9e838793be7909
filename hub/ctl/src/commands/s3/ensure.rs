//! `hubctl s3 drift` and `ensure`: how the buckets differ from what they should be, and setting that right.

use clap::Args;
use sfdata_common::command::{self, Action, Bucket};

use crate::{
    cli::Context,
    exit::Exit,
    order::{Change, Order},
};

/// Show how the buckets differ from what they should be, without changing anything
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  hubctl s3 drift --all
  hubctl s3 drift --bucket shared --agent northshire -o json")]
pub(crate) struct Drift {
    /// Only this bucket: data-store, workspace, shared or backup
    #[arg(long, value_name = "ROLE")]
    bucket: Option<Bucket>,
    #[command(flatten)]
    order: Order,
}

impl Drift {
    pub(super) async fn run(self, context: &Context) -> anyhow::Result<Exit> {
        self.order.run(context, Action::S3(command::S3::Drift { bucket: self.bucket })).await
    }
}

/// Make the buckets, and make them secure: exactly what drift shows
///
/// A bucket is closed to the public, encrypted, owns its objects, takes nothing that does not come over TLS, keeps what
/// is overwritten or deleted for 90 days and ends uploads that nobody completes in 7. Where the agent's configuration
/// says so, accesses are logged, and data store and shared are copied to the backup. Statements and rules of others stay.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  hubctl s3 ensure --agent northshire --plan
  hubctl s3 ensure --bucket shared --group pilot --reason 'close the shared buckets'")]
pub(crate) struct Ensure {
    /// Only this bucket: data-store, workspace, shared or backup
    #[arg(long, value_name = "ROLE")]
    bucket: Option<Bucket>,
    #[command(flatten)]
    change: Change,
}

impl Ensure {
    pub(super) async fn run(self, context: &Context) -> anyhow::Result<Exit> {
        let action = command::S3::Ensure { bucket: self.bucket, deadline: self.change.order.deadline() };
        self.change.run(context, Action::S3(action)).await
    }
}
