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
/// What came of commands at their targets, by command and agent: [`super::records::Delivery`].
pub const DELIVERIES: &[u8] = b"d/";
/// Commands that wait for a second operator's signature: [`super::records::Proposal`].
pub const PROPOSALS: &[u8] = b"p/";
/// The hub's last signed word to an agent that a command goes to it, by command and agent: an envelope.
pub const DISPATCHES: &[u8] = b"e/";
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
/// How agents were, five minutes by five minutes: [`super::records::History`].
pub const HISTORY_SLOTS: &[u8] = b"f/";
/// The same by the hour.
pub const HISTORY_HOURS: &[u8] = b"g/";
/// The same by the day.
pub const HISTORY_DAYS: &[u8] = b"j/";

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
    key(DELIVERIES, id.as_bytes())
}

/// What came of a command at one target: [`super::records::Delivery`].
pub fn delivery(id: CommandId, agent: &AgentId) -> Vec<u8> {
    key(&deliveries(id), agent.as_str().as_bytes())
}

/// A command that waits for a second operator.
pub fn proposal(id: CommandId) -> Vec<u8> {
    key(PROPOSALS, id.as_bytes())
}

/// The hub's signed dispatches of a command: followed by agent ids.
pub fn dispatches(id: CommandId) -> Vec<u8> {
    key(DISPATCHES, id.as_bytes())
}

/// The hub's signed dispatch of a command to one target.
pub fn dispatch(id: CommandId, agent: &AgentId) -> Vec<u8> {
    key(&dispatches(id), agent.as_str().as_bytes())
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

/// What an agent used in an hour ([`USAGE_HOURS`]) or on a day ([`USAGE_DAYS`]), or its bill of the month that begins on a day
/// ([`USAGE_BILLS`]), counted since the Unix epoch.
pub fn usage(kind: &[u8], agent: &AgentId, number: u32) -> Vec<u8> {
    numbered(kind, agent, number)
}

/// The agent and the hour, or day, of a key of usage without its kind.
pub fn usage_at(rest: &[u8]) -> Option<(AgentId, u32)> {
    numbered_at(rest)
}

/// How an agent was in five minutes ([`HISTORY_SLOTS`]), an hour ([`HISTORY_HOURS`]) or a day ([`HISTORY_DAYS`]), counted since
/// the Unix epoch.
pub fn history(kind: &[u8], agent: &AgentId, number: u32) -> Vec<u8> {
    numbered(kind, agent, number)
}

/// The number of such a key, whole.
pub fn history_at(key: &[u8]) -> Option<u32> {
    key.last_chunk().map(|number| u32::from_be_bytes(*number))
}

/// What begins all keys of an agent's in a kind that is numbered.
pub(super) fn numbered_of(kind: &[u8], agent: &AgentId) -> Vec<u8> {
    [kind, agent.as_str().as_bytes(), b"/"].concat()
}

/// Past the last of them; what has a longer name is before them or behind this.
pub(super) fn numbered_end(kind: &[u8], agent: &AgentId) -> Vec<u8> {
    [kind, agent.as_str().as_bytes(), b"0"].concat()
}

/// One agent's records sort in time.
fn numbered(kind: &[u8], agent: &AgentId, number: u32) -> Vec<u8> {
    [numbered_of(kind, agent).as_slice(), &number.to_be_bytes()].concat()
}

pub(super) fn numbered_at(rest: &[u8]) -> Option<(AgentId, u32)> {
    let (agent, number) = rest.split_at_checked(rest.len().checked_sub(5)?)?;
    let agent = std::str::from_utf8(agent).ok()?.parse().ok()?;
    Some((agent, u32::from_be_bytes(number.strip_prefix(b"/")?.try_into().ok()?)))
}

/// A kind of records.
#[derive(Debug, Clone, Copy)]
pub struct Kind {
    /// What its keys begin with.
    pub prefix: &'static [u8],
    /// Its name for those who run the hub.
    pub name: &'static str,
    /// Where keys are of an agent and a number: how many seconds one number is.
    pub seconds: Option<i64>,
}

/// How many kinds there are. A number of its own: from the list it could not be a length in a type of an optimized build.
pub const KIND_COUNT: usize = 21;

/// Every kind. What is of none, as the layout's version, counts as other.
pub const KINDS: [Kind; KIND_COUNT] = [
    kind(COMMANDS, "commands"),
    kind(DELIVERIES, "deliveries"),
    kind(UNFINISHED, "unfinished"),
    kind(PROPOSALS, "proposals"),
    kind(DISPATCHES, "dispatches"),
    kind(AGENTS, "agents"),
    kind(OPERATORS, "operators"),
    kind(LINES, "lines"),
    kind(TOKENS, "tokens"),
    kind(BUNDLES, "bundles"),
    kind(AUDIT, "audit"),
    kind(ALERTS, "alerts"),
    kind(SILENCES, "silences"),
    kind(NOTICES, "notices"),
    numbered_kind(USAGE_HOURS, "usage-hours", 3600),
    numbered_kind(USAGE_DAYS, "usage-days", 24 * 3600),
    numbered_kind(USAGE_BILLS, "usage-bills", 24 * 3600),
    numbered_kind(HISTORY_SLOTS, "history-slots", 300),
    numbered_kind(HISTORY_HOURS, "history-hours", 3600),
    numbered_kind(HISTORY_DAYS, "history-days", 24 * 3600),
    kind(b"", "other"),
];

const fn kind(prefix: &'static [u8], name: &'static str) -> Kind {
    Kind { prefix, name, seconds: None }
}

const fn numbered_kind(prefix: &'static [u8], name: &'static str, seconds: i64) -> Kind {
    Kind { prefix, name, seconds: Some(seconds) }
}

/// The place of a key's kind in [`KINDS`].
pub fn kind_of(key: &[u8]) -> usize {
    KINDS.iter().position(|kind| key.starts_with(kind.prefix)).unwrap_or(KINDS.len() - 1)
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
        let (other, kinds) = KINDS.split_last().unwrap();
        assert!(other.prefix.is_empty());
        let kinds: Vec<&[u8]> = kinds.iter().map(|kind| kind.prefix).chain([SCHEMA, EPOCH]).collect();
        for (i, a) in kinds.iter().enumerate() {
            for (j, b) in kinds.iter().enumerate() {
                assert!(i == j || !a.starts_with(b), "{a:?} {b:?}");
            }
        }
        assert_eq!(KINDS[kind_of(SCHEMA)].name, "other");
        assert_eq!(KINDS[kind_of(&audit(7))].name, "audit");
    }

    #[test]
    fn an_agents_numbered_keys_lie_between_their_beginning_and_their_end() {
        let ids: Vec<AgentId> = ["ely", "ely-2", "ely0", "elya", "el"].iter().map(|id| id.parse().unwrap()).collect();
        for (a, b) in ids.iter().flat_map(|a| ids.iter().map(move |b| (a, b))) {
            let key = history(HISTORY_DAYS, b, u32::MAX);
            let between = numbered_of(HISTORY_DAYS, a) <= key && key < numbered_end(HISTORY_DAYS, a);
            assert_eq!(between, a == b, "{a} {b}");
        }
    }
}
