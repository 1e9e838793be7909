//! `hubctl platform`: installing, and letting an LA in and out. Files are written here; stacks are loaded by `deploy/load`,
//! with the credentials of the account at hand.

mod check;
mod cost;
mod init;
mod offboard;
mod onboard;

use clap::Subcommand;

use crate::{cli::Context, exit::Exit};

/// Install the platform: its parameters, what they cost, whether they hold, and an LA's way in and out
#[derive(Debug, Subcommand)]
pub(crate) enum Platform {
    Init(init::Init),
    Cost(cost::Cost),
    Check(check::Check),
    Onboard(onboard::Onboard),
    Offboard(offboard::Offboard),
    Record(offboard::Show),
}

impl Platform {
    pub(super) async fn run(self, context: &Context) -> anyhow::Result<Exit> {
        match self {
            Self::Init(init) => init.run(context).await,
            Self::Cost(cost) => cost.run(context),
            Self::Check(check) => check.run(context).await,
            Self::Onboard(onboard) => onboard.run(context).await,
            Self::Offboard(offboard) => offboard.run(context).await,
            Self::Record(record) => record.run(context),
        }
    }
}
