//! What is remembered from one decision to the next, durably: the phase with its generation, what to wake for, what people
//! asked for, and how long waking takes.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{alarms::Alarm, settings::Settings};

/// So many wake durations are remembered; one slow night is forgotten after as many others.
const WAKES: usize = 8;
/// A wake for a schedule's tick may take so much longer than the longest of the last ones.
const SPARE: Duration = Duration::from_secs(60);

/// A wake that is stuck is tried anew at least so often.
pub(super) const RETRY_MAX: Duration = Duration::from_secs(3600);

/// Everything that outlives the process.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct State {
    /// Grows with each phase that is entered.
    pub generation: u64,
    /// What the platform is at.
    pub phase: Phase,
    /// When that was entered.
    pub since: Timestamp,
    /// When it was last awake from then on; kept until the next wake.
    pub awake: Option<Timestamp>,
    /// What was the reason to wake, by its name; kept until the next wake.
    pub cause: Option<String>,
    /// What to wake for. Complete before anything is put to sleep.
    pub alarms: Vec<Alarm>,
    /// The ticks that schedules are to have next, by schedule: who is late is known by it.
    pub expected: BTreeMap<String, Timestamp>,
    /// Ticks that did not come, by schedule, and when they were given up; told until a later one comes.
    pub missed: BTreeMap<String, Timestamp>,
    /// When runs were last seen at work.
    pub ran: Option<Timestamp>,
    /// Since when something of an awake platform is not there that should be.
    pub ailing: Option<Timestamp>,
    /// Since when nothing but runs and backfills keeps it awake.
    pub working: Option<Timestamp>,
    /// What people asked for.
    pub wishes: Wishes,
    /// How long the last wakes took, newest last.
    pub wakes: Vec<Duration>,
    /// Task definitions by service when the last wake began: others are other code, with other schedules perhaps.
    pub definitions: BTreeMap<String, String>,
    /// Code locations that did not load after so many reloads, until they do or the code is another one.
    pub broken: BTreeSet<String>,
    /// How many tasks each service had when it was last awake.
    pub counts: BTreeMap<String, u32>,
    /// What stands in the way of waking, and what was tried against it.
    pub waking: Waking,
    /// Services that were moved to on-demand capacity because Spot had none, and what they had before.
    pub on_demand: BTreeMap<String, String>,
    /// Since when no reason to be awake has been seen.
    pub quiet: Option<Timestamp>,
    /// When the daemon's last task was gone while draining: what Dagster says from then on is final.
    pub still: Option<Timestamp>,
    /// The last look was taken and the alarms are set: everything may go.
    pub closing: bool,
}

/// What the platform is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// No task runs.
    Asleep,
    /// Services come up, in order.
    Waking,
    /// All of Dagster is there.
    Awake,
    /// Services go, in order, and any reason turns it back.
    Draining,
}

impl Phase {
    /// Every phase, in the order of a day.
    pub const ALL: [Self; 4] = [Self::Asleep, Self::Waking, Self::Awake, Self::Draining];

    /// `asleep`, `waking`, `awake` or `draining`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Asleep => "asleep",
            Self::Waking => "waking",
            Self::Awake => "awake",
            Self::Draining => "draining",
        }
    }
}

/// What people asked for.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Wishes {
    /// Stay awake until then, whatever happens.
    pub awake_until: Option<Timestamp>,
    /// A person wants Dagster now: since then, until it has been awake for as long as a person gets.
    pub person: Option<Timestamp>,
    /// Neither wake nor sleep by itself: people do it by hand.
    pub manual: bool,
}

/// How a wake goes.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Waking {
    /// How often it was tried anew after being stuck.
    pub retries: u32,
    /// When it is tried anew.
    pub retry_at: Option<Timestamp>,
    /// Reloads by code location, and when the last one was ordered.
    pub reloads: BTreeMap<String, (u32, Timestamp)>,
    /// Whether it began asleep, so that it shows how long waking takes.
    pub from_sleep: bool,
}

impl Default for State {
    fn default() -> Self {
        Self::new(Timestamp::UNIX_EPOCH)
    }
}

impl State {
    /// Of an agent that never decided anything: it takes the platform for awake and looks.
    pub fn new(now: Timestamp) -> Self {
        Self {
            generation: 1,
            phase: Phase::Awake,
            since: now,
            awake: None,
            cause: None,
            alarms: Vec::new(),
            expected: BTreeMap::new(),
            missed: BTreeMap::new(),
            ran: None,
            ailing: None,
            working: None,
            wishes: Wishes::default(),
            wakes: Vec::new(),
            definitions: BTreeMap::new(),
            broken: BTreeSet::new(),
            counts: BTreeMap::new(),
            waking: Waking::default(),
            on_demand: BTreeMap::new(),
            quiet: None,
            still: None,
            closing: false,
        }
    }

    /// A clock that was set back leaves nothing in the future, where it would be waited for.
    pub(super) fn keep_in_time(&mut self, now: Timestamp) {
        self.since = self.since.min(now);
        self.waking.retry_at = self.waking.retry_at.map(|at| at.min(now + RETRY_MAX));
        for at in [
            &mut self.awake,
            &mut self.ran,
            &mut self.ailing,
            &mut self.working,
            &mut self.quiet,
            &mut self.still,
            &mut self.wishes.person,
        ] {
            *at = at.map(|at| at.min(now));
        }
        for (_, last) in self.waking.reloads.values_mut() {
            *last = (*last).min(now);
        }
    }

    /// Enter another phase.
    pub fn enter(&mut self, phase: Phase, now: Timestamp) {
        self.generation += 1;
        (self.phase, self.since) = (phase, now);
        (self.quiet, self.still, self.closing) = (None, None, false);
        (self.ailing, self.working) = (None, None);
        if phase == Phase::Awake {
            self.awake = Some(now);
        }
    }

    /// How long waking usually takes: the median of the last ones.
    pub fn wake_duration(&self, settings: &Settings) -> Duration {
        let mut wakes = self.wakes.clone();
        wakes.sort_unstable();
        wakes.get(wakes.len() / 2).copied().unwrap_or(settings.wake)
    }

    /// How long before a schedule's tick waking has to begin.
    pub fn lead(&self, settings: &Settings) -> Duration {
        let longest = self.wakes.iter().copied().max().unwrap_or_default();
        (self.wake_duration(settings) + settings.margin).max(longest + SPARE)
    }

    /// Staying awake for so long costs what sleeping and waking does.
    pub fn break_even(&self, settings: &Settings) -> Duration {
        self.wake_duration(settings) + settings.quiet + DRAIN
    }

    pub(super) fn learn(&mut self, took: Duration) {
        self.wakes.push(took);
        let surplus = self.wakes.len().saturating_sub(WAKES);
        self.wakes.drain(..surplus);
    }
}

/// What draining takes: the daemon's and the webserver's end, and a look between them.
pub(super) const DRAIN: Duration = Duration::from_secs(30);
