//! `hubctl ecs`: the containers of an LA's platform.

mod capacity;
mod deploy;
mod secret;
mod task;

pub(super) use deploy::resolve;

use clap::{Args, Subcommand};
use sfdata_common::{
    command::{self, Action},
    limits,
};

use crate::{
    cli::Context,
    exit::Exit,
    order::{Change, Order},
};

/// See and operate the ECS services of Dagster
#[derive(Debug, Subcommand)]
pub(crate) enum Ecs {
    Status(Status),
    Scale(Scale),
    Restart(Restart),
    Deploy(deploy::Deploy),
    Rollback(deploy::Rollback),
    SetResources(deploy::SetResources),
    SetEnv(deploy::SetEnv),
    UseSecret(secret::UseSecret),
    Capacity(capacity::Capacity),
    Run(task::Run),
    StopTask(task::StopTask),
    Image(deploy::Image),
}

impl Ecs {
    pub(super) async fn run(self, context: &Context) -> anyhow::Result<Exit> {
        match self {
            Self::Status(status) => status.run(context).await,
            Self::Scale(scale) => scale.run(context).await,
            Self::Restart(restart) => restart.run(context).await,
            Self::Deploy(deploy) => deploy.run(context).await,
            Self::Rollback(rollback) => rollback.run(context).await,
            Self::SetResources(set) => set.run(context).await,
            Self::SetEnv(set) => set.run(context).await,
            Self::UseSecret(secret) => secret.run(context).await,
            Self::Capacity(capacity) => capacity.run(context).await,
            Self::Run(run) => run.run(context).await,
            Self::StopTask(stop) => stop.run(context).await,
            Self::Image(image) => image.run(context).await,
        }
    }
}

/// Show services, deployments and images as they are now
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  hubctl ecs status --agent northshire
  hubctl ecs status --all -o json")]
pub(crate) struct Status {
    #[command(flatten)]
    order: Order,
}

impl Status {
    async fn run(self, context: &Context) -> anyhow::Result<Exit> {
        self.order.run(context, Action::Ecs(command::Ecs::Status)).await
    }
}

/// Set a service's number of tasks and wait until they run
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  hubctl ecs scale webserver 1 --agent northshire --reason 'look at run 4711'")]
pub(crate) struct Scale {
    /// Service: webserver, daemon or code-server, or its name in ECS
    service: String,
    /// Wanted number of tasks
    #[arg(value_name = "N", value_parser = clap::value_parser!(u32).range(..=i64::from(limits::TASKS_PER_SERVICE)))]
    desired: u32,
    #[command(flatten)]
    change: Change,
}

impl Scale {
    async fn run(self, context: &Context) -> anyhow::Result<Exit> {
        let deadline = self.change.order.deadline();
        let action = command::Ecs::Scale { service: self.service, desired: self.desired, deadline };
        self.change.run(context, Action::Ecs(action)).await
    }
}

/// Replace a service's tasks by new ones and wait until they run
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  hubctl ecs restart code-server --group pilot --timeout 15m")]
pub(crate) struct Restart {
    /// Service: webserver, daemon or code-server, or its name in ECS
    service: String,
    #[command(flatten)]
    change: Change,
}

impl Restart {
    async fn run(self, context: &Context) -> anyhow::Result<Exit> {
        let action = command::Ecs::Restart { service: self.service, deadline: self.change.order.deadline() };
        self.change.run(context, Action::Ecs(action)).await
    }
}
