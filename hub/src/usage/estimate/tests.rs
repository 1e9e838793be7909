//! What usage comes to, reckoned by hand beside it.

use sfdata_common::{prices::built_in, usage::Label};

use super::*;
use crate::store::records::UsageAmount;

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
    answer(&Question { from: FIRST, until, group, prices: &prices, budgets: &budgets, bills: &[], now }, days)
}

/// What a bucket held on that day, and requests to it.
fn bucket(agent: &str, number: u32, component: Component, gib: u64) -> (AgentId, u32, UsageDay) {
    let amounts = [(Meter::S3Stored, (gib * 24) << 30), (Meter::S3Requests, 1000)].map(|(meter, amount)| {
        let record = Record { revision: 0, hour: Hour(number * 24), key: Key::new(meter, component), amount };
        UsageAmount { record: Some((&record).into()), book: 0 }
    });
    let hour = number * 24;
    let day = UsageDay { amounts: amounts.into(), region: "eu-west-2".into(), first_hour: hour, last_hour: hour };
    (agent.parse().unwrap(), number, day)
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
fn what_buckets_grew_by_adds_up_over_days_months_and_parts() {
    use Component::{DataStore, Workspace};
    let days = [
        bucket("camden", FIRST - 3, DataStore, 8), // the days between are not known
        bucket("camden", FIRST, DataStore, 10),
        bucket("camden", FIRST + 1, DataStore, 9),
        bucket("camden", FIRST + 31, DataStore, 12),
        bucket("kent", FIRST, Workspace, 5), // nothing is known of before
        bucket("kent", FIRST + 4, Workspace, 7),
        bucket("ely", FIRST + 4, Workspace, 7),
    ];
    let grown = |group, days: &[_]| {
        let rows = ask(group, FIRST + 61, days).rows;
        rows.into_iter().map(|row| (row.name, row.grown_gib)).collect::<Vec<_>>()
    };
    let is = |name: &str, gib| (name.to_owned(), gib);
    assert_eq!(grown(UsageGroup::Agent, &days), [is("camden", Some(4.0)), is("ely", None), is("kent", Some(2.0))]);
    assert_eq!(grown(UsageGroup::Component, &days), [is("data-store", Some(4.0)), is("workspace", Some(2.0))]);
    assert_eq!(grown(UsageGroup::Month, &days), [is("2026-11", Some(3.0)), is("2026-12", Some(3.0))]);
    assert_eq!(grown(UsageGroup::Day, &days[..3]), [is("2026-11-01", Some(2.0)), is("2026-11-02", Some(-1.0))]);
    let told = ask(UsageGroup::Agent, FIRST + 61, &days);
    let total = told.total.unwrap();
    assert_eq!((total.grown_gib, total.s3_requests, told.agents), (Some(6.0), 6000, 3));
    near(total.cost_micros, 6.0 * 0.0053 + total.stored_gib_months * 0.024);
}

fn bill(agent: &str, first_day: u32, amount_micros: i64, currency: &str) -> (AgentId, UsageBill) {
    let month = wire::BillMonth { first_day, currency: currency.into(), amount_micros, estimated: first_day == FIRST };
    (agent.parse().unwrap(), UsageBill { month: Some(month), read: i64::from(first_day), ..Default::default() })
}

#[test]
fn a_bill_stands_beside_the_estimate_and_in_no_sum_of_it() {
    let (october, december) = (FIRST - 31, FIRST + 30);
    let days = [day("camden", FIRST), day("kent", FIRST)];
    let prices = built_in();
    let ask = |group, from, bills: &[_]| {
        let now = Timestamp::from_second(i64::from(FIRST + 10) * 86_400).unwrap();
        answer(
            &Question { from, until: december, group, prices: &prices, budgets: &|_: &AgentId| None, bills, now },
            &days,
        )
    };
    let bills = [
        bill("camden", october, 30_000_000, "USD"),
        bill("camden", FIRST, 41_000_000, "USD"),
        bill("ely", FIRST, -5, "USD"),
    ];
    let without = ask(UsageGroup::Agent, FIRST, &[]);
    let with = ask(UsageGroup::Agent, FIRST, &bills);
    let of = |told: &wire::GetUsageResponse| {
        let bill = |row: &wire::UsageRow| row.bill.as_ref().map(|bill| (bill.amount_micros, bill.estimated));
        told.rows.iter().map(|row| (row.name.clone(), bill(row))).collect::<Vec<_>>()
    };
    let is = |name: &str, bill| (name.to_owned(), bill);
    assert_eq!(of(&with), [is("camden", Some((41_000_000, true))), is("ely", Some((-5, true))), is("kent", None)]);
    let (mut total, plain) = (with.total.unwrap(), without.total.unwrap());
    let billed = total.bill.take().unwrap();
    assert_eq!((billed.amount_micros, billed.agents, billed.read_unix_ms), (40_999_995, 2, i64::from(FIRST)));
    assert_eq!(total, plain, "nothing else is changed by it");

    let months = ask(UsageGroup::Month, october, &bills);
    assert_eq!(of(&months), [is("2026-10", Some((30_000_000, false))), is("2026-11", Some((40_999_995, true)))]);
    assert_eq!(of(&ask(UsageGroup::Cause, october, &bills)), [is("", None), is("arrivals", None)]);
    assert_eq!(ask(UsageGroup::Agent, FIRST + 1, &bills).total.unwrap().bill, None, "a part of a month");
    let mixed = ask(UsageGroup::Agent, FIRST, &[bills[1].clone(), bill("ely", FIRST, 7, "CNY")]);
    assert_eq!(mixed.total.unwrap().bill, None, "there is no sum of two currencies");
    assert_eq!(mixed.rows[1].bill.as_ref().unwrap().currency, "CNY");
    assert_eq!(ask(UsageGroup::Month, october, &bills[..1]).known_until_unix_ms, i64::from(FIRST + 1) * 86_400_000);
    let nothing = answer(
        &Question {
            from: october,
            until: FIRST,
            group: UsageGroup::Month,
            prices: &prices,
            budgets: &|_: &AgentId| None,
            bills: &bills,
            now: Timestamp::UNIX_EPOCH,
        },
        &[],
    );
    assert_eq!((nothing.rows.len(), nothing.known_until_unix_ms), (1, 0), "a bill is no usage");
}

#[test]
fn what_has_no_price_is_told() {
    let mut days = [day("camden", FIRST)];
    days[0].2.region = "mars-1".into();
    let told = ask(UsageGroup::Agent, FIRST + 30, &days);
    assert_eq!((told.rows[0].cost_micros, told.unpriced_regions), (0, vec!["mars-1".to_owned()]));
}

#[test]
fn causes_are_told_by_the_day_in_one_answer() {
    let days: Vec<_> = (FIRST..FIRST + 3).map(|number| day("camden", number)).collect();
    let told = ask(UsageGroup::DayAndCause, FIRST + 30, &days);
    let rows: Vec<_> = told.rows.iter().map(|row| (row.name.as_str(), row.cause.as_str(), row.awake_hours)).collect();
    let of = |day| [(day, "", 0.0), (day, "arrivals", 10.0)];
    assert_eq!(rows, [of("2026-11-01"), of("2026-11-02"), of("2026-11-03")].concat());
    let causes = ask(UsageGroup::Cause, FIRST + 30, &days);
    let cost = |rows: &[wire::UsageRow]| rows.iter().map(|row| row.cost_micros).sum::<u64>();
    assert!(cost(&told.rows).abs_diff(cost(&causes.rows)) <= 3, "the same, each rounded");
    assert_eq!(told.total, causes.total);
}
