//! `hubctl s3 quarantine`: taking a prefix out of everybody's reach.

use clap::Args;
use sfdata_common::command::{self, Action, Bucket};

use crate::{cli::Context, exit::Exit, order::Change};

/// Keep everybody from reading, writing or deleting what begins with a prefix, or list what is kept so
///
/// It works at once and for everybody, the LA's own people and pipelines included. Nothing is moved or lost: names can
/// still be listed, and --lift opens it again, where the LA's policy allows data. What has been copied to another bucket
/// can be read there. A bucket's policy has room for some hundred prefixes (20 KB); it is said when there is none left.
/// The prefix stands in the signed order, which the hub keeps, and in --list: do not name a child in it.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  hubctl s3 quarantine ssda903/2024/ --bucket data-store --agent northshire --reason 'sent to the wrong LA'
  hubctl s3 quarantine ssda903/2024/ --bucket data-store --lift --agent northshire
  hubctl s3 quarantine --list --all")]
pub(crate) struct Quarantine {
    /// What the keys begin with; it holds no *, ? or ${
    #[arg(required_unless_present = "list")]
    prefix: Option<String>,
    /// Bucket: data-store, workspace, shared or backup
    #[arg(long, value_name = "ROLE", required_unless_present = "list")]
    bucket: Option<Bucket>,
    /// Open it again
    #[arg(long)]
    lift: bool,
    /// List what is in quarantine
    #[arg(long, conflicts_with_all = ["prefix", "bucket", "lift", "plan", "if_plan"])]
    list: bool,
    #[command(flatten)]
    change: Change,
}

impl Quarantine {
    pub(super) async fn run(self, context: &Context) -> anyhow::Result<Exit> {
        let Self { prefix: Some(prefix), bucket: Some(bucket), lift, change, .. } = self else {
            return self.change.order.run(context, Action::S3(command::S3::Quarantines)).await;
        };
        let action = match lift {
            true => command::S3::LiftQuarantine { bucket, prefix },
            false => command::S3::Quarantine { bucket, prefix },
        };
        change.run(context, Action::S3(action)).await
    }
}
