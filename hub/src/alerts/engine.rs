//! From what is so to what is told: pure. Something fires when it has held for as long as its rule says, and is over when it
//! has not held for long enough; in between it is what it was. What of an LA cannot be known stays as it is.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use sfdata_common::keys::sha256;
use sfdata_proto::v1::HealthWord;

use super::rules::Settings;
use crate::store::records;

/// What tells alerts apart.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    /// Empty: the hub itself.
    pub(super) agent: String,
    /// The rule's name.
    pub(super) rule: String,
    /// Of a job, a dataset, a service.
    pub(super) name: String,
}

impl Key {
    /// Names it in the store.
    pub(super) fn digest(&self) -> [u8; 32] {
        sha256([self.agent.as_str(), &self.rule, &self.name].join("\0").as_bytes())
    }
}

/// All that is so at one moment.
#[derive(Debug, Clone, Default)]
pub(super) struct World {
    /// What holds, each with its sentence.
    pub(super) holds: BTreeMap<Key, String>,
    /// LAs of which nothing is known now, but that.
    pub(super) unknown: BTreeSet<String>,
    /// LAs that there are, and how they are.
    pub(super) agents: BTreeMap<String, HealthWord>,
}

/// One alert.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Alert {
    /// Since when it is so.
    pub(super) since: Timestamp,
    /// Since when it is not so any longer.
    pub(super) gone: Option<Timestamp>,
    /// Whether it has held for long enough.
    pub(super) firing: bool,
    /// A notice tells of it.
    pub(super) told: bool,
    /// One sentence.
    pub(super) summary: String,
}

/// What comes of a look.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Step {
    /// They fire from now on.
    pub(super) fired: Vec<Key>,
    /// They are over, and forgotten.
    pub(super) over: Vec<(Key, Alert)>,
}

/// All alerts.
#[derive(Debug, Default)]
pub(super) struct Engine {
    alerts: BTreeMap<Key, Alert>,
}

impl Engine {
    /// With those that fired before the hub's last end.
    pub(super) fn load(records: impl IntoIterator<Item = records::Alert>) -> Self {
        let alert = |record: records::Alert| {
            let since = Timestamp::from_millisecond(record.since).unwrap_or_default();
            let alert = Alert { since, gone: None, firing: true, told: record.told, summary: record.summary };
            (Key { agent: record.agent, rule: record.rule, name: record.name }, alert)
        };
        Self { alerts: records.into_iter().map(alert).collect() }
    }

    /// What there is.
    pub(super) fn alerts(&self) -> &BTreeMap<Key, Alert> {
        &self.alerts
    }

    /// Notices tell of these.
    pub(super) fn told(&mut self, keys: &[Key]) {
        for key in keys {
            if let Some(alert) = self.alerts.get_mut(key) {
                alert.told = true;
            }
        }
    }

    /// Look at what is so now.
    pub(super) fn step(&mut self, world: &World, settings: &Settings, now: Timestamp) -> Step {
        let mut step = Step::default();
        for (key, summary) in &world.holds {
            let rule = settings.rule(&key.rule);
            if !rule.on {
                continue;
            }
            let alert = self.alerts.entry(key.clone()).or_insert_with(|| Alert {
                since: now,
                gone: None,
                firing: false,
                told: false,
                summary: String::new(),
            });
            alert.gone = None;
            alert.since = alert.since.min(now); // a clock that was set back
            alert.summary.clone_from(summary);
            if !alert.firing && has_passed(alert.since, rule.after, now) {
                alert.firing = true;
                step.fired.push(key.clone());
            }
        }
        let mut over = Vec::new();
        for (key, alert) in &mut self.alerts {
            let removed = !key.agent.is_empty() && !world.agents.contains_key(&key.agent);
            let off = !settings.rule(&key.rule).on;
            if world.holds.contains_key(key) && !off {
                continue;
            }
            if world.unknown.contains(&key.agent) && !removed && !off {
                continue;
            }
            let gone = *alert.gone.get_or_insert(now);
            alert.gone = Some(gone.min(now));
            if removed || off || !alert.firing || has_passed(gone, settings.clear, now) {
                over.push(key.clone());
            }
        }
        let over = over.into_iter().filter_map(|key| self.alerts.remove_entry(&key));
        step.over = over.filter(|(_, alert)| alert.firing).collect();
        step
    }
}

fn has_passed(since: Timestamp, span: std::time::Duration, now: Timestamp) -> bool {
    now.duration_since(since) >= jiff::SignedDuration::try_from(span).unwrap_or(jiff::SignedDuration::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key(agent: &str, rule: &str) -> Key {
        Key { agent: agent.into(), rule: rule.into(), name: String::new() }
    }

    fn world(holds: &[(&str, &str)]) -> World {
        let holds = holds.iter().map(|(agent, rule)| (key(agent, rule), format!("{agent} {rule}"))).collect();
        let agents = ["ely", "york"].map(|agent| (agent.to_owned(), HealthWord::Healthy)).into();
        World { holds, unknown: BTreeSet::new(), agents }
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_000_000 + seconds).unwrap()
    }

    #[test]
    fn it_fires_when_it_has_held_for_long_enough_and_ends_when_it_has_been_over_for_long_enough() {
        let (mut engine, settings) = (Engine::default(), Settings::default());
        let away = world(&[("ely", "away")]);
        assert_eq!(engine.step(&away, &settings, at(0)), Step::default());
        assert_eq!(engine.step(&away, &settings, at(299)), Step::default());
        assert_eq!(engine.step(&away, &settings, at(300)).fired, [key("ely", "away")]);
        assert_eq!(engine.step(&away, &settings, at(301)), Step::default(), "once");
        let well = world(&[]);
        assert_eq!(engine.step(&well, &settings, at(400)), Step::default());
        assert_eq!(engine.step(&away, &settings, at(500)), Step::default(), "it had only blinked");
        assert_eq!(engine.step(&well, &settings, at(600)), Step::default());
        assert_eq!(engine.step(&well, &settings, at(899)), Step::default());
        assert_eq!(engine.step(&well, &settings, at(900)).over[0].0, key("ely", "away"));
        assert!(engine.alerts().is_empty());
        engine.step(&away, &settings, at(1000));
        assert_eq!(engine.step(&well, &settings, at(1001)), Step::default());
        assert!(engine.alerts().is_empty(), "what never fired leaves no trace");
    }

    #[test]
    fn what_is_not_known_stays_and_what_is_removed_goes() {
        let (mut engine, settings) = (Engine::default(), Settings::default());
        engine.step(&world(&[("ely", "run-failed"), ("york", "held")]), &settings, at(0));
        let mut unknown = world(&[("ely", "away")]);
        unknown.unknown.insert("ely".into());
        let step = engine.step(&unknown, &settings, at(100_000));
        assert_eq!(step.over, [], "york has only just changed");
        assert!(engine.alerts()[&key("ely", "run-failed")].gone.is_none());
        unknown.agents.remove("ely");
        let step = engine.step(&unknown, &settings, at(100_001));
        assert_eq!(step.over[0].0, key("ely", "run-failed"));
    }

    #[test]
    fn a_restart_fires_nothing_anew_and_forgets_nothing() {
        let settings = Settings::default();
        let record = records::Alert {
            agent: "ely".into(),
            rule: "held".into(),
            since: at(0).as_millisecond(),
            told: true,
            ..Default::default()
        };
        let mut engine = Engine::load([record]);
        assert_eq!(engine.step(&world(&[("ely", "held")]), &settings, at(50)), Step::default());
        engine.step(&world(&[]), &settings, at(60));
        assert_eq!(engine.step(&world(&[]), &settings, at(360)).over.len(), 1);
    }

    #[test]
    fn a_clock_that_is_set_back_leaves_nothing_waiting_for_years() {
        let (mut engine, settings) = (Engine::default(), Settings::default());
        engine.step(&world(&[("ely", "away")]), &settings, at(1_000_000));
        engine.step(&world(&[("ely", "away")]), &settings, at(0));
        assert_eq!(engine.step(&world(&[("ely", "away")]), &settings, at(300)).fired.len(), 1);
        engine.step(&world(&[]), &settings, at(2_000_000));
        engine.step(&world(&[]), &settings, at(400));
        assert_eq!(engine.step(&world(&[]), &settings, at(700)).over.len(), 1);
    }

    proptest! {
        /// Whatever comes and goes: each alert fires and ends in turn, never twice.
        #[test]
        fn firing_and_over_take_turns(looks in prop::collection::vec((any::<bool>(), any::<bool>(), 0_i64..400), 1..200)) {
            let (mut engine, settings) = (Engine::default(), Settings::default());
            let (mut now, mut firing) = (0, BTreeSet::new());
            for (ely, york, later) in looks {
                now += later;
                let mut holds = Vec::new();
                if ely { holds.push(("ely", "away")); }
                if york { holds.push(("york", "run-failed")); }
                let step = engine.step(&world(&holds), &settings, at(now));
                for key in step.fired {
                    prop_assert!(firing.insert(key));
                }
                for (key, _) in step.over {
                    prop_assert!(firing.remove(&key));
                }
                let known: BTreeSet<Key> =
                    engine.alerts().iter().filter(|(_, alert)| alert.firing).map(|(key, _)| key.clone()).collect();
                prop_assert_eq!(&known, &firing);
            }
        }
    }
}
