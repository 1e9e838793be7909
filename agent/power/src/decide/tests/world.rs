//! A world for the tests of the decision: it does what it is told at once.

use super::super::*;
use crate::observation::{Arrivals, Sensor, Tick};

pub(super) const START: i64 = 1_800_000_000;

pub(super) fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(START + seconds).unwrap()
}

pub(super) fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

pub(super) fn settings() -> Settings {
    Settings { quiet: seconds(30), margin: seconds(30), wake: seconds(60), ..Settings::default() }
}

/// A world that does what it is told at once, and a decision that is made of it again and again.
pub(super) struct World {
    pub(super) now: i64,
    pub(super) state: State,
    pub(super) settings: Settings,
    pub(super) seen: Observation,
    /// What was done, in order.
    pub(super) done: Vec<Act>,
    pub(super) decision: Decision,
}

impl World {
    /// Awake since long, and idle: nothing is on but what a test adds.
    pub(super) fn awake() -> Self {
        let service = |name: &str, role| Service {
            name: name.into(),
            role,
            desired: 1,
            running: 1,
            tasks: 1,
            definition: format!("{name}:1"),
            capacity: "FARGATE_SPOT:1".into(),
            trouble: None,
        };
        let services =
            vec![service("code", Role::CodeServer), service("daemon", Role::Daemon), service("web", Role::Webserver)];
        let location = Location { name: "loc".into(), state: Loading::Loaded };
        let dagster = Dagster { heartbeat: Some(at(0)), locations: vec![location], ..Dagster::default() };
        let seen = Observation {
            ecs: Reading::At(at(0), Estate { services, ..Estate::default() }),
            code: Reading::Off,
            dagster: Reading::At(at(0), dagster),
            arrivals: Reading::At(at(0), Arrivals::default()),
            database: Reading::At(at(0), Database::Ready),
            commands: 0,
            needs_dagster: false,
        };
        let mut state = State::new(at(-3600));
        state.awake = Some(at(-3600));
        let (settings, done) = (settings(), Vec::new());
        let decision = decide(&seen, &state, &settings, at(0));
        Self { now: 0, state, settings, seen, done, decision }
    }

    pub(super) fn asleep() -> Self {
        let mut world = Self::awake();
        world.until(Phase::Asleep, 300);
        world.pass(120); // past what ECS may still echo
        world.done.clear();
        world
    }

    pub(super) fn estate(&mut self) -> &mut Estate {
        let Reading::At(_, estate) = &mut self.seen.ecs else { panic!("ECS is not read") };
        estate
    }

    pub(super) fn service(&mut self, name: &str) -> &mut Service {
        self.estate().services.iter_mut().find(|service| service.name == name).unwrap()
    }

    pub(super) fn dagster(&mut self) -> &mut Dagster {
        let Reading::At(_, dagster) = &mut self.seen.dagster else { panic!("Dagster is not read") };
        dagster
    }

    pub(super) fn arrive(&mut self, waiting: u32) {
        self.seen.arrivals = Reading::At(at(self.now), Arrivals { waiting, handed_on: None });
    }

    pub(super) fn schedule(&mut self, next: &[i64], last: Option<i64>) {
        let next = next.iter().copied().map(at).collect();
        let last = last.map(|last| Tick { at: at(last), ended: true, failed: false });
        self.dagster().schedules = vec![Schedule { name: "loc/nightly".into(), next, last }];
    }

    pub(super) fn sensor(&mut self, interval: u64, last: i64) {
        let last = Some(Tick { at: at(last), ended: true, failed: false });
        self.dagster().sensors = vec![Sensor { name: "loc/clean".into(), interval: seconds(interval), last }];
    }

    /// One look so much later, with fresh readings, and what it asks for is done.
    pub(super) fn look(&mut self, later: i64) -> &Decision {
        self.now += later;
        let now = at(self.now);
        for asked in [
            if let Reading::At(asked, _) = &mut self.seen.ecs { Some(asked) } else { None },
            if let Reading::At(asked, _) = &mut self.seen.code { Some(asked) } else { None },
            if let Reading::At(asked, _) = &mut self.seen.dagster { Some(asked) } else { None },
            if let Reading::At(asked, _) = &mut self.seen.arrivals { Some(asked) } else { None },
        ]
        .into_iter()
        .flatten()
        {
            *asked = now;
        }
        if let Reading::At(_, dagster) = &mut self.seen.dagster {
            dagster.heartbeat = dagster.heartbeat.map(|at| at.max(now));
        }
        self.decision = decide(&self.seen, &self.state, &self.settings, now);
        // A restart in between changes nothing: all that counts is written.
        let kept = serde_json::to_vec(&self.decision.state).unwrap();
        self.state = serde_json::from_slice(&kept).unwrap();
        assert_eq!(self.state, self.decision.state);
        for act in self.decision.acts.clone() {
            if let Act::Scale { service, to } = &act {
                let service = self.service(service);
                (service.desired, service.running, service.tasks) = (*to, *to, *to);
            }
            if let Act::Capacity { service, to } = &act {
                self.service(service).capacity = to.clone();
            }
            self.done.push(act);
        }
        &self.decision
    }

    /// Looks every other second for so long.
    pub(super) fn pass(&mut self, for_seconds: i64) -> &Decision {
        let until = self.now + for_seconds;
        while self.now < until {
            self.look(2);
        }
        &self.decision
    }

    /// Look until it is at that, for so long at most.
    pub(super) fn until(&mut self, phase: Phase, within: i64) {
        let until = self.now + within;
        while self.state.phase != phase {
            assert!(self.now < until, "not {phase:?} but {:?} after {within} s: {:?}", self.state.phase, self.decision);
            self.look(2);
        }
    }

    pub(super) fn kinds(&self) -> Vec<Kind> {
        self.decision.reasons.iter().map(|reason| reason.kind).collect()
    }

    pub(super) fn faults(&self) -> Vec<&'static str> {
        self.decision.faults.iter().map(|fault| fault.kind).collect()
    }
}
