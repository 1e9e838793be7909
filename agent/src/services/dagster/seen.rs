//! What Dagster tells of itself, typed: what the power controller decides by, and what operators are shown.
//!
//! Texts of errors and of events may quote an LA's data: they are for a sealed answer alone.

use std::{collections::BTreeMap, fmt, time::Duration};

use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use sfdata_common::command::COMMAND_TAG;

/// One look at all of Dagster.
#[derive(Debug, Clone, PartialEq)]
pub struct Seen {
    /// Of the webserver, such as `1.13.27`; none where it does not tell.
    pub version: Option<String>,
    /// Parts of the daemon. **All of them seem alive for 30 minutes after it died: judge by the age of the heartbeats.**
    pub daemons: Vec<Daemon>,
    /// Code locations, loaded or not. Schedules and sensors of one that is not loaded are not among those below.
    pub locations: Vec<Location>,
    /// Runs that have not ended, the newest first; at most [`sfdata_common::limits::DAGSTER_ACTIVE_RUNS`].
    pub active: Vec<Run>,
    /// How many have not ended.
    pub active_count: usize,
    /// Runs that ended: those that changed in the last two hours, and those made last.
    pub ended: Vec<Run>,
    /// Backfills that have not ended.
    pub backfills: Vec<Backfill>,
    /// Of all locations that are loaded.
    pub schedules: Vec<Schedule>,
    /// Of all locations that are loaded.
    pub sensors: Vec<Sensor>,
    /// What this Dagster does not tell, by name. What rests on it is not known: without ticks of schedules or sensors
    /// nobody can tell when it is needed. Dagster 1.8 to 1.13 tell all that is asked for.
    pub degraded: Vec<String>,
}

impl Seen {
    /// The run that ended last.
    pub fn last_ended(&self) -> Option<&Run> {
        self.ended.iter().max_by_key(|run| (run.ended, run.created))
    }
}

/// A part of the daemon.
#[derive(Debug, Clone, PartialEq)]
pub struct Daemon {
    /// `SCHEDULER`, `SENSOR`, `QUEUED_RUN_COORDINATOR`, `BACKFILL` ...
    pub kind: String,
    /// Whether this instance needs it.
    pub required: bool,
    /// It posts one every 30 s.
    pub last_heartbeat: Option<Timestamp>,
    /// How many errors it told with the last heartbeat.
    pub errors: usize,
}

/// A code location.
#[derive(Debug, Clone, PartialEq)]
pub struct Location {
    /// As the workspace calls it.
    pub name: String,
    /// Whether its definitions can be used.
    pub state: LocationState,
}

/// Whether a location's definitions can be used.
#[derive(Debug, Clone, PartialEq)]
pub enum LocationState {
    /// They can.
    Loaded,
    /// Not yet.
    Loading,
    /// They cannot; it does not recover by itself, but by being reloaded.
    Failed {
        /// The error's class in Python, such as `DagsterUserCodeUnreachableError`: fit for anybody.
        class: String,
        /// What it says. May quote anything: for a sealed answer alone.
        error: String,
    },
}

/// Where a run stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum RunStatus {
    /// Waits for the daemon.
    Queued,
    /// Made, and not yet handed to the daemon.
    NotStarted,
    /// Somebody else runs it.
    Managed,
    /// Its task is being started.
    Starting,
    /// Its task runs.
    Started,
    /// It is being ended.
    Canceling,
    /// It ended well.
    Success,
    /// It ended badly.
    Failure,
    /// It was ended.
    Canceled,
}

impl RunStatus {
    /// Those that have not ended.
    pub const ACTIVE: [Self; 6] =
        [Self::Queued, Self::NotStarted, Self::Managed, Self::Starting, Self::Started, Self::Canceling];

    /// By Dagster's own name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "QUEUED",
            Self::NotStarted => "NOT_STARTED",
            Self::Managed => "MANAGED",
            Self::Starting => "STARTING",
            Self::Started => "STARTED",
            Self::Canceling => "CANCELING",
            Self::Success => "SUCCESS",
            Self::Failure => "FAILURE",
            Self::Canceled => "CANCELED",
        }
    }

    /// By Dagster's own name.
    pub fn named(name: &str) -> Option<Self> {
        let ended = [Self::Success, Self::Failure, Self::Canceled];
        Self::ACTIVE.into_iter().chain(ended).find(|status| status.as_str() == name)
    }

    /// Whether it is over.
    pub fn has_ended(self) -> bool {
        !Self::ACTIVE.contains(&self)
    }
}

impl fmt::Display for RunStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A run.
#[derive(Debug, Clone, PartialEq)]
pub struct Run {
    /// A UUID.
    pub id: String,
    /// Name of its job.
    pub job: String,
    /// Where it stands.
    pub status: RunStatus,
    /// Put in the queue.
    pub created: Option<Timestamp>,
    /// Its task began to work.
    pub started: Option<Timestamp>,
    /// It was over.
    pub ended: Option<Timestamp>,
    /// Those that say where it comes from, see [`TAGS`].
    pub tags: BTreeMap<String, String>,
}

/// The tag of a run that says which dataset it is for.
pub const DATASET_TAG: &str = "dataset";

/// The tags of runs that are kept: who launched it, what for, and which task runs it.
pub const TAGS: [&str; 9] = [
    COMMAND_TAG,
    DATASET_TAG,
    "dagster/schedule_name",
    "dagster/sensor_name",
    "dagster/backfill",
    "dagster/parent_run_id",
    "dagster/root_run_id",
    "ecs/task_arn",
    "ecs/cluster",
];

/// A backfill that has not ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backfill {
    /// Dagster's id of it.
    pub id: String,
    /// `REQUESTED`, `CANCELING` or `FAILING`.
    pub status: String,
    /// Of all its partitions, where they are told.
    pub partitions: Option<u64>,
}

/// A schedule.
#[derive(Debug, Clone, PartialEq)]
pub struct Schedule {
    /// Unique in its repository.
    pub name: String,
    /// Its code location.
    pub location: String,
    /// Its repository, `__repository__` where there is none by name.
    pub repository: String,
    /// Whether it is switched on.
    pub running: bool,
    /// As it was written; several are joined by ` | `.
    pub cron: String,
    /// Of the IANA database.
    pub timezone: Option<String>,
    /// None while it is switched off.
    pub next_tick: Option<Timestamp>,
    /// The next ten, also while it is switched off.
    pub future: Vec<Timestamp>,
    /// The one evaluated last.
    pub last_tick: Option<Tick>,
}

/// A sensor.
#[derive(Debug, Clone, PartialEq)]
pub struct Sensor {
    /// Unique in its repository.
    pub name: String,
    /// Its code location.
    pub location: String,
    /// Its repository.
    pub repository: String,
    /// Whether it is switched on.
    pub running: bool,
    /// At least so long from one tick to the next.
    pub min_interval: Duration,
    /// None while it is switched off, or never ticked.
    pub next_tick: Option<Timestamp>,
    /// The one evaluated last.
    pub last_tick: Option<Tick>,
}

/// A schedule or sensor was evaluated.
#[derive(Debug, Clone, PartialEq)]
pub struct Tick {
    /// When it was due, or began.
    pub at: Timestamp,
    /// What came of it.
    pub status: TickStatus,
    /// Runs that it launched.
    pub run_ids: Vec<String>,
    /// How many run keys it gave.
    pub run_keys: usize,
    /// Whether it keeps a cursor.
    pub has_cursor: bool,
}

/// What came of a tick.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum TickStatus {
    /// It is being evaluated.
    Started,
    /// There was nothing to do.
    Skipped,
    /// It asked for runs.
    Success,
    /// It could not be evaluated.
    Failure,
    /// A word of a later Dagster's.
    #[serde(other)]
    Unknown,
}

impl TickStatus {
    /// By Dagster's own name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Started => "STARTED",
            Self::Skipped => "SKIPPED",
            Self::Success => "SUCCESS",
            Self::Failure => "FAILURE",
            Self::Unknown => "UNKNOWN",
        }
    }
}

/// A run with its steps.
#[derive(Debug, Clone, PartialEq)]
pub struct Detail {
    /// The run itself.
    pub run: Run,
    /// Those that began, in the order of their beginning.
    pub steps: Vec<Step>,
    /// How many there are to be, where that is told.
    pub total: Option<usize>,
    /// What this Dagster does not tell, by name.
    pub degraded: Vec<String>,
}

impl Detail {
    /// Steps that are over.
    pub fn done(&self) -> usize {
        self.steps.iter().filter(|step| step.status.has_ended()).count()
    }
}

/// A step of a run.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// Its key, with a number in place of a dynamic step's mapping key: `load[#1]`.
    pub key: String,
    /// Where it stands.
    pub status: StepStatus,
    /// It began.
    pub started: Option<Timestamp>,
    /// It was over.
    pub ended: Option<Timestamp>,
    /// How often it was tried; none where that is not told.
    pub attempts: Option<usize>,
}

/// Where a step stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum StepStatus {
    /// It runs.
    InProgress,
    /// It ended well.
    Success,
    /// It ended badly.
    Failure,
    /// It was left out.
    Skipped,
    /// A word of a later Dagster's.
    #[serde(other)]
    Unknown,
}

impl StepStatus {
    /// By Dagster's own name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::InProgress => "IN_PROGRESS",
            Self::Success => "SUCCESS",
            Self::Failure => "FAILURE",
            Self::Skipped => "SKIPPED",
            Self::Unknown => "UNKNOWN",
        }
    }

    fn has_ended(self) -> bool {
        matches!(self, Self::Success | Self::Failure | Self::Skipped)
    }
}

/// A part of what a run has told. Messages may quote an LA's data: for a sealed answer alone.
#[derive(Debug, Clone, PartialEq)]
pub struct Events {
    /// In their order.
    pub events: Vec<Event>,
    /// Where to go on.
    pub cursor: Option<String>,
    /// Whether there are more already.
    pub more: bool,
}

/// Something that a run told.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// When.
    pub at: Timestamp,
    /// `STEP_START`, `STEP_FAILURE` ...; `LOG_MESSAGE` for what its code logged.
    pub kind: String,
    /// Of which step; none for the run's own.
    pub step: Option<String>,
    /// What, with the error's text where it has one.
    pub message: String,
}

/// Seconds since 1970 as Dagster tells them: a float; none where they are no time.
pub(super) fn at(seconds: f64) -> Option<Timestamp> {
    let since = SignedDuration::try_from_secs_f64(seconds).ok()?;
    Timestamp::from_duration(since).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_time_is_none() {
        assert_eq!(at(1.5).unwrap().as_millisecond(), 1_500);
        for wrong in [f64::NAN, f64::INFINITY, 1e300, -1e300] {
            assert_eq!(at(wrong), None, "{wrong}");
        }
    }
}
