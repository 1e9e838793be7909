//! What to wake for: set from the last look at Dagster before it goes. What is then done is read anew from Dagster, so that an
//! alarm does no more than to wake.
//!
//! Alarms are absolute instants of Dagster's own reckoning, so that neither a restart nor a clock that jumps nor the change
//! to summer time moves them.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{
    observation::{Dagster, Sensor},
    settings::Settings,
    state::State,
};

/// Ticks of one schedule that are remembered: should its code location fail to load, they are all that is known of it.
const TICKS: usize = 5;
/// A tick may miss an event that is so much older: a run writes its end before others can read it, and clocks differ.
const SETTLES: Duration = Duration::from_secs(5);
/// So long after it may tick, a sensor has ticked.
const UNSEEN: Duration = Duration::from_secs(90);
/// What was late when everything went to sleep is looked after again so much later.
const LATE: Duration = Duration::from_secs(3600);

/// One instant to be awake at.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Alarm {
    /// When.
    pub at: Timestamp,
    /// What for.
    pub what: What,
}

/// What an alarm is for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum What {
    /// A schedule ticks. Dagster drops ticks that it slept through, so that waking begins before.
    Schedule(String),
    /// A sensor that has yet to see the last run, or the last arrival, may tick.
    Sensor(String),
    /// A sensor that may watch something outside of Dagster has not ticked for long.
    Poll(String),
    /// A span in which the platform is kept awake begins.
    Calendar,
    /// Nothing was looked at for long.
    Look,
}

impl What {
    /// `schedule`, `sensor`, `poll`, `calendar` or `look`.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Schedule(_) => "schedule",
            Self::Sensor(_) => "sensor",
            Self::Poll(_) => "poll",
            Self::Calendar => "calendar",
            Self::Look => "look",
        }
    }

    /// Of which schedule or sensor.
    pub fn name(&self) -> &str {
        match self {
            Self::Schedule(name) | Self::Sensor(name) | Self::Poll(name) => name,
            Self::Calendar | Self::Look => "",
        }
    }
}

impl Alarm {
    /// When waking for it has to begin. Only a schedule's tick must not be late.
    pub fn rings(&self, lead: Duration) -> Timestamp {
        match self.what {
            What::Schedule(_) => back(self.at, lead),
            What::Sensor(_) | What::Poll(_) | What::Calendar | What::Look => self.at,
        }
    }
}

/// The newest event that sensors have to see: the last run that ended, or the last arrival that was handed on. A run that was
/// still at work at a look has ended after it, whatever Dagster tells of those that ended.
pub(super) fn stimulus(dagster: &Dagster, state: &State, handed_on: Option<Timestamp>) -> Option<Timestamp> {
    dagster.run_ended.max(handed_on).max(state.ran)
}

/// When a sensor that has yet to see the last event may tick; `None` if it has seen it.
pub(super) fn sensor_due(
    sensor: &Sensor,
    stimulus: Option<Timestamp>,
    awake: Timestamp,
    now: Timestamp,
) -> Option<Timestamp> {
    let Some(tick) = sensor.last else {
        // Dagster may tell no tick of one that does tick: it has as soon as it could, once its interval has passed.
        let due = stimulus.map_or(awake, |event| forward(event, SETTLES + sensor.interval));
        return (forward(due.max(awake), UNSEEN) > now).then_some(due);
    };
    let seen = tick.ended && !tick.failed && stimulus.is_none_or(|event| tick.at > forward(event, SETTLES));
    (!seen).then(|| forward(tick.at, if tick.ended { sensor.interval } else { Duration::ZERO }))
}

/// When a sensor is to tick though nothing has happened that Dagster knows of.
pub(super) fn poll_due(sensor: &Sensor, settings: &Settings, now: Timestamp) -> Option<Timestamp> {
    let every = settings.poll(&sensor.name)?.max(sensor.interval);
    Some(forward(sensor.last.map_or(now, |tick| tick.at), every))
}

/// All that there is to wake for, soonest first, from a look at Dagster. Of a code location that could not be loaded, what
/// was known before still holds.
pub(super) fn alarms(
    dagster: &Dagster,
    state: &State,
    handed_on: Option<Timestamp>,
    settings: &Settings,
    now: Timestamp,
) -> Vec<Alarm> {
    let mut alarms: Vec<Alarm> = Vec::new();
    for schedule in &dagster.schedules {
        let ticks = schedule.next.iter().filter(|at| **at > now).take(TICKS);
        alarms.extend(ticks.map(|at| Alarm { at: *at, what: What::Schedule(schedule.name.clone()) }));
    }
    let stimulus = stimulus(dagster, state, handed_on);
    let awake = state.awake.unwrap_or(now);
    for sensor in &dagster.sensors {
        let name = || sensor.name.clone();
        // What is late and not waited for any longer must not ring at once. A tick that its daemon did not end is made up for
        // when the sensor's interval has passed.
        let fails = sensor.last.is_some_and(|tick| tick.failed);
        let again = sensor.last.filter(|tick| !tick.ended).map(|tick| forward(tick.at, sensor.interval));
        let later = |at: Timestamp| match (at > now, fails) {
            (true, false) => at,
            (true, true) => at.max(forward(now, LATE)),
            (false, _) => again.filter(|at| *at > now).unwrap_or_else(|| forward(now, sensor.interval.max(LATE))),
        };
        alarms.extend(
            sensor_due(sensor, stimulus, awake, now).map(|at| Alarm { at: later(at), what: What::Sensor(name()) }),
        );
        alarms.extend(poll_due(sensor, settings, now).map(|at| Alarm { at: later(at), what: What::Poll(name()) }));
    }
    let failed: Vec<String> = unloaded(dagster).map(|name| format!("{name}/")).collect();
    let is_of_failed = |name: &str| failed.iter().any(|place| name.starts_with(place));
    // What rang and could not be done is tried again.
    let later = |at: Timestamp| if at > now { at } else { forward(now, LATE) };
    let known = state.alarms.iter().filter(|alarm| is_of_failed(alarm.what.name()));
    alarms.extend(known.filter_map(|alarm| match alarm.what {
        What::Sensor(_) | What::Poll(_) => Some(Alarm { at: later(alarm.at), what: alarm.what.clone() }),
        _ => (alarm.at > now).then(|| alarm.clone()),
    }));
    let expected = state.expected.iter().filter(|(name, _)| is_of_failed(name));
    alarms.extend(expected.map(|(name, at)| match *at > now {
        true => Alarm { at: *at, what: What::Schedule(name.clone()) },
        false => Alarm { at: later(*at), what: What::Look },
    }));
    let spans = settings.awake.iter().filter(|span| span.from > now);
    alarms.extend(spans.map(|span| Alarm { at: span.from, what: What::Calendar }));
    alarms.push(Alarm { at: forward(now, settings.longest_sleep), what: What::Look });
    alarms.sort();
    alarms.dedup();
    alarms
}

/// Code locations that are not loaded.
pub(super) fn unloaded(dagster: &Dagster) -> impl Iterator<Item = &str> {
    let not = dagster.locations.iter().filter(|one| one.state != super::observation::Loading::Loaded);
    not.map(|one| one.name.as_str())
}

/// So much later, as far as there is such a time.
pub(super) fn forward(at: Timestamp, by: Duration) -> Timestamp {
    at.checked_add(by).unwrap_or(Timestamp::MAX)
}

/// So much earlier.
pub(super) fn back(at: Timestamp, by: Duration) -> Timestamp {
    at.checked_sub(by).unwrap_or(Timestamp::MIN)
}
