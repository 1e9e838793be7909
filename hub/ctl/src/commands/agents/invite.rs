//! `hubctl agents invite`: register an LA and print the token with which its agent joins.

use clap::Args;
use serde_json::json;
use sfdata_common::ids::{AccountId, AgentId, GroupName};
use sfdata_proto::v1::InviteAgentRequest;

use crate::{cli::Context, client::Hub, exit::Exit, output, words};

/// Register an LA and print the token with which its agent joins, once
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  hubctl agents invite northshire --account 123456789012 --group pilot --label region=north")]
pub(crate) struct Invite {
    /// Agent's id, for ever; a known one gets a new token
    id: AgentId,
    /// AWS account that the agent must be in
    #[arg(long, value_name = "12 DIGITS")]
    account: AccountId,
    /// Free word about it, as in region=north; repeatable
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = label)]
    labels: Vec<(String, String)>,
    /// Group that it belongs to; repeatable
    #[arg(long = "group", value_name = "GROUP")]
    groups: Vec<GroupName>,
}

/// `key=value`, where the value may hold anything.
pub(in crate::commands) fn label(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("use key=value".to_owned()),
    }
}

impl Invite {
    pub(super) async fn run(self, context: &Context) -> anyhow::Result<Exit> {
        let hub = Hub::connect(context).await?;
        let request = InviteAgentRequest {
            agent_id: self.id.to_string(),
            account: self.account.to_string(),
            labels: self.labels.into_iter().collect(),
            groups: self.groups.into_iter().map(String::from).collect(),
        };
        let answer = hub.ask(format_args!("invite {}", self.id), hub.operator().invite_agent(request)).await?;
        let json = json!({
            "agent_id": self.id.as_str(),
            "account": self.account.as_str(),
            "token": answer.token,
            "expires": words::time(answer.expires_unix_ms),
        });
        context.output.text(&json, &answer.token)?;
        output::note(format_args!(
            "join in account {} with: sfdata-agent enrol --token TOKEN; it works once, until {}",
            self.account,
            words::second(answer.expires_unix_ms)
        ));
        Ok(Exit::Done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_is_a_key_and_a_value() {
        assert_eq!(label("url=https://a?b=c"), Ok(("url".into(), "https://a?b=c".into())));
        assert_eq!(label("empty="), Ok(("empty".into(), String::new())));
        assert!(label("=x").is_err() && label("region").is_err());
    }
}
