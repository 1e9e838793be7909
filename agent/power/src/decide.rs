//! The decision: what is seen, what is remembered and the time in; what to do, why, and what to remember out. No I/O.
//!
//! It is made anew at each look and asks for whatever is still missing, so that an order that was lost, or a restart, changes
//! nothing. What it says to remember is durable before what it says to do is done.
//!
//! `asleep → waking → awake → draining → asleep`. Waking: the database, then code servers and webserver, then the daemon, which
//! must find its code; then every code location is loaded. Draining: the daemon goes first, because what Dagster says after
//! that is final; then Dagster is looked at once more; then the rest goes.
//!
//! `tests/sim` drives it through years of simulated time, with faults, and counts what must not happen.

use std::time::Duration;

use jiff::Timestamp;

use super::act::SPOT;
pub use super::act::{Act, Fault, ON_DEMAND};
use super::{
    alarms::{Alarm, back, forward},
    observation::{Dagster, Database, Estate, Loading, Location, Observation, Reading, Schedule, Service, Trouble},
    reasons::{ECHO, Kind, PATIENCE, Reason, follow, given_up, reasons, ringing, set_alarms, to_wake},
    settings::Settings,
    state::{Phase, RETRY_MAX, State, Waking},
};
use crate::Role;

/// A daemon posts its heartbeat every 30 s (Dagster's `DEFAULT_HEARTBEAT_INTERVAL_SECONDS`); three are to be missed.
const HEARTBEAT: Duration = Duration::from_secs(100);
/// A code location is reloaded so often; then it is told as a fault, and Dagster is awake without it.
const RELOADS: u32 = 6;
/// Before the second reload; twice as long before each further one.
const RELOAD_PAUSE: Duration = Duration::from_secs(4);
/// A source that fails for so short a time does not turn back what is draining: nothing goes on without a fresh look.
const BLINK: Duration = Duration::from_secs(60);
/// What is gone of an awake platform, and does not come back in that time by ECS's own doing, is brought up as at a wake.
const AILING: Duration = Duration::from_secs(180);

/// What went wrong is told for so long.
const TOLD: Duration = Duration::from_secs(24 * 3600);
/// Runs and backfills that alone keep the platform awake for so long are told: one may hang, and each hour of it costs.
const LONG_AWAKE: Duration = Duration::from_secs(12 * 3600);

/// Pauses until the next look, by how much is going on.
const LOOK_MOVING: Duration = Duration::from_secs(1);
/// What has just begun to move is looked at sooner: a look comes late by no more than a part of what it took so far.
const LOOK_BEGUN: Duration = Duration::from_millis(250);
const LOOK_PART: u32 = 20;
const LOOK_AWAKE: Duration = Duration::from_secs(15);
const LOOK_ASLEEP: Duration = Duration::from_secs(60);

/// What comes of one look.
#[derive(Debug, Clone, PartialEq)]
pub struct Decision {
    /// To be remembered, durably, before anything of `acts` is done.
    pub state: State,
    /// To be done, side by side.
    pub acts: Vec<Act>,
    /// Why the platform is awake, or is woken; empty while it sleeps.
    pub reasons: Vec<Reason>,
    /// What somebody should look at.
    pub faults: Vec<Fault>,
    /// Look again after so long, or when something stirs.
    pub again: Duration,
}

/// Decide what to do.
pub fn decide(seen: &Observation, state: &State, settings: &Settings, now: Timestamp) -> Decision {
    let mut made = Making { seen, settings, now, state: state.clone(), acts: Vec::new(), faults: Vec::new() };
    made.state.keep_in_time(now);
    if state.wishes.awake_until.is_some_and(|until| until <= now) {
        made.state.wishes.awake_until = None;
    }
    let (reasons, again) = if state.wishes.manual {
        made.by_hand()
    } else {
        match state.phase {
            Phase::Asleep => made.asleep(),
            Phase::Waking => made.waking(),
            Phase::Awake => made.awake(),
            Phase::Draining => made.draining(),
        }
    };
    for (schedule, since) in &made.state.missed {
        let detail = format!(
            "schedule {schedule} was due and Dagster showed no tick of it by {since}; look at the daemon's logs, and launch \
             what it would have launched"
        );
        made.faults.push(Fault { kind: "tick-missing", detail });
    }
    for service in seen.ecs.value().iter().flat_map(|estate| &estate.missing) {
        let detail = format!("the cluster has no service {service}; correct [platform] in the agent's configuration");
        made.faults.push(Fault { kind: "service-missing", detail });
    }
    made.tell_unreadable();
    let again = if made.state.generation == state.generation { again } else { Duration::ZERO };
    let Making { state, mut acts, faults, .. } = made;
    acts.sort();
    acts.dedup();
    Decision { state, acts, reasons, faults, again }
}

/// A decision in the making.
struct Making<'a> {
    seen: &'a Observation,
    settings: &'a Settings,
    now: Timestamp,
    state: State,
    acts: Vec<Act>,
    faults: Vec<Fault>,
}

impl Making<'_> {
    /// People start and stop the services. What arrives is handed on whenever they have Dagster run.
    fn by_hand(&mut self) -> (Vec<Reason>, Duration) {
        let waits = self.seen.arrivals.value().is_some_and(|arrivals| arrivals.waiting > 0);
        let runs = self.seen.dagster.value().is_some_and(|dagster| {
            self.daemon_lives(dagster) && dagster.locations.iter().any(|one| one.state == Loading::Loaded)
        });
        if waits && runs {
            self.acts.push(Act::HandOn);
        }
        (Vec::new(), LOOK_AWAKE)
    }

    /// What cannot be read for long; unknown is busy, which costs.
    fn tell_unreadable(&mut self) {
        let Observation { ecs, dagster, arrivals, database, .. } = self.seen;
        let each = [
            ("ecs-unreadable", "ECS", ecs.unread()),
            ("dagster-unreadable", "Dagster", dagster.unread()),
            ("arrivals-unreadable", "the queue or bucket of arrivals", arrivals.unread()),
            ("database-unreadable", "the database's state", database.unread()),
        ];
        for (kind, what, unread) in each {
            if let Some((since, why)) = unread.filter(|(since, _)| forward(*since, PATIENCE) <= self.now) {
                let detail =
                    format!("{what} cannot be read since {since}, and what is not known counts as busy: {why}");
                self.faults.push(Fault { kind, detail });
            }
        }
    }

    fn asleep(&mut self) -> (Vec<Reason>, Duration) {
        let reasons = to_wake(self.seen, &self.state, self.settings, self.now);
        if let Some(first) = reasons.first() {
            let by_hand = reasons.iter().any(|reason| reason.kind == Kind::ByHand);
            self.state.cause = Some(first.kind.as_str().into());
            self.state.waking = Waking { from_sleep: true, ..Waking::default() };
            if reasons.iter().any(|reason| reason.kind == Kind::CodeChanged) {
                self.state.broken.clear();
            }
            self.state.definitions.clear();
            if by_hand {
                self.state.wishes.person.get_or_insert(self.now); // who scales by hand wants to work
            }
            self.state.enter(Phase::Waking, self.now);
            return (reasons, Duration::ZERO);
        }
        // Nothing runs, so that it costs no deployment.
        for (service, had) in self.state.on_demand.clone() {
            let now = self.seen.ecs.value().and_then(|estate| estate.services.iter().find(|one| one.name == service));
            match now {
                Some(now) if now.capacity == had => {
                    self.state.on_demand.remove(&service);
                }
                Some(_) => self.acts.push(Act::Capacity { service, to: had }),
                None => {}
            }
        }
        let lead = self.state.lead(self.settings);
        let rings = self.state.alarms.iter().map(|alarm| alarm.rings(lead)).min();
        let until = rings.map_or(LOOK_ASLEEP, |at| between(self.now, at));
        let echo = forward(self.state.since, ECHO);
        let heard = if echo > self.now { between(self.now, echo) + LOOK_MOVING } else { LOOK_ASLEEP };
        (reasons, until.min(heard).min(LOOK_ASLEEP))
    }

    fn waking(&mut self) -> (Vec<Reason>, Duration) {
        let mut reasons = reasons(self.seen, &self.state, self.settings, self.now);
        reasons.retain(|reason| reason.kind != Kind::Unreadable);
        let Some(estate) = self.seen.ecs.value() else {
            self.stuck(&[], "ECS cannot be read");
            return (reasons, self.soon());
        };
        // An older look may not know of a daemon that is still ending.
        if self.seen.ecs.since(self.state.since).is_none() {
            return (reasons, self.soon());
        }
        self.know_definitions(estate);
        match self.seen.database.value() {
            Some(Database::Stopped) => self.acts.push(Act::StartDatabase),
            Some(Database::Moving) => {}
            _ => self.bring_up(estate),
        }
        if estate.services.iter().any(|service| service.role == Role::Webserver && service.running > 0) {
            self.finish_waking(estate);
        }
        if self.state.phase == Phase::Waking {
            let silent: Vec<&Service> = estate.services.iter().filter(|service| service.running == 0).collect();
            let cause = match (self.seen.database.value(), silent.first()) {
                (Some(Database::Stopped | Database::Moving), _) => "the database is not available".to_owned(),
                (_, Some(service)) => match &service.trouble {
                    Some(Trouble::NoSpot) => format!("Fargate Spot has no room for {}", service.name),
                    Some(Trouble::Other(text)) => format!("{} does not come up: {text}", service.name),
                    None => format!("{} does not come up, and ECS does not say why", service.name),
                },
                _ => match &self.seen.dagster {
                    Reading::Unread { why, .. } => format!("Dagster does not answer: {why}"),
                    Reading::Off if self.seen.code.value().is_some() => "not all code locations are loaded".to_owned(),
                    Reading::Off => "Dagster does not answer".to_owned(),
                    Reading::At(_, dagster) if dagster.locations.iter().all(|one| one.state == Loading::Loaded) => {
                        "Dagster's daemon has not told that it lives".to_owned()
                    }
                    Reading::At(..) => "not all code locations are loaded".to_owned(),
                },
            };
            self.stuck(&self.to_renew(estate), &cause);
        }
        (reasons, if self.state.waking.retries == 0 { self.soon() } else { LOOK_AWAKE })
    }

    /// Ask for the services that are missing and may come now.
    fn bring_up(&mut self, estate: &Estate) {
        let code_runs = self.code_runs(estate);
        for service in &estate.services {
            let wanted = match service.role {
                Role::Daemon => 1,
                _ => self.state.counts.get(&service.name).copied().unwrap_or(1).max(1),
            };
            // The daemon needs its code, and never runs beside another one: not even one that is still ending.
            let may = service.role != Role::Daemon || (code_runs && service.tasks == 0);
            let begins = service.desired == 0 && may;
            // Spot that had no room for one has none for those that come after it.
            let dry = service.trouble == Some(Trouble::NoSpot)
                || begins && !self.state.on_demand.is_empty() && service.capacity.contains(SPOT);
            if dry && !self.state.on_demand.contains_key(&service.name) {
                self.state.on_demand.insert(service.name.clone(), service.capacity.clone());
            }
            if self.state.on_demand.contains_key(&service.name) && service.running == 0 && service.capacity != ON_DEMAND
            {
                self.acts.push(Act::Capacity { service: service.name.clone(), to: ON_DEMAND.into() });
            } else if begins || service.role == Role::Daemon && service.desired > 1 {
                self.acts.push(Act::Scale { service: service.name.clone(), to: wanted });
            }
        }
    }

    /// All code locations are to be loaded, and the daemon to live.
    fn finish_waking(&mut self, estate: &Estate) {
        let (seen, since) = (self.seen, self.state.since);
        let dagster = seen.dagster.since(since);
        let Some(code) = dagster.map(|dagster| &dagster.locations).or(seen.code.since(since)) else { return };
        // A reload before its code server runs would be in vain.
        let code_runs = self.code_runs(estate);
        let open = code_runs && self.reload(code);
        let all_run = code_runs && estate.services.iter().all(|one| one.role == Role::CodeServer || one.running > 0);
        // What is launched now is queued, and the daemon starts it when it is there.
        if code_runs && !open && self.seen.arrivals.value().is_some_and(|arrivals| arrivals.waiting > 0) {
            self.acts.push(Act::HandOn);
        }
        if open || !all_run || !dagster.is_some_and(|dagster| self.daemon_lives(dagster)) {
            return;
        }
        if self.state.waking.from_sleep {
            self.state.learn(between(self.state.since, self.now).min(self.settings.stuck));
        }
        self.state.enter(Phase::Awake, self.now);
    }

    /// Whether the code servers run. One that does not come up for long does not keep the others' pipelines from running.
    fn code_runs(&self, estate: &Estate) -> bool {
        let mut code = estate.services.iter().filter(|one| one.role == Role::CodeServer).map(|one| one.running > 0);
        if self.state.waking.retries == 0 {
            code.all(|runs| runs)
        } else {
            code.clone().count() == 0 || code.any(|runs| runs)
        }
    }

    /// What is to be tried anew: what does not come up; or else what runs and does not answer.
    fn to_renew<'e>(&self, estate: &'e Estate) -> Vec<&'e Service> {
        let silent: Vec<&Service> = estate.services.iter().filter(|one| one.desired > 0 && one.running == 0).collect();
        let role = match self.seen.dagster.since(self.state.since) {
            // A network that does not let the agent in is not mended by a new webserver.
            None if self.state.waking.retries > 2 || self.seen.code.since(self.state.since).is_some() => return silent,
            None => Role::Webserver,
            Some(dagster) if !self.daemon_lives(dagster) => Role::Daemon,
            Some(_) => return silent,
        };
        if silent.is_empty() {
            estate.services.iter().filter(|one| one.role == role && one.desired > 0).collect()
        } else {
            silent
        }
    }

    /// What the code was when it was started; what is deployed later is other code.
    fn know_definitions(&mut self, estate: &Estate) {
        self.state.definitions.retain(|name, _| estate.services.iter().any(|one| one.name == *name));
        for service in &estate.services {
            self.state.definitions.entry(service.name.clone()).or_insert_with(|| service.definition.clone());
        }
    }

    /// Reload what is not loaded, with growing pauses: Dagster does not recover by itself when a code server comes back.
    /// Whether one is still worth waiting for.
    fn reload(&mut self, code: &[Location]) -> bool {
        let mut open = false;
        for location in code {
            let (tries, last) = self.state.waking.reloads.get(&location.name).copied().unwrap_or_default();
            let pause = (RELOAD_PAUSE * 2_u32.pow(tries.saturating_sub(1).min(8))).min(RETRY_MAX);
            let due = tries == 0 || forward(last, pause) <= self.now;
            match location.state {
                Loading::Loaded => {
                    self.state.waking.reloads.remove(&location.name);
                    self.state.broken.remove(&location.name);
                    continue;
                }
                Loading::Failed if due => {
                    self.state.waking.reloads.insert(location.name.clone(), (tries + 1, self.now));
                    self.acts.push(Act::Reload { location: location.name.clone() });
                }
                Loading::Failed | Loading::Loading => {}
            }
            let tried = tries >= RELOADS && forward(last, RELOAD_PAUSE) <= self.now;
            if tried {
                self.state.broken.insert(location.name.clone());
            }
            // What was broken at the last wake is not waited for at each; other code may have mended it.
            let loading = location.state == Loading::Loading && self.state.waking.retries == 0;
            open |= !tried && !self.state.broken.contains(&location.name) || loading;
        }
        open
    }

    /// Whether its last heartbeat is fresh.
    fn daemon_lives(&self, dagster: &Dagster) -> bool {
        dagster.heartbeat.is_some_and(|at| at >= back(self.now, HEARTBEAT))
    }

    /// A wake that takes too long is told, and what does not come up is tried anew, less and less often.
    fn stuck(&mut self, renew: &[&Service], cause: &str) {
        let waking = &mut self.state.waking;
        let at = *waking.retry_at.get_or_insert(forward(self.now, self.settings.stuck));
        if at <= self.now {
            waking.retries += 1;
            let pause = (self.settings.stuck * 2_u32.pow(waking.retries.min(8))).min(RETRY_MAX);
            waking.retry_at = Some(forward(self.now, pause));
            self.acts.extend(renew.iter().map(|service| Act::Renew { service: service.name.clone() }));
        }
        if waking.retries > 0 {
            let since = self.state.since;
            let detail =
                format!("waking since {since} and not there yet: {cause}; tried anew {} times", waking.retries);
            self.faults.push(Fault { kind: "stuck-waking", detail });
        }
    }

    fn awake(&mut self) -> (Vec<Reason>, Duration) {
        let mut reasons = reasons(self.seen, &self.state, self.settings, self.now);
        let estate = self.seen.ecs.since(self.state.since);
        let gone = estate.is_some_and(|estate| estate.services.iter().any(|one| one.desired == 0));
        if gone && self.seen.commands == 0 {
            reasons.push(Reason::new(Kind::ByHand));
            self.state.cause = Some(Kind::ByHand.as_str().into());
            self.state.waking = Waking::default();
            self.state.enter(Phase::Waking, self.now);
            return (reasons, Duration::ZERO);
        }
        if !reasons.iter().any(|reason| reason.kind == Kind::Person) {
            self.state.wishes.person = None;
        }
        if let Some(estate) = estate {
            for daemon in estate.services.iter().filter(|one| one.role == Role::Daemon && one.desired > 1) {
                self.acts.push(Act::Scale { service: daemon.name.clone(), to: 1 });
                let detail = format!("{} was to run {} times, and must never run twice", daemon.name, daemon.desired);
                self.faults.push(Fault { kind: "two-daemons", detail });
            }
        }
        if let Some(estate) = estate.filter(|_| !gone) {
            self.state.counts = estate.services.iter().map(|one| (one.name.clone(), one.desired)).collect();
            self.know_definitions(estate);
        }
        match &self.seen.dagster {
            Reading::At(at, dagster) if *at >= self.state.since => {
                reasons.extend(self.look_at(dagster));
            }
            _ => {}
        }
        if self.seen.arrivals.value().is_some_and(|arrivals| arrivals.waiting > 0) {
            self.acts.push(Act::HandOn);
        }
        if self.ails(estate) {
            self.state.cause = Some("repair".into());
            self.state.waking = Waking::default();
            self.state.enter(Phase::Waking, self.now);
            return (reasons, Duration::ZERO);
        }
        self.tell_long(&reasons);
        self.rest(&reasons);
        let until = reasons.iter().filter_map(|reason| reason.until).filter(|until| *until > self.now).min();
        let until = until.map_or(LOOK_AWAKE, |until| between(self.now, until) + LOOK_MOVING);
        let again = match self.state.quiet {
            Some(quiet) => between(self.now, forward(quiet, self.settings.quiet)).min(LOOK_AWAKE),
            None => LOOK_AWAKE.min(until),
        };
        (reasons, again.max(LOOK_MOVING))
    }

    /// What is wrong with a Dagster that is awake, and which ticks it is to have next. Returns what of it is a reason to stay
    /// awake.
    fn look_at(&mut self, dagster: &Dagster) -> Vec<Reason> {
        let mut reasons = Vec::new();
        if dagster.runs > 0 {
            self.state.ran = self.seen.dagster.at();
        }
        if !self.daemon_lives(dagster) {
            reasons.push(Reason::of(Kind::Unreadable, "daemon"));
            let last = dagster.heartbeat.map_or("never".to_owned(), |at| format!("last at {at}"));
            let detail = format!("Dagster's daemon does not tell that it lives ({last}); look at its logs, restart it");
            self.faults.push(Fault { kind: "daemon-silent", detail });
        }
        for location in dagster.locations.iter().filter(|one| one.state == Loading::Failed) {
            let detail = format!("code location {} does not load; see hubctl dagster status", location.name);
            self.faults.push(Fault { kind: "location-failed", detail });
        }
        // Its sensors can't be seen meanwhile.
        if self.reload(&dagster.locations) {
            reasons.push(Reason::of(Kind::Unreadable, "code location"));
        }
        for schedule in follow(&mut self.state, dagster, self.now) {
            self.state.missed.insert(schedule, self.now);
        }
        let now = self.now;
        self.state.missed.retain(|name, since| {
            let ticked = |one: &Schedule| one.name == *name && one.last.is_some_and(|tick| tick.at > *since);
            !dagster.schedules.iter().any(ticked) && forward(*since, TOLD) > now
        });
        for sensor in given_up(dagster, self.seen, &self.state, self.now) {
            let detail =
                format!("sensor {sensor} fails, or does not tick; it is looked after again later; see its ticks");
            self.faults.push(Fault { kind: "sensor-late", detail });
        }
        reasons
    }

    /// Runs whose process has died count as started for ever where Dagster does not watch over them.
    fn tell_long(&mut self, reasons: &[Reason]) {
        let at_work = |reason: &Reason| matches!(reason.kind, Kind::Runs | Kind::RunTasks | Kind::Backfills);
        if reasons.is_empty() || !reasons.iter().all(at_work) {
            self.state.working = None;
            return;
        }
        let since = *self.state.working.get_or_insert(self.now);
        if forward(since, LONG_AWAKE) > self.now {
            return;
        }
        let detail = format!(
            "kept awake by runs or backfills alone since {since}; see hubctl dagster runs, and cancel what hangs"
        );
        self.faults.push(Fault { kind: "long-awake", detail });
    }

    /// Whether something that should run has not for long: a service, the daemon's heartbeat, the page.
    fn ails(&mut self, estate: Option<&Estate>) -> bool {
        let gone = estate.is_some_and(|estate| estate.services.iter().any(|one| one.desired > 0 && one.running == 0));
        let dark = match &self.seen.dagster {
            Reading::At(_, dagster) => !self.daemon_lives(dagster),
            Reading::Unread { .. } | Reading::Off => estate.is_some(),
        };
        if self.seen.commands > 0 || !(gone || dark) {
            self.state.ailing = None;
            return false;
        }
        let since = *self.state.ailing.get_or_insert(self.now);
        forward(since, AILING) <= self.now
    }

    /// No reason in one look, and none in another that was begun a while later: begin to drain.
    fn rest(&mut self, reasons: &[Reason]) {
        let fresh = self.seen.dagster.since(self.state.since).zip(self.seen.dagster.at());
        let Some((dagster, asked)) = fresh.filter(|(_, asked)| reasons.is_empty() && *asked <= self.now) else {
            self.state.quiet = None;
            return;
        };
        let oldest = self.seen.ecs.at().map_or(asked, |at| at.min(asked));
        match self.state.quiet {
            None => self.state.quiet = Some(self.now),
            Some(quiet) if oldest >= forward(quiet, self.settings.quiet) => {
                set_alarms(&mut self.state, dagster, self.seen, self.settings, self.now);
                self.state.enter(Phase::Draining, self.now);
            }
            Some(_) => {}
        }
    }

    fn draining(&mut self) -> (Vec<Reason>, Duration) {
        let mut reasons = reasons(self.seen, &self.state, self.settings, self.now);
        let closing = self.state.closing;
        reasons.retain(|reason| reason.kind != Kind::Unreadable || (!closing && self.is_dark(&reason.name)));
        reasons.extend(ringing(&self.state, self.settings, self.now));
        if forward(self.state.since, self.settings.stuck) <= self.now {
            reasons.push(Reason::of(Kind::Unreadable, "dagster")); // waking mends what keeps it from answering
        }
        if let Some(first) = reasons.first() {
            self.state.cause = Some(first.kind.as_str().into());
            self.state.waking = Waking::default();
            self.state.enter(Phase::Waking, self.now);
            return (reasons, Duration::ZERO);
        }
        let Some(estate) = self.seen.ecs.since(self.state.since) else { return (reasons, self.soon()) };
        let daemon = |service: &&Service| service.role == Role::Daemon;
        self.scale_down(estate.services.iter().filter(daemon));
        if !estate.services.iter().filter(daemon).all(|service| service.tasks == 0 && service.desired == 0) {
            return (reasons, self.soon());
        }
        let still = *self.state.still.get_or_insert(self.now);
        if !closing {
            let all_read = self.seen.ecs.since(still).is_some() && !self.seen.arrivals.is_unread();
            if let Some(dagster) = self.seen.dagster.since(still).filter(|_| all_read) {
                set_alarms(&mut self.state, dagster, self.seen, self.settings, self.now);
                self.state.closing = true;
                return (reasons, Duration::ZERO);
            }
            return (reasons, self.soon());
        }
        self.scale_down(estate.services.iter());
        if estate.services.iter().all(|service| service.tasks == 0 && service.desired == 0) {
            self.state.enter(Phase::Asleep, self.now);
            return (reasons, Duration::ZERO);
        }
        (reasons, self.soon())
    }

    /// Until the next look at what moves.
    fn soon(&self) -> Duration {
        (between(self.state.since, self.now) / LOOK_PART).clamp(LOOK_BEGUN, LOOK_MOVING)
    }

    fn scale_down<'s>(&mut self, services: impl Iterator<Item = &'s Service>) {
        let up = services.filter(|service| service.desired > 0);
        self.acts.extend(up.map(|service| Act::Scale { service: service.name.clone(), to: 0 }));
    }

    /// A source can't be read for longer than a blink. ECS need not be told: without it nothing goes on.
    fn is_dark(&self, source: &str) -> bool {
        let since = match (source, &self.seen.dagster, &self.seen.arrivals) {
            ("dagster", Reading::Unread { since, .. }, _) | ("arrivals", _, Reading::Unread { since, .. }) => *since,
            ("ecs" | "dagster" | "arrivals", ..) => return false,
            _ => return true,
        };
        forward(since, BLINK) <= self.now
    }
}

/// What it would wake for, were it put to sleep now.
pub fn preview(seen: &Observation, state: &State, settings: &Settings, now: Timestamp) -> Vec<Alarm> {
    let mut state = state.clone();
    if let (Phase::Awake, Some(dagster)) = (state.phase, seen.dagster.value()) {
        set_alarms(&mut state, dagster, seen, settings, now);
    }
    state.alarms
}

fn between(from: Timestamp, to: Timestamp) -> Duration {
    Duration::try_from(to.duration_since(from)).unwrap_or_default()
}

#[cfg(test)]
mod tests;
