//! What usage comes to, reckoned by hand beside it.

use sfdata_common::usage::Label;

use super::*;
use crate::{prices::built_in, store::records::UsageAmount};

/// 2026-11-01.
const FIRST: u32 = 20_758;

fn key(meter: Meter, component: Component, cause: &str) -> Key {
    Key { cause: cause.parse::<Label>().ok(), ..Key::new(meter, component) }
}

/// A day of ten hours awake: a vCPU for a daemon, one for a run, 1 ACU.
fn day(agent: &str, number: u32) -> (AgentId, u32, UsageDay) {
    let hours = 10 * 3600;
    let run = Key { job: "ingest_cin".parse().ok(), spot: true, ..key(Meter::FargateCpu, Component::Run, "arrivals") };
    let amounts = [
        (key(Meter::FargateCpu, Component::Daemon, "arrivals"), 1024 * hours),
        (run, 1024 * 3600),
        (key(Meter::AuroraCapacity, Component::Database, ""), 1000 * hours),
        (key(Meter::Awake, Component::Platform, "arrivals"), hours),
    ];
    let amounts = amounts.map(|(key, amount)| {
        let record = Record { revision: 0, hour: Hour(number * 24), key, amount };
        UsageAmount { record: Some((&record).into()), book: 0 }
    });
    let region = "eu-west-2".into();
    let day = UsageDay { amounts: amounts.into(), region, first_hour: number * 24, last_hour: number * 24 + 23 };
    (agent.parse().unwrap(), number, day)
}

fn ask(group: UsageGroup, until: u32, days: &[(AgentId, u32, UsageDay)]) -> wire::GetUsageResponse {
    let now = Timestamp::from_second(i64::from(FIRST + 10) * 86_400).unwrap();
    let budgets = |agent: &AgentId| (agent.as_str() == "camden").then_some(50.0);
    let prices = built_in();
    answer(&Question { from: FIRST, until, group, prices: &prices, budgets: &budgets, now }, days)
}

fn near(micros: u64, cost: f64) {
    assert!((micros as f64 / 1e6 - cost).abs() < 1e-4, "{micros} is not {cost}");
}

#[test]
fn a_month_so_far_has_its_cost_its_forecast_and_what_it_saves() {
    let days: Vec<_> = (FIRST..FIRST + 10).flat_map(|number| [day("camden", number), day("kent", number)]).collect();
    let told = ask(UsageGroup::Agent, FIRST + 30, &days);
    let [camden, kent] = &told.rows[..] else { panic!("{told:?}") };
    assert_eq!((camden.name.as_str(), kent.name.as_str()), ("camden", "kent"));
    let (awake, rest) = (10.0 * (0.4656 + 1.4), 10.0 * 0.013_968);
    near(camden.cost_micros, awake + rest);
    near(camden.forecast_micros, 3.0 * (awake + rest));
    near(camden.always_on_micros, awake * 2.4 + rest);
    near(camden.night_window_micros, awake * 2.4 * NIGHT_WINDOW + rest);
    assert_eq!((camden.budget_micros, kent.budget_micros), (50_000_000, 0));
    assert!((camden.awake_hours - 100.0).abs() < 1e-9 && (camden.spot_vcpu_hours - 10.0).abs() < 1e-9);
    let total = told.total.unwrap();
    assert_eq!(total.cost_micros, camden.cost_micros + kent.cost_micros);
    assert_eq!(told.known_until_unix_ms, i64::from(FIRST + 10) * 86_400_000);
    assert_eq!((told.prices.len(), told.unpriced_regions.len()), (1, 0));

    let past = ask(UsageGroup::Agent, FIRST + 10, &days);
    assert_eq!((past.rows[0].forecast_micros, past.rows[0].budget_micros), (0, 0), "ten days are no month");
}

#[test]
fn each_grouping_adds_up_to_the_same() {
    let days = [day("camden", FIRST), day("kent", FIRST + 1)];
    let of = |group| ask(group, FIRST + 30, &days);
    let names = |group| of(group).rows.into_iter().map(|row| row.name).collect::<Vec<_>>();
    assert_eq!(names(UsageGroup::Component), ["daemon", "database", "platform", "run"]);
    assert_eq!(names(UsageGroup::Cause), ["", "arrivals"]);
    assert_eq!(names(UsageGroup::Day), ["2026-11-01", "2026-11-02"]);
    assert_eq!(names(UsageGroup::Month), ["2026-11"]);
    assert_eq!(names(UsageGroup::Job), ["ingest_cin"]);
    let total = of(UsageGroup::Agent).total.unwrap().cost_micros;
    for group in [UsageGroup::Agent, UsageGroup::Component, UsageGroup::Cause, UsageGroup::Day, UsageGroup::Month] {
        let sum: u64 = of(group).rows.iter().map(|row| row.cost_micros).sum();
        assert!(sum.abs_diff(total) <= 5, "{group:?}: {sum} and {total}");
    }
}

#[test]
fn what_has_no_price_is_told() {
    let mut days = [day("camden", FIRST)];
    days[0].2.region = "mars-1".into();
    let told = ask(UsageGroup::Agent, FIRST + 30, &days);
    assert_eq!((told.rows[0].cost_micros, told.unpriced_regions), (0, vec!["mars-1".to_owned()]));
}
