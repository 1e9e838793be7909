//! A trace under each policy.

use std::time::Duration;

use sfdata_power::settings::{Poll, Settings};

use crate::{
    agent::{Agent, Decide},
    clock::{DAY, HOUR, MINUTE, Ms, SECOND, london, london_day, weekday},
    judge::Verdict,
    trace::Trace,
    world::{CODE, DAEMON, Event, WEBSERVER, Weather, World},
};

/// What an oracle's wake takes: the median of the simulated ones.
pub const WAKE: Ms = 105 * SECOND;
/// Aurora pauses so long after the last connection.
const PAUSE: Ms = 5 * MINUTE;

/// The product's decision.
pub fn ours(trace: &Trace, weather: Weather, seed: u64, decide: Decide) -> (Verdict, Duration) {
    let mut world = World::new(trace, weather, seed);
    let mut agent = Agent::new(settings(trace), decide, &mut world);
    while let Some(event) = world.next_event() {
        match event {
            Event::Agent(generation) => agent.step(generation, &mut world),
            event => world.step(event),
        }
        if std::mem::take(&mut world.nudged) {
            agent.nudge(&mut world);
        }
    }
    (world.close().0, agent.took)
}

/// As the product has them where arrivals are looked for: sensors are woken for by the clock only where something is outside of
/// Dagster that they watch.
fn settings(trace: &Trace) -> Settings {
    let outside = trace.sensors.iter().any(|sensor| sensor.watches.is_none());
    Settings { sensor_poll: (!outside).then_some(Poll(None)), ..Settings::default() }
}

const FAIR: Weather = Weather { faults: false, spot: false };

/// Everything is awake from the beginning to the end.
pub fn always_on(trace: &Trace, faults: bool, seed: u64) -> Verdict {
    awake(World::new(trace, Weather { faults, spot: false }, seed)).0
}

fn awake(mut world: World<'_>) -> (Verdict, Vec<(Ms, Ms)>) {
    for service in [WEBSERVER, CODE, DAEMON] {
        world.scale(service, 1);
    }
    while let Some(event) = world.next_event() {
        world.step(event);
        world.recover();
        world.hand_on();
    }
    world.close()
}

/// From 23:00 to 05:00 in London, on the nights that begin on a weekday; what runs at five is stopped.
pub fn night_window(trace: &Trace, seed: u64) -> Verdict {
    let mut world = World::new(trace, FAIR, seed);
    for day in london_day(trace.from)..=london_day(trace.until) {
        if weekday(day) < 5 {
            world.at(london(day, 23 * HOUR), Event::Opens);
            world.at(london(day + 1, 5 * HOUR), Event::Closes);
        }
    }
    while let Some(event) = world.next_event() {
        match event {
            Event::Opens => [WEBSERVER, CODE, DAEMON].into_iter().for_each(|service| world.scale(service, 1)),
            Event::Closes => world.stop_all(),
            event => world.step(event),
        }
        world.recover();
        world.hand_on();
    }
    world.close().0
}

/// The oracle, which knows the future: awake for wakes, runs, ticks and what sensors find, and for nothing else. Between two of
/// these it stays awake if that is no longer than a wake.
pub fn lower_limit(trace: &Trace, seed: u64) -> Verdict {
    let mut world = World::new(trace, FAIR, seed);
    world.oracle = true;
    let (mut verdict, mut busy) = awake(world);
    busy.sort_unstable();
    let mut spans: Vec<(Ms, Ms)> = Vec::new();
    for (from, until) in busy {
        match spans.last_mut() {
            Some((_, end)) if from - *end <= WAKE => *end = (*end).max(until),
            _ => spans.push((from, until)),
        }
    }
    let mut connected = Ms::MIN;
    (verdict.awake, verdict.database, verdict.billed) = (0, 0, [0; 3]);
    for (from, until) in &spans {
        let from = from - WAKE;
        verdict.awake += until - from;
        verdict.billed = verdict.billed.map(|time| time + until - from);
        verdict.database += until + PAUSE - from.max(connected);
        connected = until + PAUSE;
    }
    verdict.wakes = spans.len() as u32;
    verdict.to_start.iter_mut().for_each(|time| *time += WAKE);
    verdict
}

/// Months of 365/12 days in a span.
pub fn months(span: Ms) -> f64 {
    span as f64 / (DAY as f64 * 365.0 / 12.0)
}
