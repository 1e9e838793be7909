//! `hubctl alerts`: what is wrong now, who was told, and what is kept silent.

use std::time::Duration;

use clap::{Args, Subcommand};
use serde_json::{Value, json};
use sfdata_common::{Timestamp, ids::AgentId};
use sfdata_proto::v1::{
    Alert, AlertState, EndSilenceRequest, ListAlertsRequest, ListAlertsResponse, Silence, SilenceAlertsRequest,
    TestAlertsRequest,
};

use crate::{
    cli::Context,
    client::Hub,
    exit::Exit,
    health::none_if_empty,
    output,
    table::{Cell, Table, Tone, row},
    words,
};

/// See what is wrong now, keep it silent, test who is told
#[derive(Debug, Subcommand)]
pub(crate) enum Alerts {
    List(List),
    Silence(Silencing),
    Unsilence(Unsilence),
    Test(Test),
}

impl Alerts {
    pub(super) async fn run(self, context: &Context) -> anyhow::Result<Exit> {
        match self {
            Self::List(list) => list.run(context).await,
            Self::Silence(silence) => silence.run(context).await,
            Self::Unsilence(unsilence) => unsilence.run(context).await,
            Self::Test(test) => test.run(context).await,
        }
    }
}

/// List alerts, silences and channels
#[derive(Debug, Args)]
pub(crate) struct List {}

impl List {
    async fn run(self, context: &Context) -> anyhow::Result<Exit> {
        let hub = Hub::connect(context).await?;
        let answer = hub.ask("list the alerts", hub.operator().list_alerts(ListAlertsRequest {})).await?;
        context.output.data(&to_json(&answer), &tables(&answer, Timestamp::now()))?;
        Ok(Exit::Done)
    }
}

/// Tell nobody of what fits, for a while
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  hubctl alerts silence --agent northshire --for 4h --reason 'their network is moved'
  hubctl alerts silence --rule no-delivery --name ssda903 --for 30d")]
pub(crate) struct Silencing {
    #[command(flatten)]
    what: What,
    /// For so long, as in 90m, 4h or 30d
    #[arg(long = "for", value_name = "TIME", value_parser = humantime::parse_duration)]
    span: Duration,
    /// Why, for the audit record
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    reason: String,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = true)]
struct What {
    /// Of this agent
    #[arg(long, value_name = "AGENT")]
    agent: Option<AgentId>,
    /// Of this rule, as `hubctl alerts list` has it
    #[arg(long, value_name = "RULE")]
    rule: Option<String>,
    /// Of this job, dataset, service or fault
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
}

impl Silencing {
    async fn run(self, context: &Context) -> anyhow::Result<Exit> {
        let hub = Hub::connect(context).await?;
        let request = SilenceAlertsRequest {
            agent_id: self.what.agent.map(String::from).unwrap_or_default(),
            rule: self.what.rule.unwrap_or_default(),
            name: self.what.name.unwrap_or_default(),
            for_seconds: self.span.as_secs().try_into().unwrap_or(u32::MAX),
            reason: self.reason,
        };
        let answer = hub.ask("silence alerts", hub.operator().silence_alerts(request)).await?;
        let silence = answer.silence.unwrap_or_default();
        context.output.data(&silence_json(&silence), &[silences(&[silence])])?;
        Ok(Exit::Done)
    }
}

/// End a silence
#[derive(Debug, Args)]
pub(crate) struct Unsilence {
    /// Its id, as `hubctl alerts list` has it
    id: String,
}

impl Unsilence {
    async fn run(self, context: &Context) -> anyhow::Result<Exit> {
        let hub = Hub::connect(context).await?;
        let request = EndSilenceRequest { id: self.id.clone() };
        hub.ask("end the silence", hub.operator().end_silence(request)).await?;
        output::note(format_args!("silence {} has ended", self.id));
        Ok(Exit::Done)
    }
}

/// Send a test notice to every channel, and tell whether it was taken
#[derive(Debug, Args)]
pub(crate) struct Test {}

impl Test {
    async fn run(self, context: &Context) -> anyhow::Result<Exit> {
        let hub = Hub::connect(context).await?;
        let answer = hub.ask("test the alerts", hub.operator().test_alerts(TestAlertsRequest {})).await?;
        let json =
            answer.tests.iter().map(|test| json!({"channel": test.channel, "error": none_if_empty(&test.error)}));
        let mut table = Table::new(&["CHANNEL", "RESULT"]);
        for test in &answer.tests {
            let result = match test.error.as_str() {
                "" => Cell::new("taken", Tone::Good),
                error => Cell::new(error, Tone::Bad),
            };
            table.push(vec![Cell::from(&test.channel), result]);
        }
        context.output.data(&json!({ "tests": json.collect::<Vec<_>>() }), &[table])?;
        if answer.tests.is_empty() {
            output::note(format_args!("nobody is told: the hub's configuration has no channel under [alerts]"));
            return Ok(Exit::NotDone);
        }
        let failed = answer.tests.iter().any(|test| !test.error.is_empty());
        Ok(if failed { Exit::NotDone } else { Exit::Done })
    }
}

fn to_json(answer: &ListAlertsResponse) -> Value {
    let alert = |alert: &Alert| {
        json!({
            "agent_id": none_if_empty(&alert.agent_id),
            "rule": alert.rule,
            "name": none_if_empty(&alert.name),
            "state": words::alert_state(alert.state()),
            "since": words::time(alert.since_unix_ms),
            "summary": alert.summary,
            "silenced": alert.silenced,
        })
    };
    json!({
        "alerts": answer.alerts.iter().map(alert).collect::<Vec<_>>(),
        "silences": answer.silences.iter().map(silence_json).collect::<Vec<_>>(),
        "channels": answer.channels.iter().map(|channel| json!({
            "name": channel.name,
            "waiting": channel.waiting,
            "error": none_if_empty(&channel.error),
        })).collect::<Vec<_>>(),
    })
}

fn silence_json(silence: &Silence) -> Value {
    json!({
        "id": silence.id,
        "agent_id": none_if_empty(&silence.agent_id),
        "rule": none_if_empty(&silence.rule),
        "name": none_if_empty(&silence.name),
        "until": words::time(silence.until_unix_ms),
        "operator": silence.operator,
        "reason": silence.reason,
    })
}

fn tables(answer: &ListAlertsResponse, now: Timestamp) -> Vec<Table> {
    let mut alerts = Table::new(&["AGENT", "RULE", "STATE", "FOR", "WHAT"]);
    for alert in &answer.alerts {
        let state = words::alert_state(alert.state());
        let state = match (alert.silenced, alert.state()) {
            (true, _) => Cell::new(format!("{state}, silent"), Tone::Plain),
            (false, AlertState::Firing) => Cell::new(state, Tone::Bad),
            (false, _) => Cell::new(state, Tone::Pending),
        };
        alerts.push(vec![
            Cell::from(if alert.agent_id.is_empty() { "(hub)" } else { &alert.agent_id }),
            Cell::from(&alert.rule),
            state,
            Cell::from(words::age(alert.since_unix_ms, now)),
            Cell::from(&alert.summary),
        ]);
    }
    let mut tables = vec![alerts];
    if !answer.silences.is_empty() {
        tables.push(silences(&answer.silences));
    }
    if !answer.channels.is_empty() {
        let mut channels = Table::new(&["CHANNEL", "WAITING", "LAST ERROR"]);
        for channel in &answer.channels {
            channels.push(vec![
                Cell::from(&channel.name),
                Cell::from(channel.waiting),
                Cell::new(&channel.error, Tone::Bad),
            ]);
        }
        tables.push(channels);
    }
    tables
}

fn silences(silences: &[Silence]) -> Table {
    let any = |text: &String| if text.is_empty() { "any".to_owned() } else { text.clone() };
    let mut table = Table::new(&["SILENCE", "AGENT", "RULE", "NAME", "UNTIL", "BY", "REASON"]);
    for one in silences {
        let until = words::second(one.until_unix_ms);
        table.push(row![one.id, any(&one.agent_id), any(&one.rule), any(&one.name), until, one.operator, one.reason]);
    }
    table
}

#[cfg(test)]
mod tests {
    use sfdata_proto::v1::AlertChannel;

    use super::*;

    #[test]
    fn what_is_wrong_reads_well() {
        let alert = |agent: &str, rule: &str, state: AlertState, silenced, summary: &str| Alert {
            agent_id: agent.into(),
            rule: rule.into(),
            state: state.into(),
            since_unix_ms: 99_000_000,
            summary: summary.into(),
            silenced,
            ..Default::default()
        };
        let silence = Silence {
            id: "01".into(),
            rule: "away".into(),
            until_unix_ms: 200_000_000,
            operator: "alice".into(),
            reason: "moving".into(),
            ..Default::default()
        };
        let answer = ListAlertsResponse {
            alerts: vec![
                alert(
                    "",
                    "disk-low",
                    AlertState::Firing,
                    false,
                    "has 12 MiB left on its disk and takes no new command",
                ),
                alert("ely", "away", AlertState::Clearing, true, "has not been heard of for 8m"),
                alert("york", "no-delivery", AlertState::Pending, false, "has delivered no ssda903 for 36d"),
            ],
            silences: vec![silence],
            channels: vec![AlertChannel { name: "webhook".into(), waiting: 2, error: "it answered 500".into() }],
        };
        let text: Vec<String> =
            tables(&answer, Timestamp::from_second(100_000).unwrap()).iter().map(|table| table.render(false)).collect();
        insta::assert_snapshot!(text.join("\n"), @r#"
        AGENT  RULE         STATE             FOR  WHAT
        (hub)  disk-low     firing            16m  has 12 MiB left on its disk and takes no new command
        ely    away         clearing, silent  16m  has not been heard of for 8m
        york   no-delivery  pending           16m  has delivered no ssda903 for 36d

        SILENCE  AGENT  RULE  NAME  UNTIL                 BY     REASON
        01       any    away  any   1970-01-03T07:33:20Z  alice  moving

        CHANNEL  WAITING  LAST ERROR
        webhook  2        it answered 500
        "#);
        assert_eq!(to_json(&answer)["alerts"][0]["agent_id"], Value::Null);
    }
}
