//! `hubctl agents history`: how one LA was over time, as the hub saw it.

use std::time::Duration;

use clap::{Args, ValueEnum};
use serde_json::{Value, json};
use sfdata_common::{
    Timestamp,
    health::word,
    history::{health_line, power_line, watched},
    ids::AgentId,
};
use sfdata_proto::v1::{GetHistoryRequest, GetHistoryResponse, HealthWord, HistorySpan, HistoryStep, PowerPhase};

use crate::{
    cli::Context,
    client::Hub,
    exit::{Exit, Usage},
    health::none_if_empty,
    moment::Moment,
    output,
    table::Table,
    words,
};

const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

/// See how one agent was over time: its health, its power and why
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  hubctl agents history northshire
  hubctl agents history northshire --since 2h --by 5m
  hubctl agents history northshire --since 30d -o csv > november.csv

Spans of five minutes are kept for two days, hours for 60 days, days for three years; all in UTC.
A span in which the hub did not run is missing. CSV has seconds.")]
pub(crate) struct History {
    /// Agent's id
    id: AgentId,
    /// From when on: a duration as in 30m, or a time as in 2026-11-23T09:00:00Z
    #[arg(long, value_name = "WHEN", default_value = "48h")]
    since: Moment,
    /// Until when, in the same form
    #[arg(long, value_name = "WHEN")]
    until: Option<Moment>,
    /// How long each line is [default: by how much is asked for, and what is kept of it]
    #[arg(long, value_name = "SPAN")]
    by: Option<By>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum By {
    #[value(name = "5m")]
    FiveMinutes,
    Hour,
    Day,
}

impl By {
    fn step(self) -> HistoryStep {
        match self {
            Self::FiveMinutes => HistoryStep::FiveMinutes,
            Self::Hour => HistoryStep::Hour,
            Self::Day => HistoryStep::Day,
        }
    }

    /// So that it is kept, and read on a screen or two.
    fn usual(back: Duration, long: Duration) -> Self {
        if back <= 2 * DAY && long <= 6 * HOUR {
            Self::FiveMinutes
        } else if back <= 60 * DAY && long <= 7 * DAY {
            Self::Hour
        } else {
            Self::Day
        }
    }
}

impl History {
    pub(super) async fn run(self, context: &Context) -> anyhow::Result<Exit> {
        let now = Timestamp::now();
        let from = self.since.before(now);
        // The present moment is in the last span.
        let until = self.until.map_or(now + Duration::from_secs(1), |until| until.before(now));
        let Some(long) = Duration::try_from(until.duration_since(from)).ok().filter(|long| !long.is_zero()) else {
            return Err(Usage("--until has to be after --since".into()).into());
        };
        let back = Duration::try_from(now.duration_since(from)).unwrap_or_default();
        let by = self.by.unwrap_or_else(|| By::usual(back, long));
        let hub = Hub::connect(context).await?;
        let request = GetHistoryRequest {
            agent_id: self.id.to_string(),
            from_unix_ms: from.as_millisecond(),
            until_unix_ms: until.as_millisecond(),
            step: by.step().into(),
        };
        let answer =
            hub.ask(format_args!("tell the history of {}", self.id), hub.operator().get_history(request)).await?;
        let shown = if context.output.is_csv() { exact(&answer) } else { table(&answer) };
        context.output.data(&to_json(&self.id, &answer), &[shown])?;
        match answer.spans.first() {
            None => output::note("nothing is known of that time"),
            Some(first) if first.begin_unix_ms > until.min(from + DAY).as_millisecond() => {
                output::note(format_args!("nothing is known from before {}", words::second(first.begin_unix_ms)));
            }
            Some(_) => {}
        }
        Ok(Exit::Done)
    }
}

fn name(step: HistoryStep) -> &'static str {
    match step {
        HistoryStep::Unspecified => "unknown",
        HistoryStep::FiveMinutes => "5m",
        HistoryStep::Hour => "hour",
        HistoryStep::Day => "day",
    }
}

fn to_json(agent: &AgentId, answer: &GetHistoryResponse) -> Value {
    let span = |span: &HistorySpan| {
        json!({
            "from": words::time(span.begin_unix_ms),
            "watched_seconds": watched(span),
            "health": span.health.iter().map(|time| json!({
                "word": word(time.word()),
                "seconds": time.seconds,
            })).collect::<Vec<_>>(),
            "power": span.power.iter().map(|time| json!({
                "phase": words::power_phase(time.phase()),
                "cause": none_if_empty(&time.cause),
                "seconds": time.seconds,
            })).collect::<Vec<_>>(),
            "wakes": span.wakes,
            "tasks_most": span.tasks_most,
            "arrivals_most": span.arrivals_most,
            "commands_most": span.commands_most,
        })
    };
    json!({
        "agent_id": agent.as_str(),
        "by": name(answer.step()),
        "spans": answer.spans.iter().map(span).collect::<Vec<_>>(),
        "total": answer.total.as_ref().map(span),
    })
}

/// For people.
fn table(answer: &GetHistoryResponse) -> Table {
    let mut table = Table::new(&["FROM", "HEALTH", "POWER", "WOKEN", "TASKS", "ARRIVALS", "COMMANDS"]);
    let mut push = |from: &str, span: &HistorySpan| {
        let most = [span.wakes, span.tasks_most, span.arrivals_most, span.commands_most].map(|most| most.to_string());
        let texts = [from.to_owned(), health_line(span), power_line(span)];
        table.push(texts.iter().chain(&most).map(Into::into).collect());
    };
    answer.spans.iter().for_each(|span| push(&words::second(span.begin_unix_ms), span));
    if let Some(total) = answer.total.as_ref().filter(|_| answer.spans.len() > 1) {
        push("TOTAL", total);
    }
    table
}

const WORDS: [HealthWord; 6] = [
    HealthWord::Healthy,
    HealthWord::Asleep,
    HealthWord::Degraded,
    HealthWord::Failing,
    HealthWord::Away,
    HealthWord::Held,
];
const PHASES: [PowerPhase; 4] = [PowerPhase::Asleep, PowerPhase::Waking, PowerPhase::Awake, PowerPhase::Draining];

/// For a spreadsheet: seconds by word and by phase, and by cause in words.
fn exact(answer: &GetHistoryResponse) -> Table {
    let mut table = Table::new(&[
        "FROM",
        "HEALTHY",
        "ASLEEP",
        "DEGRADED",
        "FAILING",
        "AWAY",
        "HELD",
        "POWER ASLEEP",
        "POWER WAKING",
        "POWER AWAKE",
        "POWER DRAINING",
        "AWAKE FOR",
        "WOKEN",
        "TASKS",
        "ARRIVALS",
        "COMMANDS",
    ]);
    for span in &answer.spans {
        let health =
            WORDS.map(|word| span.health.iter().find(|time| time.word() == word).map_or(0, |time| time.seconds));
        let in_phase = |phase| span.power.iter().filter(move |time| time.phase() == phase);
        let power = PHASES.map(|phase| in_phase(phase).map(|time| time.seconds).sum::<u32>());
        let causes = in_phase(PowerPhase::Awake).filter(|time| !time.cause.is_empty());
        let causes: Vec<String> = causes.map(|time| format!("{} {}", time.cause, time.seconds)).collect();
        let most = [span.wakes, span.tasks_most, span.arrivals_most, span.commands_most];
        let mut cells = vec![words::second(span.begin_unix_ms)];
        cells.extend(health.iter().chain(&power).map(ToString::to_string));
        cells.push(causes.join("; "));
        cells.extend(most.map(|most| most.to_string()));
        table.push(cells.iter().map(Into::into).collect());
    }
    table
}

#[cfg(test)]
mod tests {
    use sfdata_proto::v1::{HealthTime, PowerTime};

    use super::*;

    fn answer() -> GetHistoryResponse {
        let health = |word: HealthWord, seconds| HealthTime { word: word.into(), seconds };
        let power =
            |phase: PowerPhase, cause: &str, seconds| PowerTime { phase: phase.into(), cause: cause.into(), seconds };
        let first = HistorySpan {
            begin_unix_ms: 1_795_500_000_000,
            health: vec![health(HealthWord::Asleep, 3120), health(HealthWord::Degraded, 480)],
            power: vec![
                power(PowerPhase::Asleep, "", 2000),
                power(PowerPhase::Awake, "arrivals", 1200),
                power(PowerPhase::Awake, "runs", 400),
            ],
            tasks_most: 3,
            arrivals_most: 12,
            wakes: 1,
            ..Default::default()
        };
        let second = HistorySpan {
            begin_unix_ms: 1_795_503_600_000,
            health: vec![health(HealthWord::Away, 3600)],
            ..Default::default()
        };
        let total = Some(HistorySpan { health: vec![health(HealthWord::Away, 3600)], ..first.clone() });
        GetHistoryResponse { step: HistoryStep::Hour.into(), spans: vec![first, second], total }
    }

    #[test]
    fn a_history_reads_well() {
        insta::assert_snapshot!(table(&answer()).render(false), @r#"
        FROM                  HEALTH                   POWER                                                  WOKEN  TASKS  ARRIVALS  COMMANDS
        2026-11-24T06:00:00Z  asleep 52m, degraded 8m  asleep 33m, awake for arrivals 20m, awake for runs 6m  1      3      12        0
        2026-11-24T07:00:00Z  away 1h 00m              -                                                      0      0      0         0
        TOTAL                 away 1h 00m              asleep 33m, awake for arrivals 20m, awake for runs 6m  1      3      12        0
        "#);
        insta::assert_snapshot!(exact(&answer()).csv(), @r#"
        FROM,HEALTHY,ASLEEP,DEGRADED,FAILING,AWAY,HELD,POWER ASLEEP,POWER WAKING,POWER AWAKE,POWER DRAINING,AWAKE FOR,WOKEN,TASKS,ARRIVALS,COMMANDS
        2026-11-24T06:00:00Z,0,3120,480,0,0,0,2000,0,1600,0,arrivals 1200; runs 400,1,3,12,0
        2026-11-24T07:00:00Z,0,0,0,0,3600,0,0,0,0,0,,0,0,0,0
        "#);
        let json = to_json(&"ely".parse().unwrap(), &answer());
        assert_eq!(json["spans"][0]["power"][1], json!({"phase": "awake", "cause": "arrivals", "seconds": 1200}));
        assert_eq!((&json["by"], &json["spans"][1]["watched_seconds"]), (&json!("hour"), &json!(3600)));
    }

    #[test]
    fn lines_are_as_long_as_a_screen_can_show_and_the_hub_keeps() {
        let by = |back: u32, long: u32| By::usual(back * HOUR, long * HOUR).step();
        use HistoryStep::{Day, FiveMinutes, Hour};
        let told = [by(2, 2), by(30, 6), by(48, 48), by(60, 2), by(24 * 30, 24 * 30), by(24 * 90, 1)];
        assert_eq!(told, [FiveMinutes, FiveMinutes, Hour, Hour, Day, Day]);
    }
}
