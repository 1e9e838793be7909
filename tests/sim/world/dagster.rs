//! Dagster: what it tells, its daemon with schedules and sensors, its runs.

use std::cmp::Reverse;

use sfdata_power::observation::{Dagster, Loading, Location, Schedule, Sensor, Tick};

use super::{DEPLOY, Event, LATE, Run, SLACK, Status, World};
use crate::clock::{MINUTE, Ms, SECOND, stamp};

impl World<'_> {
    /// Whether the webserver answers.
    pub fn answers(&self) -> bool {
        self.page.is_some_and(|(_, up)| up)
    }

    pub(super) fn code_ready(&self) -> bool {
        self.code.is_some_and(|(_, ready)| ready)
    }

    /// What Dagster's GraphQL tells.
    pub fn dagster(&self) -> Dagster {
        let beat = |from: Ms, at: Ms| from + (at - from).max(0) / (30 * SECOND) * 30 * SECOND;
        let heartbeat = self.heart.map(|(from, until)| stamp(beat(from, until.unwrap_or(self.now))));
        let mut told = Dagster {
            heartbeat,
            locations: vec![Location { name: "sync".into(), state: self.location }],
            runs: self.runs.len() as u32,
            backfills: self.backfills.iter().filter(|(_, left)| *left > 0).count() as u32,
            run_ended: self.run_ended.map(stamp),
            ..Dagster::default()
        };
        if self.location != Loading::Loaded {
            return told;
        }
        for (schedule, one) in self.trace.schedules.iter().zip(&self.schedules).filter(|(_, one)| one.on.is_some()) {
            let mut next = Vec::with_capacity(3);
            let mut at = self.now;
            for _ in 0..3 {
                at = schedule.after(at);
                next.push(stamp(at));
            }
            told.schedules.push(Schedule { name: format!("sync/{}", schedule.name), next, last: one.last });
        }
        for (sensor, one) in self.trace.sensors.iter().zip(&self.sensors) {
            let last = one.begun.map(|at| Tick { at: stamp(at), ended: one.ended, failed: false });
            let interval = std::time::Duration::from_millis(sensor.interval as u64);
            told.sensors.push(Sensor { name: format!("sync/{}", sensor.name), interval, last });
        }
        told
    }

    /// Reload the code location.
    pub fn reload(&mut self) {
        let fails = self.weather.faults && self.rng.f64() < 0.1;
        self.location = if self.code_ready() && !fails { Loading::Loaded } else { Loading::Failed };
    }

    /// What a person does who sees that the code location is not loaded.
    pub fn recover(&mut self) {
        if self.answers() && self.location != Loading::Loaded {
            self.reload();
        }
    }

    pub(super) fn load_definition(&mut self) {
        for (index, one) in self.schedules.iter_mut().enumerate() {
            let there = !self.trace.schedules[index].deployed || one.from < Ms::MAX;
            if there && one.on.is_none() {
                one.on = Some(self.now);
                // What would have been due by now, had a Dagster been awake to see it, is missed.
                while one.due <= self.now {
                    self.verdict.ticks += 1;
                    self.verdict.missed_ticks += 1;
                    let name = &self.trace.schedules[index].name;
                    self.verdict.fault(format!("{}: new schedule {name} was not known", stamp(one.due)));
                    one.due = self.trace.schedules[index].after(one.due);
                }
                if let Some(daemon) = self.evaluating {
                    let due = self.trace.schedules[index].after(self.now);
                    let wait = self.rng.i64(0..3 * SECOND);
                    self.count += 1;
                    self.queue.push(Reverse((due + wait, self.count, Event::ScheduleTick(index, daemon, due))));
                }
            }
        }
    }

    pub(super) fn evaluate(&mut self, id: u64) {
        if self.daemon_task.is_none_or(|(task, _)| task != id) {
            return;
        }
        if self.heart.is_none_or(|(_, until)| until.is_some()) {
            self.heart = Some((self.now, None));
        }
        if !self.code_ready() {
            return self.after(10 * SECOND, Event::Evaluate(id));
        }
        self.evaluating = Some(id);
        self.back();
        if let Some(since) = self.woken.take() {
            self.last_wake = (self.now - since, self.now);
        }
        for index in 0..self.sensors.len() {
            self.sensors[index].planned = false;
            self.plan_sensor(index);
        }
        for index in 0..self.schedules.len() {
            let Some(on) = self.schedules[index].on else { continue };
            let schedule = &self.trace.schedules[index];
            // Of several that were slept through, only the latest.
            let from = self.schedules[index].last.map_or(on, |tick| tick.at.as_millisecond());
            let mut latest = self.schedules[index].ticking;
            let mut due = schedule.after(from);
            while due <= self.now {
                latest = Some(due);
                due = schedule.after(due);
            }
            let wait = self.rng.i64(0..3 * SECOND);
            self.at(latest.map_or(due, |_| self.now) + wait, Event::ScheduleTick(index, id, latest.unwrap_or(due)));
        }
        let queued: Vec<usize> =
            self.runs.iter().filter(|(_, run)| run.status == Status::Queued).map(|(run, _)| *run).collect();
        for run in queued {
            let wait = self.rng.i64(SECOND..10 * SECOND);
            self.after(wait, Event::Dequeue(run, id));
        }
        for index in 0..self.retries.len() {
            self.after(3 * SECOND, Event::Retry(self.retries[index].0, id));
        }
        for index in 0..self.backfills.len() {
            self.after(5 * SECOND, Event::Backfill(index, id));
        }
    }

    /// What a deploy kept from evaluating is back, or was put to sleep meanwhile.
    pub(super) fn back(&mut self) {
        if let Some(since) = self.outage.take() {
            self.outages.push_back((since, self.now));
            if self.outages.len() > 64 {
                self.outages.pop_front();
            }
        }
    }

    /// When a deploy kept an always awake Dagster from evaluating as well: that takes a while, and no longer.
    fn outages(&self) -> impl Iterator<Item = (Ms, Ms)> {
        let spans = self.outages.iter().copied().chain(self.outage.map(|from| (from, self.now)));
        spans.map(|(from, until)| (from, until.min(from + DEPLOY)))
    }

    /// Whether a deploy cut what ticked at this instant.
    fn cut_by_deploy(&self, at: Ms) -> bool {
        self.outages().any(|(from, until)| from <= at + LATE && at <= until)
    }

    /// The daemon evaluates no longer; its ticks are cut.
    pub(super) fn silence(&mut self) {
        self.evaluating = None;
        if let Some((from, None)) = self.heart {
            self.heart = Some((from, Some(self.now)));
        }
        // A tick that a deploy cuts is made up for an interval later, in a Dagster that is always awake as well.
        let deployed = self.outage.is_some();
        for (sensor, one) in self.trace.sensors.iter().zip(&mut self.sensors) {
            let again = one.begun.filter(|_| deployed).map_or(Ms::MIN, |begun| begun + sensor.interval + 5 * SECOND);
            one.unseen.extend(one.sees.drain(..).map(|(from, due)| (from, due.max(again))));
        }
    }

    pub(super) fn plan_sensor(&mut self, index: usize) {
        let Some(daemon) = self.evaluating else { return };
        if self.sensors[index].planned || (self.oracle && self.sensors[index].unseen.is_empty()) {
            return;
        }
        self.sensors[index].planned = true;
        let due = self.sensors[index].begun.map_or(self.now, |at| at + self.trace.sensors[index].interval);
        let wait = if self.oracle { SECOND } else { self.rng.i64(0..5 * SECOND) };
        self.at(due.max(self.now) + wait, Event::SensorTick(index, daemon));
    }

    pub(super) fn sensor_tick(&mut self, index: usize, daemon: u64) {
        if self.evaluating != Some(daemon) {
            return;
        }
        let now = self.now;
        let one = &mut self.sensors[index];
        (one.begun, one.ended) = (Some(now), false);
        let (sees, unseen) = std::mem::take(&mut one.unseen).into_iter().partition(|(from, _)| *from <= now);
        (one.sees, one.unseen) = (sees, unseen);
        let takes = self.rng.i64(SECOND / 2..10 * SECOND);
        self.after(takes, Event::SensorEnds(index, daemon));
    }

    pub(super) fn sensor_ends(&mut self, index: usize, daemon: u64) {
        if self.evaluating != Some(daemon) {
            return;
        }
        self.sensors[index].ended = true;
        self.sensors[index].planned = false;
        let sees = std::mem::take(&mut self.sensors[index].sees);
        let begun = self.sensors[index].begun.unwrap_or(self.now);
        let wake = |due: Ms| if self.last_wake.1 > due { self.last_wake.0 } else { 0 };
        for (from, due) in &sees {
            if begun > due + wake(*due) + SLACK {
                self.verdict.broken_chains += 1;
                let late = (begun - due) / SECOND;
                let name = &self.trace.sensors[index].name;
                self.verdict.fault(format!(
                    "{}: {name} saw the event of {} late by {late} s",
                    stamp(begun),
                    stamp(*from)
                ));
            }
        }
        if !sees.is_empty() {
            self.verdict.chains += sees.len() as u32;
            self.busy.push((begun, self.now));
            self.launch(self.trace.sensors[index].job, None);
        }
        self.plan_sensor(index);
    }

    /// A sensor has something to see.
    pub(super) fn stimulate(&mut self, index: usize, from: Ms, allowed: Ms) {
        let interval = self.trace.sensors[index].interval;
        let due = match self.sensors[index].begun {
            Some(at) => at + (from - at).max(0).div_euclid(interval) * interval + interval,
            None => from,
        };
        self.sensors[index].unseen.push((from, due + allowed + 5 * SECOND));
        if self.oracle {
            self.plan_sensor(index);
        }
    }

    pub(super) fn schedule_tick(&mut self, index: usize, daemon: u64, due: Ms) {
        if self.evaluating != Some(daemon) {
            return;
        }
        let name = &self.trace.schedules[index].name;
        let late = |tick: Ms| self.now - tick > LATE;
        let one = &self.schedules[index];
        let (mut missed, mut ticks) = (Vec::new(), 0);
        let mut next = one.due;
        while next < due {
            ticks += 1;
            if late(next) {
                missed.push(format!("{}: {name} was dropped", stamp(next)));
            }
            next = self.trace.schedules[index].after(next);
        }
        if next == due {
            ticks += 1;
            if late(due) {
                missed.push(format!("{}: {name} late by {} s", stamp(due), (self.now - due) / SECOND));
            }
            next = self.trace.schedules[index].after(due);
        }
        if one.ticking.is_some_and(|cut| late(cut) || cut < due && !self.cut_by_deploy(cut)) {
            missed.push(format!("{}: {name} was cut", stamp(due)));
        }
        self.verdict.ticks += ticks;
        self.verdict.missed_ticks += missed.len() as u32;
        missed.into_iter().for_each(|text| self.verdict.fault(text));
        let one = &mut self.schedules[index];
        one.due = next;
        one.ticking = Some(due);
        one.last = Some(Tick { at: stamp(due), ended: false, failed: false });
        self.busy.push((self.now, self.now + 3 * SECOND));
        let takes = self.rng.i64(SECOND / 2..8 * SECOND);
        self.after(takes, Event::ScheduleEnds(index, daemon));
        let next = self.trace.schedules[index].after(due);
        let wait = self.rng.i64(0..3 * SECOND);
        self.at(next + wait, Event::ScheduleTick(index, daemon, next));
    }

    pub(super) fn schedule_ends(&mut self, index: usize, daemon: u64) {
        if self.evaluating != Some(daemon) {
            return;
        }
        let one = &mut self.schedules[index];
        if one.ticking.take().is_some() {
            if let Some(tick) = &mut one.last {
                tick.ended = true;
            }
            self.launch(self.trace.schedules[index].job, None);
        }
    }

    /// The daemon retries a run that failed.
    pub(super) fn retry(&mut self, job: usize, daemon: u64) {
        let index = self.retries.iter().position(|(one, _)| *one == job);
        let Some(index) = index.filter(|_| self.evaluating == Some(daemon)) else { return };
        let (_, since) = self.retries.swap_remove(index);
        let late = self.now - since;
        if late > MINUTE {
            self.verdict.broken_chains += 1;
            self.verdict.fault(format!("{}: a retry came after {} s", stamp(self.now), late / SECOND));
        }
        self.launch(job, None);
    }

    /// A run is queued.
    pub fn launch(&mut self, job: usize, arrival: Option<Ms>) {
        let fails = self.rng.f64() < 0.04;
        let run = Run { job, status: Status::Queued, queued: self.now, fails, ended: 0, arrival };
        self.launched += 1;
        self.runs.insert(self.launched, run);
        self.queued += 1;
        if let Some(at) = arrival {
            self.verdict.to_queued.push(self.now - at);
        }
        if let Some(daemon) = self.evaluating {
            let wait = self.rng.i64(SECOND..8 * SECOND);
            self.after(wait, Event::Dequeue(self.launched, daemon));
        }
    }

    /// The daemon takes a run from the queue.
    pub(super) fn run_dequeued(&mut self, number: usize, daemon: u64) {
        let Some(run) = self.runs.get_mut(&number).filter(|run| run.status == Status::Queued) else { return };
        if self.evaluating != Some(daemon) {
            return;
        }
        run.status = Status::Starting;
        self.queued -= 1;
        self.run_tasks += 1;
        let wait = self.rng.i64(20 * SECOND..70 * SECOND);
        self.after(wait, Event::RunStarts(number));
    }

    pub(super) fn run_starts(&mut self, number: usize) {
        let Some(run) = self.runs.get_mut(&number) else { return };
        run.status = Status::Started;
        if let Some(at) = run.arrival {
            self.verdict.to_start.push(self.now - at);
        }
        let seconds = self.trace.jobs[run.job].seconds as f64;
        let takes = (seconds * (0.6 + 0.8 * self.rng.f64()) * SECOND as f64) as Ms;
        self.after(takes.max(SECOND), Event::RunEnds(number));
    }

    /// It writes its end; others read that a little later, and its task stays for a while.
    pub(super) fn run_ends(&mut self, number: usize) {
        let Some(run) = self.runs.get_mut(&number) else { return };
        (run.status, run.ended) = (Status::Ended, self.now);
        let lag = self.rng.i64(0..2 * SECOND);
        self.after(lag, Event::RunCommits(number));
        let ends = lag + self.rng.i64(0..20 * SECOND);
        self.after(ends, Event::RunTaskGone);
    }

    pub(super) fn run_commits(&mut self, number: usize) {
        let Some(Run { job, fails, ended, queued, .. }) = self.runs.remove(&number) else { return };
        self.verdict.runs += 1;
        self.run_ended = self.run_ended.max(Some(ended));
        self.busy.push((queued, self.now));
        if fails {
            self.retries.push((job, self.now));
            if let Some(daemon) = self.evaluating {
                let wait = self.rng.i64(SECOND..8 * SECOND);
                self.after(wait, Event::Retry(job, daemon));
            }
            return;
        }
        for index in 0..self.sensors.len() {
            if self.trace.sensors[index].watches == Some(job) {
                self.stimulate(index, self.now, 0);
            }
        }
    }
}
