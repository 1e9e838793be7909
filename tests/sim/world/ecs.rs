//! ECS: services, their tasks, and what it tells of them.

use sfdata_power::{
    decide::ON_DEMAND,
    observation::{Estate, Loading, Service, Trouble},
};

use super::{Being, CODE, DAEMON, Event, NAMES, PAUSE, ROLES, Shown, Svc, Task, WEBSERVER, World};
use crate::clock::{MINUTE, Ms, SECOND, stamp};

impl World<'_> {
    pub(super) fn delay(&mut self, service: usize) -> Ms {
        let usual = [(30, 60), (30, 55), (35, 70)][service];
        let mut delay = self.rng.i64(usual.0 * SECOND..usual.1 * SECOND);
        if self.weather.faults && self.now - self.slow > 15 * MINUTE && self.rng.f64() < 0.02 {
            self.slow = self.now;
            delay += self.rng.i64(MINUTE..5 * MINUTE);
        }
        delay
    }

    pub(super) fn start(&mut self, service: usize) {
        if self.services.iter().all(|one| one.tasks.is_empty()) {
            self.woken = Some(self.now);
        }
        self.count += 1;
        let (id, definition) = (self.count, self.services[service].definition);
        self.services[service].tasks.push(Task { id, being: Being::Pending, born: self.now, definition });
        let delay = self.delay(service);
        self.after(delay, Event::TaskUp(service, id));
        self.connected.get_or_insert(self.now);
    }

    pub(super) fn stop(&mut self, service: usize, id: u64) {
        let (mut wait, faults) = (self.rng.i64(SECOND..4 * SECOND), self.weather.faults);
        if service == CODE || faults && self.rng.f64() < 0.05 {
            wait = self.rng.i64(SECOND..60 * SECOND);
        }
        let Some(task) = self.services[service].tasks.iter_mut().find(|task| task.id == id) else { return };
        if task.being == Being::Stopping {
            return;
        }
        task.being = Being::Stopping;
        if service == WEBSERVER && self.page.is_some_and(|(task, _)| task == id) {
            self.page = None;
        }
        if service == CODE && self.code.is_some_and(|(task, _)| task == id) {
            self.code = None;
        }
        // A daemon that ends may still begin a tick, or leave one unfinished at once.
        if service == DAEMON && self.evaluating == Some(id) && self.rng.bool() {
            self.silence();
        }
        self.after(wait, Event::TaskGone(service, id));
    }

    /// Set how many tasks a service has.
    pub fn scale(&mut self, service: usize, to: u32) {
        self.services[service].desired = to;
        if service == DAEMON && to == 0 {
            self.back();
        }
        let alive =
            |svc: &Svc| svc.tasks.iter().filter(|task| task.being != Being::Stopping).map(|task| task.id).collect();
        let alive: Vec<u64> = alive(&self.services[service]);
        if service == DAEMON && to > 0 && alive.is_empty() {
            self.woken.get_or_insert(self.now); // of a drain that turned back too
        }
        for id in alive.iter().skip(to as usize) {
            self.stop(service, *id);
        }
        for _ in alive.len()..to as usize {
            self.start(service);
        }
        self.changed();
    }

    /// A new deployment: tasks are replaced; a daemon's before the next one starts.
    pub fn renew(&mut self, service: usize) {
        let tasks = self.services[service].tasks.clone();
        if service != DAEMON {
            if self.services[service].desired > 0 {
                for task in tasks.iter().filter(|task| task.being == Being::Pending) {
                    self.stop(service, task.id);
                }
                self.start(service);
            }
        } else {
            for task in &tasks {
                self.stop(service, task.id);
            }
            if tasks.is_empty() && self.services[service].desired > 0 {
                self.start(service);
            }
        }
        self.changed();
    }

    /// Set on what capacity a service runs: a new deployment.
    pub fn capacity(&mut self, service: usize, to: &str) {
        self.services[service].on_demand = to == ON_DEMAND;
        self.services[service].no_spot = false;
        if self.services[service].desired > 0 {
            self.renew(service);
        }
        self.changed();
    }

    pub(super) fn task_up(&mut self, service: usize, id: u64) {
        let now = self.now;
        let spot = self.services[service].spot && !self.services[service].on_demand;
        let none = spot && self.no_spot.iter().any(|(from, until)| *from <= now && now < *until);
        let Some(task) = self.services[service].tasks.iter_mut().find(|task| task.id == id) else { return };
        if task.being != Being::Pending {
            return;
        }
        if none {
            self.services[service].no_spot = true;
            self.after(30 * SECOND, Event::TaskUp(service, id));
            return self.changed();
        }
        (task.being, self.services[service].no_spot) = (Being::Running, false);
        match service {
            WEBSERVER => {
                self.page = Some((id, false));
                let wait = self.rng.i64(2 * SECOND..5 * SECOND);
                self.after(wait, Event::PageUp(id));
            }
            CODE => {
                let old = self.code.replace((id, false));
                let wait = self.rng.i64(2 * SECOND..15 * SECOND);
                self.after(wait, Event::CodeReady(id));
                if old.is_some() {
                    self.location = Loading::Loaded; // a rolling deployment: the old one answers until the new one does
                }
            }
            _ => {
                if self.daemon_task.is_some() {
                    self.verdict.two_daemons += 1;
                    self.verdict.fault(format!("{}: two daemons", stamp(self.now)));
                }
                self.daemon_task = Some((id, self.now));
                let wait = self.rng.i64(3 * SECOND..8 * SECOND);
                self.after(wait, Event::Evaluate(id));
            }
        }
        // Those of an older deployment go.
        let task = self.services[service].tasks.clone();
        for one in task.iter().filter(|one| one.id != id && one.being == Being::Running) {
            self.stop(service, one.id);
        }
        self.changed();
    }

    pub(super) fn task_gone(&mut self, service: usize, id: u64) {
        let svc = &mut self.services[service];
        if let Some(index) = svc.tasks.iter().position(|task| task.id == id) {
            let task = svc.tasks.swap_remove(index);
            debug_assert!(task.definition <= svc.definition);
            self.verdict.billed[service] += (self.now - task.born).max(MINUTE);
        }
        if service == DAEMON {
            if self.evaluating == Some(id) {
                self.silence();
            }
            if self.daemon_task.is_some_and(|(task, _)| task == id) {
                self.daemon_task = None;
                if let Some((from, None)) = self.heart {
                    self.heart = Some((from, Some(self.now)));
                }
            }
        }
        let alive = self.services[service].tasks.iter().filter(|task| task.being != Being::Stopping).count();
        if alive < self.services[service].desired as usize {
            self.start(service);
        }
        if self.services.iter().all(|one| one.tasks.is_empty()) {
            if self.queued > 0 {
                self.verdict.stopped_runs += self.queued;
                self.verdict.fault(format!("{}: {} runs left queued", stamp(self.now), self.queued));
            }
            if let Some(from) = self.connected.take() {
                self.verdict.awake += self.now - from;
                let from = from.max(self.paused);
                self.verdict.database += self.now + PAUSE - from;
                self.paused = self.now + PAUSE;
            }
        }
        self.changed();
    }

    pub(super) fn show(&self) -> [Shown; 3] {
        [WEBSERVER, DAEMON, CODE].map(|index| {
            let one = &self.services[index];
            Shown {
                desired: one.desired,
                running: one.tasks.iter().filter(|task| task.being == Being::Running).count() as u32,
                tasks: one.tasks.len() as u32,
                definition: one.definition,
                spot: one.spot && !one.on_demand,
                no_spot: one.no_spot,
            }
        })
    }

    pub(super) fn changed(&mut self) {
        let shown = self.show();
        if self.shown.back().is_none_or(|(_, last)| *last != shown) {
            self.shown.push_back((self.now, shown));
        }
        if self.shown.len() > 64 {
            self.shown.pop_front();
        }
    }

    /// When what ECS tells last changed.
    pub fn changed_at(&self) -> Ms {
        self.shown.back().map_or(Ms::MIN, |(at, _)| *at)
    }

    /// What ECS tells, as it was then.
    pub fn estate(&self, at: Ms) -> Estate {
        let shown = self.shown.iter().rev().find(|(since, _)| *since <= at).or(self.shown.front());
        let shown = shown.map_or_else(|| self.show(), |(_, shown)| *shown);
        let services = shown.iter().enumerate().map(|(index, one)| Service {
            name: NAMES[index].to_owned(),
            role: ROLES[index],
            desired: one.desired,
            running: one.running,
            tasks: one.tasks,
            definition: format!("{}:{}", NAMES[index], one.definition),
            capacity: if one.spot { "FARGATE_SPOT:1" } else { ON_DEMAND }.to_owned(),
            trouble: one.no_spot.then_some(Trouble::NoSpot),
        });
        Estate { services: services.collect(), run_tasks: self.run_tasks, missing: Vec::new() }
    }
}
