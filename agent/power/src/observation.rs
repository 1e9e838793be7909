//! What one look at the world gives the decision: each source on its own, with when it was asked, or since when it can't be
//! read. Plain values: the services fill them in, and so does a simulation.

use std::time::Duration;

use jiff::Timestamp;

use crate::Role;

/// One source, as it was last asked.
#[derive(Debug, Clone, PartialEq)]
pub enum Reading<T> {
    /// It was asked at this time, and said so. The time is that of the question, not of the answer.
    At(Timestamp, T),
    /// It can't be read, since then.
    Unread {
        /// The first time that it failed, without a success since.
        since: Timestamp,
        /// Why, fit for the operator's eyes.
        why: String,
    },
    /// There is nothing to ask: what would answer sleeps, or is not configured.
    Off,
}

impl<T> Reading<T> {
    /// What it said, however long ago.
    pub fn value(&self) -> Option<&T> {
        match self {
            Self::At(_, value) => Some(value),
            Self::Unread { .. } | Self::Off => None,
        }
    }

    /// What it said when it was asked at this time or later.
    pub fn since(&self, asked: Timestamp) -> Option<&T> {
        match self {
            Self::At(at, value) if *at >= asked => Some(value),
            _ => None,
        }
    }

    /// Whether it can't be read.
    pub fn is_unread(&self) -> bool {
        matches!(self, Self::Unread { .. })
    }

    /// Since when it can't be read, and why.
    pub fn unread(&self) -> Option<(Timestamp, &str)> {
        match self {
            Self::Unread { since, why } => Some((*since, why)),
            Self::At(..) | Self::Off => None,
        }
    }

    /// When it was asked with success.
    pub fn at(&self) -> Option<Timestamp> {
        match self {
            Self::At(at, _) => Some(*at),
            Self::Unread { .. } | Self::Off => None,
        }
    }
}

/// One look.
#[derive(Debug, Clone, PartialEq)]
pub struct Observation {
    /// The services and the tasks of runs, as ECS tells.
    pub ecs: Reading<Estate>,
    /// Code locations alone, which is what is asked first of a Dagster that is being woken; `Off` at any other time.
    pub code: Reading<Vec<Location>>,
    /// What Dagster says; `Off` while no webserver runs, and while waking until [`Asking`](super::asking::Asking) says so.
    pub dagster: Reading<Dagster>,
    /// Files that wait to be handed on; `Off` where arrivals are not configured.
    pub arrivals: Reading<Arrivals>,
    /// `Off` where there is none.
    pub database: Reading<Database>,
    /// Commands at work that change the platform.
    pub commands: u32,
    /// Whether another one can't go on before Dagster is awake.
    pub needs_dagster: bool,
}

/// The platform's services, and the tasks of runs.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Estate {
    /// Webserver, daemon and code servers; nothing else is ever put to sleep.
    pub services: Vec<Service>,
    /// Tasks of runs that have not stopped.
    pub run_tasks: u32,
    /// Services that the configuration names and the cluster does not have.
    pub missing: Vec<String>,
}

/// One service.
#[derive(Debug, Clone, PartialEq)]
pub struct Service {
    /// By its name in ECS.
    pub name: String,
    /// What it is to Dagster.
    pub role: Role,
    /// How many tasks ECS keeps.
    pub desired: u32,
    /// How many run.
    pub running: u32,
    /// Tasks that have not stopped, those on their way up and down among them.
    pub tasks: u32,
    /// Its task definition: another one is other code.
    pub definition: String,
    /// Its capacity provider strategy in words, `FARGATE_SPOT:1`; empty where it has none.
    pub capacity: String,
    /// Why its tasks do not come up, where ECS says so.
    pub trouble: Option<Trouble>,
}

/// What keeps a task from running.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trouble {
    /// Fargate Spot has no room.
    NoSpot,
    /// Any other, in ECS's words.
    Other(String),
}

/// What Dagster says of itself.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Dagster {
    /// When the daemon that has been silent longest last told that it lives; `None` if one never did.
    pub heartbeat: Option<Timestamp>,
    /// Code locations.
    pub locations: Vec<Location>,
    /// Runs that are queued, starting, started or canceling.
    pub runs: u32,
    /// Backfills in progress.
    pub backfills: u32,
    /// When the run that ended last did so.
    pub run_ended: Option<Timestamp>,
    /// Schedules that are switched on.
    pub schedules: Vec<Schedule>,
    /// Sensors that are switched on.
    pub sensors: Vec<Sensor>,
}

/// One code location.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Location {
    /// Its name.
    pub name: String,
    /// How it is.
    pub state: Loading,
}

/// How a code location is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loading {
    /// It is there.
    Loaded,
    /// It is on its way.
    Loading,
    /// It has an error, and stays so until it is reloaded.
    Failed,
}

/// One schedule that is switched on.
#[derive(Debug, Clone, PartialEq)]
pub struct Schedule {
    /// `location/name`.
    pub name: String,
    /// Its next ticks in order, as Dagster tells them; time zones and daylight saving are in them.
    pub next: Vec<Timestamp>,
    /// Its last tick.
    pub last: Option<Tick>,
}

/// One sensor that is switched on.
#[derive(Debug, Clone, PartialEq)]
pub struct Sensor {
    /// `location/name`.
    pub name: String,
    /// At least so long between two ticks.
    pub interval: Duration,
    /// Its last tick.
    pub last: Option<Tick>,
}

/// One evaluation of a schedule or sensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tick {
    /// A schedule's: the time that it was due. A sensor's: when it began.
    pub at: Timestamp,
    /// Whether it has come to its end.
    pub ended: bool,
    /// Whether its evaluation failed: then a sensor has seen nothing.
    pub failed: bool,
}

/// Files that wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Arrivals {
    /// How many have not been handed on.
    pub waiting: u32,
    /// When the last one was handed on.
    pub handed_on: Option<Timestamp>,
}

/// How the database is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Database {
    /// Whoever connects is served, be it after a resume of some seconds.
    Ready,
    /// Stopped: it has to be started.
    Stopped,
    /// On its way somewhere.
    Moving,
}
