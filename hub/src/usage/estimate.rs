//! What usage comes to: sums by group, in the units that people reckon in, with an estimate of what they cost.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{Timestamp, civil::Date, tz::TimeZone};
use sfdata_common::{
    ids::AgentId,
    usage::{Component, Hour, Key, Meter, Record, component_name},
};
use sfdata_proto::v1::{self as wire, UsageGroup};

use crate::{
    prices::{Prices, in_units},
    store::records::UsageDay,
};

/// The nightly window that a platform without sleep and wake is usually given: six hours on five of seven days.
const NIGHT_WINDOW: f64 = 6.0 * 5.0 / (24.0 * 7.0);
/// Millionths of a currency's unit.
pub const MICROS: f64 = 1e6;

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
    /// When it is asked.
    pub now: Timestamp,
}

/// Answer it from these days.
pub fn answer(asked: &Question<'_>, days: &[(AgentId, u32, UsageDay)]) -> wire::GetUsageResponse {
    let mut rows: BTreeMap<String, Sums> = BTreeMap::new();
    let mut agents: BTreeMap<&AgentId, Sums> = BTreeMap::new();
    let mut unpriced = BTreeSet::new();
    let mut used: BTreeSet<&str> = BTreeSet::new();
    for (agent, number, day) in days {
        let prices = asked.prices.iter().find(|prices| prices.region == day.region);
        match prices {
            Some(prices) => used.insert(&prices.region),
            None => unpriced.insert(day.region.clone()),
        };
        let of_agent = agents.entry(agent).or_default();
        of_agent.know(day.first_hour, day.last_hour);
        for record in day.amounts.iter().filter_map(|amount| Record::of_sum(amount.record.as_ref()?).ok()) {
            let cost = prices.map_or(0.0, |prices| prices.cost(&record.key, record.amount));
            of_agent.add(&record.key, record.amount, cost);
            if let Some(name) = group(asked.group, agent, *number, &record.key) {
                rows.entry(name).or_default().add(&record.key, record.amount, cost);
            }
        }
    }
    let of_agents: Vec<wire::UsageRow> = agents.iter().map(|(agent, sums)| asked.row(agent, sums)).collect();
    let mut total = wire::UsageRow::default();
    of_agents.iter().for_each(|row| add(&mut total, row));
    let last_hour = agents.values().map(|sums| sums.last_hour).max();
    let rows = match asked.group {
        UsageGroup::Agent | UsageGroup::Unspecified => of_agents,
        _ => rows.into_iter().map(|(name, sums)| sums.row(name)).collect(),
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
    }
}

impl Question<'_> {
    /// Of one agent, with what it would come to otherwise.
    fn row(&self, agent: &AgentId, sums: &Sums) -> wire::UsageRow {
        let (always_on_micros, night_window_micros) = sums.otherwise();
        let budget_micros = self.month().and_then(|_| (self.budgets)(agent)).map_or(0, micros);
        let forecast_micros = self.forecast(sums);
        let row = sums.row(agent.as_str().to_owned());
        wire::UsageRow { always_on_micros, night_window_micros, forecast_micros, budget_micros, ..row }
    }

    /// The first day, and the one after the last, of the month that the span is.
    fn month(&self) -> Option<(u32, u32)> {
        let first = date_of(self.from);
        let end = day_number(first.last_of_month()) + 1;
        (first.day() == 1 && self.until == end).then_some((self.from, end))
    }

    /// By the end of the present month.
    fn forecast(&self, sums: &Sums) -> u64 {
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

/// Days since the Unix epoch; 0 before it.
pub fn day_number(date: Date) -> u32 {
    let epoch = jiff::civil::date(1970, 1, 1);
    date.since(epoch).map_or(0, |span| span.get_days()).try_into().unwrap_or_default()
}

/// Of a day counted since the Unix epoch.
pub fn date_of(day: u32) -> Date {
    let at = Timestamp::from_second(Hour(day.saturating_mul(24)).begin()).unwrap_or_default();
    at.to_zoned(TimeZone::UTC).date()
}

/// The name of the row that it belongs to; `None`: it has none in this grouping.
fn group(by: UsageGroup, agent: &AgentId, day: u32, key: &Key) -> Option<String> {
    let of_nothing = |label: &Option<sfdata_common::usage::Label>| {
        label.as_ref().map_or_else(String::new, |label| label.as_str().to_owned())
    };
    match by {
        UsageGroup::Agent | UsageGroup::Unspecified => Some(agent.as_str().to_owned()),
        UsageGroup::Component => Some(component_name(key.component).to_owned()),
        UsageGroup::Job => (key.component == Component::Run).then(|| of_nothing(&key.job)),
        UsageGroup::Cause => Some(of_nothing(&key.cause)),
        UsageGroup::Day => Some(date_of(day).to_string()),
        UsageGroup::Month => Some(date_of(day).strftime("%Y-%m").to_string()),
    }
}

fn micros(cost: f64) -> u64 {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "costs are positive and saturate")]
    let micros = (cost * MICROS).round() as u64;
    micros
}

#[derive(Debug, Clone, Default)]
struct Sums {
    /// In units, by meter and whether on Spot.
    units: BTreeMap<(Meter, bool), f64>,
    requests: u64,
    cost: f64,
    /// Of what runs for as long as the platform is awake: services and database.
    awake_cost: f64,
    first_hour: u32,
    last_hour: u32,
}

impl Sums {
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
}

#[cfg(test)]
mod tests;
