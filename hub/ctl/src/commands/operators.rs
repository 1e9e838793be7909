//! `hubctl operators`: people who may talk to the hub. What they may sign is in the trust bundle, not here.

use clap::{Args, Subcommand};
use serde_json::{Value, json};
use sfdata_common::{Timestamp, ids::OperatorName};
use sfdata_proto::v1::{
    InviteOperatorRequest, ListOperatorsRequest, LockOperatorRequest, OperatorFlag, OperatorState, OperatorSummary,
    UnlockOperatorRequest,
};

use crate::{
    cli::Context,
    client::Hub,
    exit::Exit,
    health::none_if_empty,
    output,
    table::{Cell, Table, Tone},
    words,
};

/// Invite and lock operators
#[derive(Debug, Subcommand)]
pub(crate) enum Operators {
    Invite(Invite),
    List(List),
    Lock(Lock),
    Unlock(Unlock),
}

impl Operators {
    pub(super) async fn run(self, context: &Context) -> anyhow::Result<Exit> {
        match self {
            Self::Invite(invite) => invite.run(context).await,
            Self::List(list) => list.run(context).await,
            Self::Lock(lock) => lock.run(context).await,
            Self::Unlock(unlock) => unlock.run(context).await,
        }
    }
}

/// Print a token with which an operator logs in, once
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  hubctl operators invite alice     Then alice runs: hubctl login TOKEN")]
pub(crate) struct Invite {
    /// Operator's name; a known one gets a new certificate
    name: OperatorName,
}

impl Invite {
    async fn run(self, context: &Context) -> anyhow::Result<Exit> {
        let hub = Hub::connect(context).await?;
        let request = InviteOperatorRequest { name: self.name.to_string() };
        let answer = hub.ask(format_args!("invite {}", self.name), hub.operator().invite_operator(request)).await?;
        let json = json!({
            "name": self.name.as_str(),
            "token": answer.token,
            "expires": words::time(answer.expires_unix_ms),
        });
        context.output.text(&json, &answer.token)?;
        output::note(format_args!(
            "hand it to {} in private; it works once, until {}: hubctl login TOKEN",
            self.name,
            words::second(answer.expires_unix_ms)
        ));
        Ok(Exit::Done)
    }
}

/// List operators, with what they may sign and when they were last seen
#[derive(Debug, Args)]
#[command(after_help = "\
Whoever was not seen for 90 days, and keys that end within 30, are flagged under NOTE.")]
pub(crate) struct List {}

impl List {
    async fn run(self, context: &Context) -> anyhow::Result<Exit> {
        let hub = Hub::connect(context).await?;
        let answer = hub.ask("list the operators", hub.operator().list_operators(ListOperatorsRequest {})).await?;
        let json = json!({ "operators": answer.operators.iter().map(to_json).collect::<Vec<_>>() });
        context.output.data(&json, &[table(&answer.operators, Timestamp::now())])?;
        Ok(Exit::Done)
    }
}

fn to_json(operator: &OperatorSummary) -> Value {
    json!({
        "name": operator.name,
        "state": words::operator_state(operator.state()),
        "last_seen": words::time(operator.last_seen_unix_ms),
        "last_signed": words::time(operator.last_signed_unix_ms),
        "joined": words::time(operator.joined_unix_ms),
        "flags": operator.flags().map(words::operator_flag).collect::<Vec<_>>(),
        "roles": operator.roles,
        "key_expires": words::time(operator.key_expires_unix_ms),
        "note": none_if_empty(&operator.note),
    })
}

/// What an operator's flags say, in words.
pub(super) fn flags(operator: &OperatorSummary) -> String {
    let texts = operator.flags().filter_map(|flag| match flag {
        OperatorFlag::Unspecified => None,
        OperatorFlag::Unused => Some("unused: lock who has left"),
        OperatorFlag::KeyExpires => Some("key ends soon"),
    });
    texts.collect::<Vec<_>>().join("; ")
}

fn note(operator: &OperatorSummary) -> Cell {
    let flags = flags(operator);
    match (flags.is_empty(), operator.note.is_empty()) {
        (true, _) => Cell::from(&operator.note),
        (false, true) => Cell::new(flags, Tone::Bad),
        (false, false) => Cell::new(format!("{}; {flags}", operator.note), Tone::Bad),
    }
}

fn table(operators: &[OperatorSummary], now: Timestamp) -> Table {
    let mut table = Table::new(&["OPERATOR", "STATE", "LAST USED", "LAST ORDER", "ROLES", "KEY EXPIRES", "NOTE"]);
    for operator in operators {
        let tone = match operator.state() {
            OperatorState::Active => Tone::Good,
            OperatorState::Locked => Tone::Bad,
            _ => Tone::Pending,
        };
        let expires = words::time(operator.key_expires_unix_ms);
        let expired = if expires.is_some_and(|at| at <= now) { Tone::Bad } else { Tone::Plain };
        table.push(vec![
            Cell::from(&operator.name),
            Cell::new(words::operator_state(operator.state()), tone),
            Cell::from(words::age(operator.last_seen_unix_ms, now)),
            Cell::from(words::age(operator.last_signed_unix_ms, now)),
            Cell::from(operator.roles.join(" ")),
            Cell::new(expires.map_or_else(String::new, |at| at.strftime("%Y-%m-%d").to_string()), expired),
            note(operator),
        ]);
    }
    table
}

/// Lock an operator out, at once
#[derive(Debug, Args)]
#[command(after_help = "\
A lock keeps the operator from the hub. The signing key stays in the trust bundle until
`hubctl trust remove-operator` is published.")]
pub(crate) struct Lock {
    /// Operator's name
    name: OperatorName,
    /// Why, for the audit record
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    reason: String,
}

impl Lock {
    async fn run(self, context: &Context) -> anyhow::Result<Exit> {
        let hub = Hub::connect(context).await?;
        let request = LockOperatorRequest { name: self.name.to_string(), reason: self.reason };
        hub.ask(format_args!("lock operator {}", self.name), hub.operator().lock_operator(request)).await?;
        output::note(format_args!("{} is locked out", self.name));
        Ok(Exit::Done)
    }
}

/// Let a locked operator in again
#[derive(Debug, Args)]
pub(crate) struct Unlock {
    /// Operator's name
    name: OperatorName,
    /// Why, for the audit record
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    reason: String,
}

impl Unlock {
    async fn run(self, context: &Context) -> anyhow::Result<Exit> {
        let hub = Hub::connect(context).await?;
        let request = UnlockOperatorRequest { name: self.name.to_string(), reason: self.reason };
        hub.ask(format_args!("unlock operator {}", self.name), hub.operator().unlock_operator(request)).await?;
        output::note(format_args!("{} may come in again", self.name));
        Ok(Exit::Done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_shows_who_can_sign_and_until_when() {
        let operator = |name: &str, state: OperatorState, roles: &[&str]| OperatorSummary {
            name: name.into(),
            state: state.into(),
            last_seen_unix_ms: 940_000,
            roles: roles.iter().map(ToString::to_string).collect(),
            key_expires_unix_ms: if roles.is_empty() { 0 } else { 2_000_000_000 },
            last_signed_unix_ms: if roles.len() == 1 { 880_000 } else { 0 },
            flags: if roles.len() == 1 {
                vec![OperatorFlag::Unused.into(), OperatorFlag::KeyExpires.into()]
            } else {
                vec![]
            },
            ..Default::default()
        };
        let operators = [
            operator("alice", OperatorState::Active, &["admin"]),
            operator("bob", OperatorState::Locked, &["operator", "data-steward"]),
            operator("carol", OperatorState::Invited, &[]),
        ];
        insta::assert_snapshot!(table(&operators, Timestamp::from_second(1_000).unwrap()).render(false), @r#"
        OPERATOR  STATE    LAST USED  LAST ORDER  ROLES                  KEY EXPIRES  NOTE
        alice     active   1m         2m          admin                  1970-01-24   unused: lock who has left; key ends soon
        bob       locked   1m         never       operator data-steward  1970-01-24   -
        carol     invited  1m         never       -                      -            -
        "#);
    }
}
