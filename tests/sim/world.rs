//! One LA's Dagster and ECS in simulated time, as they behave (see `tests/load/README.md` for what is modelled).

mod dagster;
mod ecs;

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap, VecDeque},
};

use sfdata_power::{
    Role,
    observation::{Loading, Tick},
};

use crate::{
    clock::{DAY, HOUR, MINUTE, Ms, SECOND, stamp},
    judge::Verdict,
    trace::{Trace, What},
};

/// Index of the service.
pub const WEBSERVER: usize = 0;
/// Index of the service.
pub const DAEMON: usize = 1;
/// Index of the service.
pub const CODE: usize = 2;
/// Their names in ECS.
pub const NAMES: [&str; 3] = ["webserver", "daemon", "sync"];
const ROLES: [Role; 3] = [Role::Webserver, Role::Daemon, Role::CodeServer];

/// A tick that is later than this is missed.
const LATE: Ms = MINUTE;
/// A chain's next job may be later than with an always awake Dagster by the wake and this.
const SLACK: Ms = 3 * MINUTE;
/// What a deploy brings is due this long after it: until then no Dagster would know of it.
const DEPLOYED: Ms = 15 * MINUTE;
/// A deploy keeps a daemon from evaluating for so long at most.
const DEPLOY: Ms = 15 * MINUTE;
/// Aurora pauses so long after the last connection.
const PAUSE: Ms = 5 * MINUTE;

/// What is to happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Event {
    /// A line of the trace.
    Trace(usize),
    /// A task may be up.
    TaskUp(usize, u64),
    /// A task has ended.
    TaskGone(usize, u64),
    /// The code server answers.
    CodeReady(u64),
    /// The daemon evaluates from now on.
    Evaluate(u64),
    /// The webserver answers.
    PageUp(u64),
    /// A sensor ticks.
    SensorTick(usize, u64),
    /// Its tick ends.
    SensorEnds(usize, u64),
    /// A schedule ticks.
    ScheduleTick(usize, u64, Ms),
    /// Its tick ends.
    ScheduleEnds(usize, u64),
    /// The daemon takes a run from the queue.
    Dequeue(usize, u64),
    /// A run begins.
    RunStarts(usize),
    /// A run writes that it has ended.
    RunEnds(usize),
    /// Others can read that.
    RunCommits(usize),
    /// Its task is gone.
    RunTaskGone,
    /// The daemon retries a failed run.
    Retry(usize, u64),
    /// The daemon launches the next run of a backfill.
    Backfill(usize, u64),
    /// A person looks at the page again.
    Page(Ms),
    /// A person tries again to start a run.
    Launch(usize),
    /// The same for a backfill.
    Ask(usize, u32),
    /// The agent, whatever it does next.
    Agent(u64),
    /// The night window opens.
    Opens,
    /// The night window closes.
    Closes,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Being {
    Pending,
    Running,
    Stopping,
}

#[derive(Debug, Clone)]
struct Task {
    id: u64,
    being: Being,
    born: Ms,
    definition: u32,
}

/// One service of ECS.
#[derive(Debug, Clone)]
pub struct Svc {
    /// Wanted tasks.
    pub desired: u32,
    tasks: Vec<Task>,
    definition: u32,
    on_demand: bool,
    spot: bool,
    no_spot: bool,
}

/// What ECS shows of a service.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Shown {
    desired: u32,
    running: u32,
    tasks: u32,
    definition: u32,
    spot: bool,
    no_spot: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Status {
    Queued,
    Starting,
    Started,
    Ended,
}

#[derive(Debug, Clone)]
struct Run {
    job: usize,
    status: Status,
    queued: Ms,
    fails: bool,
    ended: Ms,
    /// Arrival of the file that it is for.
    arrival: Option<Ms>,
}

#[derive(Debug, Clone)]
struct Sched {
    /// Known to Dagster since.
    on: Option<Ms>,
    /// Judged from then on.
    from: Ms,
    /// The tick that is due next, to the judge.
    due: Ms,
    last: Option<Tick>,
    /// The tick in progress.
    ticking: Option<Ms>,
}

#[derive(Debug, Clone, Default)]
struct Sens {
    begun: Option<Ms>,
    ended: bool,
    /// Events that its next tick will see: visible from, and when an always awake Dagster would have ticked.
    unseen: Vec<(Ms, Ms)>,
    /// Events that the tick in progress sees.
    sees: Vec<(Ms, Ms)>,
    /// A tick is on its way already.
    planned: bool,
}

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Weather {
    /// Slow wakes, no Spot, ECS and Dagster unreadable, stale and slow answers, agents killed.
    pub faults: bool,
    /// Services on Fargate Spot.
    pub spot: bool,
}

/// The world.
pub struct World<'t> {
    /// What happens.
    pub trace: &'t Trace,
    /// Now.
    pub now: Ms,
    /// Chance.
    pub rng: fastrand::Rng,
    /// What goes wrong.
    pub weather: Weather,
    /// What came of it.
    pub verdict: Verdict,
    /// Services.
    pub services: [Svc; 3],
    queue: BinaryHeap<Reverse<(Ms, u64, Event)>>,
    count: u64,
    shown: VecDeque<(Ms, [Shown; 3])>,
    /// The daemon that evaluates.
    evaluating: Option<u64>,
    daemon_task: Option<(u64, Ms)>,
    heart: Option<(Ms, Option<Ms>)>,
    code: Option<(u64, bool)>,
    page: Option<(u64, bool)>,
    location: Loading,
    /// Runs that are not over, by their number.
    runs: BTreeMap<usize, Run>,
    launched: usize,
    queued: u32,
    pub(crate) run_tasks: u32,
    run_ended: Option<Ms>,
    retries: Vec<(usize, Ms)>,
    backfills: Vec<(usize, u32)>,
    schedules: Vec<Sched>,
    sensors: Vec<Sens>,
    /// Files that have not been handed on: their jobs and when they arrived.
    pub waiting: Vec<(usize, Ms)>,
    /// When one was handed on last.
    pub handed_on: Option<Ms>,
    /// What people asked of the agent: a person, or to stay awake until.
    pub wishes: Vec<Option<Ms>>,
    /// Something stirred that the agent is told of.
    pub nudged: bool,
    slow: Ms,
    woken: Option<Ms>,
    /// How long the last wake took, and when it ended.
    last_wake: (Ms, Ms),
    /// Since when a deploy keeps the daemon from evaluating, and when others did.
    outage: Option<Ms>,
    outages: VecDeque<(Ms, Ms)>,
    connected: Option<Ms>,
    paused: Ms,
    /// Only what leads to something is evaluated, at once: the oracle's world.
    pub oracle: bool,
    /// When something was going on, for the oracle.
    pub busy: Vec<(Ms, Ms)>,
    no_spot: Vec<(Ms, Ms)>,
}

impl<'t> World<'t> {
    /// At the beginning of a trace, all of Dagster awake.
    pub fn new(trace: &'t Trace, weather: Weather, seed: u64) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        let service =
            Svc { desired: 0, tasks: Vec::new(), definition: 1, on_demand: false, spot: weather.spot, no_spot: false };
        let mut no_spot = Vec::new();
        if weather.faults && weather.spot {
            let mut at = trace.from + rng.i64(DAY..20 * DAY);
            while at < trace.until {
                let until = at + rng.i64(HOUR..6 * HOUR);
                no_spot.push((at, until));
                at = until + rng.i64(3 * DAY..30 * DAY);
            }
        }
        let mut world = Self {
            trace,
            now: trace.from,
            rng,
            weather,
            verdict: Verdict { span: trace.until - trace.from, ..Verdict::default() },
            services: [service.clone(), service.clone(), service],
            queue: BinaryHeap::new(),
            count: 0,
            shown: VecDeque::new(),
            evaluating: None,
            daemon_task: None,
            heart: None,
            code: None,
            page: None,
            location: Loading::Failed,
            runs: BTreeMap::new(),
            launched: 0,
            queued: 0,
            run_tasks: 0,
            run_ended: None,
            retries: Vec::new(),
            backfills: Vec::new(),
            schedules: Vec::new(),
            sensors: vec![Sens::default(); trace.sensors.len()],
            waiting: Vec::new(),
            handed_on: None,
            wishes: Vec::new(),
            nudged: false,
            slow: 0,
            woken: None,
            last_wake: (0, 0),
            outage: None,
            outages: VecDeque::new(),
            connected: None,
            paused: 0,
            oracle: false,
            busy: Vec::new(),
            no_spot,
        };
        for schedule in &trace.schedules {
            let from = if schedule.deployed { Ms::MAX } else { trace.from + DEPLOYED };
            let due = if schedule.deployed { Ms::MAX } else { schedule.after(from) };
            world.schedules.push(Sched { on: None, from, due, last: None, ticking: None });
        }
        if let Some((at, _)) = trace.events.first() {
            world.at(*at, Event::Trace(0));
        }
        world
    }

    /// Let something happen.
    pub fn at(&mut self, at: Ms, event: Event) {
        self.count += 1;
        self.queue.push(Reverse((at.max(self.now), self.count, event)));
    }

    fn after(&mut self, wait: Ms, event: Event) {
        self.at(self.now + wait, event);
    }

    /// What happens next, and when.
    pub fn next_event(&mut self) -> Option<Event> {
        let Reverse((at, _, event)) = self.queue.pop()?;
        if at >= self.trace.until {
            return None;
        }
        self.now = at;
        Some(event)
    }

    /// When the next thing happens.
    pub fn soonest(&self) -> Ms {
        self.queue.peek().map_or(Ms::MAX, |Reverse((at, ..))| *at)
    }

    /// Let it happen.
    pub fn step(&mut self, event: Event) {
        match event {
            Event::Trace(index) => self.happens(index),
            Event::TaskUp(service, id) => self.task_up(service, id),
            Event::TaskGone(service, id) => self.task_gone(service, id),
            Event::CodeReady(id) => {
                if self.code.is_some_and(|(task, _)| task == id) {
                    self.code = Some((id, true));
                    self.load_definition();
                }
            }
            Event::Evaluate(id) => self.evaluate(id),
            Event::PageUp(id) => {
                if self.page.is_some_and(|(task, _)| task == id) {
                    self.page = Some((id, true));
                    self.location = if self.code_ready() { Loading::Loaded } else { Loading::Failed };
                }
            }
            Event::SensorTick(sensor, daemon) => self.sensor_tick(sensor, daemon),
            Event::SensorEnds(sensor, daemon) => self.sensor_ends(sensor, daemon),
            Event::ScheduleTick(schedule, daemon, due) => self.schedule_tick(schedule, daemon, due),
            Event::ScheduleEnds(schedule, daemon) => self.schedule_ends(schedule, daemon),
            Event::Dequeue(run, daemon) => self.run_dequeued(run, daemon),
            Event::RunStarts(run) => self.run_starts(run),
            Event::RunEnds(run) => self.run_ends(run),
            Event::RunCommits(run) => self.run_commits(run),
            Event::RunTaskGone => self.run_tasks = self.run_tasks.saturating_sub(1),
            Event::Retry(job, daemon) => self.retry(job, daemon),
            Event::Backfill(index, daemon) => {
                if self.evaluating == Some(daemon) && self.backfills[index].1 > 0 {
                    self.backfills[index].1 -= 1;
                    self.launch(self.backfills[index].0, None);
                    let wait = self.rng.i64(10 * SECOND..120 * SECOND);
                    self.after(wait, Event::Backfill(index, daemon));
                }
            }
            Event::Page(until) => {
                self.wishes.push(None);
                self.nudged = true;
                if self.now + 5 * MINUTE < until {
                    self.after(5 * MINUTE, Event::Page(until));
                }
            }
            Event::Launch(job) => match self.answers() && self.location == Loading::Loaded {
                true => self.launch(job, None),
                false => self.after(30 * SECOND, Event::Launch(job)),
            },
            Event::Ask(job, count) => match (self.answers() && self.location == Loading::Loaded, self.evaluating) {
                (true, Some(daemon)) => {
                    self.backfills.push((job, count));
                    self.after(5 * SECOND, Event::Backfill(self.backfills.len() - 1, daemon));
                }
                _ => self.after(30 * SECOND, Event::Ask(job, count)),
            },
            Event::Agent(_) | Event::Opens | Event::Closes => {}
        }
    }

    fn happens(&mut self, index: usize) {
        if let Some((at, _)) = self.trace.events.get(index + 1) {
            self.at(*at, Event::Trace(index + 1));
        }
        match self.trace.events[index].1 {
            What::Arrival(job) => {
                self.waiting.push((job, self.now));
                self.nudged = true;
            }
            What::Outside(sensor) => {
                let poll = DAY.max(self.trace.sensors[sensor].interval);
                self.stimulate(sensor, self.now, poll + HOUR);
            }
            What::Visit(span) => {
                self.busy.push((self.now, self.now + span));
                self.step(Event::Page(self.now + span));
            }
            What::Launch(job) => {
                self.wishes.push(None);
                self.nudged = true;
                self.step(Event::Launch(job));
            }
            What::Backfill(job, count) => {
                self.wishes.push(None);
                self.nudged = true;
                self.step(Event::Ask(job, count));
            }
            What::StayAwake(span) => {
                self.busy.push((self.now, self.now + span));
                self.wishes.push(Some(self.now + span));
                self.nudged = true;
            }
            What::ByHand => {
                for service in [WEBSERVER, DAEMON, CODE] {
                    if self.services[service].desired == 0 {
                        self.scale(service, 1);
                    }
                }
            }
            What::Deploy(brings) => {
                if let Some(schedule) = brings {
                    self.schedules[schedule].from = self.now + DEPLOYED;
                    self.schedules[schedule].due = self.trace.schedules[schedule].after(self.now + DEPLOYED);
                }
                if self.services[DAEMON].desired > 0 && self.woken.is_none() {
                    self.outage.get_or_insert(self.now);
                }
                for service in [DAEMON, CODE] {
                    self.services[service].definition += 1;
                    if self.services[service].desired > 0 {
                        self.renew(service);
                    }
                }
                self.changed();
            }
        }
    }

    /// Files that wait are handed on to Dagster, if it answers.
    pub fn hand_on(&mut self) {
        if !self.answers() || self.location != Loading::Loaded {
            return;
        }
        for (job, at) in std::mem::take(&mut self.waiting) {
            self.launch(job, Some(at));
            self.handed_on = Some(self.now);
        }
    }

    /// Everything stops at once, runs as well: what a night window does.
    pub fn stop_all(&mut self) {
        for service in [WEBSERVER, DAEMON, CODE] {
            self.scale(service, 0);
        }
        let before = self.runs.len();
        self.runs.retain(|_, run| !matches!(run.status, Status::Starting | Status::Started));
        self.verdict.stopped_runs += (before - self.runs.len()) as u32;
        self.run_tasks = 0;
    }

    /// The judge's last words.
    pub fn close(mut self) -> (Verdict, Vec<(Ms, Ms)>) {
        self.now = self.trace.until;
        for (index, one) in self.schedules.iter_mut().enumerate() {
            while one.due < self.now - 10 * MINUTE {
                self.verdict.ticks += 1;
                self.verdict.missed_ticks += 1;
                self.verdict.fault(format!("{}: {} never", stamp(one.due), self.trace.schedules[index].name));
                one.due = self.trace.schedules[index].after(one.due);
            }
        }
        for (index, one) in self.sensors.iter().enumerate() {
            let never =
                one.unseen.iter().chain(&one.sees).filter(|(_, due)| due + 20 * MINUTE < self.now).count() as u32;
            self.verdict.broken_chains += never;
            if never > 0 {
                self.verdict.fault(format!("{}: {never} events never seen", self.trace.sensors[index].name));
            }
        }
        let lost = self.retries.iter().filter(|(_, since)| self.now - since > 10 * MINUTE).count() as u32;
        self.verdict.broken_chains += lost;
        let left = self.waiting.iter().filter(|(_, at)| self.now - at > HOUR).count();
        if left > 0 {
            self.verdict.broken_chains += left as u32;
            self.verdict.fault(format!("{left} files never handed on"));
        }
        for (service, one) in self.services.iter().enumerate() {
            self.verdict.billed[service] += one.tasks.iter().map(|task| self.now - task.born).sum::<Ms>();
        }
        if let Some(from) = self.connected {
            self.verdict.awake += self.now - from;
            self.verdict.database += self.now - from.max(self.paused);
        }
        (self.verdict, self.busy)
    }

    /// Runs wait in the queue.
    pub fn queued(&self) -> u32 {
        self.queued
    }
}
