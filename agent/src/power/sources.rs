//! What is looked at, one source beside the other: ECS, Dagster, the database while it may be needed, arrivals. What can't be
//! read is told with since when; the decision makes of it what it must.

use std::time::Duration;

use jiff::Timestamp;
use sfdata_common::{limits, outcome::FailureCode};
use tokio::time::timeout;

use super::{
    observation::{self, Arrivals, Estate, Loading, Location, Observation, Reading, Schedule, Sensor, Tick},
    state::{Phase, State},
};
use crate::{
    arrivals,
    config::Role,
    runs::Runs,
    services::{
        Error, Services,
        dagster::seen::{self, LocationState, Seen, TickStatus},
    },
};

/// What a Dagster has to tell, lest it be put to sleep unseen: without it, it counts as not read.
const NEEDED: [&str; 3] = ["last ticks of schedules", "future ticks of schedules", "last ticks of sensors"];

/// The sources, with since when each can't be read.
#[derive(Debug)]
pub(super) struct Sources {
    services: Services,
    arrivals: arrivals::Handle,
    runs: Runs,
    /// ECS, Dagster, database.
    failing: [Option<Timestamp>; 3],
}

impl Sources {
    pub(super) fn new(services: Services, arrivals: arrivals::Handle, runs: Runs) -> Self {
        Self { services, arrivals, runs, failing: [None; 3] }
    }

    /// One look, for a platform that is at this. `busy`: commands at work, and those of them that need Dagster.
    pub(super) async fn look(&mut self, state: &State, (commands, needs): (u32, u32)) -> Observation {
        let moves = matches!(state.phase, Phase::Waking | Phase::Draining);
        let asked = Timestamp::now();
        let database = async {
            match state.phase {
                Phase::Waking => self.services.aurora.readiness().await,
                _ => Ok(None),
            }
        };
        let (estate, database) = tokio::join!(self.services.ecs.estate(moves), database);
        let ecs = reading(&mut self.failing[0], asked, estate.map(Some));
        let database = reading(&mut self.failing[2], asked, database);
        let dagster = match ecs.value() {
            Some(estate) if runs(estate) => {
                let asked = Timestamp::now();
                let seen = self.dagster(moves).await;
                reading(&mut self.failing[1], asked, seen.map(Some))
            }
            _ => {
                self.failing[1] = None;
                Reading::Off
            }
        };
        let arrivals = self.arrivals();
        let commands = commands.saturating_sub(needs);
        Observation { ecs, dagster, arrivals, database, commands, needs_dagster: needs > 0 }
    }

    async fn dagster(&self, moves: bool) -> Result<observation::Dagster, Error> {
        // Who comes up, or goes, may take a call and never answer it.
        let within = if moves { limits::POWER_LOOK } else { limits::POWER_ACT };
        let late = || Error::failed(FailureCode::Unavailable, format!("Dagster did not answer within {within:?}"));
        let seen = timeout(within, self.services.dagster.observe()).await.unwrap_or_else(|_| Err(late()))?;
        self.runs.saw(&seen.ended).await;
        dagster(&seen)
    }

    fn arrivals(&self) -> Reading<Arrivals> {
        if !self.arrivals.is_on() {
            return Reading::Off;
        }
        let waiting = self.arrivals.waiting();
        let count = waiting.count.try_into().unwrap_or(u32::MAX);
        match waiting.unreadable {
            // What is known to wait does so though it is not known what else does.
            Some(unreadable) if count == 0 => Reading::Unread { since: unreadable.since, why: unreadable.why },
            _ => {
                let handed_on = self.arrivals.last_handed_on();
                Reading::At(Timestamp::now(), Arrivals { waiting: count, handed_on })
            }
        }
    }
}

fn runs(estate: &Estate) -> bool {
    estate.services.iter().any(|service| service.role == Role::Webserver && service.running > 0)
}

fn reading<T>(failing: &mut Option<Timestamp>, asked: Timestamp, told: Result<Option<T>, Error>) -> Reading<T> {
    match told {
        Ok(Some(value)) => {
            *failing = None;
            Reading::At(asked, value)
        }
        Ok(None) => {
            *failing = None;
            Reading::Off
        }
        Err(error) => Reading::Unread { since: *failing.get_or_insert(asked), why: error.to_string() },
    }
}

/// What Dagster says, as the decision needs it.
fn dagster(seen: &Seen) -> Result<observation::Dagster, Error> {
    if let Some(missing) = seen.degraded.iter().find(|what| NEEDED.contains(&what.as_str())) {
        let text = format!("this Dagster does not tell the {missing}, without which it can't be put to sleep");
        return Err(Error::failed(FailureCode::Rejected, text));
    }
    let required = seen.daemons.iter().filter(|daemon| daemon.required);
    let heartbeats: Option<Vec<Timestamp>> = required.map(|daemon| daemon.last_heartbeat).collect();
    Ok(observation::Dagster {
        heartbeat: heartbeats.and_then(|each| each.into_iter().min()),
        locations: seen.locations.iter().map(location).collect(),
        runs: seen.active_count.try_into().unwrap_or(u32::MAX),
        backfills: seen.backfills.len().try_into().unwrap_or(u32::MAX),
        run_ended: seen.last_ended().and_then(|run| run.ended),
        schedules: seen.schedules.iter().filter(|one| one.running).map(schedule).collect(),
        sensors: seen.sensors.iter().filter(|one| one.running).map(sensor).collect(),
    })
}

fn location(location: &seen::Location) -> Location {
    let state = match location.state {
        LocationState::Loaded => Loading::Loaded,
        LocationState::Loading => Loading::Loading,
        LocationState::Failed { .. } => Loading::Failed,
    };
    Location { name: location.name.clone(), state }
}

fn schedule(schedule: &seen::Schedule) -> Schedule {
    let mut next: Vec<Timestamp> = schedule.next_tick.into_iter().chain(schedule.future.iter().copied()).collect();
    next.sort();
    next.dedup();
    Schedule {
        name: format!("{}/{}", schedule.location, schedule.name),
        next,
        last: schedule.last_tick.as_ref().map(tick),
    }
}

fn sensor(sensor: &seen::Sensor) -> Sensor {
    Sensor {
        name: format!("{}/{}", sensor.location, sensor.name),
        interval: sensor.min_interval.max(Duration::from_secs(1)),
        last: sensor.last_tick.as_ref().map(tick),
    }
}

fn tick(tick: &seen::Tick) -> Tick {
    let ended = tick.status != TickStatus::Started;
    Tick { at: tick.at, ended, failed: matches!(tick.status, TickStatus::Failure | TickStatus::Unknown) }
}
