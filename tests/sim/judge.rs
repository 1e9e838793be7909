//! What must not happen, counted; and what it was like.

use std::collections::BTreeMap;

use crate::clock::Ms;

/// What one LA's simulation came to.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Verdict {
    /// Ticks of schedules that were dropped, or late by more than a minute.
    pub missed_ticks: u32,
    /// Runs that were stopped, or left queued while everything slept.
    pub stopped_runs: u32,
    /// Jobs of a chain that started later than they would have with an always awake Dagster by more than the wake, or never.
    pub broken_chains: u32,
    /// Times at which two daemons lived.
    pub two_daemons: u32,
    /// Ticks that were due.
    pub ticks: u32,
    /// Runs that ended.
    pub runs: u32,
    /// Jobs of chains that were due.
    pub chains: u32,
    /// Times that it woke from sleep.
    pub wakes: u32,
    /// Times that draining was turned back.
    pub turned_back: u32,
    /// Decisions.
    pub decisions: u64,
    /// Time between a file's arrival and the start of its run, and until it was queued.
    pub to_start: Vec<Ms>,
    /// The same until its run was queued.
    pub to_queued: Vec<Ms>,
    /// Time in which any task of the services was there.
    pub awake: Ms,
    /// The same by what it was woken for.
    pub by_cause: BTreeMap<String, Ms>,
    /// Time in which each service had a task, at least a minute each: webserver, daemon, code server.
    pub billed: [Ms; 3],
    /// Time in which the database could not pause.
    pub database: Ms,
    /// From when until when is judged.
    pub span: Ms,
    /// What went wrong, in words.
    pub faults: Vec<String>,
}

impl Verdict {
    /// Both together.
    pub fn add(&mut self, other: Self) {
        self.missed_ticks += other.missed_ticks;
        self.stopped_runs += other.stopped_runs;
        self.broken_chains += other.broken_chains;
        self.two_daemons += other.two_daemons;
        self.ticks += other.ticks;
        self.runs += other.runs;
        self.chains += other.chains;
        self.wakes += other.wakes;
        self.turned_back += other.turned_back;
        self.decisions += other.decisions;
        self.to_start.extend(other.to_start);
        self.to_queued.extend(other.to_queued);
        self.awake += other.awake;
        for (cause, time) in other.by_cause {
            *self.by_cause.entry(cause).or_default() += time;
        }
        for (mine, other) in self.billed.iter_mut().zip(other.billed) {
            *mine += other;
        }
        self.database += other.database;
        self.span += other.span;
        self.faults.extend(other.faults);
    }

    /// Nothing of what must not happen has happened.
    pub fn is_clean(&self) -> bool {
        (self.missed_ticks, self.stopped_runs, self.broken_chains, self.two_daemons) == (0, 0, 0, 0)
    }

    pub(crate) fn fault(&mut self, text: String) {
        if self.faults.len() < 20 {
            self.faults.push(text);
        }
    }
}

/// The value below which so large a part of them is.
pub fn quantile(values: &mut [Ms], part: f64) -> Ms {
    values.sort_unstable();
    let index = (values.len() as f64 * part) as usize;
    values.get(index.min(values.len().saturating_sub(1))).copied().unwrap_or_default()
}
