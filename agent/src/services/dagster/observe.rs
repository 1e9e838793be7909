//! One look at all of Dagster that decides whether it may sleep: in one call, and one more for each further hundred runs.
//!
//! What decides (whether a run is active, a schedule on) has to be there, or the look fails; the rest may be missing, and is
//! named.

use std::time::Duration;

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::json;
use sfdata_common::limits;

use super::{
    Dagster, ENDED, Told, is_class, read,
    runs::{FoundRun, FoundRuns, RUN},
    seen::{Backfill, Daemon, Location, LocationState, Run, RunStatus, Schedule, Seen, Sensor, Tick, TickStatus, at},
    statuses,
};
use crate::services::Error;

const TRIED: &str = "look at Dagster";
/// Dagster tells runs by when they were made, not by when they ended: all that changed so lately are looked at, and
/// those made last. Sensors look every hour at most.
const LATELY: Duration = Duration::from_secs(2 * 3600);
/// Runs made last, of those that ended.
const MADE_LAST: usize = 25;
/// Backfills that have not ended.
const BACKFILLS: usize = 100;
/// Future ticks of each schedule.
const TICKS: usize = 10;
/// A sensor's interval where it tells none (Dagster's default).
const INTERVAL: Duration = Duration::from_secs(30);

/// What does not depend on the moment.
const REST: &str = "
  version # ? the version
  instance {
    daemonHealth {
      allDaemonStatuses {
        daemonType
        required # ? which daemons are required
        lastHeartbeatTime
        lastHeartbeatErrors { className } # ? errors of daemons
      }
    }
  }
  workspaceOrError {
    __typename
    ... on PythonError { className }
    ... on Workspace {
      locationEntries {
        name
        loadStatus
        locationOrLoadError { __typename ... on PythonError { className message } }
      }
    }
  }
  repositoriesOrError {
    __typename
    ... on PythonError { className }
    ... on RepositoryConnection {
      nodes {
        name
        location { name }
        schedules {
          name
          cronSchedule
          executionTimezone # ? time zones of schedules
          scheduleState {
            status
            nextTick { timestamp } # ? next ticks of schedules
            ticks(limit: 1) { ...Tick } # ? last ticks of schedules
          }
          futureTicks(limit: TICKS) { results { timestamp } } # ? future ticks of schedules
        }
        sensors {
          name
          minIntervalSeconds # ? intervals of sensors
          nextTick { timestamp } # ? next ticks of sensors
          sensorState {
            status
            ticks(limit: 1) { ...Tick } # ? last ticks of sensors
          }
        }
      }
    }
  }
}
fragment Backfills on PartitionBackfillsOrError {
  __typename
  ... on PythonError { className }
  ... on PartitionBackfills {
    results {
      id
      status
      numPartitions # ? sizes of backfills
    }
  }
}
fragment Tick on InstigationTick {
  timestamp
  status
  runIds
  runKeys # ? run keys of ticks
  cursor # ? cursors of sensors
}
";

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct FoundInstance {
    daemon_health: FoundHealth,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct FoundHealth {
    all_daemon_statuses: Vec<FoundDaemon>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct FoundDaemon {
    daemon_type: String,
    required: Option<bool>,
    last_heartbeat_time: Option<f64>,
    last_heartbeat_errors: Option<Vec<serde::de::IgnoredAny>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct FoundWorkspace {
    location_entries: Vec<FoundLocation>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct FoundLocation {
    name: String,
    load_status: Option<String>,
    location_or_load_error: Option<FoundLoad>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct FoundLoad {
    #[serde(rename = "__typename")]
    kind: String,
    class_name: Option<String>,
    message: Option<String>,
}

#[derive(Deserialize)]
struct FoundBackfills {
    results: Vec<FoundBackfill>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct FoundBackfill {
    id: String,
    status: String,
    num_partitions: Option<u64>,
}

#[derive(Deserialize)]
struct FoundRepositories {
    nodes: Vec<FoundRepository>,
}

#[derive(Deserialize)]
struct FoundRepository {
    name: String,
    location: Named,
    schedules: Vec<FoundSchedule>,
    sensors: Vec<FoundSensor>,
}

#[derive(Deserialize)]
struct Named {
    name: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct FoundSchedule {
    name: String,
    cron_schedule: Option<String>,
    execution_timezone: Option<String>,
    schedule_state: FoundState,
    future_ticks: Option<FoundFuture>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct FoundSensor {
    name: String,
    min_interval_seconds: Option<f64>,
    next_tick: Option<Moment>,
    sensor_state: FoundState,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct FoundState {
    status: String,
    next_tick: Option<Moment>,
    #[serde(default)]
    ticks: Option<Vec<FoundTick>>,
}

#[derive(Deserialize)]
struct FoundFuture {
    results: Option<Vec<Moment>>,
}

#[derive(Deserialize)]
struct Moment {
    timestamp: Option<f64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct FoundTick {
    timestamp: f64,
    status: TickStatus,
    run_ids: Option<Vec<String>>,
    run_keys: Option<Vec<serde::de::IgnoredAny>>,
    cursor: Option<serde::de::IgnoredAny>,
}

impl Dagster {
    /// Look at everything that tells whether Dagster is needed now, and when it will be.
    ///
    /// # Errors
    /// Whatever keeps it from being a whole look: it is then not known, which is not idle.
    pub async fn observe(&self) -> Result<Seen, Error> {
        let text = document(Timestamp::now());
        let mut told = self.ask(TRIED, &text, json!({})).await?;
        let mut degraded = std::mem::take(&mut told.degraded);

        let FoundRuns { count, results } = told.part(TRIED, "active", "Runs")?;
        let mut active: Vec<Run> = results.into_iter().map(Run::from).collect();
        let active_count = usize::try_from(count.unwrap_or_default()).unwrap_or(usize::MAX).max(active.len());
        let mut full = active.len() >= limits::DAGSTER_PAGE;
        while full && active.len() < limits::DAGSTER_ACTIVE_RUNS {
            let after = active.last().map(|run| run.id.clone());
            let page = self.page_of_runs(TRIED, &RunStatus::ACTIVE, None, &[], limits::DAGSTER_PAGE, after).await?;
            full = page.len() >= limits::DAGSTER_PAGE;
            let new = page.into_iter().filter(|run| !active.iter().any(|known| known.id == run.id)).collect::<Vec<_>>();
            if new.is_empty() {
                break;
            }
            active.extend(new);
        }
        let active_count = active_count.max(active.len());

        let ended = told.part::<FoundRuns>(TRIED, "ended", "Runs")?.results;
        let lately = match told.data.contains_key("lately") {
            true => told.part::<FoundRuns>(TRIED, "lately", "Runs")?.results,
            false => Vec::new(),
        };
        let mut ended: Vec<Run> = ended.into_iter().chain(lately).map(Run::from).collect();
        ended.sort_by(|one, other| one.id.cmp(&other.id));
        ended.dedup_by(|one, other| one.id == other.id);

        let mut seen = Seen {
            version: told.data.get("version").and_then(|version| version.as_str()).map(str::to_owned),
            daemons: daemons(&mut told)?,
            locations: locations(&mut told)?,
            active,
            active_count,
            ended,
            backfills: backfills(&mut told)?,
            schedules: Vec::new(),
            sensors: Vec::new(),
            degraded: Vec::new(),
        };
        let FoundRepositories { nodes } = told.part(TRIED, "repositoriesOrError", "RepositoryConnection")?;
        for repository in nodes {
            let (location, name) = (repository.location.name, repository.name);
            for schedule in repository.schedules {
                seen.schedules.push(schedule.seen(&location, &name, &mut degraded));
            }
            for sensor in repository.sensors {
                seen.sensors.push(sensor.seen(&location, &name, &mut degraded));
            }
        }
        degraded.sort();
        degraded.dedup();
        seen.degraded = degraded;
        Ok(seen)
    }
}

fn document(now: Timestamp) -> String {
    let since = now.as_second() - LATELY.as_secs() as i64;
    let (active, ended, page) = (statuses(&RunStatus::ACTIVE), statuses(&ENDED), limits::DAGSTER_PAGE);
    let runs = "__typename ... on PythonError { className } ... on Runs";
    format!(
        "query Observe {{
  active: runsOrError(filter: {{statuses: [{active}]}}, limit: {page}) {{ {runs} {{
    count # ? the number of runs
    results {{ ...Run }} }} }}
  ended: runsOrError(filter: {{statuses: [{ended}]}}, limit: {MADE_LAST}) {{ {runs} {{ results {{ ...Run }} }} }}
  lately: runsOrError(filter: {{statuses: [{ended}], updatedAfter: {since}}}, limit: {page}) {{ {runs} {{ results {{ ...Run }} }} }} \
         # ? runs that ended lately
  requested: partitionBackfillsOrError(status: REQUESTED, limit: {BACKFILLS}) {{ ...Backfills }}
  canceling: partitionBackfillsOrError(status: CANCELING, limit: {BACKFILLS}) {{ ...Backfills }}
  failing: partitionBackfillsOrError(status: FAILING, limit: {BACKFILLS}) {{ ...Backfills }} # ?
{}{RUN}",
        REST.trim_start_matches('\n').replace("TICKS", &TICKS.to_string())
    )
}

fn daemons(told: &mut Told) -> Result<Vec<Daemon>, Error> {
    let instance: FoundInstance = read(TRIED, "instance", told.data.remove("instance").unwrap_or_default())?;
    let daemon = |found: FoundDaemon| Daemon {
        kind: found.daemon_type,
        required: found.required.unwrap_or(true),
        last_heartbeat: found.last_heartbeat_time.and_then(at),
        errors: found.last_heartbeat_errors.unwrap_or_default().len(),
    };
    Ok(instance.daemon_health.all_daemon_statuses.into_iter().map(daemon).collect())
}

fn locations(told: &mut Told) -> Result<Vec<Location>, Error> {
    let workspace: FoundWorkspace = told.part(TRIED, "workspaceOrError", "Workspace")?;
    Ok(workspace.location_entries.into_iter().map(Location::from).collect())
}

impl From<FoundLocation> for Location {
    fn from(found: FoundLocation) -> Self {
        let state = match found.location_or_load_error {
            // Dagster calls a location loaded whose loading failed.
            Some(load) if load.kind != "RepositoryLocation" => LocationState::Failed {
                class: load.class_name.filter(|class| is_class(class)).unwrap_or(load.kind),
                error: load.message.unwrap_or_default(),
            },
            _ if found.load_status.as_deref() == Some("LOADING") => LocationState::Loading,
            Some(_) => LocationState::Loaded,
            None => LocationState::Loading,
        };
        Self { name: found.name, state }
    }
}

fn backfills(told: &mut Told) -> Result<Vec<Backfill>, Error> {
    let mut all = Vec::new();
    for part in ["requested", "canceling", "failing"] {
        if part == "failing" && !told.data.contains_key(part) {
            continue;
        }
        let found: FoundBackfills = told.part(TRIED, part, "PartitionBackfills")?;
        all.extend(found.results.into_iter().map(|one| Backfill {
            id: one.id,
            status: one.status,
            partitions: one.num_partitions,
        }));
    }
    Ok(all)
}

impl FoundSchedule {
    fn seen(self, location: &str, repository: &str, degraded: &mut Vec<String>) -> Schedule {
        if self.future_ticks.is_none() {
            degraded.push("future ticks of schedules".into());
        }
        let future = self.future_ticks.and_then(|future| future.results).unwrap_or_default();
        Schedule {
            name: self.name,
            location: location.into(),
            repository: repository.into(),
            running: is_running(&self.schedule_state),
            cron: cron(self.cron_schedule.as_deref().unwrap_or_default()),
            timezone: self.execution_timezone,
            next_tick: moment(self.schedule_state.next_tick.as_ref()),
            future: future.iter().filter_map(|tick| tick.timestamp.and_then(at)).collect(),
            last_tick: last(self.schedule_state.ticks),
        }
    }
}

impl FoundSensor {
    fn seen(self, location: &str, repository: &str, degraded: &mut Vec<String>) -> Sensor {
        let interval = self.min_interval_seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
        if interval.is_none() {
            degraded.push("intervals of sensors".into());
        }
        Sensor {
            name: self.name,
            location: location.into(),
            repository: repository.into(),
            running: is_running(&self.sensor_state),
            min_interval: interval.unwrap_or(INTERVAL),
            next_tick: moment(self.next_tick.as_ref()),
            last_tick: last(self.sensor_state.ticks),
        }
    }
}

/// A word that is not known may mean that it runs.
fn is_running(state: &FoundState) -> bool {
    state.status != "STOPPED"
}

fn moment(moment: Option<&Moment>) -> Option<Timestamp> {
    moment?.timestamp.and_then(at)
}

fn last(ticks: Option<Vec<FoundTick>>) -> Option<Tick> {
    let tick = ticks?.into_iter().next()?;
    Some(Tick {
        at: at(tick.timestamp)?,
        status: tick.status,
        run_ids: tick.run_ids.unwrap_or_default(),
        run_keys: tick.run_keys.unwrap_or_default().len(),
        has_cursor: tick.cursor.is_some(),
    })
}

/// Several crons are told as Python writes a list.
fn cron(told: &str) -> String {
    let list = told.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let each = |list: &str| list.split(", ").map(|one| one.trim_matches(['\'', '"'])).collect::<Vec<_>>().join(" | ");
    list.map_or_else(|| told.to_owned(), each)
}

impl From<FoundRun> for Run {
    fn from(found: FoundRun) -> Self {
        found.seen()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_crons_are_told_apart_from_one() {
        assert_eq!(cron("0 1 * * 1,2"), "0 1 * * 1,2");
        assert_eq!(cron("['0 1 * * 1,2', '0 5 * * *']"), "0 1 * * 1,2 | 0 5 * * *");
    }

    #[test]
    fn a_location_that_failed_is_not_loaded_whatever_its_status_says() {
        let of = |text: &str| Location::from(serde_json::from_str::<FoundLocation>(text).unwrap()).state;
        let loaded =
            r#"{"name": "a", "loadStatus": "LOADED", "locationOrLoadError": {"__typename": "RepositoryLocation"}}"#;
        assert_eq!(of(loaded), LocationState::Loaded);
        let failed = r#"{"name": "a", "loadStatus": "LOADED",
            "locationOrLoadError": {"__typename": "PythonError", "className": "X Y", "message": "m"}}"#;
        assert_eq!(of(failed), LocationState::Failed { class: "PythonError".into(), error: "m".into() });
        assert_eq!(
            of(r#"{"name": "a", "loadStatus": "LOADING", "locationOrLoadError": null}"#),
            LocationState::Loading
        );
    }
}
