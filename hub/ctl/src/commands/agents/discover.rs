//! `hubctl agents discover`: ask agents what their account holds that may be a platform.

use clap::Args;
use sfdata_common::command::{Action, Agent};

use crate::{cli::Context, exit::Exit, order::Order};

/// Have agents look at their account for a platform, and propose a configuration
///
/// Beside each setting stands what the agent's configuration has there now. Nothing is changed. sfdata-agent discover tells
/// the same in the account itself, as text for the configuration and before there is one.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  hubctl agents discover --agent northshire
  hubctl agents discover --agent northshire --cluster dagster -o json")]
pub(crate) struct Discover {
    /// ECS cluster of the platform, where several could be it
    #[arg(long, value_name = "NAME")]
    cluster: Option<String>,
    #[command(flatten)]
    order: Order,
}

impl Discover {
    pub(super) async fn run(self, context: &Context) -> anyhow::Result<Exit> {
        self.order.run(context, Action::Agent(Agent::Discover { cluster: self.cluster })).await
    }
}
