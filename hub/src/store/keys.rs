//! Every key of the store. One letter tells the kind; what follows sorts as the records should be read.

use sfdata_common::ids::{AgentId, CommandId, OperatorName};

/// Version of the record layout: one byte.
pub(super) const SCHEMA: &[u8] = b"schema";
/// The epoch of sequence numbers: [`super::records::Epoch`].
pub const EPOCH: &[u8] = b"epoch";

/// Commands by id, which sorts in time: [`super::records::Command`].
pub const COMMANDS: &[u8] = b"c/";
/// Commands that have not ended everywhere: empty.
pub const UNFINISHED: &[u8] = b"u/";
/// Agents of the registry: [`super::records::Agent`].
pub const AGENTS: &[u8] = b"a/";
/// Operators of the registry: [`super::records::Operator`].
pub const OPERATORS: &[u8] = b"o/";
/// Each agent's place in its order: [`super::records::Line`].
pub const LINES: &[u8] = b"l/";
/// Join tokens by the digest of their secret: [`super::records::Token`].
pub const TOKENS: &[u8] = b"t/";
/// Trust bundles by version: signed envelopes.
pub const BUNDLES: &[u8] = b"b/";
/// Audit entries by index: [`sfdata_proto::v1::AuditEntry`].
pub const AUDIT: &[u8] = b"x/";

/// Alerts that fire: [`super::records::Alert`].
pub const ALERTS: &[u8] = b"w/";
/// What is kept silent, by id: [`super::records::Silence`].
pub const SILENCES: &[u8] = b"q/";
/// Notices that have not been delivered everywhere, by id, which sorts in time: [`super::records::Notice`].
pub const NOTICES: &[u8] = b"n/";
/// What agents used, hour by hour: [`super::records::UsageHour`].
pub const USAGE_HOURS: &[u8] = b"h/";
/// The same by day: [`super::records::UsageDay`].
pub const USAGE_DAYS: &[u8] = b"y/";
/// What AWS charges agents' accounts, by the first day of the month: [`super::records::UsageBill`].
pub const USAGE_BILLS: &[u8] = b"i/";

fn key(prefix: &[u8], rest: &[u8]) -> Vec<u8> {
    [prefix, rest].concat()
}

/// A command.
pub fn command(id: CommandId) -> Vec<u8> {
    key(COMMANDS, id.as_bytes())
}

/// The mark of a command that has not ended everywhere.
pub fn unfinished(id: CommandId) -> Vec<u8> {
    key(UNFINISHED, id.as_bytes())
}

/// What came of a command at its targets: followed by agent ids.
pub fn deliveries(id: CommandId) -> Vec<u8> {
    key(b"d/", id.as_bytes())
}

/// What came of a command at one target: [`super::records::Delivery`].
pub fn delivery(id: CommandId, agent: &AgentId) -> Vec<u8> {
    key(&deliveries(id), agent.as_str().as_bytes())
}

/// An agent of the registry.
pub fn agent(id: &AgentId) -> Vec<u8> {
    key(AGENTS, id.as_str().as_bytes())
}

/// An alert, by its digest: names may be of any length.
pub fn alert(digest: &[u8]) -> Vec<u8> {
    key(ALERTS, digest)
}

/// A silence.
pub fn silence(id: &str) -> Vec<u8> {
    key(SILENCES, id.as_bytes())
}

/// A notice.
pub fn notice(id: &str) -> Vec<u8> {
    key(NOTICES, id.as_bytes())
}

/// An operator of the registry.
pub fn operator(name: &OperatorName) -> Vec<u8> {
    key(OPERATORS, name.as_str().as_bytes())
}

/// An agent's place in its order.
pub fn line(agent: &AgentId) -> Vec<u8> {
    key(LINES, agent.as_str().as_bytes())
}

/// A join token, by SHA-256 over its secret.
pub fn token(digest: &[u8; 32]) -> Vec<u8> {
    key(TOKENS, digest)
}

/// A trust bundle.
pub fn bundle(version: u64) -> Vec<u8> {
    key(BUNDLES, &version.to_be_bytes())
}

/// An audit entry.
pub fn audit(index: u64) -> Vec<u8> {
    key(AUDIT, &index.to_be_bytes())
}

/// Past the last audit entry.
pub(super) fn audit_end() -> Vec<u8> {
    b"x0".to_vec()
}

/// One agent's records of `kind`, which is [`USAGE_HOURS`], [`USAGE_DAYS`] or [`USAGE_BILLS`]: followed by hours or days, which
/// sort in time.
pub fn usage_of(kind: &[u8], agent: &AgentId) -> Vec<u8> {
    [kind, agent.as_str().as_bytes(), b"/"].concat()
}

/// What an agent used in an hour, or on a day, counted since the Unix epoch.
pub fn usage(kind: &[u8], agent: &AgentId, number: u32) -> Vec<u8> {
    [usage_of(kind, agent).as_slice(), &number.to_be_bytes()].concat()
}

/// The agent and the hour, or day, of a key of usage without its kind.
pub fn usage_at(rest: &[u8]) -> Option<(AgentId, u32)> {
    let (agent, number) = rest.split_at_checked(rest.len().checked_sub(5)?)?;
    let agent = std::str::from_utf8(agent).ok()?.parse().ok()?;
    Some((agent, u32::from_be_bytes(number.strip_prefix(b"/")?.try_into().ok()?)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn audit_keys_sort_as_their_indices(a: u64, b: u64) {
            prop_assert_eq!(audit(a).cmp(&audit(b)), a.cmp(&b));
            prop_assert!(audit(a) < audit_end());
            prop_assert!(audit(a).starts_with(AUDIT));
        }

        #[test]
        fn keys_of_usage_sort_in_time_and_tell_what_they_are_of(a: u32, b: u32) {
            let agent: AgentId = "camden".parse().unwrap();
            let of = |number| usage(USAGE_HOURS, &agent, number);
            prop_assert_eq!(of(a).cmp(&of(b)), a.cmp(&b));
            prop_assert_eq!(usage_at(&of(a)[USAGE_HOURS.len()..]), Some((agent.clone(), a)));
        }
    }

    #[test]
    fn no_kind_is_the_beginning_of_another() {
        let kinds = [
            COMMANDS,
            UNFINISHED,
            AGENTS,
            OPERATORS,
            LINES,
            TOKENS,
            BUNDLES,
            AUDIT,
            ALERTS,
            SILENCES,
            NOTICES,
            USAGE_HOURS,
            USAGE_DAYS,
            USAGE_BILLS,
            b"d/",
            SCHEMA,
            EPOCH,
        ];
        for (i, a) in kinds.iter().enumerate() {
            for (j, b) in kinds.iter().enumerate() {
                assert!(i == j || !a.starts_with(b), "{a:?} {b:?}");
            }
        }
    }
}
