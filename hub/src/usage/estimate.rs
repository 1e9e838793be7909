//! What usage comes to: sums by group, in the units that people reckon in, with an estimate of what they cost. AWS's own bill
//! stands beside it and is in none of these sums.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{Timestamp, tz::TimeZone};
use sfdata_common::{
    ids::AgentId,
    prices::{Prices, in_units},
    usage::{
        Component, Hour, Key, Meter, Record, component_name,
        days::{date_of, day_number, month_from},
    },
};
use sfdata_proto::v1::{self as wire, UsageGroup};

use self::billed::Billed;
use crate::store::records::{UsageBill, UsageDay};

mod billed;

/// The nightly window that a platform without sleep and wake is usually given: six hours on five of seven days.
const NIGHT_WINDOW: f64 = 6.0 * 5.0 / (24.0 * 7.0);
/// Millionths of a currency's unit.
pub const MICROS: f64 = 1e6;
/// What buckets grew by is reckoned from what they held so many days before the span, at most: S3 tells it once a day, and an
/// agent that was away for long does not know it of each.
pub const DAYS_BEFORE: u32 = 7;
const GIB: f64 = 1024.0 * 1024.0 * 1024.0;

/// What is asked.
#[derive(Clone, Copy)]
pub struct Question<'a> {
    /// First day.
    pub from: u32,
    /// The day after the last one.
    pub until: u32,
    /// How to group.
    pub group: UsageGroup,
    /// What things cost.
    pub prices: &'a [Prices],
    /// Of a month, by agent.
    pub budgets: &'a dyn Fn(&AgentId) -> Option<f64>,
    /// What AWS charges for months that begin in the span.
    pub bills: &'a [(AgentId, UsageBill)],
    /// When it is asked.
    pub now: Timestamp,
}

/// Answer it from these days, each agent's in order; those before the span tell what its buckets held.
pub fn answer(asked: &Question<'_>, days: &[(AgentId, u32, UsageDay)]) -> wire::GetUsageResponse {
    let mut rows: BTreeMap<(String, String), Sums<'_>> = BTreeMap::new();
    let mut agents: BTreeMap<&AgentId, Sums<'_>> = BTreeMap::new();
    let mut unpriced = BTreeSet::new();
    let mut used: BTreeSet<&str> = BTreeSet::new();
    let mut held: BTreeMap<(&AgentId, Component), u64> = BTreeMap::new();
    for (agent, number, day) in days {
        let records = day.amounts.iter().filter_map(|amount| Record::of_sum(amount.record.as_ref()?).ok());
        if *number < asked.from {
            let stored = records.filter(|record| record.key.meter == Meter::S3Stored);
            held.extend(stored.map(|record| ((agent, record.key.component), record.amount)));
            continue;
        }
        let prices = asked.prices.iter().find(|prices| prices.region == day.region);
        match prices {
            Some(prices) => used.insert(&prices.region),
            None => unpriced.insert(day.region.clone()),
        };
        let of_agent = agents.entry(agent).or_default();
        of_agent.know(day.first_hour, day.last_hour);
        for record in records {
            let cost = prices.map_or(0.0, |prices| prices.cost(&record.key, record.amount));
            let before = (record.key.meter == Meter::S3Stored)
                .then(|| held.insert((agent, record.key.component), record.amount))
                .flatten();
            let grown = before.map(|before| grown_gib(before, record.amount));
            let add = |sums: &mut Sums<'_>| {
                sums.add(&record.key, record.amount, cost);
                sums.grow(grown);
            };
            add(of_agent);
            if let Some(name) = group(asked.group, agent, *number, &record.key) {
                add(rows.entry(name).or_default());
            }
        }
    }
    for (agent, bill) in asked.bills {
        let Some(month) = bill.month.as_ref().filter(|month| asked.has_whole(month.first_day)) else { continue };
        agents.entry(agent).or_default().billed.add(agent, month, bill.read);
        if asked.group == UsageGroup::Month {
            let row = rows.entry((month_name(month.first_day), String::new())).or_default();
            row.billed.add(agent, month, bill.read);
        }
    }
    let of_agents: Vec<wire::UsageRow> = agents.iter().map(|(agent, sums)| asked.row(agent, sums)).collect();
    let mut total = wire::UsageRow::default();
    of_agents.iter().for_each(|row| add(&mut total, row));
    let billed = agents.values().fold(Billed::default(), |all, sums| all.with(&sums.billed));
    total.bill = billed.told();
    let last_hour = agents.values().map(|sums| sums.last_hour).max().filter(|last| *last > 0);
    let rows = match asked.group {
        UsageGroup::Agent | UsageGroup::Unspecified => of_agents,
        _ => rows.into_iter().map(|((name, cause), sums)| wire::UsageRow { cause, ..sums.row(name) }).collect(),
    };
    let lists = asked.prices.iter().filter(|prices| used.contains(prices.region.as_str()));
    let prices = lists.map(|list| wire::UsagePrices {
        region: list.region.clone(),
        currency: list.currency.clone(),
        dated: list.dated.to_string(),
        source: list.source.clone(),
    });
    wire::GetUsageResponse {
        rows,
        total: Some(total),
        prices: prices.collect(),
        known_until_unix_ms: last_hour.map_or(0, |last| Hour(last + 1).begin() * 1000),
        unpriced_regions: unpriced.into_iter().collect(),
        agents: agents.len().try_into().unwrap_or(u32::MAX),
    }
}

impl Question<'_> {
    /// Of one agent, with what it would come to otherwise.
    fn row(&self, agent: &AgentId, sums: &Sums<'_>) -> wire::UsageRow {
        let (always_on_micros, night_window_micros) = sums.otherwise();
        let budget_micros = self.month().and_then(|_| (self.budgets)(agent)).map_or(0, micros);
        let forecast_micros = self.forecast(sums);
        let row = sums.row(agent.as_str().to_owned());
        wire::UsageRow { always_on_micros, night_window_micros, forecast_micros, budget_micros, ..row }
    }

    /// The first day, and the one after the last, of the month that the span is.
    fn month(&self) -> Option<(u32, u32)> {
        month_from(self.from).filter(|end| self.until == *end).map(|end| (self.from, end))
    }

    /// Whether the whole month that begins on that day is in the span.
    fn has_whole(&self, first_day: u32) -> bool {
        month_from(first_day).is_some_and(|end| self.from <= first_day && end <= self.until)
    }

    /// By the end of the present month.
    fn forecast(&self, sums: &Sums<'_>) -> u64 {
        let known = sums.known_hours();
        let today = Hour::of(self.now).day();
        let present = self.month().filter(|(begin, end)| (*begin..*end).contains(&today) && known > 0);
        let Some((_, end)) = present else { return 0 };
        let left = f64::from((end * 24).saturating_sub(sums.last_hour + 1));
        micros(sums.cost + sums.cost / f64::from(known) * left)
    }
}

/// The first day of the month that this instant is in, and the day after its last.
pub fn month_of(now: Timestamp) -> (u32, u32) {
    let date = now.to_zoned(TimeZone::UTC).date();
    (day_number(date.first_of_month()), day_number(date.last_of_month()) + 1)
}

/// The row that it belongs to, by its name and, of causes on each day, its cause; `None`: it has none in this grouping.
fn group(by: UsageGroup, agent: &AgentId, day: u32, key: &Key) -> Option<(String, String)> {
    let of_nothing = |label: &Option<sfdata_common::usage::Label>| {
        label.as_ref().map_or_else(String::new, |label| label.as_str().to_owned())
    };
    let name = match by {
        UsageGroup::Agent | UsageGroup::Unspecified => agent.as_str().to_owned(),
        UsageGroup::Component => component_name(key.component).to_owned(),
        UsageGroup::Job if key.component == Component::Run => of_nothing(&key.job),
        UsageGroup::Job => return None,
        UsageGroup::Cause => of_nothing(&key.cause),
        UsageGroup::Day => date_of(day).to_string(),
        UsageGroup::DayAndCause => return Some((date_of(day).to_string(), of_nothing(&key.cause))),
        UsageGroup::Month => month_name(day),
    };
    Some((name, String::new()))
}

/// The month that a day is in.
fn month_name(day: u32) -> String {
    date_of(day).strftime("%Y-%m").to_string()
}

/// Between two days of which what was held is known, in hours × bytes of a whole day.
fn grown_gib(before: u64, after: u64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "for people")]
    let bytes = |held: u64| held as f64 / 24.0;
    (bytes(after) - bytes(before)) / GIB
}

fn micros(cost: f64) -> u64 {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "costs are positive and saturate")]
    let micros = (cost * MICROS).round() as u64;
    micros
}

#[derive(Debug, Clone, Default)]
struct Sums<'a> {
    /// In units, by meter and whether on Spot.
    units: BTreeMap<(Meter, bool), f64>,
    requests: u64,
    cost: f64,
    /// Of what runs for as long as the platform is awake: services and database.
    awake_cost: f64,
    first_hour: u32,
    last_hour: u32,
    grown_gib: Option<f64>,
    billed: Billed<'a>,
}

impl Sums<'_> {
    fn know(&mut self, first: u32, last: u32) {
        self.first_hour = if self.first_hour == 0 { first } else { self.first_hour.min(first) };
        self.last_hour = self.last_hour.max(last);
    }

    fn known_hours(&self) -> u32 {
        if self.last_hour == 0 { 0 } else { self.last_hour + 1 - self.first_hour }
    }

    fn add(&mut self, key: &Key, amount: u64, cost: f64) {
        *self.units.entry((key.meter, key.spot)).or_default() += in_units(key.meter, amount);
        if key.meter == Meter::S3Requests {
            self.requests = self.requests.saturating_add(amount);
        }
        self.cost += cost;
        let with_platform = [Component::Webserver, Component::Daemon, Component::CodeServer, Component::Database];
        if with_platform.contains(&key.component) {
            self.awake_cost += cost;
        }
    }

    fn grow(&mut self, grown_gib: Option<f64>) {
        if let Some(grown) = grown_gib {
            *self.grown_gib.get_or_insert_default() += grown;
        }
    }

    fn of(&self, meter: Meter, spot: bool) -> f64 {
        self.units.get(&(meter, spot)).copied().unwrap_or_default()
    }

    /// Never asleep, and in the nightly window: what lives with the platform would cost as much an hour as it did awake.
    fn otherwise(&self) -> (u64, u64) {
        let (awake, known) = (self.of(Meter::Awake, false), f64::from(self.known_hours()));
        if awake <= 0.0 || known <= 0.0 {
            return (0, 0);
        }
        let an_hour = self.awake_cost / awake;
        let rest = self.cost - self.awake_cost;
        (micros(rest + an_hour * known), micros(rest + an_hour * known * NIGHT_WINDOW))
    }

    fn row(&self, name: String) -> wire::UsageRow {
        wire::UsageRow {
            name,
            vcpu_hours: self.of(Meter::FargateCpu, false),
            spot_vcpu_hours: self.of(Meter::FargateCpu, true),
            memory_gib_hours: self.of(Meter::FargateMemory, false),
            spot_memory_gib_hours: self.of(Meter::FargateMemory, true),
            acu_hours: self.of(Meter::AuroraCapacity, false),
            stored_gib_months: self.of(Meter::S3Stored, false),
            s3_requests: self.requests,
            log_gib: self.of(Meter::LogsIngested, false),
            awake_hours: self.of(Meter::Awake, false),
            cost_micros: micros(self.cost),
            grown_gib: self.grown_gib,
            bill: self.billed.told(),
            ..wire::UsageRow::default()
        }
    }
}

fn add(total: &mut wire::UsageRow, row: &wire::UsageRow) {
    total.vcpu_hours += row.vcpu_hours;
    total.spot_vcpu_hours += row.spot_vcpu_hours;
    total.memory_gib_hours += row.memory_gib_hours;
    total.spot_memory_gib_hours += row.spot_memory_gib_hours;
    total.acu_hours += row.acu_hours;
    total.stored_gib_months += row.stored_gib_months;
    total.s3_requests = total.s3_requests.saturating_add(row.s3_requests);
    total.log_gib += row.log_gib;
    total.awake_hours += row.awake_hours;
    total.cost_micros = total.cost_micros.saturating_add(row.cost_micros);
    // Where it is not known what it would have cost otherwise, nothing was saved.
    let known = row.always_on_micros > 0;
    let otherwise = |cost| if known { cost } else { row.cost_micros };
    total.always_on_micros = total.always_on_micros.saturating_add(otherwise(row.always_on_micros));
    total.night_window_micros = total.night_window_micros.saturating_add(otherwise(row.night_window_micros));
    total.forecast_micros = total.forecast_micros.saturating_add(row.forecast_micros);
    total.budget_micros = total.budget_micros.saturating_add(row.budget_micros);
    if let Some(grown) = row.grown_gib {
        *total.grown_gib.get_or_insert_default() += grown;
    }
}

#[cfg(test)]
mod tests;
