//! `hubctl ecs use-secret`: a variable from Secrets Manager in place of a plain value.

use clap::Args;
use sfdata_common::command::{self, Action};

use super::deploy::Judgement;
use crate::{cli::Context, exit::Exit, order::Change};

/// Have a service get a variable from Secrets Manager in place of a plain value, and go back where that does not hold
///
/// The agent puts the value from the task definition into a secret of its own, sfdata/CLUSTER/SERVICE/NAME; it leaves the
/// LA's account at no time. The execution role of the tasks has to be allowed to read it. Older revisions of the task
/// definition still hold the value in the clear: give it another one afterwards, in the secret and where it is used.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  hubctl ecs use-secret code-server --env DAGSTER_PG_PASSWORD --agent northshire --plan
  hubctl ecs use-secret daemon --env DAGSTER_PG_PASSWORD --agent northshire \\
      --secret arn:aws:secretsmanager:eu-west-2:222222222222:secret:dagster-a1B2c3")]
pub(crate) struct UseSecret {
    /// Service: webserver, daemon or code-server, or its name in ECS
    service: String,
    /// Variable of its main container
    #[arg(long, value_name = "NAME")]
    env: String,
    /// Secret that there is, in place of one that is made
    #[arg(long, value_name = "ARN")]
    secret: Option<String>,
    #[command(flatten)]
    judgement: Judgement,
    #[command(flatten)]
    change: Change,
}

impl UseSecret {
    pub(super) async fn run(self, context: &Context) -> anyhow::Result<Exit> {
        let rollout = self.judgement.within(self.change.order.deadline());
        let action =
            command::Ecs::UseSecret { service: self.service, variable: self.env, secret: self.secret, rollout };
        self.change.run(context, Action::Ecs(action)).await
    }
}
