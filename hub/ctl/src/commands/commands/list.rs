//! `hubctl commands list`: what was ordered, newest first, with targets counted by state.

use clap::Args;
use serde_json::{Value, json};
use sfdata_common::{Timestamp, ids::AgentId};
use sfdata_proto::v1::{CommandSummary, ListCommandsRequest};

use crate::{
    cli::Context,
    client::Hub,
    exit::Exit,
    table::{Table, row},
    words,
};

/// List commands, newest first
#[derive(Debug, Args)]
pub(crate) struct List {
    /// Only those for this agent
    #[arg(long, value_name = "ID")]
    agent: Option<AgentId>,
    /// Only those that have not ended everywhere
    #[arg(long)]
    unfinished: bool,
    /// Those that wait for a second operator instead
    #[arg(long, conflicts_with_all = ["agent", "unfinished", "limit"])]
    proposed: bool,
    /// At most so many
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,
}

impl List {
    pub(super) async fn run(self, context: &Context) -> anyhow::Result<Exit> {
        let hub = Hub::connect(context).await?;
        if self.proposed {
            return super::proposals::list(context, &hub).await;
        }
        let request = ListCommandsRequest {
            limit: self.limit,
            agent_id: self.agent.map_or_else(String::new, String::from),
            unfinished: self.unfinished,
        };
        let answer = hub.ask("list the commands", hub.operator().list_commands(request)).await?;
        let json = json!({ "commands": answer.commands.iter().map(to_json).collect::<Vec<_>>() });
        context.output.data(&json, &[table(&answer.commands, Timestamp::now())])?;
        Ok(Exit::Done)
    }
}

/// A command without its targets.
pub(super) fn to_json(summary: &CommandSummary) -> Value {
    let states: serde_json::Map<String, Value> =
        summary.states.iter().map(|count| (words::command_state(count.state()), count.targets.into())).collect();
    json!({
        "command_id": summary.id,
        "action": summary.action,
        "operator": summary.operator,
        "reason": summary.reason,
        "submitted": words::time(summary.submitted_unix_ms),
        "expires": words::time(summary.expires_unix_ms),
        "states": states,
    })
}

fn table(commands: &[CommandSummary], now: Timestamp) -> Table {
    let mut table = Table::new(&["COMMAND", "ACTION", "OPERATOR", "AGE", "STATES", "REASON"]);
    for summary in commands {
        let states: Vec<String> =
            summary.states.iter().map(|n| format!("{} {}", n.targets, words::command_state(n.state()))).collect();
        table.push(row![
            summary.id,
            summary.action,
            summary.operator,
            words::age(summary.submitted_unix_ms, now),
            states.join(", "),
            summary.reason,
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use sfdata_proto::v1::{CommandState, StateCount};

    use super::*;

    #[test]
    fn the_list_counts_targets_by_state() {
        let count = |state: CommandState, targets| StateCount { state: state.into(), targets };
        let command = CommandSummary {
            id: "01981f3e-8d3c-7b8e-9d3a-0123456789ab".into(),
            action: "ecs.restart".into(),
            operator: "alice".into(),
            reason: "daemon hangs".into(),
            submitted_unix_ms: 60_000,
            expires_unix_ms: 120_000,
            states: vec![count(CommandState::Succeeded, 3), count(CommandState::Waiting, 1)],
        };
        let now = Timestamp::from_second(180).unwrap();
        insta::assert_snapshot!(table(&[command], now).render(false), @r#"
        COMMAND                               ACTION       OPERATOR  AGE  STATES                  REASON
        01981f3e-8d3c-7b8e-9d3a-0123456789ab  ecs.restart  alice     2m   3 succeeded, 1 waiting  daemon hangs
        "#);
    }
}
