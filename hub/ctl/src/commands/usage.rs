//! `hubctl usage`: what the platforms used and what that is estimated to cost, beside what it would cost otherwise.

use clap::{Args, ValueEnum};
use jiff::{civil::Date, tz::TimeZone};
use serde_json::{Value, json};
use sfdata_common::{Timestamp, ids::AgentId};
use sfdata_proto::v1::{GetUsageRequest, GetUsageResponse, UsageGroup, UsageRow};

use crate::{
    cli::Context,
    client::Hub,
    exit::{Exit, Usage as Misused},
    health::none_if_empty,
    output,
    table::{Cell, Table, Tone},
    words,
};

/// Months that are told together: this one, and the year before it.
const MONTHS: i32 = 12;
const MICROS: f64 = 1e6;

/// See what was used and what it costs, by LA, part, job, cause, day or month
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  hubctl usage
  hubctl usage --by cause --month 2026-10
  hubctl usage --by month -o csv > costs.csv

Costs are estimates by the price list of the hub's configuration; AWS's bill is what counts.
ALWAYS ON is what it would cost never asleep, NIGHTS what it would cost awake from 23:00 to 05:00 on weekdays.")]
pub(crate) struct Usage {
    /// How to group
    #[arg(long, value_name = "WHAT", default_value = "la")]
    by: By,
    /// Of this month, as 2026-10 [default: the present one; by month: it and the twelve before it]
    #[arg(long, value_name = "MONTH", value_parser = month)]
    month: Option<Date>,
    /// Of this agent alone; repeatable
    #[arg(long = "agent", value_name = "ID")]
    agents: Vec<AgentId>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum By {
    La,
    Component,
    Job,
    Cause,
    Day,
    Month,
}

impl By {
    fn group(self) -> UsageGroup {
        match self {
            Self::La => UsageGroup::Agent,
            Self::Component => UsageGroup::Component,
            Self::Job => UsageGroup::Job,
            Self::Cause => UsageGroup::Cause,
            Self::Day => UsageGroup::Day,
            Self::Month => UsageGroup::Month,
        }
    }

    fn head(self) -> &'static str {
        match self {
            Self::La => "LA",
            Self::Component => "COMPONENT",
            Self::Job => "JOB",
            Self::Cause => "CAUSE",
            Self::Day => "DAY",
            Self::Month => "MONTH",
        }
    }
}

fn month(text: &str) -> Result<Date, String> {
    let date = format!("{text}-01").parse::<Date>();
    date.map_err(|_| format!("{text:?} is no month; write it as 2026-10"))
}

/// Days since the Unix epoch.
fn number(date: Date) -> u32 {
    let days = date.since(jiff::civil::date(1970, 1, 1)).map_or(0, |span| span.get_days());
    days.try_into().unwrap_or_default()
}

impl Usage {
    pub(super) async fn run(self, context: &Context) -> anyhow::Result<Exit> {
        let today = Timestamp::now().to_zoned(TimeZone::UTC).date();
        let (from, until) = self.span(today)?;
        let hub = Hub::connect(context).await?;
        let request = GetUsageRequest {
            from_day: number(from),
            until_day: number(until),
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
            None if self.by == By::Month => this.checked_sub(jiff::Span::new().months(MONTHS)).map_err(odd)?,
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
        })
    };
    json!({
        "from": from.to_string(),
        "until": until.to_string(),
        "by": by.head().to_ascii_lowercase(),
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
    })
}

/// Of what was used and what it costs; `exact` for a spreadsheet.
fn table(answer: &GetUsageResponse, by: By, exact: bool) -> Table {
    let whole = by == By::La;
    let mut names = vec![by.head(), "AWAKE H", "VCPU H", "SPOT VCPU H", "GIB H", "ACU H", "STORED GIB", "COST"];
    if whole {
        names.extend(["FORECAST", "BUDGET", "ALWAYS ON", "NIGHTS"]);
    }
    let mut table = Table::new(&names);
    let mut push = |name: &str, row: &UsageRow| {
        let hours = |hours: f64| if exact { hours.to_string() } else { format!("{hours:.1}") };
        let money = |micros: u64| {
            if exact { (micros as f64 / MICROS).to_string() } else { format!("{:.2}", micros as f64 / MICROS) }
        };
        let known = |micros: u64| if micros == 0 { String::new() } else { money(micros) };
        let mut cells: Vec<Cell> = vec![
            Cell::from(name),
            Cell::from(hours(row.awake_hours)),
            Cell::from(hours(row.vcpu_hours)),
            Cell::from(hours(row.spot_vcpu_hours)),
            Cell::from(hours(row.memory_gib_hours + row.spot_memory_gib_hours)),
            Cell::from(hours(row.acu_hours)),
            Cell::from(hours(row.stored_gib_months)),
            Cell::from(money(row.cost_micros)),
        ];
        if whole {
            let over = row.budget_micros > 0 && row.forecast_micros.max(row.cost_micros) > row.budget_micros;
            let tone = if over { Tone::Bad } else { Tone::Plain };
            cells.push(Cell::new(known(row.forecast_micros), tone));
            cells.extend(
                [row.budget_micros, row.always_on_micros, row.night_window_micros].map(|one| Cell::from(known(one))),
            );
        }
        table.push(cells);
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
        GetUsageResponse {
            rows: vec![row("northshire", 1), row("ely", 2)],
            total: Some(row("", 3)),
            prices: vec![prices],
            known_until_unix_ms: 1_795_500_000_000,
            unpriced_regions: vec!["us-gov-west-1".into()],
        }
    }

    #[test]
    fn costs_read_well_and_say_what_they_rest_on() {
        let text = format!("{}\n{}", table(&answer(), By::La, false).render(false), remarks(&answer()).join("\n"));
        insta::assert_snapshot!(text, @r#"
        LA          AWAKE H  VCPU H  SPOT VCPU H  GIB H  ACU H  STORED GIB  COST   FORECAST  BUDGET  ALWAYS ON  NIGHTS
        northshire  51.2     51.2    3.5          100.0  12.0   0.3         9.10   12.00     20.00   117.00     21.30
        ely         51.2     102.5   3.5          100.0  12.0   0.3         18.21  24.00     20.00   117.00     21.30
        TOTAL       51.2     153.8   3.5          100.0  12.0   0.3         27.31  36.00     20.00   117.00     21.30

        known until 2026-11-24T06:00:00Z
        in USD by the prices of eu-west-2 of 2025-06-01 (AWS's published prices)
        no prices are known of us-gov-west-1, which counts as costing nothing: give them under [costs] in the hub's configuration
        "#);
        insta::assert_snapshot!(table(&answer(), By::Cause, true).csv(), @r#"
        CAUSE,AWAKE H,VCPU H,SPOT VCPU H,GIB H,ACU H,STORED GIB,COST
        northshire,51.2,51.25,3.5,100,12,0.26,9.104
        ely,51.2,102.5,3.5,100,12,0.26,18.208
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
        assert_eq!(number(jiff::civil::date(2026, 11, 1)), 20_758);
    }
}
