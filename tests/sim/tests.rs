//! The promises, kept in simulated time: no tick missed, no run stopped, no chain broken, never two daemons. And the judge bites.

use proptest::prelude::*;
use sfdata_power::{
    decide::{Act, Decision, decide},
    observation::{Observation, Reading, Tick},
    settings::Settings,
    state::{Phase, State},
};
use sfdata_sim::{
    agent::OURS,
    judge::Verdict,
    run::{lower_limit, ours},
    trace::Trace,
    world::Weather,
};

const FAULTS: [Weather; 2] = [Weather { faults: true, spot: false }, Weather { faults: true, spot: true }];

fn clean(verdict: &Verdict) {
    assert!(verdict.is_clean(), "{:#?}", verdict.faults);
}

#[test]
fn months_with_faults() {
    let mut sum = Verdict::default();
    for seed in 0..8 {
        sum.add(ours(&Trace::any(seed), FAULTS[seed as usize % 2], seed, OURS).0);
    }
    let mut spring = Trace::typical(1);
    spring.until = spring.from + 91 * 86_400_000;
    sum.add(ours(&spring, FAULTS[1], 1, OURS).0);
    clean(&sum);
    assert!(
        sum.wakes > 300 && sum.runs > 1_000 && sum.ticks > 500 && sum.chains > 200,
        "{:?}",
        (sum.wakes, sum.runs, sum.ticks, sum.chains)
    );
}

#[test]
fn the_same_seed_is_the_same_world() {
    let once = || ours(&Trace::any(5), FAULTS[1], 5, OURS).0;
    assert_eq!(once(), once());
}

#[test]
fn a_typical_year_without_faults_costs_little_more_than_the_oracle() {
    let trace = Trace::typical(1);
    let (verdict, _) = ours(&trace, Weather { faults: false, spot: false }, 1, OURS);
    clean(&verdict);
    let limit = lower_limit(&trace, 1);
    let times = sfdata_sim::price::cost(&verdict) / sfdata_sim::price::cost(&limit);
    assert!(times < 1.5, "{times}");
}

#[test]
fn a_trace_is_read_as_it_was_written() {
    for trace in [Trace::typical(3), Trace::any(3)] {
        let text = trace.write();
        assert_eq!(Trace::parse(&text).expect("a trace").write(), text);
    }
}

#[test]
fn a_line_that_is_not_understood_is_named_with_what_is_wrong() {
    let told = |lines: &str| {
        let text = format!("2027-01-01T00:00:00Z,from,,\n2027-02-01T00:00:00Z,until,,\n,job,sync,900\n{lines}");
        format!("{:#}", Trace::parse(&text).expect_err(lines))
    };
    for (line, wrong) in [
        ("2027-01-02T00:00:00Z,arrival,nobody,", "there is no job nobody above"),
        ("2027-01-02,arrival,sync,", "the time is like"),
        ("2027-01-02T00:00:00Z,arrival,sync", "four fields"),
        ("2027-03-01T00:00:00Z,arrival,sync,", "not between"),
        ("2027-01-02T00:00:00Z,visit,,soon", "whole number"),
        ("2027-01-02T00:00:00Z,visit,,", "lacks"),
        ("2027-01-02T00:00:00Z,party,,", "none of"),
        (",schedule,nightly,sync 24:00 daily on", "like 02:00"),
        (",schedule,nightly,sync 02:00 monthly on", "workdays or daily"),
        (",sensor,after,0 sync sync", "from 1 to"),
    ] {
        let told = told(line);
        assert!(told.contains("line 4") && told.contains(wrong), "{told}");
    }
}

/// Whether some world shows that a decision is broken.
fn shows(decide: sfdata_sim::agent::Decide, broken: fn(&Verdict) -> bool) -> bool {
    (0..60).any(|seed| broken(&ours(&Trace::any(seed), FAULTS[0], seed, decide).0))
}

/// Sensors are taken to have seen everything.
fn blind(seen: &Observation, state: &State, settings: &Settings, now: jiff::Timestamp) -> Decision {
    let mut seen = seen.clone();
    if let Reading::At(_, dagster) = &mut seen.dagster {
        dagster.sensors.iter_mut().for_each(|sensor| sensor.last = Some(Tick { at: now, ended: true, failed: false }));
    }
    decide(&seen, state, settings, now)
}

/// Runs are not looked at, nor is a quiet period waited for.
fn careless(seen: &Observation, state: &State, settings: &Settings, now: jiff::Timestamp) -> Decision {
    let mut seen = seen.clone();
    if let Reading::At(_, dagster) = &mut seen.dagster {
        dagster.runs = 0;
        dagster.sensors.clear();
    }
    decide(&seen, state, &Settings { quiet: std::time::Duration::ZERO, ..settings.clone() }, now)
}

/// Alarms are forgotten once everything sleeps.
fn forgetful(seen: &Observation, state: &State, settings: &Settings, now: jiff::Timestamp) -> Decision {
    let mut decision = decide(seen, state, settings, now);
    if decision.state.phase == Phase::Asleep {
        decision.state.alarms.retain(|alarm| alarm.what.kind() == "look");
    }
    decision
}

/// The daemon is started beside one that is still ending.
fn hasty(seen: &Observation, state: &State, settings: &Settings, now: jiff::Timestamp) -> Decision {
    let mut decision = decide(seen, state, settings, now);
    if decision.state.phase == Phase::Waking {
        decision.acts.push(Act::Scale { service: "daemon".into(), to: 1 });
    }
    decision
}

#[test]
fn the_judge_bites() {
    assert!(shows(blind, |verdict| verdict.broken_chains > 0), "sensors ignored");
    assert!(shows(careless, |verdict| verdict.stopped_runs > 0), "runs ignored");
    assert!(shows(forgetful, |verdict| verdict.missed_ticks > 0), "alarms forgotten");
    assert!(shows(hasty, |verdict| verdict.two_daemons > 0), "no waiting for the last daemon's end");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever happens in whatever order, with any faults: the promises are kept.
    #[test]
    fn no_reachable_world_breaks_a_promise(
        seed in any::<u64>(),
        chances in any::<u64>(),
        faults in any::<bool>(),
        spot in any::<bool>(),
        keep in prop::collection::vec(any::<bool>(), 0..200),
        days in 2_i64..10,
    ) {
        let mut trace = Trace::any(seed);
        trace.until = trace.from + days * 86_400_000;
        let mut keep = keep.into_iter();
        // A deploy stays: its schedule comes with it.
        trace.events.retain(|(_, what)| matches!(what, sfdata_sim::trace::What::Deploy(_)) || keep.next().unwrap_or(true));
        let (verdict, _) = ours(&trace, Weather { faults, spot }, chances, OURS);
        prop_assert!(verdict.is_clean(), "{:#?}", verdict.faults);
    }
}

/// A deploy between a slow answer and the decision on it: the look that comes next sees it, and is not left out.
#[test]
fn a_deploy_behind_a_slow_answer_is_seen_at_the_next_look() {
    let mut trace = Trace::any(14_856_162_916_037_736_432);
    trace.until = trace.from + 8 * 86_400_000;
    trace.events.retain(|(_, what)| matches!(what, sfdata_sim::trace::What::Deploy(_)));
    let (verdict, _) = ours(&trace, Weather { faults: true, spot: false }, 12_001_661_789_356_404_107, OURS);
    assert!(verdict.is_clean(), "{:#?}", verdict.faults);
}
