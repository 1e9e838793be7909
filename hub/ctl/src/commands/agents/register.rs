//! `hubctl agents register|unregister`: who may join by AWS identity, without a token; and the text that its agent needs.

use std::fmt::Write as _;

use anyhow::Context as _;
use clap::Args;
use serde_json::json;
use sfdata_common::{
    ids::{AccountId, AgentId, GroupName, RoleName},
    join::JoinToken,
};
use sfdata_proto::v1::{RegisterAgentRequest, UnregisterAgentRequest};

use super::invite::label;
use crate::{cli::Context, client::Hub, exit::Exit, output};

/// Let an LA's agent join by its AWS identity and print the [join] section for its configuration
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  hubctl agents register northshire --account 123456789012 --role sfdata-agent --group pilot")]
pub(crate) struct Register {
    /// Agent's id, for ever; a known one keeps all that it has
    id: AgentId,
    /// AWS account that the agent must be in
    #[arg(long, value_name = "12 DIGITS")]
    account: AccountId,
    /// Name of the IAM role that the agent's task has, without its path
    #[arg(long, value_name = "NAME")]
    role: RoleName,
    /// Free word about it, as in region=north; repeatable
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = label)]
    labels: Vec<(String, String)>,
    /// Group that it belongs to; repeatable
    #[arg(long = "group", value_name = "GROUP")]
    groups: Vec<GroupName>,
    /// Accept at the next join within the hour a role that was made anew, and an agent that has lost its folder
    #[arg(long)]
    again: bool,
}

impl Register {
    pub(super) async fn run(self, context: &Context) -> anyhow::Result<Exit> {
        let hub = Hub::connect(context).await?;
        let request = RegisterAgentRequest {
            agent_id: self.id.to_string(),
            account: self.account.to_string(),
            role: self.role.to_string(),
            labels: self.labels.into_iter().collect(),
            groups: self.groups.into_iter().map(String::from).collect(),
            again: self.again,
        };
        let answer = hub.ask(format_args!("register {}", self.id), hub.operator().register_agent(request)).await?;
        let place = answer.join.context("the hub's answer does not say where to join; is it of an older version?")?;
        let json = json!({
            "agent_id": self.id.as_str(),
            "account": self.account.as_str(),
            "role": self.role.as_str(),
            "address": place.address,
            "enrol_address": place.enrol_address,
            "trust_domain": place.trust_domain,
            "ca_pin": hex::encode(&place.ca_pin),
            "root_pin": hex::encode(&place.root_pin),
        });
        context.output.text(&json, section(&self.id, &self.account, &place).trim_end())?;
        output::note(format_args!(
            "put it into agent.toml in account {}, whose task has the role {}; then: sfdata-agent enrol --aws, or just run",
            self.account, self.role
        ));
        Ok(Exit::Done)
    }
}

/// The section of the agent's configuration.
fn section(id: &AgentId, account: &AccountId, place: &JoinToken) -> String {
    let mut text = "[join]\n".to_owned();
    let (ca_pin, root_pin) = (hex::encode(&place.ca_pin), hex::encode(&place.root_pin));
    for (key, value) in [
        ("agent", id.as_str()),
        ("account", account.as_str()),
        ("address", &place.address),
        ("enrol_address", &place.enrol_address),
        ("trust_domain", &place.trust_domain),
        ("ca_pin", &ca_pin),
        ("root_pin", &root_pin),
    ] {
        let _ = writeln!(text, "{key} = {value:?}"); // a string takes everything
    }
    text
}

/// Have an agent need a token to join; what has joined stays
#[derive(Debug, Args)]
pub(crate) struct Unregister {
    /// Agent's id
    id: AgentId,
    /// Why, for the audit record
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    reason: String,
}

impl Unregister {
    pub(super) async fn run(self, context: &Context) -> anyhow::Result<Exit> {
        let hub = Hub::connect(context).await?;
        let request = UnregisterAgentRequest { agent_id: self.id.to_string(), reason: self.reason };
        hub.ask(format_args!("unregister {}", self.id), hub.operator().unregister_agent(request)).await?;
        output::note(format_args!("{} needs a token to join from now on", self.id));
        Ok(Exit::Done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_section_is_what_the_agent_reads() {
        let place = JoinToken {
            enrol_address: "hub.sfdata.example:7444".into(),
            address: "hub.sfdata.example:7443".into(),
            ca_pin: vec![0xca; 32].into(),
            root_pin: vec![0x07; 32].into(),
            trust_domain: "sfdata.example".into(),
            ..Default::default()
        };
        let (id, account) = ("camden".parse().unwrap(), "123456789012".parse().unwrap());
        insta::assert_snapshot!(section(&id, &account, &place), @r#"
        [join]
        agent = "camden"
        account = "123456789012"
        address = "hub.sfdata.example:7443"
        enrol_address = "hub.sfdata.example:7444"
        trust_domain = "sfdata.example"
        ca_pin = "cacacacacacacacacacacacacacacacacacacacacacacacacacacacacacacaca"
        root_pin = "0707070707070707070707070707070707070707070707070707070707070707"
        "#);
    }
}
