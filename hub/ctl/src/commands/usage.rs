//! `hubctl usage`: what the platforms used and what that is estimated to cost, beside what it would cost otherwise and what AWS
//! charges.

use std::collections::BTreeSet;

use clap::{
    Args,
    builder::{PossibleValuesParser, TypedValueParser},
};
use jiff::{civil::Date, tz::TimeZone};
use serde_json::{Value, json};
use sfdata_common::{
    Timestamp,
    ids::AgentId,
    usage::{
        days::{MONTHS_BEFORE, day_number},
        group::By,
    },
};
use sfdata_proto::v1::{GetUsageRequest, GetUsageResponse, UsageBill, UsageRow};

use crate::{
    cli::Context,
    client::Hub,
    exit::{Exit, Usage as Misused},
    health::none_if_empty,
    output,
    table::{Cell, Table, Tone},
    words,
};

const MICROS: f64 = 1e6;

/// See what was used and what it costs, by LA, part, job, cause, day or month
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  hubctl usage
  hubctl usage --by cause --month 2026-10
  hubctl usage --by month -o csv > costs.csv

Costs are estimates by the price list of the hub's configuration; AWS's bill is what counts. BILL is that, of
the whole account, where an LA lets its agent read it (~: AWS may still change it).
GROWN is what the buckets hold more than before the month.
ALWAYS ON is what it would cost never asleep, NIGHTS what it would cost awake from 23:00 to 05:00 on weekdays.")]
pub(crate) struct Usage {
    /// How to group
    #[arg(long, value_name = "WHAT", default_value = "la", value_parser = groups())]
    by: By,
    /// Of this month, as 2026-10 [default: the present one; by month: it and the twelve before it]
    #[arg(long, value_name = "MONTH", value_parser = month)]
    month: Option<Date>,
    /// Of this agent alone; repeatable
    #[arg(long = "agent", value_name = "ID")]
    agents: Vec<AgentId>,
}

fn groups() -> impl TypedValueParser<Value = By> {
    PossibleValuesParser::new(By::ALL.map(By::name)).try_map(|text| text.parse::<By>())
}

fn month(text: &str) -> Result<Date, String> {
    let date = format!("{text}-01").parse::<Date>();
    date.map_err(|_| format!("{text:?} is no month; write it as 2026-10"))
}

impl Usage {
    pub(super) async fn run(self, context: &Context) -> anyhow::Result<Exit> {
        let today = Timestamp::now().to_zoned(TimeZone::UTC).date();
        let (from, until) = self.span(today)?;
        let hub = Hub::connect(context).await?;
        let request = GetUsageRequest {
            from_day: day_number(from),
            until_day: day_number(until),
            group: self.by.group().into(),
            agent_ids: self.agents.iter().map(ToString::to_string).collect(),
        };
        let answer = hub.ask("tell the usage", hub.operator().get_usage(request)).await?;
        let exact = context.output.is_csv();
        context.output.data(&to_json(&answer, self.by, from, until), &[table(&answer, self.by, exact)])?;
        remarks(&answer).into_iter().for_each(output::note);
        Ok(Exit::Done)
    }

    /// First day, and the day after the last.
    fn span(&self, today: Date) -> Result<(Date, Date), Misused> {
        let this = today.first_of_month();
        let odd = |error: jiff::Error| Misused(error.to_string());
        let first = match self.month {
            Some(month) if month > this => {
                return Err(Misused(format!("{} has not begun", month.strftime("%Y-%m"))));
            }
            Some(month) => month,
            None if self.by == By::Month => this.checked_sub(jiff::Span::new().months(MONTHS_BEFORE)).map_err(odd)?,
            None => this,
        };
        let last = self.month.unwrap_or(this);
        Ok((first, last.checked_add(jiff::Span::new().months(1)).map_err(odd)?))
    }
}

fn to_json(answer: &GetUsageResponse, by: By, from: Date, until: Date) -> Value {
    let row = |row: &UsageRow| {
        let known = |micros: u64| (micros > 0).then(|| micros as f64 / MICROS);
        json!({
            "name": none_if_empty(&row.name),
            "cost": row.cost_micros as f64 / MICROS,
            "awake_hours": row.awake_hours,
            "vcpu_hours": row.vcpu_hours,
            "spot_vcpu_hours": row.spot_vcpu_hours,
            "memory_gib_hours": row.memory_gib_hours,
            "spot_memory_gib_hours": row.spot_memory_gib_hours,
            "acu_hours": row.acu_hours,
            "stored_gib_months": row.stored_gib_months,
            "s3_requests": row.s3_requests,
            "log_gib": row.log_gib,
            "always_on_cost": known(row.always_on_micros),
            "night_window_cost": known(row.night_window_micros),
            "forecast_cost": known(row.forecast_micros),
            "budget": known(row.budget_micros),
            "grown_gib": row.grown_gib,
            "bill": row.bill.as_ref().map(|bill| json!({
                "amount": amount(bill),
                "currency": bill.currency,
                "estimated": bill.estimated,
                "agents": bill.agents,
                "read": words::time(bill.read_unix_ms),
            })),
        })
    };
    json!({
        "from": from.to_string(),
        "until": until.to_string(),
        "by": by.name(),
        "rows": answer.rows.iter().map(row).collect::<Vec<_>>(),
        "total": answer.total.as_ref().map(row),
        "prices": answer.prices.iter().map(|prices| json!({
            "region": prices.region,
            "currency": prices.currency,
            "dated": prices.dated,
            "source": prices.source,
        })).collect::<Vec<_>>(),
        "known_until": words::time(answer.known_until_unix_ms),
        "unpriced_regions": answer.unpriced_regions,
        "agents": answer.agents,
    })
}

/// Which tables have a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Has {
    All,
    /// Those with a row of which it is known, and every spreadsheet.
    Known,
    /// Those by LA.
    Agents,
}

/// A column, and what a row has in it: nothing where that is not known.
type Column = (&'static str, Has, fn(&UsageRow, Style) -> String);

const COLUMNS: [Column; 15] = [
    ("AWAKE H", Has::All, |row, style| style.number(row.awake_hours, 1)),
    ("VCPU H", Has::All, |row, style| style.number(row.vcpu_hours, 1)),
    ("SPOT VCPU H", Has::All, |row, style| style.number(row.spot_vcpu_hours, 1)),
    ("GIB H", Has::All, |row, style| style.number(row.memory_gib_hours + row.spot_memory_gib_hours, 1)),
    ("ACU H", Has::All, |row, style| style.number(row.acu_hours, 1)),
    ("STORED GIB", Has::All, |row, style| style.number(row.stored_gib_months, 1)),
    ("GROWN GIB", Has::Known, |row, style| row.grown_gib.map_or_else(String::new, |gib| style.change(gib))),
    ("S3 REQUESTS", Has::Known, |row, _| if row.s3_requests > 0 { row.s3_requests.to_string() } else { String::new() }),
    ("LOG GIB", Has::Known, |row, style| if row.log_gib > 0.0 { style.number(row.log_gib, 2) } else { String::new() }),
    ("COST", Has::All, |row, style| style.number(row.cost_micros as f64 / MICROS, 2)),
    ("BILL", Has::Known, |row, style| row.bill.as_ref().map_or_else(String::new, |bill| style.bill(bill))),
    ("FORECAST", Has::Agents, |row, style| style.known(row.forecast_micros)),
    ("BUDGET", Has::Agents, |row, style| style.known(row.budget_micros)),
    ("ALWAYS ON", Has::Agents, |row, style| style.known(row.always_on_micros)),
    ("NIGHTS", Has::Agents, |row, style| style.known(row.night_window_micros)),
];

/// For people, or whole for a spreadsheet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Style {
    Short,
    Exact,
}

impl Style {
    fn number(self, number: f64, digits: usize) -> String {
        if self == Self::Exact { number.to_string() } else { format!("{number:.digits$}") }
    }

    fn change(self, number: f64) -> String {
        if self == Self::Exact { number.to_string() } else { format!("{number:+.2}") }
    }

    fn known(self, micros: u64) -> String {
        if micros == 0 { String::new() } else { self.number(micros as f64 / MICROS, 2) }
    }

    fn bill(self, bill: &UsageBill) -> String {
        let open = if bill.estimated && self == Self::Short { "~" } else { "" };
        format!("{open}{}", self.number(amount(bill), 2))
    }
}

fn amount(bill: &UsageBill) -> f64 {
    bill.amount_micros as f64 / MICROS
}

/// Of what was used and what it costs; `exact` for a spreadsheet.
fn table(answer: &GetUsageResponse, by: By, exact: bool) -> Table {
    let style = if exact { Style::Exact } else { Style::Short };
    let shown = |(_, has, cell): &Column| match has {
        Has::All => true,
        Has::Known => exact || answer.rows.iter().any(|row| !cell(row, style).is_empty()),
        Has::Agents => by == By::La,
    };
    let columns: Vec<Column> = COLUMNS.into_iter().filter(shown).collect();
    let head = by.name().to_ascii_uppercase();
    let names: Vec<&str> = [head.as_str()].into_iter().chain(columns.iter().map(|(name, ..)| *name)).collect();
    let mut table = Table::new(&names);
    let mut push = |name: &str, row: &UsageRow| {
        let over = row.budget_micros > 0 && row.forecast_micros.max(row.cost_micros) > row.budget_micros;
        let cells = columns.iter().map(|(name, _, cell)| {
            let tone = if over && *name == "FORECAST" { Tone::Bad } else { Tone::Plain };
            Cell::new(cell(row, style), tone)
        });
        table.push([Cell::from(name)].into_iter().chain(cells).collect());
    };
    for row in &answer.rows {
        push(if row.name.is_empty() { "(none)" } else { &row.name }, row);
    }
    if let Some(total) = answer.total.as_ref().filter(|_| answer.rows.len() > 1 && !exact) {
        push("TOTAL", total);
    }
    table
}

/// What the numbers rest on.
fn remarks(answer: &GetUsageResponse) -> Vec<String> {
    let mut remarks = Vec::new();
    match words::time(answer.known_until_unix_ms) {
        None => remarks.push("nothing is known of that time yet".to_owned()),
        Some(_) => remarks.push(format!("known until {}", words::second(answer.known_until_unix_ms))),
    }
    for prices in &answer.prices {
        remarks.push(format!(
            "in {} by the prices of {} of {} ({})",
            prices.currency, prices.region, prices.dated, prices.source
        ));
    }
    if !answer.unpriced_regions.is_empty() {
        let regions = answer.unpriced_regions.join(", ");
        remarks.push(format!(
            "no prices are known of {regions}, which counts as costing nothing: give them under [costs] in the hub's configuration"
        ));
    }
    let bills: Vec<&UsageBill> = answer.rows.iter().chain(&answer.total).filter_map(|row| row.bill.as_ref()).collect();
    if let Some(oldest) = bills.iter().map(|bill| bill.read_unix_ms).min() {
        let currencies: BTreeSet<&str> = bills.iter().map(|bill| bill.currency.as_str()).collect();
        let currencies = currencies.into_iter().collect::<Vec<_>>().join(" and ");
        let known = answer.total.as_ref().and_then(|total| total.bill.as_ref());
        let of = known.map_or_else(String::new, |bill| format!(", known of {} of {} LAs", bill.agents, answer.agents));
        remarks.push(format!("bills in {currencies}, of whole accounts{of}, read {} or later", words::second(oldest)));
    }
    remarks
}

#[cfg(test)]
mod tests {
    use sfdata_proto::v1::UsagePrices;

    use super::*;

    fn answer() -> GetUsageResponse {
        let row = |name: &str, factor: u64| UsageRow {
            name: name.into(),
            vcpu_hours: 51.25 * factor as f64,
            spot_vcpu_hours: 3.5,
            memory_gib_hours: 100.0,
            acu_hours: 12.0,
            stored_gib_months: 0.26,
            awake_hours: 51.2,
            cost_micros: 9_104_000 * factor,
            always_on_micros: 117_000_000,
            night_window_micros: 21_300_000,
            forecast_micros: 12_000_000 * factor,
            budget_micros: 20_000_000,
            ..Default::default()
        };
        let prices = UsagePrices {
            region: "eu-west-2".into(),
            currency: "USD".into(),
            dated: "2025-06-01".into(),
            source: "AWS's published prices".into(),
        };
        let with_more = |row| UsageRow {
            grown_gib: Some(-0.5),
            s3_requests: 12_345,
            log_gib: 0.5,
            bill: Some(UsageBill {
                currency: "USD".into(),
                amount_micros: 31_250_000,
                estimated: true,
                agents: 1,
                read_unix_ms: 1_795_480_000_000,
            }),
            ..row
        };
        GetUsageResponse {
            rows: vec![with_more(row("northshire", 1)), row("ely", 2)],
            total: Some(with_more(row("", 3))),
            prices: vec![prices],
            known_until_unix_ms: 1_795_500_000_000,
            unpriced_regions: vec!["us-gov-west-1".into()],
            agents: 2,
        }
    }

    #[test]
    fn costs_read_well_and_say_what_they_rest_on() {
        let text = format!("{}\n{}", table(&answer(), By::La, false).render(false), remarks(&answer()).join("\n"));
        insta::assert_snapshot!(text, @r#"
        LA          AWAKE H  VCPU H  SPOT VCPU H  GIB H  ACU H  STORED GIB  GROWN GIB  S3 REQUESTS  LOG GIB  COST   BILL    FORECAST  BUDGET  ALWAYS ON  NIGHTS
        northshire  51.2     51.2    3.5          100.0  12.0   0.3         -0.50      12345        0.50     9.10   ~31.25  12.00     20.00   117.00     21.30
        ely         51.2     102.5   3.5          100.0  12.0   0.3         -          -            -        18.21  -       24.00     20.00   117.00     21.30
        TOTAL       51.2     153.8   3.5          100.0  12.0   0.3         -0.50      12345        0.50     27.31  ~31.25  36.00     20.00   117.00     21.30

        known until 2026-11-24T06:00:00Z
        in USD by the prices of eu-west-2 of 2025-06-01 (AWS's published prices)
        no prices are known of us-gov-west-1, which counts as costing nothing: give them under [costs] in the hub's configuration
        bills in USD, of whole accounts, known of 1 of 2 LAs, read 2026-11-24T00:26:40Z or later
        "#);
        insta::assert_snapshot!(table(&answer(), By::Cause, true).csv(), @r#"
        CAUSE,AWAKE H,VCPU H,SPOT VCPU H,GIB H,ACU H,STORED GIB,GROWN GIB,S3 REQUESTS,LOG GIB,COST,BILL
        northshire,51.2,51.25,3.5,100,12,0.26,-0.5,12345,0.5,9.104,31.25
        ely,51.2,102.5,3.5,100,12,0.26,,,,18.208,
        "#);
    }

    #[test]
    fn the_span_is_whole_months() {
        let usage = |by, text: Option<&str>| Usage { by, month: text.map(|text| month(text).unwrap()), agents: vec![] };
        let today = jiff::civil::date(2026, 11, 24);
        let told = |by, text| {
            let (from, until) = usage(by, text).span(today).unwrap();
            format!("{from} {until}")
        };
        assert_eq!(told(By::La, None), "2026-11-01 2026-12-01");
        assert_eq!(told(By::Day, Some("2026-02")), "2026-02-01 2026-03-01");
        assert_eq!(told(By::Month, None), "2025-11-01 2026-12-01");
        assert!(usage(By::La, Some("2026-12")).span(today).is_err());
        for odd in ["2026", "2026-13", "last", "2026-1"] {
            assert!(month(odd).is_err(), "{odd}");
        }
    }
}
