//! `hubctl s3 share`: what the core account may read.

use clap::{Args, Subcommand};
use sfdata_common::command::{self, Action};

use crate::{
    cli::Context,
    exit::Exit,
    order::{Change, Order},
};

/// See, grant and revoke the core account's reading of the shared bucket
#[derive(Debug, Subcommand)]
pub(crate) enum Share {
    Show(Show),
    Grant(Grant),
    Revoke(Revoke),
}

impl Share {
    pub(super) async fn run(self, context: &Context) -> anyhow::Result<Exit> {
        match self {
            Self::Show(show) => show.order.run(context, Action::S3(command::S3::ShareShow)).await,
            Self::Grant(grant) => grant.change.run(context, Action::S3(command::S3::ShareGrant)).await,
            Self::Revoke(revoke) => revoke.change.run(context, Action::S3(command::S3::ShareRevoke)).await,
        }
    }
}

/// Show whether the core account may read the shared bucket, and whether the LA has revoked it, when and why
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  hubctl s3 share show --all")]
pub(crate) struct Show {
    #[command(flatten)]
    order: Order,
}

/// Let the core account list and read the shared bucket
///
/// Just the role that the LA's own configuration names. It is refused while the LA has revoked it, which only the LA
/// takes back.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  hubctl s3 share grant --agent northshire --plan")]
pub(crate) struct Grant {
    #[command(flatten)]
    change: Change,
}

/// Let the core account read the shared bucket no more
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  hubctl s3 share revoke --agent northshire --reason 'wrong year was shared'")]
pub(crate) struct Revoke {
    #[command(flatten)]
    change: Change,
}
