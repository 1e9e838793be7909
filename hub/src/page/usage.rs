//! Usage and cost of a month or of the last thirteen, by whatever it is to be grouped.

use std::collections::BTreeMap;

use axum::{
    extract::{Query, State},
    http::header::{CONTENT_DISPOSITION, CONTENT_TYPE},
    response::{IntoResponse, Response},
};
use jiff::{Span, Timestamp, civil::Date, tz::TimeZone};
use maud::{Markup, html};
use serde::Deserialize;
use sfdata_common::{
    csv,
    usage::{
        days::{MONTHS_BEFORE, date_of, day_number},
        group::By,
    },
};
use sfdata_proto::v1::{
    GetUsageRequest, GetUsageResponse, UsageBill, UsageGroup, UsageRow, operator_service_server::OperatorService as _,
};
use tonic::Status;

use super::{
    Page, Problem, Shared, Viewer,
    charts::Columns,
    layout::{Section, layout, scroll},
    moment, text,
};
use crate::usage::estimate::MICROS;

/// What is asked.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Asked {
    /// As `2026-11`; empty: the present one.
    month: String,
    by: By,
}

/// Whole months: the first day, and the day after the last.
struct Months {
    asked: Date,
    from: Date,
    until: Date,
}

impl Asked {
    fn months(&self, now: Timestamp) -> Result<Months, Status> {
        let this = now.to_zoned(TimeZone::UTC).date().first_of_month();
        let asked = match self.month.as_str() {
            "" => this,
            text => format!("{text}-01")
                .parse::<Date>()
                .ok()
                .filter(|month| *month <= this && month.year() >= 2000)
                .ok_or_else(|| Status::invalid_argument("that is no month of the past; write it as 2026-10"))?,
        };
        let odd = |error: jiff::Error| Status::invalid_argument(error.to_string());
        let until = asked.checked_add(Span::new().months(1)).map_err(odd)?;
        let from = match self.by {
            By::Month => asked.checked_sub(Span::new().months(MONTHS_BEFORE)).map_err(odd)?,
            _ => asked,
        };
        Ok(Months { asked, from, until })
    }
}

async fn ask(page: &Page, viewer: &Viewer, months: &Months, group: UsageGroup) -> Result<GetUsageResponse, Problem> {
    let request = GetUsageRequest {
        from_day: day_number(months.from),
        until_day: day_number(months.until),
        group: group.into(),
        agent_ids: Vec::new(),
    };
    Ok(page.operators.get_usage(viewer.ask(request)).await.map_err(viewer.problem())?.into_inner())
}

/// `GET /ui/usage`
pub(super) async fn show(State(page): Shared, viewer: Viewer, Query(asked): Query<Asked>) -> Result<Markup, Problem> {
    let now = Timestamp::now();
    let months = asked.months(now).map_err(viewer.problem())?;
    let answer = ask(&page, &viewer, &months, asked.by.group()).await?;
    let columns = if asked.by == By::Month { UsageGroup::Month } else { UsageGroup::Day };
    let by_time = ask(&page, &viewer, &months, columns).await?;
    let total = answer.total.clone().unwrap_or_default();
    let name = asked.by.name();
    let month = months.asked.strftime("%Y-%m").to_string();
    let body = html! {
        (form(&asked, &month, now))
        @if answer.agents == 0 {
            p { "Nothing is known of that time yet." }
        } @else {
            @if asked.by == By::La { (cards(&total, &answer)) }
            (chart(&by_time, &months, asked.by, &answer))
            (table(word(asked.by), &answer, asked.by == By::La))
            p { a href={ "/ui/usage.csv?month=" (month) "&by=" (name) } download { "As a table for a spreadsheet (CSV)" } }
            (remarks(&answer))
        }
    };
    Ok(layout(Some(&viewer), "Usage and cost", Section::Usage, None, &body))
}

/// `GET /ui/usage.csv`
pub(super) async fn csv(State(page): Shared, viewer: Viewer, Query(asked): Query<Asked>) -> Result<Response, Problem> {
    let months = asked.months(Timestamp::now()).map_err(viewer.problem())?;
    let answer = ask(&page, &viewer, &months, asked.by.group()).await?;
    let name = asked.by.name();
    let head = [
        name,
        "awake_hours",
        "vcpu_hours",
        "spot_vcpu_hours",
        "memory_gib_hours",
        "acu_hours",
        "stored_gib_months",
        "grown_gib",
        "s3_requests",
        "log_gib",
        "cost",
        "bill",
        "bill_currency",
        "bill_estimated",
        "forecast_cost",
        "budget",
        "always_on_cost",
        "night_window_cost",
    ];
    let known = |micros: u64| if micros == 0 { String::new() } else { money(micros, 6) };
    let lines = answer.rows.iter().map(|row| {
        csv::line([
            row.name.clone(),
            row.awake_hours.to_string(),
            row.vcpu_hours.to_string(),
            row.spot_vcpu_hours.to_string(),
            (row.memory_gib_hours + row.spot_memory_gib_hours).to_string(),
            row.acu_hours.to_string(),
            row.stored_gib_months.to_string(),
            row.grown_gib.map_or_else(String::new, |gib| gib.to_string()),
            row.s3_requests.to_string(),
            row.log_gib.to_string(),
            money(row.cost_micros, 6),
            row.bill.as_ref().map_or_else(String::new, |bill| signed(bill, 6)),
            row.bill.as_ref().map_or_else(String::new, |bill| bill.currency.clone()),
            row.bill.as_ref().map_or_else(String::new, |bill| bill.estimated.to_string()),
            known(row.forecast_micros),
            known(row.budget_micros),
            known(row.always_on_micros),
            known(row.night_window_micros),
        ])
    });
    let body: String = std::iter::once(csv::line(head)).chain(lines).collect();
    let file = format!("attachment; filename=\"usage-{}-by-{name}.csv\"", months.asked.strftime("%Y-%m"));
    let headers = [(CONTENT_TYPE, "text/csv; charset=utf-8".to_owned()), (CONTENT_DISPOSITION, file)];
    Ok((headers, body).into_response())
}

fn form(asked: &Asked, month: &str, now: Timestamp) -> Markup {
    let this = now.to_zoned(TimeZone::UTC).date().first_of_month();
    let months = (0..=MONTHS_BEFORE).filter_map(|back| this.checked_sub(Span::new().months(back)).ok());
    html! {
        form method="get" action="/ui/usage" {
            label for="month" { "Month" }
            select id="month" name="month" {
                @for one in months.map(|one| one.strftime("%Y-%m").to_string()) {
                    option value=(one) selected[one == month] { (one) }
                }
            }
            label for="by" { "By" }
            select id="by" name="by" {
                @for by in By::ALL { option value=(by.name()) selected[by == asked.by] { (word(by)) } }
            }
            button type="submit" { "Show" }
        }
    }
}

/// What a director asks first.
fn cards(total: &UsageRow, answer: &GetUsageResponse) -> Markup {
    let currency = answer.prices.first().map_or("", |prices| prices.currency.as_str());
    let saved = |other: u64| other.saturating_sub(total.cost_micros);
    let card = |name: &str, micros: u64| {
        html! { @if micros > 0 { div class="card" { dt { (name) } dd { (money(micros, 2)) " " (text(currency)) } } } }
    };
    html! {
        dl class="cards" {
            (card("So far", total.cost_micros))
            (card("Forecast for the month", total.forecast_micros))
            (card("Budget", total.budget_micros))
            (card("Saved beside always on", saved(total.always_on_micros)))
            (card("Saved beside 23:00 to 05:00 on weekdays", saved(total.night_window_micros)))
            @if let Some(bill) = &total.bill {
                div class="card" {
                    dt { "AWS's bill of " (bill.agents) " of " (answer.agents) " LAs" @if bill.estimated { ", not final" } }
                    dd { (signed(bill, 2)) " " (text(&bill.currency)) }
                }
            }
        }
    }
}

fn chart(by_time: &GetUsageResponse, months: &Months, by: By, answer: &GetUsageResponse) -> Markup {
    let currency = answer.prices.first().map_or("", |prices| prices.currency.as_str());
    let (names, keys): (Vec<String>, Vec<String>) = if by == By::Month {
        let all = (0..=MONTHS_BEFORE).rev().filter_map(|back| months.asked.checked_sub(Span::new().months(back)).ok());
        all.map(|date| (date.strftime("%b %y").to_string(), date.strftime("%Y-%m").to_string())).unzip()
    } else {
        let all = (day_number(months.from)..day_number(months.until)).map(date_of);
        all.map(|date| (date.strftime("%d %b").to_string(), date.to_string())).unzip()
    };
    let cost = |key: &String| {
        let row = by_time.rows.iter().find(|row| row.name == *key);
        row.map_or(0.0, |row| row.cost_micros as f64 / MICROS)
    };
    let parts = BTreeMap::from([(String::new(), keys.iter().map(cost).collect())]);
    let label = if by == By::Month { "Cost by month" } else { "Cost by day" };
    Columns { label, unit: currency, names, parts }.show()
}

/// Which tables have a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Has {
    All,
    /// Those with a row of which it is known.
    Known,
    /// Those by LA.
    Agents,
}

/// A column, and what a row has in it: nothing where that is not known.
type Column = (&'static str, Has, fn(&UsageRow) -> String);

const COLUMNS: [Column; 15] = [
    ("Awake h", Has::All, |row| hours(row.awake_hours)),
    ("vCPU h", Has::All, |row| hours(row.vcpu_hours)),
    ("Spot vCPU h", Has::All, |row| hours(row.spot_vcpu_hours)),
    ("GiB h", Has::All, |row| hours(row.memory_gib_hours + row.spot_memory_gib_hours)),
    ("ACU h", Has::All, |row| hours(row.acu_hours)),
    ("Stored GiB", Has::All, |row| hours(row.stored_gib_months)),
    ("Grown GiB", Has::Known, |row| row.grown_gib.map_or_else(String::new, |gib| format!("{gib:+.2}"))),
    ("S3 requests", Has::Known, |row| if row.s3_requests > 0 { row.s3_requests.to_string() } else { String::new() }),
    ("Log GiB", Has::Known, |row| if row.log_gib > 0.0 { format!("{:.2}", row.log_gib) } else { String::new() }),
    ("Cost", Has::All, |row| money(row.cost_micros, 2)),
    ("AWS's bill", Has::Known, |row| row.bill.as_ref().map_or_else(String::new, bill_text)),
    ("Forecast", Has::Agents, |row| known(row.forecast_micros)),
    ("Budget", Has::Agents, |row| known(row.budget_micros)),
    ("Always on", Has::Agents, |row| known(row.always_on_micros)),
    ("Nights", Has::Agents, |row| known(row.night_window_micros)),
];

/// Rows with their sum.
pub(super) fn table(word: &str, answer: &GetUsageResponse, of_agents: bool) -> Markup {
    if answer.rows.is_empty() {
        return html! { p { "Nothing is known of it." } };
    }
    let shown = |(_, has, cell): &Column| match has {
        Has::All => true,
        Has::Known => answer.rows.iter().any(|row| !cell(row).is_empty()),
        Has::Agents => of_agents,
    };
    let columns: Vec<Column> = COLUMNS.into_iter().filter(shown).collect();
    let row = |name: &str, row: &UsageRow| {
        let over = row.budget_micros > 0 && row.forecast_micros.max(row.cost_micros) > row.budget_micros;
        html! {
            tr {
                th scope="row" { @if name.is_empty() { "(none)" } @else { (text(name)) } }
                @for (column, _, cell) in &columns {
                    @let (told, bad) = (cell(row), over && *column == "Forecast");
                    td class={ "number" @if bad { " bad" } } {
                        @if told.is_empty() { "–" } @else { (text(&told)) }
                        @if bad { " over budget" }
                    }
                }
            }
        }
    };
    scroll(
        "Usage and cost",
        &html! {
            table {
                thead {
                    tr {
                        th scope="col" { (word) }
                        @for (name, ..) in &columns { th scope="col" class="number" { (name) } }
                    }
                }
                tbody { @for one in &answer.rows { (row(&one.name, one)) } }
                @if let Some(total) = answer.total.as_ref().filter(|_| answer.rows.len() > 1) {
                    tfoot { (row("Total", total)) }
                }
            }
        },
    )
}

/// What the numbers rest on.
fn remarks(answer: &GetUsageResponse) -> Markup {
    let bill = answer.total.as_ref().and_then(|total| total.bill.as_ref());
    html! {
        p class="remark" {
            "Costs are estimates; AWS's bill is what counts. Known until " (moment(answer.known_until_unix_ms)) ". "
            @for prices in &answer.prices {
                "In " (text(&prices.currency)) " by the prices of " (text(&prices.region)) " of " (text(&prices.dated)) " (" (text(&prices.source)) "). "
            }
            @if !answer.unpriced_regions.is_empty() {
                "No prices are known of " (text(&answer.unpriced_regions.join(", "))) ", which counts as costing nothing. "
            }
            @if let Some(bill) = bill {
                "The bill is of whole accounts, so also of what is not metered; known of " (bill.agents) " of " (answer.agents)
                " LAs, read " (moment(bill.read_unix_ms)) " or later; ~ is what AWS may still change."
            }
        }
    }
}

/// What rows are called.
fn word(by: By) -> &'static str {
    match by {
        By::La => "LA",
        By::Component => "Part",
        By::Job => "Job",
        By::Cause => "Cause",
        By::Day => "Day",
        By::Month => "Month",
    }
}

fn hours(hours: f64) -> String {
    format!("{hours:.1}")
}

fn known(micros: u64) -> String {
    if micros == 0 { String::new() } else { money(micros, 2) }
}

fn bill_text(bill: &UsageBill) -> String {
    format!("{}{}\u{a0}{}", if bill.estimated { "~" } else { "" }, signed(bill, 2), bill.currency)
}

/// Credits can make a bill negative.
fn signed(bill: &UsageBill, digits: usize) -> String {
    format!("{:.digits$}", bill.amount_micros as f64 / MICROS)
}

fn money(micros: u64, digits: usize) -> String {
    format!("{:.digits$}", micros as f64 / MICROS)
}
