//! `hubctl agents list`: every LA on one screen, once or as it changes.

use std::{io, time::Duration};

use clap::Args;
use serde_json::{Value, json};
use sfdata_common::{Timestamp, health::sentence, retry::Reconnect};
use sfdata_proto::v1::{
    AgentState, AgentSummary, HealthReason, HealthReasonKind, ListAgentsRequest, WatchAgentsRequest,
};
use tonic::Status;

use super::show::to_json;
use crate::{
    cli::Context,
    client::Hub,
    exit::Exit,
    health, output, power, status,
    table::{Cell, Table, Tone},
    words,
};

/// Ages on the screen are never older than this.
const REDRAW: Duration = Duration::from_secs(5);

/// List agents, their services and databases
#[derive(Debug, Args)]
pub(crate) struct List {
    /// Go on showing the list as it changes; as JSON, one document on each line
    #[arg(long)]
    watch: bool,
}

impl List {
    pub(super) async fn run(self, context: &Context) -> anyhow::Result<Exit> {
        let hub = Hub::connect(context).await?;
        if self.watch {
            return watch(context, &hub).await;
        }
        let answer = hub.ask("list the agents", hub.fleet().list_agents(ListAgentsRequest {})).await?;
        let (json, tables) = shown(context, &answer.agents);
        context.output.data(&json, &tables)?;
        Ok(Exit::Done)
    }
}

/// Until interrupted, or until the hub says no; a broken connection is made anew.
pub(crate) async fn watch(context: &Context, hub: &Hub) -> anyhow::Result<Exit> {
    let mut reconnect = Reconnect::default();
    let mut broken = false; // said once for each break
    loop {
        match show_changes(context, hub, &mut || (reconnect, broken) = (Reconnect::default(), false)).await {
            Err(Ended::Output(error)) => return Err(error.into()),
            Err(Ended::Hub(status)) if !status::is_passing(&status) => {
                return Err(hub.words("watch the agents", &status).into());
            }
            Ok(()) | Err(Ended::Hub(_)) if broken => {}
            Ok(()) | Err(Ended::Hub(_)) => {
                output::note(format_args!("the connection to the hub at {} broke; trying again", hub.address()));
                broken = true;
            }
        }
        tokio::time::sleep(reconnect.next_delay()).await;
    }
}

/// Why a watch ended.
enum Ended {
    Hub(Status),
    Output(io::Error),
}

async fn show_changes(context: &Context, hub: &Hub, alive: &mut impl FnMut()) -> Result<(), Ended> {
    let answer = hub.fleet().watch_agents(WatchAgentsRequest {}).await.map_err(Ended::Hub)?;
    let mut stream = answer.into_inner();
    let mut agents = None;
    loop {
        match tokio::time::timeout(REDRAW, stream.message()).await {
            Ok(message) => match message.map_err(Ended::Hub)? {
                Some(answer) => agents = Some(answer.agents),
                None => return Ok(()),
            },
            // Only ages changed, which JSON does not tell.
            Err(_) if context.output.is_json() => continue,
            Err(_) => {}
        }
        alive();
        if let Some(agents) = &agents {
            let (json, tables) = shown(context, agents);
            context.output.refresh(&json, &tables).map_err(Ended::Output)?;
        }
    }
}

/// What is to be printed, and nothing of what is not: of a whole fleet either takes its time.
fn shown(context: &Context, agents: &[AgentSummary]) -> (Value, Vec<Table>) {
    if context.output.is_json() {
        (json!({ "agents": agents.iter().map(to_json).collect::<Vec<_>>() }), Vec::new())
    } else {
        (Value::Null, vec![table(agents, Timestamp::now())])
    }
}

/// Columns of [`row`].
pub(crate) const COLUMNS: [&str; 10] =
    ["AGENT", "HEALTH", "STATE", "SEEN", "POWER", "SERVICES", "DATABASE", "VERSION", "QUEUE", "NOTE"];

/// One LA on one line.
pub(crate) fn row(agent: &AgentSummary, now: Timestamp) -> Vec<Cell> {
    let health = agent.health.as_ref();
    vec![
        Cell::from(&agent.agent_id),
        health::word(agent.health_word()),
        state(agent, now),
        Cell::from(words::age(agent.last_seen_unix_ms, now)),
        power::word(health.and_then(|health| health.power.as_ref())),
        health::services_line(health.and_then(|health| health.ecs.as_ref())),
        health::database_word(health.and_then(|health| health.aurora.as_ref())),
        Cell::from(&agent.version),
        Cell::from(agent.commands),
        note(agent, now),
    ]
}

fn table(agents: &[AgentSummary], now: Timestamp) -> Table {
    let mut table = Table::new(&COLUMNS);
    agents.iter().for_each(|agent| table.push(row(agent, now)));
    table
}

/// The state, with its age where that matters.
pub(super) fn state(agent: &AgentSummary, now: Timestamp) -> Cell {
    let word = words::agent_state(agent.state());
    let aged = || format!("{word} {}", words::age(agent.since_unix_ms, now));
    match agent.state() {
        AgentState::Connected => Cell::new(word, Tone::Good),
        AgentState::Away => Cell::new(aged(), Tone::Bad),
        AgentState::Locked => Cell::new(aged(), Tone::Bad),
        AgentState::Invited | AgentState::Unspecified => Cell::new(word, Tone::Pending),
    }
}

/// What wants attention: the hub's note, the LA's hold, and the worst of what makes it unhealthy.
pub(super) fn note(agent: &AgentSummary, now: Timestamp) -> Cell {
    let hold = agent.health.as_ref().and_then(|health| health.hold.as_ref());
    // What state and note say already.
    let said = |reason: &&HealthReason| {
        use HealthReasonKind::{Away, Diverged, Held, Locked, NeverJoined};
        matches!(reason.kind(), Away | NeverJoined | Locked | Diverged | Held)
    };
    let mut others = agent.health_reasons.iter().filter(|reason| !said(reason));
    let worst = others.next().map(|reason| match others.count() {
        0 => sentence(reason, now),
        more => format!("{} (and {more} more)", sentence(reason, now)),
    });
    let parts = [
        Some(agent.note.clone()).filter(|note| !note.is_empty()),
        hold.map(|hold| format!("held by the LA: {}", hold.reason)),
        worst,
    ];
    let text: Vec<String> = parts.into_iter().flatten().collect();
    Cell::new(text.join("; "), Tone::Pending)
}

#[cfg(test)]
mod tests {
    use sfdata_proto::v1::{AuroraHealth, AuroraState, EcsHealth, EcsServiceState, Health, HealthWord, Hold};

    use super::*;

    fn service(role: &str, desired: u32, running: u32) -> EcsServiceState {
        EcsServiceState { role: role.into(), desired, running, ..Default::default() }
    }

    #[test]
    fn the_list_shows_the_fleet_at_a_glance() {
        let health = Health {
            ecs: Some(EcsHealth {
                services: vec![service("webserver", 0, 0), service("daemon", 1, 1), service("code-server", 1, 0)],
                ..Default::default()
            }),
            aurora: Some(AuroraHealth {
                state: Some(AuroraState { status: "available".into(), ..Default::default() }),
                error: String::new(),
            }),
            hold: Some(Hold { reason: "statutory return".into(), since_unix_ms: 1 }),
            ..Default::default()
        };
        let blind = Health {
            ecs: Some(EcsHealth { error: "access denied".into(), ..Default::default() }),
            aurora: Some(AuroraHealth { state: None, error: "access denied".into() }),
            ..Default::default()
        };
        let agent = |id: &str, state: AgentState, seen: i64, health: Option<Health>| AgentSummary {
            agent_id: id.into(),
            state: state.into(),
            last_seen_unix_ms: seen,
            since_unix_ms: seen,
            health_word: match state {
                AgentState::Connected => HealthWord::Degraded,
                _ => HealthWord::Away,
            }
            .into(),
            health_reasons: vec![
                HealthReason {
                    kind: HealthReasonKind::RunFailed.into(),
                    name: "clean".into(),
                    count: 2,
                    at_unix_ms: 0
                };
                if state == AgentState::Connected { 2 } else { 0 }
            ],
            version: if seen > 0 { "0.1.0".into() } else { String::new() },
            health,
            ..Default::default()
        };
        let agents = [
            agent("northshire", AgentState::Connected, 99_998_000, Some(health)),
            agent("ely", AgentState::Away, 89_000_000, Some(blind)),
            AgentSummary { note: "cloned".into(), ..agent("bath", AgentState::Locked, 50_000_000, None) },
            agent("york", AgentState::Invited, 0, None),
        ];
        insta::assert_snapshot!(table(&agents, Timestamp::from_second(100_000).unwrap()).render(false), @r#"
        AGENT       HEALTH    STATE       SEEN   POWER  SERVICES                                    DATABASE    VERSION  QUEUE  NOTE
        northshire  degraded  connected   2s     -      webserver 0/0  daemon 1/1  code-server 0/1  available   0.1.0    0      held by the LA: statutory return; has 2 runs of clean failed since the last success (and 1 more)
        ely         away      away 3h     3h     -      unreadable                                  unreadable  0.1.0    0      -
        bath        away      locked 13h  13h    -      -                                           -           0.1.0    0      cloned
        york        away      invited     never  -      -                                           -           -        0      -
        "#);
    }
}
