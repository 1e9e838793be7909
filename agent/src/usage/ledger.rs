//! What was used, reckoned from what is known: when each task ran, and why the platform was awake meanwhile. Pure.
//!
//! Amounts are computed anew from the spans each time, so that nothing counts twice however often, late and in whatever order
//! it is seen, and whatever the agent's clock does: tasks have AWS's times, and only the end of one that still runs is the
//! agent's.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sfdata_common::{
    limits,
    usage::{Component, Hour, Key, Label, Meter},
};

/// Fargate bills no less of a task.
const LEAST: i64 = 60;
/// Hours before the present one that are still reckoned anew: ECS tells of a stopped task for about an hour.
const OPEN: u32 = 2;
/// What nobody looked for so long cannot be made up for.
const LONGEST: u32 = (limits::USAGE_KEPT.as_secs() / 3600) as u32;
/// In place of jobs for which an hour has no room.
const OTHERS: &str = "others";
/// Jobs that an hour tells apart.
const JOBS: usize = 50;

/// One task of Fargate's. Times are seconds since the Unix epoch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Span {
    /// In 1/1024 of a vCPU.
    pub cpu: u64,
    /// In MiB.
    pub memory: u64,
    /// A number of [`Component`].
    pub component: i32,
    /// On spare capacity.
    pub spot: bool,
    /// Dagster's name of the job that it runs.
    pub job: Option<String>,
    /// AWS began to bill it.
    pub from: i64,
    /// And ended.
    pub until: Option<i64>,
    /// It was last seen to run.
    pub seen: i64,
}

impl Span {
    fn end(&self) -> i64 {
        self.until.map_or(self.seen, |until| until.max(self.from + LEAST)).max(self.from)
    }
}

/// From when on the platform was awake for that reason, or asleep.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Segment {
    /// Begin.
    pub from: i64,
    /// Not asleep.
    pub awake: bool,
    /// Why, as the power controller names it.
    pub cause: Option<String>,
}

/// All that amounts are reckoned from.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Ledger {
    /// By ARN.
    tasks: BTreeMap<String, Span>,
    segments: Vec<Segment>,
    /// The last look.
    looked: i64,
    /// The hour of the last reckoning.
    reckoned: u32,
}

impl Ledger {
    /// Every task that ECS tells of. `now` is the agent's clock.
    pub fn look(&mut self, now: i64, tasks: impl IntoIterator<Item = (String, Span)>) {
        for (arn, told) in tasks {
            match self.tasks.get_mut(&arn) {
                Some(known) => {
                    known.until = known.until.or(told.until);
                    known.from = known.from.min(told.from);
                    known.seen = told.seen;
                }
                None => _ = self.tasks.insert(arn, told),
            }
        }
        self.looked = now;
    }

    /// Whether the platform is awake, since when and why.
    pub fn is(&mut self, from: i64, awake: bool, cause: Option<String>) {
        let last = self.segments.last();
        if last.is_some_and(|last| last.awake == awake && last.cause == cause) {
            return;
        }
        // A clock that was set back: what it said of the time from here on is void.
        self.segments.retain(|segment| segment.from < from);
        self.segments.push(Segment { from, awake, cause });
    }

    /// Whether nothing was noted yet of when the platform was awake.
    pub fn is_new(&self) -> bool {
        self.segments.is_empty()
    }

    /// The hours whose amounts may have changed, and after which all that is noted is void.
    pub fn open(&self) -> (std::ops::RangeInclusive<u32>, Hour) {
        let now = hour(self.looked);
        let first = self.reckoned.min(now).saturating_sub(OPEN).max(now.saturating_sub(LONGEST));
        let first = if self.reckoned == 0 { now.saturating_sub(OPEN) } else { first };
        (first..=now, Hour(now))
    }

    /// What of it is no longer needed goes. To be called when what was reckoned is on disk.
    pub fn close(&mut self) {
        let now = hour(self.looked);
        self.reckoned = now;
        let before = Hour(now.saturating_sub(OPEN)).begin();
        self.tasks.retain(|_, span| span.end() > before);
        let keep = self.segments.iter().rposition(|segment| segment.from <= before).unwrap_or(0);
        self.segments.drain(..keep);
    }

    /// What was used in that hour.
    pub fn amounts(&self, hour: Hour) -> BTreeMap<Key, u64> {
        let (begin, end) = (hour.begin(), hour.begin() + Hour::SECONDS);
        let mut amounts = BTreeMap::new();
        let mut add = |key: Key, amount: u64| *amounts.entry(key).or_insert(0) += amount;
        for span in self.tasks.values() {
            for (seconds, cause) in self.pieces(span.from.max(begin), span.end().min(end)) {
                let component = Component::try_from(span.component).unwrap_or(Component::Other);
                let job = span.job.as_deref().and_then(|job| job.parse().ok());
                let key = |meter| Key { meter, component, spot: span.spot, job: job.clone(), cause: cause.clone() };
                add(key(Meter::FargateCpu), seconds * span.cpu);
                add(key(Meter::FargateMemory), seconds * span.memory);
            }
        }
        let known = self.segments.first().map_or(i64::MAX, |first| first.from);
        let (from, until) = (known.max(begin), self.looked.min(end));
        if from < until {
            add(Key::new(Meter::Awake, Component::Platform), 0);
            for (segment, seconds) in self.awake(from, until) {
                let cause = segment.cause.as_deref().and_then(|cause| cause.parse().ok());
                add(Key { cause, ..Key::new(Meter::Awake, Component::Platform) }, seconds);
            }
        }
        with_room(amounts)
    }

    /// The time from one instant until another in pieces of one cause each.
    pub fn pieces(&self, from: i64, until: i64) -> Vec<(u64, Option<Label>)> {
        let mut pieces = Vec::new();
        let mut at = from;
        for (number, segment) in self.segments.iter().enumerate() {
            let next = self.segments.get(number + 1).map_or(i64::MAX, |next| next.from);
            if at >= until {
                break;
            }
            if at < segment.from {
                let end = segment.from.min(until);
                pieces.push((seconds(at, end), None));
                at = end;
            }
            if at < until && at < next {
                let end = next.min(until);
                pieces.push((seconds(at, end), segment.cause.as_deref().and_then(|cause| cause.parse().ok())));
                at = end;
            }
        }
        if at < until {
            pieces.push((seconds(at, until), None));
        }
        pieces
    }

    fn awake(&self, from: i64, until: i64) -> Vec<(&Segment, u64)> {
        let mut found = Vec::new();
        for (number, segment) in self.segments.iter().enumerate().filter(|(_, segment)| segment.awake) {
            let next = self.segments.get(number + 1).map_or(i64::MAX, |next| next.from);
            let (begin, end) = (segment.from.max(from), next.min(until));
            if begin < end {
                found.push((segment, seconds(begin, end)));
            }
        }
        found
    }
}

fn hour(at: i64) -> u32 {
    at.div_euclid(Hour::SECONDS).clamp(0, u32::MAX.into()).try_into().unwrap_or_default()
}

fn seconds(from: i64, until: i64) -> u64 {
    until.saturating_sub(from).try_into().unwrap_or_default()
}

/// An hour tells so many jobs apart; the others are one.
fn with_room(amounts: BTreeMap<Key, u64>) -> BTreeMap<Key, u64> {
    let mut jobs: Vec<Label> = amounts.keys().filter_map(|key| key.job.clone()).collect();
    jobs.sort();
    jobs.dedup();
    if jobs.len() <= JOBS {
        return amounts;
    }
    let others: Option<Label> = OTHERS.parse().ok();
    let mut fitting = BTreeMap::new();
    for (mut key, amount) in amounts {
        if key.job.as_ref().is_some_and(|job| !jobs[..JOBS].contains(job)) {
            key.job.clone_from(&others);
        }
        *fitting.entry(key).or_insert(0) += amount;
    }
    fitting
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const START: i64 = 495_012 * 3600;

    fn span(from: i64, until: Option<i64>, seen: i64) -> Span {
        Span {
            cpu: 512,
            memory: 1024,
            component: Component::Daemon.into(),
            spot: false,
            job: None,
            from: START + from,
            until: until.map(|until| START + until),
            seen: START + seen,
        }
    }

    fn cpu(amounts: &BTreeMap<Key, u64>, cause: &str) -> u64 {
        let of = |key: &&Key| key.meter == Meter::FargateCpu && key.cause.as_ref().map_or("", Label::as_str) == cause;
        amounts.iter().filter(|(key, _)| of(key)).map(|(_, amount)| amount / 512).sum()
    }

    fn awake(amounts: &BTreeMap<Key, u64>, cause: &str) -> Option<u64> {
        let cause = cause.parse().ok();
        amounts.get(&Key { cause, ..Key::new(Meter::Awake, Component::Platform) }).copied()
    }

    #[test]
    fn a_task_counts_by_the_hour_and_by_why_the_platform_was_awake() {
        let mut ledger = Ledger::default();
        ledger.is(START - 5000, false, None);
        ledger.is(START + 600, true, Some("arrivals".into()));
        ledger.is(START + 3000, true, Some("person".into()));
        ledger.look(START + 5000, [("a".into(), span(500, Some(4000), 0))]);
        let first = ledger.amounts(Hour(495_012));
        assert_eq!((cpu(&first, ""), cpu(&first, "arrivals"), cpu(&first, "person")), (100, 2400, 600));
        assert_eq!(
            (awake(&first, "arrivals"), awake(&first, "person"), awake(&first, "")),
            (Some(2400), Some(600), Some(0))
        );
        let second = ledger.amounts(Hour(495_013));
        assert_eq!((cpu(&second, "person"), awake(&second, "person")), (400, Some(1400)));
        let before = ledger.amounts(Hour(495_011));
        assert_eq!((before.len(), awake(&before, "")), (1, Some(0)), "it was seen to be asleep");
    }

    #[test]
    fn a_short_task_costs_a_minute_and_one_that_vanished_counts_until_it_was_seen() {
        let mut ledger = Ledger::default();
        ledger.look(START + 100, [("a".into(), span(0, Some(5), 5)), ("b".into(), span(0, None, 90))]);
        ledger.look(START + 3000, []);
        assert_eq!(cpu(&ledger.amounts(Hour(495_012)), ""), 60 + 90);
    }

    #[test]
    fn many_jobs_are_told_as_others() {
        let mut ledger = Ledger::default();
        let task = |number: u32| {
            let job = Some(format!("job_{number:04}"));
            (number.to_string(), Span { component: Component::Run.into(), job, ..span(0, Some(60), 60) })
        };
        ledger.look(START + 100, (0..1_000_u32).map(task));
        let amounts = ledger.amounts(Hour(495_012));
        assert_eq!(amounts.len(), 2 * (JOBS + 1));
        assert_eq!(cpu(&amounts, ""), 60_000);
    }

    proptest! {
        /// However often, late and in whatever order tasks are seen, over restarts and with a clock that is set: once all have
        /// stopped and were told of, each second counts once.
        #[test]
        fn each_second_counts_once(
            tasks in prop::collection::vec((0_i64..7000, 60_i64..3000), 1..8),
            looks in prop::collection::vec((0_i64..12_000, any::<bool>(), any::<u8>()), 0..20),
        ) {
            let mut ledger = Ledger::default();
            let seen = |at: i64, mask: u8| tasks.iter().enumerate().filter_map(move |(number, (from, long))| {
                let told = *from <= at && mask & (1 << number) != 0;
                let until = (from + long <= at).then_some(from + long);
                told.then(|| (number.to_string(), span(*from, until, at)))
            }).collect::<Vec<_>>();
            let mut noted: BTreeMap<(u32, Key), u64> = BTreeMap::new();
            let mut reckon = |ledger: &mut Ledger| {
                let (hours, last) = ledger.open();
                for hour in hours.map(Hour) {
                    noted.retain(|(of, _), _| *of != hour.0);
                    noted.extend(ledger.amounts(hour).into_iter().map(|(key, amount)| ((hour.0, key), amount)));
                }
                noted.retain(|(of, _), _| *of <= last.0);
                ledger.close();
            };
            // Within the two hours in which all is still open.
            for (at, restart, mask) in looks.into_iter().filter(|(at, ..)| *at < 7200) {
                ledger.look(START + at, seen(at, mask));
                reckon(&mut ledger);
                if restart {
                    let text = serde_json::to_vec(&ledger).unwrap();
                    ledger = serde_json::from_slice(&text).unwrap();
                }
            }
            ledger.look(START + 10_000, seen(10_000, u8::MAX));
            reckon(&mut ledger);
            let told: u64 = noted.iter().filter(|((_, key), _)| key.meter == Meter::FargateCpu).map(|(_, one)| one / 512).sum();
            let truth: i64 = tasks.iter().map(|(_, long)| long).sum();
            prop_assert_eq!(told, truth as u64);
        }
    }
}
