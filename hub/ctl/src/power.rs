//! Whether a platform sleeps, as people and programs read it: on one line, and in whole sentences.

use std::{fmt::Write as _, time::Duration};

use serde_json::{Value, json};
use sfdata_common::Timestamp;
use sfdata_proto::v1::{PowerAlarm, PowerMode, PowerPhase, PowerReason, PowerResult, PowerSettings, PowerState};

use crate::{
    health::none_if_empty,
    table::{Cell, Tone},
    words,
};

/// Shown where the agent leaves the platform's power alone.
const UNMANAGED: &str = "unmanaged";
/// Alarms that are spelt out.
const ALARMS: usize = 10;

/// One platform's power, whole.
pub(crate) fn power(power: &PowerState) -> Value {
    json!({
        "mode": words::power_mode(power.mode()),
        "phase": words::power_phase(power.phase()),
        "generation": power.generation,
        "since": words::time(power.since_unix_ms),
        "cause": none_if_empty(&power.cause),
        "reasons": power.reasons.iter().map(|reason| json!({
            "kind": reason.kind,
            "name": none_if_empty(&reason.name),
            "count": Some(reason.count).filter(|count| *count > 0),
            "until": words::time(reason.until_unix_ms),
        })).collect::<Vec<_>>(),
        "alarms": power.alarms.iter().map(|alarm| json!({
            "at": words::time(alarm.at_unix_ms),
            "kind": alarm.kind,
            "name": none_if_empty(&alarm.name),
            "wakes": words::time(alarm.wakes_unix_ms),
        })).collect::<Vec<_>>(),
        "faults": power.faults.iter().map(|fault| json!({
            "kind": fault.kind,
            "detail": fault.detail,
        })).collect::<Vec<_>>(),
        "awake_until": words::time(power.awake_until_unix_ms),
        "wake_seconds": power.wake_seconds,
        "quiet_since": words::time(power.quiet_since_unix_ms),
    })
}

/// An answer, whole.
pub(crate) fn result(result: &PowerResult) -> Value {
    json!({
        "power": result.power.as_ref().map(power),
        "settings": result.settings.as_ref().map(settings),
    })
}

fn settings(settings: &PowerSettings) -> Value {
    json!({
        "quiet_seconds": settings.quiet_seconds,
        "person_seconds": settings.person_seconds,
        "margin_seconds": settings.margin_seconds,
        "stuck_seconds": settings.stuck_seconds,
        "longest_sleep_seconds": settings.longest_sleep_seconds,
        "sensor_poll_seconds": Some(settings.sensor_poll_seconds).filter(|seconds| *seconds > 0),
    })
}

/// Columns of [`row`].
pub(crate) const COLUMNS: [&str; 5] = ["POWER", "SINCE", "BECAUSE OF", "WAKES", "FAULT"];

/// A platform's power on one line.
pub(crate) fn row(power: Option<&PowerState>, now: Timestamp) -> Vec<Cell> {
    let Some(power) = power else { return vec![Cell::from(UNMANAGED), "".into(), "".into(), "".into(), "".into()] };
    let asleep = power.phase() == PowerPhase::Asleep;
    let because: Vec<String> = power.reasons.iter().map(reason).collect();
    let wakes = power.alarms.first().filter(|_| asleep);
    vec![
        word(Some(power)),
        Cell::from(words::age(power.since_unix_ms, now)),
        Cell::from(because.join(", ")),
        Cell::from(
            wakes.map_or_else(String::new, |alarm| {
                format!("{} for {}", words::second(alarm.wakes_unix_ms), whose(alarm))
            }),
        ),
        Cell::new(power.faults.first().map_or("", |fault| fault.kind.as_str()), Tone::Bad),
    ]
}

/// `asleep`, `awake`, `manual`; empty where nothing is known.
pub(crate) fn word(power: Option<&PowerState>) -> Cell {
    let Some(power) = power else { return Cell::from("") };
    if power.mode() == PowerMode::Manual {
        return Cell::from("manual");
    }
    let tone = match power.phase() {
        PowerPhase::Awake => Tone::Good,
        PowerPhase::Waking | PowerPhase::Draining => Tone::Pending,
        PowerPhase::Asleep | PowerPhase::Unspecified => Tone::Plain,
    };
    Cell::new(words::power_phase(power.phase()), if power.faults.is_empty() { tone } else { Tone::Bad })
}

/// Columns of [`settings_row`].
pub(crate) const SETTINGS_COLUMNS: [&str; 7] =
    ["MODE", "QUIET", "PERSON", "MARGIN", "STUCK AFTER", "LONGEST SLEEP", "SENSORS WOKEN FOR"];

/// The settings on one line.
pub(crate) fn settings_row(result: &PowerResult) -> Vec<Cell> {
    let Some((power, settings)) = result.power.as_ref().zip(result.settings.as_ref()) else {
        return vec![Cell::from(UNMANAGED); SETTINGS_COLUMNS.len()];
    };
    let span = |seconds: u32| Cell::from(words::span(Duration::from_secs(seconds.into())));
    let poll = match settings.sensor_poll_seconds {
        0 => Cell::from("never"),
        seconds => span(seconds),
    };
    vec![
        Cell::from(words::power_mode(power.mode())),
        span(settings.quiet_seconds),
        span(settings.person_seconds),
        span(settings.margin_seconds),
        span(settings.stuck_seconds),
        span(settings.longest_sleep_seconds),
        poll,
    ]
}

/// Why it is awake, what has to happen before it sleeps, and when it wakes next and for what: in sentences.
pub(crate) fn explain(agent: &str, result: &PowerResult, now: Timestamp) -> String {
    let Some(power) = &result.power else {
        return format!(
            "{agent}: its agent leaves the services alone: there is no [power] section in its configuration\n"
        );
    };
    let mut text = String::new();
    let mut line = |words: String| _ = writeln!(text, "{words}");
    if power.mode() == PowerMode::Manual {
        line(format!(
            "{agent} is left to people; it sleeps and wakes by itself again after: hubctl power settings --automatic"
        ));
        return text;
    }
    let since = format!("since {} ({})", words::second(power.since_unix_ms), words::age(power.since_unix_ms, now));
    let cause = if power.cause.is_empty() { String::new() } else { format!("; woken last by {}", power.cause) };
    line(format!("{agent} is {} {since}{cause}", words::power_phase(power.phase())));
    for fault in &power.faults {
        line(format!("  fault    {}: {}", fault.kind, fault.detail));
    }
    for one in &power.reasons {
        line(format!("  because  {}", sentence(one)));
    }
    let quiet = result.settings.as_ref().map_or(0, |settings| settings.quiet_seconds);
    match power.phase() {
        PowerPhase::Awake if power.reasons.is_empty() => line(format!(
            "  sleeps   after one more look that finds nothing, {quiet} s after {}",
            words::second(power.quiet_since_unix_ms)
        )),
        PowerPhase::Awake => {
            line("  sleeps   when none of these is left, and a look a while later finds nothing either".to_owned());
        }
        PowerPhase::Waking => {
            line(format!("  awake    in about {} s from its beginning, as it took before", power.wake_seconds))
        }
        _ => {}
    }
    for alarm in power.alarms.iter().take(ALARMS) {
        let (wakes, at) = (words::second(alarm.wakes_unix_ms), words::second(alarm.at_unix_ms));
        let due = if wakes == at { String::new() } else { format!(", due at {at}") };
        line(format!("  wakes    {wakes} for {}{due}", whose(alarm)));
    }
    if power.alarms.len() > ALARMS {
        line(format!("           and {} times more, see -o json", power.alarms.len() - ALARMS));
    }
    line("           and whenever a file arrives, or somebody asks for it".to_owned());
    text
}

/// `runs (2)`, `schedule-soon sync/nightly`.
fn reason(reason: &PowerReason) -> String {
    let name = if reason.name.is_empty() { String::new() } else { format!(" {}", reason.name) };
    let count = if reason.count > 1 { format!(" ({})", reason.count) } else { String::new() };
    format!("{}{name}{count}", reason.kind)
}

fn sentence(one: &PowerReason) -> String {
    let (name, count) = (&one.name, one.count);
    let until = words::second(one.until_unix_ms);
    let timed = one.until_unix_ms != 0;
    match one.kind.as_str() {
        "stay-awake" => format!("somebody asked for it until {until}"),
        "calendar" => format!("its calendar keeps it awake until {until}"),
        "person" if timed => format!("a person asked for it; it stays for them until {until}"),
        "person" => "a person asked for it".to_owned(),
        "command" => format!("{count} commands are at work"),
        "arrivals" => format!("{count} files have arrived and are not handed on yet"),
        "runs" => format!("{count} runs are queued, starting or running"),
        "run-tasks" => format!("{count} tasks of runs have not ended"),
        "backfills" => format!("{count} backfills are in progress"),
        "schedule-soon" => format!("schedule {name} ticks at {until}"),
        "schedule-due" => format!("schedule {name} is to tick"),
        "sensor-pending" => format!("sensor {name} has yet to see the last run or arrival, and may tick at {until}"),
        "sensor-poll" => format!("sensor {name} has not ticked for long, and may tick at {until}"),
        "look" => "it was not looked at for long".to_owned(),
        "code-changed" => format!("{name} has other code than when Dagster was looked at last"),
        "by-hand" => "services were started or stopped by hand".to_owned(),
        "unreadable" => format!("{name} cannot be read, and what is not known counts as busy"),
        _ => reason(one),
    }
}

fn whose(alarm: &PowerAlarm) -> String {
    match alarm.kind.as_str() {
        "calendar" => "its calendar".to_owned(),
        "look" => "a look, because it slept long".to_owned(),
        kind => format!("{kind} {}", alarm.name),
    }
}

#[cfg(test)]
mod tests {
    use sfdata_proto::v1::PowerFault;

    use super::*;

    #[test]
    fn an_explanation_says_why_and_what_next() {
        let power = PowerState {
            mode: PowerMode::Automatic.into(),
            phase: PowerPhase::Awake.into(),
            generation: 4,
            since_unix_ms: 1_000_000,
            cause: "arrivals".into(),
            reasons: vec![
                PowerReason { kind: "runs".into(), count: 2, ..Default::default() },
                PowerReason {
                    kind: "sensor-pending".into(),
                    name: "sync/clean".into(),
                    until_unix_ms: 1_090_000,
                    ..Default::default()
                },
            ],
            alarms: vec![PowerAlarm {
                at_unix_ms: 9_000_000,
                kind: "schedule".into(),
                name: "sync/nightly".into(),
                wakes_unix_ms: 8_900_000,
            }],
            faults: vec![PowerFault { kind: "location-failed".into(), detail: "code location b does not load".into() }],
            wake_seconds: 70,
            ..Default::default()
        };
        let settings = Some(PowerSettings { quiet_seconds: 30, ..Default::default() });
        let now = Timestamp::from_second(1_060).unwrap();
        let result = PowerResult { power: Some(power.clone()), settings };
        insta::assert_snapshot!(explain("northshire", &result, now), @r#"
        northshire is awake since 1970-01-01T00:16:40Z (1m); woken last by arrivals
          fault    location-failed: code location b does not load
          because  2 runs are queued, starting or running
          because  sensor sync/clean has yet to see the last run or arrival, and may tick at 1970-01-01T00:18:10Z
          sleeps   when none of these is left, and a look a while later finds nothing either
          wakes    1970-01-01T02:28:20Z for schedule sync/nightly, due at 1970-01-01T02:30:00Z
                   and whenever a file arrives, or somebody asks for it
        "#);
        let asleep = PowerState { phase: PowerPhase::Asleep.into(), reasons: Vec::new(), faults: Vec::new(), ..power };
        let mut table = crate::table::Table::new(&COLUMNS);
        table.push(row(Some(&asleep), now));
        table.push(row(None, now));
        insta::assert_snapshot!(table.render(false), @r#"
        POWER      SINCE  BECAUSE OF  WAKES                                           FAULT
        asleep     1m     -           1970-01-01T02:28:20Z for schedule sync/nightly  -
        unmanaged  -      -           -                                               -
        "#);
    }
}
