//! `hubctl agents refresh`: ask agents, by a signed command, to look at their platform now.

use clap::Args;
use sfdata_common::command::{Action, Agent};

use crate::{cli::Context, exit::Exit, order::Order};

/// Have agents look at their whole platform now and report it
#[derive(Debug, Args)]
pub(crate) struct Refresh {
    #[command(flatten)]
    order: Order,
}

impl Refresh {
    pub(super) async fn run(self, context: &Context) -> anyhow::Result<Exit> {
        self.order.run(context, Action::Agent(Agent::Refresh)).await
    }
}
