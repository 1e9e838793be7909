//! `hubctl ecs run`, `stop-task`: single tasks of the platform's cluster.

use clap::Args;
use sfdata_common::{
    command::{self, Action, Environment},
    fargate::Size,
};

use super::deploy::variable;
use crate::{
    cli::Context,
    exit::{Exit, Usage},
    order::Change,
};

/// Run a task once, as a service's tasks are defined, with another command
///
/// It has the service's task definition, network and platform version. Exit code 0 is a success, another one ends the
/// command as failed: task-failed. A task that has not ended within --timeout is stopped, and so is one whose command is
/// cancelled. The command and its variables are signed, kept and shown in the clear: no secrets.
///
/// COMMAND is what the container's entry point is given in place of the command that is defined. An entry point such as
/// `sh -c` gets it quoted as one text, so that its words are executed as they are. One that is a program of its own, such
/// as dagster, stays: order only what comes after it. --plan shows both. A task that would run Dagster's daemon is
/// refused: two daemons launch every schedule twice.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  hubctl ecs run code-server --agent northshire -- dagster instance migrate
  hubctl ecs run code-server --env LEVEL=debug --cpu 1024 --memory 4096 --spot --group pilot \\
      --timeout 30m -- dagster job execute -m sfdata_pipelines -j clean")]
pub(crate) struct Run {
    /// Service: webserver, daemon or code-server, or its name in ECS
    service: String,
    /// What it executes
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<String>,
    /// Variable to set besides; repeatable
    #[arg(long, value_name = "NAME=VALUE", value_parser = variable)]
    env: Vec<(String, String)>,
    /// CPU units in place of those of the service: 256, 512, 1024 (one vCPU), 2048, 4096, 8192 or 16384
    #[arg(long, value_name = "UNITS", requires = "memory")]
    cpu: Option<u32>,
    /// Memory that Fargate has with that CPU
    #[arg(long, value_name = "MIB", requires = "cpu")]
    memory: Option<u32>,
    /// On Spot, which is cheaper and may be taken back; on demand where there is none
    #[arg(long)]
    spot: bool,
    /// Succeed as soon as it runs; nobody stops it then
    #[arg(long)]
    detach: bool,
    #[command(flatten)]
    change: Change,
}

impl Run {
    pub(super) async fn run(self, context: &Context) -> anyhow::Result<Exit> {
        let usage = |error: &dyn std::fmt::Display| Usage(error.to_string());
        let environment = match self.env {
            none if none.is_empty() => None,
            some => Some(Environment::new(some, Vec::new()).map_err(|error| usage(&error))?),
        };
        let size = match self.cpu.zip(self.memory) {
            Some((cpu, memory)) => Some(Size::new(cpu, memory).map_err(|error| usage(&error))?),
            None => None,
        };
        let action = command::Ecs::Run(command::Run {
            service: self.service,
            command: self.command,
            environment,
            size,
            spot: self.spot,
            detach: self.detach,
            deadline: self.change.order.deadline(),
        });
        self.change.run(context, Action::Ecs(action)).await
    }
}

/// Stop a task of the platform's cluster and wait until it has stopped
///
/// ECS replaces what belongs to a service. The task of a Dagster run is named with its run by --plan: Dagster sees the run
/// fail. --reason is needed, and told to ECS.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  hubctl ecs stop-task 0123456789abcdef0123456789abcdef --agent northshire --reason 'hangs since noon'")]
pub(crate) struct StopTask {
    /// Id or ARN of the task
    task: String,
    #[command(flatten)]
    change: Change,
}

impl StopTask {
    pub(super) async fn run(self, context: &Context) -> anyhow::Result<Exit> {
        let (deadline, reason) = (self.change.order.deadline(), self.change.order.reason().to_owned());
        let action = command::Ecs::StopTask { task: self.task, reason, deadline };
        self.change.run(context, Action::Ecs(action)).await
    }
}
