//! `hubctl ecs capacity`: what a service's tasks run on.

use clap::Args;
use sfdata_common::{
    command::{self, Action, FargateCapacity},
    limits,
};

use super::deploy::Judgement;
use crate::{cli::Context, exit::Exit, order::Change};

/// Have a service's tasks run on Fargate's on-demand capacity or on Spot, and go back where that does not hold
///
/// Spot is cheaper, and AWS takes it back with two minutes' notice. Where it has no capacity the service goes on to
/// on-demand by itself, and the result says so. The tasks are replaced as by a deploy.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  hubctl ecs capacity code-server --spot --agent northshire --plan
  hubctl ecs capacity code-server --spot --base 1 --group pilot
  hubctl ecs capacity code-server --fargate --agent northshire")]
pub(crate) struct Capacity {
    /// Service: webserver, daemon or code-server, or its name in ECS
    service: String,
    #[command(flatten)]
    on: On,
    /// So many tasks stay on demand
    #[arg(long, value_name = "N", default_value = "0", conflicts_with = "fargate",
          value_parser = clap::value_parser!(u32).range(..=i64::from(limits::TASKS_PER_SERVICE)))]
    base: u32,
    #[command(flatten)]
    judgement: Judgement,
    #[command(flatten)]
    change: Change,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct On {
    /// On demand
    #[arg(long)]
    fargate: bool,
    /// On Spot
    #[arg(long)]
    spot: bool,
}

impl Capacity {
    pub(super) async fn run(self, context: &Context) -> anyhow::Result<Exit> {
        let rollout = self.judgement.within(self.change.order.deadline());
        let capacity = if self.on.spot { FargateCapacity::Spot { base: self.base } } else { FargateCapacity::OnDemand };
        let action = command::Ecs::SetCapacity { service: self.service, capacity, rollout };
        self.change.run(context, Action::Ecs(action)).await
    }
}
