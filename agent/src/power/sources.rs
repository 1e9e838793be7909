//! What is looked at, one source beside the other: ECS, Dagster, the database while it may be needed, arrivals. What can't be
//! read is told with since when; the decision makes of it what it must.

use std::time::Duration;

use jiff::Timestamp;
use sfdata_common::{limits, outcome::FailureCode};
use tokio::time::timeout;

use super::{
    asking::Asking,
    observation::{self, Arrivals, Database, Estate, Loading, Location, Observation, Reading, Schedule, Sensor, Tick},
    state::{Phase, State},
};
use crate::{
    arrivals,
    config::Role,
    runs::Runs,
    services::{
        Error, Services,
        dagster::seen::{self, LocationState, Seen, TickStatus},
        ecs::Closely,
    },
};

/// What a Dagster has to tell, lest it be put to sleep unseen: without it, it counts as not read.
const NEEDED: [&str; 3] = ["last ticks of schedules", "future ticks of schedules", "last ticks of sensors"];

/// What a platform that comes up is known to have running is believed for so long: calls cost, and the machine is busy.
const UP: Duration = Duration::from_secs(1);

/// The sources, with since when each can't be read.
#[derive(Debug)]
pub(super) struct Sources {
    services: Services,
    arrivals: arrivals::Handle,
    runs: Runs,
    /// ECS, Dagster, database.
    failing: [Option<Timestamp>; 3],
    platform: Platform,
    asking: Asking,
}

/// What AWS tells.
#[derive(Debug, Clone)]
struct Platform {
    ecs: Reading<Estate>,
    database: Reading<Database>,
}

impl Platform {
    /// Whether all of a platform that is being woken ran a moment ago.
    fn is_up(&self, state: &State, now: Timestamp) -> bool {
        let estate = self.ecs.since(state.since.max(now - UP));
        state.phase == Phase::Waking
            && estate.is_some_and(|estate| estate.services.iter().all(|service| service.running > 0))
            && matches!(self.database, Reading::Off | Reading::At(_, Database::Ready))
    }
}

impl Sources {
    pub(super) fn new(services: Services, arrivals: arrivals::Handle, runs: Runs) -> Self {
        let platform = Platform { ecs: Reading::Off, database: Reading::Off };
        Self { services, arrivals, runs, failing: [None; 3], platform, asking: Asking::default() }
    }

    /// One look, for a platform that is at this. `busy`: commands at work, and those of them that need Dagster.
    pub(super) async fn look(&mut self, state: &State, (commands, needs): (u32, u32)) -> Observation {
        let asked = Timestamp::now();
        if !self.platform.is_up(state, asked) {
            self.platform = self.platform(state, asked).await;
        }
        let Platform { ecs, database } = self.platform.clone();
        let (code, dagster) = match ecs.value() {
            Some(estate) if runs(estate) => self.dagster(state).await,
            _ => {
                self.failing[1] = None;
                (Reading::Off, Reading::Off)
            }
        };
        let arrivals = self.arrivals();
        let commands = commands.saturating_sub(needs);
        Observation { ecs, code, dagster, arrivals, database, commands, needs_dagster: needs > 0 }
    }

    async fn platform(&mut self, state: &State, asked: Timestamp) -> Platform {
        let stuck = state.waking.retries > 0 || state.waking.retry_at.is_some_and(|at| at <= asked);
        let closely = match state.phase {
            Phase::Waking if stuck => Closely::Stuck,
            Phase::Waking | Phase::Draining => Closely::Moving,
            Phase::Asleep | Phase::Awake => Closely::Rest,
        };
        let database = async {
            match state.phase {
                Phase::Waking => self.services.aurora.readiness().await,
                _ => Ok(None),
            }
        };
        let (estate, database) = tokio::join!(self.services.ecs.estate(closely), database);
        Platform {
            ecs: reading(&mut self.failing[0], asked, estate.map(Some)),
            database: reading(&mut self.failing[2], asked, database),
        }
    }

    /// Its code locations, where they are asked on their own, and all of it, where that is asked.
    async fn dagster(&mut self, state: &State) -> (Reading<Vec<Location>>, Reading<observation::Dagster>) {
        // Who comes up, or goes, may take a call and never answer it.
        let within = match state.phase {
            Phase::Waking | Phase::Draining => limits::POWER_LOOK,
            Phase::Asleep | Phase::Awake => limits::POWER_ACT,
        };
        let mut code = Reading::Off;
        if state.phase == Phase::Waking {
            let asked = Timestamp::now();
            let locations = match in_time(within, self.services.dagster.locations()).await {
                Ok(locations) => locations.iter().map(location).collect::<Vec<_>>(),
                Err(error) => return (code, reading(&mut self.failing[1], asked, Err(error))),
            };
            let rest = self.asking.rest(state, &locations, self.arrivals.waiting().count > 0);
            code = Reading::At(asked, locations);
            if !rest {
                self.failing[1] = None;
                return (code, Reading::Off);
            }
        }
        let asked = Timestamp::now();
        let seen = self.all_of_dagster(within).await;
        (code, reading(&mut self.failing[1], asked, seen.map(Some)))
    }

    async fn all_of_dagster(&self, within: Duration) -> Result<observation::Dagster, Error> {
        let seen = in_time(within, self.services.dagster.observe()).await?;
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

async fn in_time<T>(within: Duration, asking: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    let late = || Error::failed(FailureCode::Unavailable, format!("Dagster did not answer within {within:?}"));
    timeout(within, asking).await.unwrap_or_else(|_| Err(late()))
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
