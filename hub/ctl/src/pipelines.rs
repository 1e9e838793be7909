//! Dagster as `hubctl dagster` shows it: its parts, runs with their steps, schedules and sensors.

use std::time::Duration;

use serde_json::{Value, json};
use sfdata_proto::v1::{
    DagsterDaemon, DagsterLocation, DagsterReloadResult, DagsterRun, DagsterRunResult, DagsterRunsResult,
    DagsterSchedule, DagsterSchedulesResult, DagsterSensor, DagsterSensorsResult, DagsterStatusResult, DagsterStep,
    DagsterTag, DagsterTick,
};

use crate::{
    health::none_if_empty,
    table::{Cell, Tone, row},
    words,
};

/// All of it.
pub(crate) fn status(status: &DagsterStatusResult) -> Value {
    let daemon = |one: &DagsterDaemon| {
        json!({
            "kind": one.kind,
            "required": one.required,
            "last_heartbeat": words::time(one.last_heartbeat_unix_ms),
            "errors": one.errors,
        })
    };
    json!({
        "version": none_if_empty(&status.version),
        "daemons": status.daemons.iter().map(daemon).collect::<Vec<_>>(),
        "locations": status.locations.iter().map(location).collect::<Vec<_>>(),
        "active": status.active.iter().map(run).collect::<Vec<_>>(),
        "active_count": status.active_count,
        "last_ended": status.last_ended.as_ref().map(run),
        "backfills": status.backfills,
        "degraded": status.degraded,
    })
}

/// Columns of [`status_rows`].
pub(crate) const STATUS_COLUMNS: [&str; 5] = ["PART", "NAME", "STATE", "SINCE", "DETAIL"];

/// A line for Dagster as a whole, and one for each of its parts.
pub(crate) fn status_rows(status: &DagsterStatusResult) -> Vec<Vec<Cell>> {
    let degraded = match &status.degraded[..] {
        [] => String::new(),
        unknown => format!("not told: {}", unknown.join(", ")),
    };
    let backfills = if status.backfills == 0 { String::new() } else { format!(", {} backfills", status.backfills) };
    let active = format!("{} active{backfills}", status.active_count);
    let mut rows = vec![row!["dagster", &status.version, active, "", degraded]];
    rows.extend(status.daemons.iter().map(|one| {
        let (state, tone) = match one {
            DagsterDaemon { last_heartbeat_unix_ms: 0, required: true, .. } => ("silent", Tone::Bad),
            DagsterDaemon { last_heartbeat_unix_ms: 0, .. } => ("not needed", Tone::Plain),
            _ => ("heartbeat", Tone::Plain),
        };
        let errors = if one.errors == 0 { String::new() } else { format!("{} errors", one.errors) };
        let since = words::second(one.last_heartbeat_unix_ms);
        [row!["daemon", &one.kind], vec![Cell::new(state, tone)], row![since, errors]].concat()
    }));
    rows.extend(status.locations.iter().map(|one| {
        let name = row!["location", &one.name];
        [name, vec![location_state(one)], row!["", &one.error_class]].concat()
    }));
    let line = |part: &str, one: &DagsterRun| {
        let since = one.ended_unix_ms.max(one.started_unix_ms).max(one.created_unix_ms);
        [row![part, &one.id], vec![run_status(one)], row![words::second(since), &one.job]].concat()
    };
    rows.extend(status.active.iter().map(|one| line("run", one)));
    rows.extend(status.last_ended.iter().map(|one| line("last run", one)));
    rows
}

fn location(one: &DagsterLocation) -> Value {
    json!({ "name": one.name, "state": one.state, "error_class": none_if_empty(&one.error_class) })
}

fn location_state(one: &DagsterLocation) -> Cell {
    let tone = match one.state.as_str() {
        "loaded" => Tone::Good,
        "failed" => Tone::Bad,
        _ => Tone::Pending,
    };
    Cell::new(&one.state, tone)
}

/// Locations that were loaded anew.
pub(crate) fn reload(reload: &DagsterReloadResult) -> Value {
    json!({ "locations": reload.locations.iter().map(location).collect::<Vec<_>>() })
}

/// Columns of [`reload_rows`].
pub(crate) const RELOAD_COLUMNS: [&str; 2] = ["LOCATION", "STATE"];

/// One line a location.
pub(crate) fn reload_rows(reload: &DagsterReloadResult) -> Vec<Vec<Cell>> {
    reload.locations.iter().map(|one| vec![Cell::from(&one.name), location_state(one)]).collect()
}

fn tags(tags: &[DagsterTag]) -> Value {
    tags.iter().map(|tag| (tag.key.clone(), Value::from(tag.value.clone()))).collect::<serde_json::Map<_, _>>().into()
}

fn run(run: &DagsterRun) -> Value {
    json!({
        "id": run.id,
        "job": run.job,
        "status": run.status,
        "created": words::time(run.created_unix_ms),
        "started": words::time(run.started_unix_ms),
        "ended": words::time(run.ended_unix_ms),
        "tags": tags(&run.tags),
    })
}

fn run_status(run: &DagsterRun) -> Cell {
    status_cell(&run.status)
}

fn status_cell(status: &str) -> Cell {
    let tone = match status {
        "SUCCESS" => Tone::Good,
        "FAILURE" | "CANCELED" => Tone::Bad,
        _ => Tone::Pending,
    };
    Cell::new(status, tone)
}

/// From one moment of the wire to another, in its largest unit.
fn took(from: i64, to: i64) -> String {
    match (from, to) {
        (0, _) | (_, 0) => String::new(),
        (from, to) => words::span(Duration::from_millis((to - from).try_into().unwrap_or_default())),
    }
}

/// Runs, whole.
pub(crate) fn runs(runs: &DagsterRunsResult) -> Value {
    json!({ "runs": runs.runs.iter().map(run).collect::<Vec<_>>() })
}

/// Columns of [`run_rows`].
pub(crate) const RUN_COLUMNS: [&str; 6] = ["RUN", "JOB", "STATUS", "CREATED", "TOOK", "FOR"];

/// One line a run.
pub(crate) fn run_rows(runs: &DagsterRunsResult) -> Vec<Vec<Cell>> {
    let origin = |run: &DagsterRun| {
        let of = |key: &str| run.tags.iter().find(|tag| tag.key == key).map(|tag| tag.value.clone());
        let by = ["dagster/schedule_name", "dagster/sensor_name", "sfdata/command"].into_iter().find_map(of);
        [of("dataset"), by].into_iter().flatten().collect::<Vec<_>>().join(", ")
    };
    let row = |run: &DagsterRun| {
        let names = row![&run.id, &run.job];
        let took = took(run.started_unix_ms, run.ended_unix_ms);
        [names, vec![run_status(run)], row![words::second(run.created_unix_ms), took, origin(run)]].concat()
    };
    runs.runs.iter().map(row).collect()
}

/// A run with its steps, whole.
pub(crate) fn detail(detail: &DagsterRunResult) -> Value {
    let step = |step: &DagsterStep| {
        json!({
            "key": step.key,
            "status": step.status,
            "started": words::time(step.started_unix_ms),
            "ended": words::time(step.ended_unix_ms),
            "attempts": (step.attempts > 0).then_some(step.attempts),
        })
    };
    json!({
        "run": detail.run.as_ref().map(run),
        "steps": detail.steps.iter().map(step).collect::<Vec<_>>(),
        "total_steps": (detail.total_steps > 0).then_some(detail.total_steps),
    })
}

/// Columns of [`detail_rows`].
pub(crate) const DETAIL_COLUMNS: [&str; 5] = ["RUN", "STEP", "STATUS", "STARTED", "TOOK"];

/// A line for the run, and one for each step that began.
pub(crate) fn detail_rows(detail: &DagsterRunResult) -> Vec<Vec<Cell>> {
    let run = detail.run.clone().unwrap_or_default();
    let whole = match detail.total_steps {
        0 => format!("{}: all", run.job),
        total => format!("{}: all {total}", run.job),
    };
    let line = |name: String, status: &str, from: i64, to: i64| {
        let times = row![words::second(from), took(from, to)];
        [row![&run.id, name], vec![status_cell(status)], times].concat()
    };
    let mut rows = vec![line(whole, &run.status, run.started_unix_ms, run.ended_unix_ms)];
    rows.extend(
        detail.steps.iter().map(|step| line(step.key.clone(), &step.status, step.started_unix_ms, step.ended_unix_ms)),
    );
    rows
}

fn tick(tick: Option<&DagsterTick>) -> Value {
    tick.map_or(
        Value::Null,
        |tick| json!({ "at": words::time(tick.at_unix_ms), "status": tick.status, "runs": tick.runs }),
    )
}

/// The last tick, in a few words.
fn ticked(tick: Option<&DagsterTick>) -> String {
    tick.map_or_else(String::new, |tick| format!("{} {}", words::second(tick.at_unix_ms), tick.status))
}

fn switch(running: bool) -> Cell {
    if running { Cell::new("running", Tone::Good) } else { Cell::new("stopped", Tone::Plain) }
}

/// Schedules, whole.
pub(crate) fn schedules(all: &DagsterSchedulesResult) -> Value {
    let one = |one: &DagsterSchedule| {
        json!({
            "name": one.name,
            "location": one.location,
            "running": one.running,
            "cron": one.cron,
            "timezone": none_if_empty(&one.timezone),
            "next_tick": words::time(one.next_tick_unix_ms),
            "last_tick": tick(one.last_tick.as_ref()),
        })
    };
    json!({ "schedules": all.schedules.iter().map(one).collect::<Vec<_>>(), "degraded": all.degraded })
}

/// Columns of [`schedule_rows`].
pub(crate) const SCHEDULE_COLUMNS: [&str; 7] =
    ["SCHEDULE", "LOCATION", "STATE", "CRON", "TIME ZONE", "NEXT TICK", "LAST TICK"];

/// One line a schedule.
pub(crate) fn schedule_rows(all: &DagsterSchedulesResult) -> Vec<Vec<Cell>> {
    let row = |one: &DagsterSchedule| {
        let (next, last) = (words::second(one.next_tick_unix_ms), ticked(one.last_tick.as_ref()));
        let rest = row![&one.cron, &one.timezone, next, last];
        [row![&one.name, &one.location], vec![switch(one.running)], rest].concat()
    };
    all.schedules.iter().map(row).collect()
}

/// Sensors, whole.
pub(crate) fn sensors(all: &DagsterSensorsResult) -> Value {
    let one = |one: &DagsterSensor| {
        json!({
            "name": one.name,
            "location": one.location,
            "running": one.running,
            "min_interval_seconds": one.min_interval_seconds,
            "next_tick": words::time(one.next_tick_unix_ms),
            "last_tick": tick(one.last_tick.as_ref()),
        })
    };
    json!({ "sensors": all.sensors.iter().map(one).collect::<Vec<_>>(), "degraded": all.degraded })
}

/// Columns of [`sensor_rows`].
pub(crate) const SENSOR_COLUMNS: [&str; 6] = ["SENSOR", "LOCATION", "STATE", "EVERY", "NEXT TICK", "LAST TICK"];

/// One line a sensor.
pub(crate) fn sensor_rows(all: &DagsterSensorsResult) -> Vec<Vec<Cell>> {
    let row = |one: &DagsterSensor| {
        let every = words::span(Duration::from_secs(one.min_interval_seconds.into()));
        let rest = row![every, words::second(one.next_tick_unix_ms), ticked(one.last_tick.as_ref())];
        [row![&one.name, &one.location], vec![switch(one.running)], rest].concat()
    };
    all.sensors.iter().map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::Table;

    fn example() -> DagsterRun {
        DagsterRun {
            id: "0f1e2d3c".into(),
            job: "clean".into(),
            status: "FAILURE".into(),
            created_unix_ms: 1_000,
            started_unix_ms: 5_000,
            ended_unix_ms: 95_000,
            tags: vec![DagsterTag { key: "dataset".into(), value: "ssda903".into() }],
        }
    }

    fn text(columns: &[&'static str], rows: Vec<Vec<Cell>>) -> String {
        let mut table = Table::new(columns);
        rows.into_iter().for_each(|row| table.push(row));
        table.render(false)
    }

    #[test]
    fn all_parts_stand_in_one_table() {
        let status = DagsterStatusResult {
            version: "1.13.27".into(),
            daemons: vec![
                DagsterDaemon { kind: "SENSOR".into(), required: true, last_heartbeat_unix_ms: 7_000, errors: 1 },
                DagsterDaemon { kind: "SCHEDULER".into(), required: true, ..Default::default() },
            ],
            locations: vec![DagsterLocation {
                name: "pipelines".into(),
                state: "failed".into(),
                error_class: "DagsterUserCodeLoadError".into(),
            }],
            active_count: 0,
            last_ended: Some(example()),
            degraded: vec!["run keys of ticks".into()],
            ..Default::default()
        };
        insta::assert_snapshot!(text(&STATUS_COLUMNS, status_rows(&status)), @r#"
        PART      NAME       STATE      SINCE                 DETAIL
        dagster   1.13.27    0 active   -                     not told: run keys of ticks
        daemon    SENSOR     heartbeat  1970-01-01T00:00:07Z  1 errors
        daemon    SCHEDULER  silent     -                     -
        location  pipelines  failed     -                     DagsterUserCodeLoadError
        last run  0f1e2d3c   FAILURE    1970-01-01T00:01:35Z  clean
        "#);
    }

    #[test]
    fn a_run_stands_above_its_steps() {
        let step =
            DagsterStep { key: "read".into(), status: "SUCCESS".into(), started_unix_ms: 6_000, ..Default::default() };
        let detail = DagsterRunResult { run: Some(example()), steps: vec![step], total_steps: 3 };
        insta::assert_snapshot!(text(&DETAIL_COLUMNS, detail_rows(&detail)), @r#"
        RUN       STEP          STATUS   STARTED               TOOK
        0f1e2d3c  clean: all 3  FAILURE  1970-01-01T00:00:05Z  1m
        0f1e2d3c  read          SUCCESS  1970-01-01T00:00:06Z  -
        "#);
        let runs = DagsterRunsResult { runs: vec![example()] };
        insta::assert_snapshot!(text(&RUN_COLUMNS, run_rows(&runs)), @r#"
        RUN       JOB    STATUS   CREATED               TOOK  FOR
        0f1e2d3c  clean  FAILURE  1970-01-01T00:00:01Z  1m    ssda903
        "#);
    }
}
