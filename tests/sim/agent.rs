//! The agent in simulated time: it looks, decides, remembers, does; answers are slow, stale or missing, and it is killed in
//! between.

use std::time::Duration;

use sfdata_power::{
    asking::Asking,
    decide::{Act, Decision, decide},
    observation::{Arrivals, Database, Observation, Reading},
    reasons::Kind,
    settings::Settings,
    state::{Phase, State},
};

use crate::{
    clock::{HOUR, MINUTE, Ms, SECOND, stamp},
    world::{CODE, DAEMON, Event, NAMES, WEBSERVER, World},
};

/// How a look is turned into a decision: the product's own, or one that is broken for a test of the judge.
pub type Decide = fn(&Observation, &State, &Settings, jiff::Timestamp) -> Decision;

/// The decision of the product.
pub const OURS: Decide = decide;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Doing {
    Look,
    Decide,
    Act,
}

/// Sources that can fail.
const ECS: usize = 0;
const DAGSTER: usize = 1;
const ARRIVALS: usize = 2;

/// The agent.
pub struct Agent {
    settings: Settings,
    decide: Decide,
    /// What is on its disk.
    durable: State,
    doing: Doing,
    generation: u64,
    asking: Asking,
    seen: Option<Observation>,
    decision: Option<Decision>,
    idle: bool,
    stirred: bool,
    /// What ECS answered at the last look was so then.
    saw: Ms,
    /// When each source fails: the current or next span, and since when the agent knows.
    dark: [(Ms, Ms); 3],
    dark_known: [Option<Ms>; 3],
    /// What its clock shows more than it is.
    skew: Ms,
    counted: Ms,
    /// Time that the decisions took, of the machine that simulates.
    pub took: Duration,
}

impl Agent {
    /// One that starts beside a world.
    pub fn new(settings: Settings, decide: Decide, world: &mut World<'_>) -> Self {
        let skew = if world.weather.faults { world.rng.i64(-1500..1500) } else { 0 };
        let mut agent = Self {
            settings,
            decide,
            durable: State::new(stamp(world.now + skew)),
            doing: Doing::Look,
            generation: 0,
            asking: Asking::default(),
            seen: None,
            decision: None,
            idle: true,
            stirred: false,
            saw: Ms::MIN,
            dark: [(Ms::MAX, Ms::MAX); 3],
            dark_known: [None; 3],
            skew,
            counted: world.now,
            took: Duration::ZERO,
        };
        if world.weather.faults {
            for source in [ECS, DAGSTER, ARRIVALS] {
                agent.darken(source, world);
            }
        }
        agent.next(world, Doing::Look, SECOND);
        agent
    }

    fn darken(&mut self, source: usize, world: &mut World<'_>) {
        let from = world.now + world.rng.i64(HOUR..240 * HOUR);
        let longest = if source == ECS { 90 * SECOND } else { 40 * MINUTE };
        let long = (longest as f64 * world.rng.f64().powi(3)) as Ms + SECOND;
        self.dark[source] = (from, from + long);
    }

    fn next(&mut self, world: &mut World<'_>, doing: Doing, wait: Ms) {
        self.doing = doing;
        self.generation += 1;
        world.at(world.now + wait, Event::Agent(self.generation));
    }

    /// Something stirred: look at once, or as soon as what it is at is done.
    pub fn nudge(&mut self, world: &mut World<'_>) {
        if self.idle {
            self.idle = false;
            let wait = world.rng.i64(50..SECOND);
            self.next(world, Doing::Look, wait);
        } else {
            self.stirred = true;
        }
    }

    /// Its turn.
    pub fn step(&mut self, generation: u64, world: &mut World<'_>) {
        if generation != self.generation {
            return;
        }
        self.idle = false;
        match self.doing {
            Doing::Look => self.look(world),
            Doing::Decide => self.decide(world),
            Doing::Act => self.act(world),
        }
    }

    fn is_dark(&mut self, source: usize, world: &mut World<'_>) -> bool {
        if self.dark[source].1 <= world.now {
            self.darken(source, world);
        }
        let dark = self.dark[source].0 <= world.now;
        self.dark_known[source] = match dark {
            true => Some(self.dark_known[source].unwrap_or(world.now + self.skew)),
            false => None,
        };
        dark
    }

    fn unread<T>(&self, source: usize) -> Reading<T> {
        let since = self.dark_known[source].unwrap_or_default();
        Reading::Unread { since: stamp(since), why: "no answer".into() }
    }

    fn look(&mut self, world: &mut World<'_>) {
        let now = stamp(world.now + self.skew);
        let faults = world.weather.faults;
        let mut wait = world.rng.i64(20..400);
        if faults && world.rng.f64() < 0.02 {
            wait = world.rng.i64(SECOND..15 * SECOND);
        }
        let stale = if faults && world.rng.f64() < 0.05 { world.rng.i64(0..8 * SECOND) } else { 0 };
        self.saw = world.now - stale;
        let estate = world.estate(self.saw);
        let page = estate.services[WEBSERVER].running > 0;
        let ecs = if self.is_dark(ECS, world) { self.unread(ECS) } else { Reading::At(now, estate) };
        let dagster_dark = self.is_dark(DAGSTER, world) || !world.answers();
        let waits = !world.waiting.is_empty();
        let (code, dagster) = if !page {
            (Reading::Off, Reading::Off)
        } else if dagster_dark {
            self.dark_known[DAGSTER].get_or_insert(world.now + self.skew);
            (Reading::Off, self.unread(DAGSTER))
        } else {
            let seen = world.dagster();
            let (code, rest) = match self.durable.phase {
                Phase::Waking => {
                    (Reading::At(now, seen.locations.clone()), self.asking.rest(&self.durable, &seen.locations, waits))
                }
                _ => (Reading::Off, true),
            };
            (code, if rest { Reading::At(now, seen) } else { Reading::Off })
        };
        let arrivals = Arrivals { waiting: world.waiting.len() as u32, handed_on: world.handed_on.map(stamp) };
        let arrivals = if self.is_dark(ARRIVALS, world) { self.unread(ARRIVALS) } else { Reading::At(now, arrivals) };
        let database = Reading::At(now, Database::Ready);
        self.seen = Some(Observation { ecs, code, dagster, arrivals, database, commands: 0, needs_dagster: false });
        self.next(world, Doing::Decide, wait);
    }

    fn killed(&mut self, world: &mut World<'_>, chance: f64) -> bool {
        if !world.weather.faults || world.rng.f64() >= chance {
            return false;
        }
        let text = serde_json::to_vec(&self.durable).unwrap_or_default();
        if let Ok(durable) = serde_json::from_slice(&text) {
            self.durable = durable;
        }
        (self.seen, self.decision, self.stirred, self.asking) = (None, None, false, Asking::default());
        let away = world.rng.i64(2 * SECOND..60 * SECOND);
        self.next(world, Doing::Look, away);
        true
    }

    fn decide(&mut self, world: &mut World<'_>) {
        let now = stamp(world.now + self.skew);
        for wish in world.wishes.drain(..) {
            match wish {
                Some(until) => {
                    self.durable.wishes.awake_until = self.durable.wishes.awake_until.max(Some(stamp(until)))
                }
                None => self.durable.wishes.person = Some(now),
            }
        }
        let chance = if self.durable.phase == Phase::Asleep { 0.002 } else { 0.0005 };
        let Some(seen) = self.seen.take() else { return };
        if self.killed(world, chance) {
            return;
        }
        let begun = std::time::Instant::now();
        let decision = (self.decide)(&seen, &self.durable, &self.settings, now);
        self.took += begun.elapsed();
        world.verdict.decisions += 1;
        let before = self.durable.phase;
        self.account(world);
        match (before, decision.state.phase) {
            (Phase::Asleep, Phase::Waking) => world.verdict.wakes += 1,
            (Phase::Draining, Phase::Waking) => world.verdict.turned_back += 1,
            _ => {}
        }
        let same = decision.state == self.durable && decision.acts.is_empty();
        self.durable = decision.state.clone();
        if self.killed(world, chance) {
            return;
        }
        let wait = decision.again.as_millis() as Ms;
        if !decision.acts.is_empty() {
            self.decision = Some(decision);
            let takes = world.rng.i64(50..800);
            return self.next(world, Doing::Act, takes);
        }
        self.rest(world, wait, same.then_some(&decision));
    }

    /// Wait for the next look. What can't change until then need not be computed: as many looks are left out, unless something
    /// has changed already that the last look did not see.
    fn rest(&mut self, world: &mut World<'_>, wait: Ms, same: Option<&Decision>) {
        if std::mem::take(&mut self.stirred) {
            return self.next(world, Doing::Look, 50);
        }
        let dark = self.dark_known.iter().any(Option::is_some);
        let mut until = world.soonest().min(self.dark.iter().map(|(from, _)| *from).min().unwrap_or(Ms::MAX));
        let constant = same.is_some_and(|decision| match decision.state.phase {
            Phase::Asleep => {
                let lead = decision.state.lead(&self.settings);
                let rings = decision.state.alarms.iter().map(|alarm| alarm.rings(lead).as_millisecond()).min();
                until = until.min(rings.unwrap_or(Ms::MAX) - self.skew);
                world.now + self.skew - decision.state.since.as_millisecond() > 2 * MINUTE
            }
            Phase::Awake => decision.reasons.iter().any(|one| matches!(one.kind, Kind::Runs | Kind::RunTasks)),
            _ => false,
        });
        let seen = world.changed_at() <= self.saw;
        let looks = if constant && seen && !dark && wait >= SECOND { ((until - world.now) / wait).max(1) } else { 1 };
        self.idle = true;
        self.next(world, Doing::Look, wait.max(50) * looks);
    }

    fn account(&mut self, world: &mut World<'_>) {
        if self.durable.phase != Phase::Asleep {
            let cause = self.durable.cause.clone().unwrap_or_else(|| "start".into());
            *world.verdict.by_cause.entry(cause).or_default() += world.now - self.counted;
        }
        self.counted = world.now;
    }

    fn act(&mut self, world: &mut World<'_>) {
        let Some(decision) = self.decision.take() else { return };
        for act in &decision.acts {
            if self.killed(world, 0.003) {
                return;
            }
            perform(act, world);
        }
        let wait = decision.again.as_millis() as Ms;
        self.rest(world, wait, None);
    }
}

/// Do it.
fn perform(act: &Act, world: &mut World<'_>) {
    let index = |name: &str| [WEBSERVER, DAEMON, CODE].into_iter().find(|index| NAMES[*index] == name).unwrap_or(CODE);
    match act {
        Act::StartDatabase => {}
        Act::Scale { service, to } => world.scale(index(service), *to),
        Act::Renew { service } => world.renew(index(service)),
        Act::Capacity { service, to } => world.capacity(index(service), to),
        Act::Reload { .. } => world.reload(),
        Act::HandOn => world.hand_on(),
    }
}
