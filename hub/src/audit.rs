//! The audit record: who did what, where, when and why, appended with every change that it tells of.
//!
//! Entries are drafted here and linked by the store's writer, in the same durable batch as the change itself:
//! there is no change without its entry and no entry without its change.

use jiff::Timestamp;
use sfdata_common::{
    command::Command,
    ids::{AgentId, OperatorName},
    keys::sha256,
    limits,
};
use sfdata_proto::v1::{AuditEntry, Envelope};

/// The actor word of an operator.
pub fn operator(name: &OperatorName) -> String {
    format!("operator/{name}")
}

/// The actor word of an agent.
pub fn agent(id: &AgentId) -> String {
    format!("agent/{id}")
}

/// The actor word of the hub itself.
pub const HUB: &str = "hub";

/// An entry that has no place in the chain yet. Its texts are cut to what is kept for ever.
pub fn draft(
    at: Timestamp,
    kind: &str,
    actor: impl Into<String>,
    subject: impl Into<String>,
    detail: impl Into<String>,
) -> AuditEntry {
    AuditEntry {
        at_unix_ms: at.as_millisecond(),
        kind: kind.to_owned(),
        actor: actor.into(),
        subject: cut(subject.into()),
        detail: cut(detail.into()),
        ..Default::default()
    }
}

/// An entry about a command of its operator's: what, on which agents, and why.
pub fn ordered(at: Timestamp, kind: &str, command: &Command) -> AuditEntry {
    let mut detail = match &command.targets[..] {
        [only] => format!("{} on {only}", command.action.name()),
        many => format!("{} on {} agents", command.action.name(), many.len()),
    };
    if !command.reason.is_empty() {
        detail += &format!(": {}", command.reason);
    }
    draft(at, kind, operator(&command.operator), command.id.to_string(), detail)
}

fn cut(mut text: String) -> String {
    text.truncate(text.floor_char_boundary(limits::AUDIT_TEXT_BYTES));
    text
}

/// Names the signed bytes that an entry is about.
pub trait About {
    /// Put the digest of the envelope's payload into the entry.
    fn about(self, envelope: &Envelope) -> Self;
}

impl About for AuditEntry {
    fn about(mut self, envelope: &Envelope) -> Self {
        self.payload_digest = sha256(&envelope.payload).to_vec().into();
        self
    }
}
