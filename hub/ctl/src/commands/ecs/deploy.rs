//! `hubctl ecs deploy`, `rollback`, `set-resources`, `set-env`, `image`: what a service runs. What is signed names it by digest: a tag is
//! looked up first, where the agents look, and all of them have to find the same.

use std::time::Duration;

use anyhow::bail;
use clap::Args;
use sfdata_common::{
    command::{self, Action, Environment},
    fargate::Size,
    image, limits,
};
use sfdata_proto::v1::action_result::Kind;

use crate::{
    cli::Context,
    exit::{Exit, Usage},
    order::{Change, Order, Ready},
    output,
};

/// Have a service run another image, and go back by itself where that does not hold
///
/// The new task definition is the old one with the main container's image changed. It holds when all tasks run it and
/// go on to for a while. When tasks end early, or the time runs out, the service is given the old definition again, and
/// the command ends as failed: rolled-back.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  hubctl ecs deploy code-server --tag 2024.12.1 --agent northshire --plan
  hubctl ecs deploy daemon --group pilot \\
      --image 111111111111.dkr.ecr.eu-west-2.amazonaws.com/dagster@sha256:2f1c...
  hubctl ecs deploy --all-dagster --tag 2024.12.1 --all --timeout 20m")]
pub(crate) struct Deploy {
    #[command(flatten)]
    services: Services,
    #[command(flatten)]
    which: Which,
    #[command(flatten)]
    judgement: Judgement,
    #[command(flatten)]
    change: Change,
}

/// One service, or all that have Dagster's image.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct Services {
    /// Service: webserver, daemon or code-server, or its name in ECS
    service: Option<String>,
    /// Code servers, daemon and webserver, one after the other; all go back when one does not hold
    #[arg(long)]
    all_dagster: bool,
}

/// The image, by digest in the end.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct Which {
    /// Image by digest, in ECR
    #[arg(long, value_name = "REPOSITORY@DIGEST")]
    image: Option<image::Image>,
    /// Image that this tag means now, in the repository that the service's image is from
    #[arg(long, value_parser = |text: &str| image::tag(text.to_owned()))]
    tag: Option<String>,
}

/// When a change has failed.
#[derive(Debug, Args)]
pub(super) struct Judgement {
    /// Go back when so many tasks have ended early
    #[arg(long, value_name = "N", default_value = "2",
          value_parser = clap::value_parser!(u32).range(1..=i64::from(limits::FAILED_TASKS)))]
    failed_tasks: u32,
    /// How long all tasks have to run before it counts as done
    #[arg(long, value_name = "DURATION", default_value = "20s", value_parser = humantime::parse_duration)]
    settle: Duration,
}

impl Judgement {
    pub(super) fn within(&self, deadline: Duration) -> command::Rollout {
        command::Rollout { deadline, failed_tasks: self.failed_tasks, settle: self.settle }
    }
}

impl Deploy {
    pub(super) async fn run(self, context: &Context) -> anyhow::Result<Exit> {
        let rollout = self.judgement.within(self.change.order.deadline());
        let ready = self.change.ready(context).await?;
        let image = match (self.which.image, self.which.tag) {
            (Some(image), _) => image,
            (None, tag) => {
                // There is just one daemon, and all of Dagster is of one repository.
                let service = self.services.service.as_deref().unwrap_or("daemon");
                resolve(&ready, service, tag.unwrap_or_default()).await?
            }
        };
        let service = self.services.service;
        ready.run(context, Action::Ecs(command::Ecs::Deploy { service, image, rollout })).await
    }
}

/// The image that a tag means at the targets, if it means the same at all of them.
pub(in crate::commands) async fn resolve(ready: &Ready, service: &str, tag: String) -> anyhow::Result<image::Image> {
    let question = command::Ecs::Image { service: service.to_owned(), tag: tag.clone() };
    let mut found: Option<(String, String)> = None;
    for (agent, answer) in ready.ask(Action::Ecs(question)).await? {
        let Kind::EcsImage(answer) = answer else { bail!("{agent} answered something else; update hubctl") };
        match &found {
            Some((first, image)) if *image != answer.image => bail!(
                "nothing was ordered: tag {tag} is {image} at {first} and {} at {agent}; deploy them apart",
                answer.image
            ),
            Some(_) => {}
            None => found = Some((agent, answer.image)),
        }
    }
    let (_, image) = found.unwrap_or_default();
    output::note(format_args!("{tag} is {image}"));
    Ok(image.parse()?)
}

/// Have a service run the task definition again that its current one was made from
///
/// Every deploy notes on the new task definition which one it was made from. Another rollback goes one further back. Where
/// one of all has nothing to go back to, none is changed.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  hubctl ecs rollback daemon --agent northshire --reason 'ticks are late since noon'
  hubctl ecs rollback --all-dagster --group pilot --plan")]
pub(crate) struct Rollback {
    #[command(flatten)]
    services: Services,
    #[command(flatten)]
    judgement: Judgement,
    #[command(flatten)]
    change: Change,
}

impl Rollback {
    pub(super) async fn run(self, context: &Context) -> anyhow::Result<Exit> {
        let rollout = self.judgement.within(self.change.order.deadline());
        let service = self.services.service;
        self.change.run(context, Action::Ecs(command::Ecs::Rollback { service, rollout })).await
    }
}

/// Have a service's tasks run with another amount of CPU and memory, and go back by itself where that does not hold
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  hubctl ecs set-resources code-server --cpu 1024 --memory 4096 --agent northshire --plan")]
pub(crate) struct SetResources {
    /// Service: webserver, daemon or code-server, or its name in ECS
    service: String,
    /// CPU units: 256, 512, 1024 (one vCPU), 2048, 4096, 8192 or 16384
    #[arg(long, value_name = "UNITS")]
    cpu: u32,
    /// Memory that Fargate has with that CPU
    #[arg(long, value_name = "MIB")]
    memory: u32,
    #[command(flatten)]
    judgement: Judgement,
    #[command(flatten)]
    change: Change,
}

impl SetResources {
    pub(super) async fn run(self, context: &Context) -> anyhow::Result<Exit> {
        let rollout = self.judgement.within(self.change.order.deadline());
        let size = Size::new(self.cpu, self.memory).map_err(|error| Usage(error.to_string()))?;
        let action = command::Ecs::SetResources { service: self.service, size, rollout };
        self.change.run(context, Action::Ecs(action)).await
    }
}

/// Have a service run with other environment variables, and go back by itself where that does not hold
///
/// Only its main container's. Values are signed, kept and shown in the clear: secrets are refused, and belong into
/// Secrets Manager.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  hubctl ecs set-env code-server SENSOR_MIN_INTERVAL=300 --unset DEBUG --agent northshire --plan")]
pub(crate) struct SetEnv {
    /// Service: webserver, daemon or code-server, or its name in ECS
    service: String,
    /// Variable to set; repeatable
    #[arg(value_name = "NAME=VALUE", value_parser = variable, required_unless_present = "unset")]
    set: Vec<(String, String)>,
    /// Variable to take away; repeatable
    #[arg(long, value_name = "NAME")]
    unset: Vec<String>,
    #[command(flatten)]
    judgement: Judgement,
    #[command(flatten)]
    change: Change,
}

pub(super) fn variable(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("write NAME=VALUE; NAME= sets it to nothing")?;
    Ok((name.to_owned(), value.to_owned()))
}

impl SetEnv {
    pub(super) async fn run(self, context: &Context) -> anyhow::Result<Exit> {
        let rollout = self.judgement.within(self.change.order.deadline());
        let environment = Environment::new(self.set, self.unset).map_err(|error| Usage(error.to_string()))?;
        let action = command::Ecs::SetEnv { service: self.service, environment, rollout };
        self.change.run(context, Action::Ecs(action)).await
    }
}

/// Show which image a tag means, in the repository that a service's image is from
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  hubctl ecs image code-server 2024.12.1 --agent northshire")]
pub(crate) struct Image {
    /// Service: webserver, daemon or code-server, or its name in ECS
    service: String,
    /// What to look for
    #[arg(value_parser = |text: &str| image::tag(text.to_owned()))]
    tag: String,
    #[command(flatten)]
    order: Order,
}

impl Image {
    pub(super) async fn run(self, context: &Context) -> anyhow::Result<Exit> {
        self.order.run(context, Action::Ecs(command::Ecs::Image { service: self.service, tag: self.tag })).await
    }
}
