//! Why to be awake, each reason with its name; any one suffices. What can't be read is a reason: unknown is busy, never idle.

use std::time::Duration;

use jiff::Timestamp;

use super::{
    alarms::{What, alarms, forward, poll_due, sensor_due, stimulus, unloaded},
    observation::{Dagster, Observation, Reading, Sensor},
    settings::Settings,
    state::{DRAIN, Phase, State},
};

/// What is late by so much is not waited for any longer, and told as a fault: a tick that Dagster does not show, a sensor that
/// never ticks.
pub(super) const PATIENCE: Duration = Duration::from_secs(10 * 60);
/// ECS may still tell for so long what was before.
pub(super) const ECHO: Duration = Duration::from_secs(20);

/// One reason to be awake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reason {
    /// What kind.
    pub kind: Kind,
    /// Which one: a schedule, a sensor, a source; empty where there is just one.
    pub name: String,
    /// How many.
    pub count: u32,
    /// When it ends, or what it waits for comes, as far as that is known.
    pub until: Option<Timestamp>,
}

/// What can keep the platform awake.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Somebody asked for it explicitly.
    StayAwake,
    /// The calendar of the settings.
    Calendar,
    /// A person asked for Dagster a short while ago.
    Person,
    /// A command is at work.
    Command,
    /// Files wait to be handed on.
    Arrivals,
    /// Runs are queued, starting, started or canceling.
    Runs,
    /// Tasks of runs have not stopped.
    RunTasks,
    /// Backfills are in progress.
    Backfills,
    /// A schedule ticks soon.
    ScheduleSoon,
    /// A schedule should have ticked.
    ScheduleDue,
    /// A sensor has yet to see the last run or arrival.
    SensorPending,
    /// A sensor has not ticked for longer than it may.
    SensorPoll,
    /// Nothing was looked at for long.
    Look,
    /// The code is another one than when Dagster was last looked at.
    CodeChanged,
    /// Services run that nobody woke, or are gone that nobody put to sleep.
    ByHand,
    /// A source can't be read.
    Unreadable,
}

impl Kind {
    /// Its stable name, as in `runs` or `schedule-soon`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::StayAwake => "stay-awake",
            Self::Calendar => "calendar",
            Self::Person => "person",
            Self::Command => "command",
            Self::Arrivals => "arrivals",
            Self::Runs => "runs",
            Self::RunTasks => "run-tasks",
            Self::Backfills => "backfills",
            Self::ScheduleSoon => "schedule-soon",
            Self::ScheduleDue => "schedule-due",
            Self::SensorPending => "sensor-pending",
            Self::SensorPoll => "sensor-poll",
            Self::Look => "look",
            Self::CodeChanged => "code-changed",
            Self::ByHand => "by-hand",
            Self::Unreadable => "unreadable",
        }
    }
}

impl Reason {
    /// One of which there is only one.
    pub(super) fn new(kind: Kind) -> Self {
        Self { kind, name: String::new(), count: 0, until: None }
    }

    pub(super) fn of(kind: Kind, name: impl Into<String>) -> Self {
        Self { name: name.into(), ..Self::new(kind) }
    }

    fn many(kind: Kind, count: u32) -> Option<Self> {
        (count > 0).then(|| Self { count, ..Self::new(kind) })
    }

    fn until(self, until: Timestamp) -> Self {
        Self { until: Some(until), ..self }
    }
}

/// Every reason to be awake that this look shows, whatever the platform is at.
pub(super) fn reasons(seen: &Observation, state: &State, settings: &Settings, now: Timestamp) -> Vec<Reason> {
    let mut reasons = asked_for(seen, state, settings, now);
    match &seen.arrivals {
        Reading::At(_, arrivals) => reasons.extend(Reason::many(Kind::Arrivals, arrivals.waiting)),
        Reading::Unread { .. } => reasons.push(Reason::of(Kind::Unreadable, "arrivals")),
        Reading::Off => {}
    }
    match &seen.ecs {
        Reading::At(_, estate) => reasons.extend(Reason::many(Kind::RunTasks, estate.run_tasks)),
        Reading::Unread { .. } | Reading::Off => reasons.push(Reason::of(Kind::Unreadable, "ecs")),
    }
    match &seen.dagster {
        Reading::At(_, dagster) => reasons.extend(in_dagster(dagster, seen, state, settings, now)),
        Reading::Unread { .. } => reasons.push(Reason::of(Kind::Unreadable, "dagster")),
        // Awake, there should be somebody to ask.
        Reading::Off if state.phase == Phase::Awake => reasons.push(Reason::of(Kind::Unreadable, "dagster")),
        Reading::Off => {}
    }
    reasons
}

/// What people and the calendar want.
pub(super) fn asked_for(seen: &Observation, state: &State, settings: &Settings, now: Timestamp) -> Vec<Reason> {
    let mut reasons = Vec::new();
    let until = state.wishes.awake_until.filter(|until| *until > now);
    reasons.extend(until.map(|until| Reason::new(Kind::StayAwake).until(until)));
    let span = settings.awake.iter().find(|span| span.from <= now && now < span.until);
    reasons.extend(span.map(|span| Reason::new(Kind::Calendar).until(span.until)));
    match state.wishes.person.map(|asked| forward(asked.max(state.since), settings.person)) {
        Some(_) if state.phase != Phase::Awake => reasons.push(Reason::new(Kind::Person)),
        Some(ends) if ends > now => reasons.push(Reason::new(Kind::Person).until(ends)),
        _ => {}
    }
    reasons.extend(Reason::many(Kind::Command, seen.commands + u32::from(seen.needs_dagster)));
    reasons
}

fn in_dagster(
    dagster: &Dagster,
    seen: &Observation,
    state: &State,
    settings: &Settings,
    now: Timestamp,
) -> Vec<Reason> {
    let mut reasons = Vec::new();
    reasons.extend(Reason::many(Kind::Runs, dagster.runs));
    reasons.extend(Reason::many(Kind::Backfills, dagster.backfills));
    // What draining takes is spent already once it has begun: what was not worth waiting for then is not now.
    let spent = if state.phase == Phase::Draining { DRAIN } else { Duration::ZERO };
    let soon = forward(now, state.break_even(settings).saturating_sub(spent));
    let awake = state.awake.unwrap_or(now);
    for schedule in &dagster.schedules {
        let late =
            state.expected.get(&schedule.name).filter(|at| **at <= now && forward((**at).max(awake), PATIENCE) > now);
        let done = |at: Timestamp| schedule.last.is_some_and(|tick| tick.at >= at && tick.ended);
        if let Some(at) = late.filter(|at| !done(**at)) {
            reasons.push(Reason::of(Kind::ScheduleDue, &schedule.name).until(*at));
        } else if schedule.last.is_some_and(|tick| !tick.ended && forward(tick.at.max(awake), PATIENCE) > now) {
            reasons.push(Reason::of(Kind::ScheduleDue, &schedule.name));
        }
        let next = schedule.next.iter().find(|at| **at > now);
        if let Some(at) = next.filter(|at| **at <= forward(now, state.lead(settings) + settings.quiet + DRAIN)) {
            reasons.push(Reason::of(Kind::ScheduleSoon, &schedule.name).until(*at));
        } else if next.is_none() {
            reasons.push(Reason::of(Kind::Unreadable, &schedule.name));
        }
    }
    let stimulus = stimulus(dagster, state, seen.arrivals.value().and_then(|arrivals| arrivals.handed_on));
    for sensor in &dagster.sensors {
        let waits = |at: &Timestamp| *at <= soon && is_waited_for(sensor, *at, awake, now);
        if let Some(at) = sensor_due(sensor, stimulus, awake, now).filter(waits) {
            reasons.push(Reason::of(Kind::SensorPending, &sensor.name).until(at));
        } else if let Some(at) = poll_due(sensor, settings, now).filter(waits) {
            reasons.push(Reason::of(Kind::SensorPoll, &sensor.name).until(at));
        }
    }
    reasons
}

/// One that is late for long, or fails again and again, is told as a fault and not waited for.
fn is_waited_for(sensor: &Sensor, due: Timestamp, awake: Timestamp, now: Timestamp) -> bool {
    let fails = sensor.last.is_some_and(|tick| tick.failed);
    forward(if fails { awake } else { due.max(awake) }, PATIENCE) > now
}

/// Sensors that have yet to see the last event, and are not waited for any longer.
pub(super) fn given_up(dagster: &Dagster, seen: &Observation, state: &State, now: Timestamp) -> Vec<String> {
    let awake = state.awake.unwrap_or(now);
    let stimulus = stimulus(dagster, state, seen.arrivals.value().and_then(|arrivals| arrivals.handed_on));
    let late = |sensor: &&Sensor| {
        let due = sensor_due(sensor, stimulus, awake, now).filter(|at| *at <= now);
        due.is_some_and(|at| !is_waited_for(sensor, at, awake, now))
    };
    dagster.sensors.iter().filter(late).map(|sensor| sensor.name.clone()).collect()
}

/// Why to wake, of a platform that sleeps.
pub(super) fn to_wake(seen: &Observation, state: &State, settings: &Settings, now: Timestamp) -> Vec<Reason> {
    let mut reasons = asked_for(seen, state, settings, now);
    reasons.retain(|reason| reason.kind != Kind::Command);
    if seen.needs_dagster {
        reasons.push(Reason::new(Kind::Command));
    }
    match &seen.arrivals {
        Reading::At(_, arrivals) => reasons.extend(Reason::many(Kind::Arrivals, arrivals.waiting)),
        // A short failure is no news of a file; a long one must not keep files waiting that a sensor would see.
        Reading::Unread { since, .. } if forward(*since, PATIENCE) <= now => {
            reasons.push(Reason::of(Kind::Unreadable, "arrivals"));
        }
        Reading::Unread { .. } | Reading::Off => {}
    }
    if let Some(estate) = seen.ecs.since(forward(state.since, ECHO)) {
        reasons.extend(Reason::many(Kind::RunTasks, estate.run_tasks));
        if estate.services.iter().any(|service| service.desired > 0) {
            reasons.push(Reason::new(Kind::ByHand));
        }
        let other = |service: &&super::observation::Service| {
            state.definitions.get(&service.name).is_some_and(|known| *known != service.definition)
        };
        reasons.extend(estate.services.iter().find(other).map(|service| Reason::of(Kind::CodeChanged, &service.name)));
    }
    reasons.extend(ringing(state, settings, now));
    reasons
}

/// The alarms that ring.
pub(super) fn ringing(state: &State, settings: &Settings, now: Timestamp) -> impl Iterator<Item = Reason> {
    let lead = state.lead(settings);
    let ringing = state.alarms.iter().filter(move |alarm| alarm.rings(lead) <= now);
    ringing.map(|alarm| {
        let kind = match alarm.what {
            What::Schedule(_) => Kind::ScheduleSoon,
            What::Sensor(_) => Kind::SensorPending,
            What::Poll(_) => Kind::SensorPoll,
            What::Calendar => Kind::Calendar,
            What::Look => Kind::Look,
        };
        Reason::of(kind, alarm.what.name()).until(alarm.at)
    })
}

/// The alarms that a look sets, and what the schedules' next ticks are to be.
pub(super) fn set_alarms(
    state: &mut State,
    dagster: &Dagster,
    seen: &Observation,
    settings: &Settings,
    now: Timestamp,
) {
    let handed_on = seen.arrivals.value().and_then(|arrivals| arrivals.handed_on);
    state.alarms = alarms(dagster, state, handed_on, settings, now);
}

/// Follow the schedules: what was expected and came, or was waited for long enough, makes place for what is next. Returns those
/// that did not come.
pub(super) fn follow(state: &mut State, dagster: &Dagster, now: Timestamp) -> Vec<String> {
    let places: Vec<String> = unloaded(dagster).map(|name| format!("{name}/")).collect();
    let unknown = |name: &str| places.iter().any(|place| name.starts_with(place));
    state.expected.retain(|name, _| unknown(name) || dagster.schedules.iter().any(|one| one.name == *name));
    let awake = state.awake.unwrap_or(now);
    let mut missed = Vec::new();
    for schedule in &dagster.schedules {
        let next = schedule.next.iter().find(|at| **at > now).copied();
        let expected = state.expected.get(&schedule.name).copied();
        let came = |at: Timestamp| schedule.last.is_some_and(|tick| tick.at >= at && tick.ended);
        let given_up = expected.is_some_and(|at| forward(at.max(awake), PATIENCE) <= now && !came(at));
        if given_up {
            missed.push(schedule.name.clone());
        }
        if expected.is_none_or(|at| at > now || came(at)) || given_up {
            match next {
                Some(next) => state.expected.insert(schedule.name.clone(), next),
                None => state.expected.remove(&schedule.name),
            };
        }
    }
    missed
}
