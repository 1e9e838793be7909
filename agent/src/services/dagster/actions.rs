//! What operators order of Dagster, and what they are told: names, ids, statuses, times and counts.

use std::time::Duration;

use jiff::Timestamp;
use sfdata_common::{command, outcome::FailureCode};
use sfdata_proto::v1::{self as wire, action_result::Kind};
use tokio::time::{Instant, sleep};

use super::{
    Dagster, launch,
    runs::RunsAsked,
    seen::{Detail, LocationState, Run, RunStatus, Schedule, Sensor, Step, Tick},
};
use crate::{
    execute::Job,
    services::{Error, Plan},
};

/// Between two looks at a run: its steps take seconds at least.
const LOOK: Duration = Duration::from_secs(2);
/// Active runs that a status tells one by one.
const SHOWN: usize = 20;
/// A tag's value that is told: a word, as names of datasets are. Others may be anything.
const WORD: usize = 64;

impl Dagster {
    /// Do what was ordered.
    pub async fn execute(&self, action: &command::Dagster, job: &Job) -> Result<Kind, Error> {
        match action {
            command::Dagster::Status => read(job, self.status()).await,
            command::Dagster::Runs { statuses, job: of, limit } => {
                let statuses = statuses.iter().filter_map(|name| RunStatus::named(name)).collect();
                let limit = usize::try_from(*limit).unwrap_or(usize::MAX);
                let asked = RunsAsked { statuses, job: of.clone(), tags: Vec::new(), limit };
                let runs = read(job, self.runs(&asked)).await?;
                Ok(Kind::DagsterRuns(wire::DagsterRunsResult { runs: runs.iter().map(run).collect() }))
            }
            command::Dagster::ShowRun { run, watch: None } => Ok(result(&read(job, self.run(run)).await?)),
            command::Dagster::ShowRun { run, watch: Some(deadline) } => {
                Ok(result(&self.ended(run, Instant::now() + *deadline, job).await?))
            }
            command::Dagster::Launch(launch) => self.launch_once(launch, job).await,
            command::Dagster::Reexecute { run, wait, deadline } => {
                self.re_execute_once(run, *wait, *deadline, job).await
            }
            command::Dagster::Cancel { run, deadline } => self.cancel(run, *deadline, job).await,
            command::Dagster::Reload { location } => self.reload_all(location.as_deref(), job).await,
            command::Dagster::Schedules => {
                let seen = read(job, self.observe()).await?;
                let schedules = seen.schedules.iter().map(schedule).collect();
                Ok(Kind::DagsterSchedules(wire::DagsterSchedulesResult { schedules, degraded: seen.degraded }))
            }
            command::Dagster::Sensors => {
                let seen = read(job, self.observe()).await?;
                let sensors = seen.sensors.iter().map(sensor).collect();
                Ok(Kind::DagsterSensors(wire::DagsterSensorsResult { sensors, degraded: seen.degraded }))
            }
        }
    }

    async fn status(&self) -> Result<Kind, Error> {
        let seen = self.observe().await?;
        let daemon = |one: &super::seen::Daemon| wire::DagsterDaemon {
            kind: one.kind.clone(),
            required: one.required,
            last_heartbeat_unix_ms: unix_ms(one.last_heartbeat),
            errors: count(one.errors),
        };
        Ok(Kind::DagsterStatus(wire::DagsterStatusResult {
            version: seen.version.clone().unwrap_or_default(),
            daemons: seen.daemons.iter().map(daemon).collect(),
            locations: seen.locations.iter().map(|one| location(&one.name, &one.state)).collect(),
            active: seen.active.iter().take(SHOWN).map(run).collect(),
            active_count: count(seen.active_count),
            last_ended: seen.last_ended().map(run),
            backfills: count(seen.backfills.len()),
            degraded: seen.degraded,
        }))
    }

    /// A run that has ended; told how far it is until then. Nothing is changed by the end of the waiting.
    pub(super) async fn ended(&self, id: &str, ends: Instant, job: &Job) -> Result<Detail, Error> {
        let mut step = String::new();
        loop {
            match self.run(id).await {
                Ok(detail) if detail.run.status.has_ended() => return Ok(detail),
                Ok(detail) => {
                    let now = progress(&detail);
                    if now != step {
                        let percent = detail.total.filter(|total| *total > 0).map(|total| detail.done() * 100 / total);
                        job.progress(now.clone(), percent.map(|percent| count(percent).min(99)));
                        step = now;
                    }
                }
                Err(error) if error.is_passing() && Instant::now() < ends => {
                    job.progress(format!("Dagster does not tell how run {id} is; asking again"), None);
                    step.clear();
                }
                Err(error) => return Err(error.after(&format!("run {id} goes on"))),
            }
            if Instant::now() >= ends {
                let text =
                    format!("run {id} has not ended in time, and goes on; follow it with hubctl dagster show --watch");
                return Err(Error::failed(FailureCode::Deadline, text));
            }
            tokio::select! {
                biased;
                () = job.cancelled().cancelled() => {
                    return Err(Error::cancelled(format!("run {id} goes on; only the waiting was ended")));
                }
                () = sleep(LOOK) => {}
            }
        }
    }

    async fn cancel(&self, id: &str, deadline: Duration, job: &Job) -> Result<Kind, Error> {
        let ends = Instant::now() + deadline;
        let before = read(job, self.run(id)).await?;
        let over = |status: RunStatus| {
            let text = format!("run {id} has ended as {status}: there is nothing to end");
            Error::failed(FailureCode::Conflict, text)
        };
        if before.run.status.has_ended() && before.run.status != RunStatus::Canceled && !job.resumed() {
            return Err(over(before.run.status));
        }
        let plan = Plan::default().change(
            format!("dagster-run {id}"),
            "status",
            before.run.status.as_str(),
            RunStatus::Canceled.as_str(),
        );
        if let Some(answer) = job.agree(plan).await? {
            return Ok(answer);
        }
        if !before.run.status.has_ended() && before.run.status != RunStatus::Canceling {
            job.progress(format!("ending run {id}"), None);
            match self.terminate(id).await {
                // It may have ended in between, or have heard it: that is looked at.
                Ok(()) | Err(Error::Failed { code: FailureCode::Conflict | FailureCode::Unavailable, .. }) => {}
                Err(error) => return Err(error),
            }
        }
        let after = self.until_canceled(id, ends, job).await?;
        if after.run.status == RunStatus::Canceled { Ok(result(&after)) } else { Err(over(after.run.status)) }
    }

    /// A run that is to be ended, once it has; asked again where Dagster did not take it up.
    async fn until_canceled(&self, id: &str, ends: Instant, job: &Job) -> Result<Detail, Error> {
        let mut looks: u32 = 0;
        loop {
            match self.run(id).await {
                Ok(detail) if detail.run.status.has_ended() => return Ok(detail),
                Ok(detail) => {
                    job.progress(format!("run {id} is {}", detail.run.status), None);
                    looks += 1;
                    // One that was just starting cannot be ended before it has started.
                    if detail.run.status != RunStatus::Canceling && looks.is_multiple_of(3) {
                        match self.terminate(id).await {
                            Ok(()) | Err(Error::Failed { code: FailureCode::Conflict, .. }) => {}
                            Err(error) if error.is_passing() => {}
                            Err(error) => return Err(error),
                        }
                    }
                }
                Err(error) if error.is_passing() && Instant::now() < ends => {}
                Err(error) => return Err(error.after(&format!("run {id} was told to end"))),
            }
            if Instant::now() >= ends {
                let text = format!(
                    "run {id} was told to end and has not ended in time; look at it with hubctl dagster show, and at its \
                     task with hubctl ecs stop-task"
                );
                return Err(Error::failed(FailureCode::Deadline, text));
            }
            tokio::select! {
                biased;
                () = job.cancelled().cancelled() => {
                    return Err(Error::cancelled(format!("run {id} was told to end, and that stays so")));
                }
                () = sleep(LOOK) => {}
            }
        }
    }

    async fn reload_all(&self, only: Option<&str>, job: &Job) -> Result<Kind, Error> {
        let all = launch::names(read(job, self.locations()).await?);
        let names: Vec<String> = match only {
            None => all,
            Some(name) if all.iter().any(|known| known == name) => vec![name.to_owned()],
            Some(name) => {
                let text = format!("there is no code location {name}; {}; order one of these", super::there_is(all));
                return Err(Error::failed(FailureCode::NotFound, text));
            }
        };
        let plan = names.iter().fold(Plan::default(), |plan, name| {
            plan.change(format!("dagster-location {name}"), "definitions", "as loaded", "loaded anew")
        });
        if let Some(answer) = job.agree(plan).await? {
            return Ok(answer);
        }
        let (mut locations, mut failed) = (Vec::with_capacity(names.len()), Vec::new());
        for name in &names {
            if job.cancelled().is_cancelled() {
                return Err(Error::cancelled(format!(
                    "{} of {} locations were reloaded",
                    locations.len(),
                    names.len()
                )));
            }
            job.progress(format!("reloading {name}"), Some(count(locations.len() * 100 / names.len())));
            let state = self.reload(name).await?;
            if let LocationState::Failed { class, .. } = &state {
                failed.push(format!("{name} ({class})"));
            }
            locations.push(location(name, &state));
        }
        if failed.is_empty() {
            return Ok(Kind::DagsterReload(wire::DagsterReloadResult { locations }));
        }
        let text = format!(
            "reloaded, and cannot be loaded: {}; the others are; look at the logs of the code server",
            failed.join(", ")
        );
        Err(Error::failed(FailureCode::Rejected, text))
    }
}

/// A reading, which may be given up.
pub(super) async fn read<T>(job: &Job, reading: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    tokio::select! {
        biased;
        () = job.cancelled().cancelled() => Err(Error::cancelled("nothing was changed")),
        result = reading => result,
    }
}

fn progress(detail: &Detail) -> String {
    let Run { id, status, .. } = &detail.run;
    let running = detail.steps.iter().filter(|step| step.ended.is_none()).map(|step| step.key.as_str());
    let running: Vec<_> = running.take(3).collect();
    let at = if running.is_empty() { String::new() } else { format!(", at {}", running.join(", ")) };
    match detail.total {
        Some(total) => format!("run {id} is {status}: {} of {total} steps{at}", detail.done()),
        None => format!("run {id} is {status}: {} steps{at}", detail.done()),
    }
}

fn unix_ms(at: Option<Timestamp>) -> i64 {
    at.map_or(0, Timestamp::as_millisecond)
}

fn count(count: usize) -> u32 {
    count.try_into().unwrap_or(u32::MAX)
}

fn location(name: &str, state: &LocationState) -> wire::DagsterLocation {
    let (state, class) = match state {
        LocationState::Loaded => ("loaded", ""),
        LocationState::Loading => ("loading", ""),
        LocationState::Failed { class, .. } => ("failed", class.as_str()),
    };
    wire::DagsterLocation { name: name.into(), state: state.into(), error_class: class.into() }
}

fn run(run: &Run) -> wire::DagsterRun {
    let is_word =
        |text: &str| text.len() <= WORD && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_./:".contains(&b));
    let told = run.tags.iter().filter(|(_, value)| is_word(value));
    wire::DagsterRun {
        id: run.id.clone(),
        job: run.job.clone(),
        status: run.status.as_str().into(),
        created_unix_ms: unix_ms(run.created),
        started_unix_ms: unix_ms(run.started),
        ended_unix_ms: unix_ms(run.ended),
        tags: told.map(|(key, value)| wire::DagsterTag { key: key.clone(), value: value.clone() }).collect(),
    }
}

/// A run with its steps, as a result.
pub(super) fn result(detail: &Detail) -> Kind {
    let step = |step: &Step| wire::DagsterStep {
        key: step.key.clone(),
        status: step.status.as_str().into(),
        started_unix_ms: unix_ms(step.started),
        ended_unix_ms: unix_ms(step.ended),
        attempts: step.attempts.map_or(0, count),
    };
    Kind::DagsterRun(wire::DagsterRunResult {
        run: Some(run(&detail.run)),
        steps: detail.steps.iter().map(step).collect(),
        total_steps: detail.total.map_or(0, count),
    })
}

fn tick(tick: &Tick) -> wire::DagsterTick {
    let runs = count(tick.run_ids.len().max(tick.run_keys));
    wire::DagsterTick { at_unix_ms: tick.at.as_millisecond(), status: tick.status.as_str().into(), runs }
}

fn schedule(one: &Schedule) -> wire::DagsterSchedule {
    wire::DagsterSchedule {
        name: one.name.clone(),
        location: one.location.clone(),
        running: one.running,
        cron: one.cron.clone(),
        timezone: one.timezone.clone().unwrap_or_default(),
        next_tick_unix_ms: unix_ms(one.next_tick),
        last_tick: one.last_tick.as_ref().map(tick),
    }
}

fn sensor(one: &Sensor) -> wire::DagsterSensor {
    wire::DagsterSensor {
        name: one.name.clone(),
        location: one.location.clone(),
        running: one.running,
        min_interval_seconds: one.min_interval.as_secs().try_into().unwrap_or(u32::MAX),
        next_tick_unix_ms: unix_ms(one.next_tick),
        last_tick: one.last_tick.as_ref().map(tick),
    }
}
