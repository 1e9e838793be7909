//! `hubctl agents edit|lock|unlock|remove`: change what the hub knows of an agent. No signed command: nothing is done
//! in the LA's account.

use anyhow::bail;
use clap::Args;
use sfdata_common::{
    Timestamp,
    ids::{AgentId, GroupName},
};
use sfdata_proto::v1::{EditAgentRequest, LockAgentRequest, RemoveAgentRequest, UnlockAgentRequest};

use super::{invite::label, show};
use crate::{cli::Context, client::Hub, exit::Exit, output};

/// Change an agent's labels and groups
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  hubctl agents edit northshire --group pilot --label region=north --remove-label trial")]
pub(crate) struct Edit {
    /// Agent's id
    id: AgentId,
    #[command(flatten)]
    changes: Changes,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = true)]
struct Changes {
    /// Set a label, as in region=north; repeatable
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = label)]
    labels: Vec<(String, String)>,
    /// Remove a label; repeatable
    #[arg(long = "remove-label", value_name = "KEY")]
    remove_labels: Vec<String>,
    /// Put it into a group; repeatable
    #[arg(long = "group", value_name = "GROUP")]
    groups: Vec<GroupName>,
    /// Take it out of a group; repeatable
    #[arg(long = "remove-group", value_name = "GROUP")]
    remove_groups: Vec<GroupName>,
}

impl Edit {
    pub(super) async fn run(self, context: &Context) -> anyhow::Result<Exit> {
        let hub = Hub::connect(context).await?;
        let names = |groups: Vec<GroupName>| groups.into_iter().map(String::from).collect();
        let request = EditAgentRequest {
            agent_id: self.id.to_string(),
            set_labels: self.changes.labels.into_iter().collect(),
            remove_labels: self.changes.remove_labels,
            add_groups: names(self.changes.groups),
            remove_groups: names(self.changes.remove_groups),
        };
        let answer = hub.ask(format_args!("edit {}", self.id), hub.operator().edit_agent(request)).await?;
        let agent = answer.agent.unwrap_or_default();
        context.output.data(&show::to_json(&agent), &show::tables(&agent, Timestamp::now()))?;
        Ok(Exit::Done)
    }
}

/// Lock an agent out, at once; its commands wait
#[derive(Debug, Args)]
pub(crate) struct Lock {
    /// Agent's id
    id: AgentId,
    /// Why, for the audit record
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    reason: String,
}

impl Lock {
    pub(super) async fn run(self, context: &Context) -> anyhow::Result<Exit> {
        let hub = Hub::connect(context).await?;
        let request = LockAgentRequest { agent_id: self.id.to_string(), reason: self.reason };
        hub.ask(format_args!("lock {}", self.id), hub.operator().lock_agent(request)).await?;
        output::note(format_args!("{} is locked out", self.id));
        Ok(Exit::Done)
    }
}

/// Let a locked agent in again
#[derive(Debug, Args)]
pub(crate) struct Unlock {
    /// Agent's id
    id: AgentId,
    /// Why, for the audit record
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    reason: String,
}

impl Unlock {
    pub(super) async fn run(self, context: &Context) -> anyhow::Result<Exit> {
        let hub = Hub::connect(context).await?;
        let request = UnlockAgentRequest { agent_id: self.id.to_string(), reason: self.reason };
        hub.ask(format_args!("unlock {}", self.id), hub.operator().unlock_agent(request)).await?;
        output::note(format_args!("{} may come in again", self.id));
        Ok(Exit::Done)
    }
}

/// Forget an agent and end its commands; its platform is left as it is
#[derive(Debug, Args)]
pub(crate) struct Remove {
    /// Agent's id
    id: AgentId,
    /// Why, for the audit record
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    reason: String,
    /// Do not ask
    #[arg(long)]
    yes: bool,
}

impl Remove {
    pub(super) async fn run(self, context: &Context) -> anyhow::Result<Exit> {
        if !self.yes && !output::confirm(format_args!("Forget agent {} for good?", self.id))? {
            bail!("{} is left as it is; answer y, or give --yes", self.id);
        }
        let hub = Hub::connect(context).await?;
        let request = RemoveAgentRequest { agent_id: self.id.to_string(), reason: self.reason };
        hub.ask(format_args!("remove {}", self.id), hub.operator().remove_agent(request)).await?;
        output::note(format_args!("{} is forgotten", self.id));
        Ok(Exit::Done)
    }
}
