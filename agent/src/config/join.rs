//! The `[join]` section: where an agent joins by its AWS identity, and whom it trusts there. A token says the same, and a secret
//! besides.

use serde::Deserialize;
use sfdata_common::{
    ids::{AccountId, AgentId},
    join::JoinToken,
};
use sfdata_proto::v1 as wire;

use super::{Problem, is_host_and_port, wrong};

/// The `[join]` section, as `hubctl agents register` prints it. Nothing in it is secret.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Join {
    /// Its own id.
    pub agent: AgentId,
    /// The account that it is registered for.
    pub account: AccountId,
    /// `host:port` of the hub.
    pub address: String,
    /// `host:port` where the hub lets agents join.
    pub enrol_address: String,
    /// First part of every identity.
    pub trust_domain: String,
    /// SHA-256 over the certificate of the hub's CA, in 64 hexadecimal digits: no other hub is joined.
    pub ca_pin: String,
    /// Digest of the root keys, in 64 hexadecimal digits: no other trust bundle is taken.
    pub root_pin: String,
}

impl Join {
    /// What a token would say, but for its secret.
    pub fn place(&self) -> JoinToken {
        let pin = |text: &str| hex::decode(text).unwrap_or_default().into();
        let bearer = wire::AgentSubject { agent_id: self.agent.to_string(), account: self.account.to_string() };
        JoinToken {
            enrol_address: self.enrol_address.clone(),
            address: self.address.clone(),
            ca_pin: pin(&self.ca_pin),
            root_pin: pin(&self.root_pin),
            trust_domain: self.trust_domain.clone(),
            subject: Some(wire::join_token::Subject::Agent(bearer)),
            ..Default::default()
        }
    }

    pub(super) fn check(&self, problems: &mut Vec<Problem>) {
        for (key, value) in [("join.address", &self.address), ("join.enrol_address", &self.enrol_address)] {
            problems.extend(wrong(Some(value), is_host_and_port).map(|value| Problem::Address { key, value }));
        }
        for (key, value) in [("ca_pin", &self.ca_pin), ("root_pin", &self.root_pin)] {
            problems.extend(wrong(Some(value), is_digest).map(|value| Problem::Pin { key, value }));
        }
    }
}

fn is_digest(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit())
}
