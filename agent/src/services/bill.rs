//! What AWS charges for this account, by its Cost Explorer: sums of whole months, and nothing of what they are for.
//!
//! A request costs 0.01 USD, so that none is tried again by itself. Cost Explorer has one endpoint for all regions, which the
//! SDK finds.

use aws_config::retry::RetryConfig;
use aws_sdk_costexplorer::{
    Client,
    types::{DateInterval, Granularity, ResultByTime},
};
use jiff::civil::Date;
use sfdata_common::{
    outcome::FailureCode,
    usage::{
        bill::{self, Month},
        days::day_number,
    },
};

use super::{
    Error,
    aws::{Aws, client, failure},
};

/// What was used at its price of then, without spreading what was paid ahead.
const METRIC: &str = "UnblendedCost";

/// Reads it. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Bill {
    client: Client,
}

impl Bill {
    pub(super) fn new(aws: &Aws) -> Self {
        Self { client: client!(aws, aws_sdk_costexplorer, retry_config(RetryConfig::disabled())) }
    }

    /// The months from a first day until before another day.
    pub async fn read(&self, from: Date, until: Date) -> Result<Vec<Month>, Error> {
        let tried = "read this account's bill from Cost Explorer";
        let span = DateInterval::builder().start(from.to_string()).end(until.to_string()).build();
        let span =
            span.map_err(|_| Error::failed(FailureCode::Internal, "a request to Cost Explorer without a span"))?;
        let call = self.client.get_cost_and_usage().time_period(span).granularity(Granularity::Monthly).metrics(METRIC);
        let answer = call.send().await.map_err(|e| failure(tried, "ce:GetCostAndUsage", e))?;
        let months = answer.results_by_time().iter().filter_map(|result| month(result).transpose());
        months.collect::<Result<_, _>>().map_err(|error| {
            Error::failed(
                FailureCode::Rejected,
                format!("cannot {tried}: {error}; it is not told, and asked for again"),
            )
        })
    }
}

/// Of a result; `None` where nothing is charged yet.
fn month(result: &ResultByTime) -> Result<Option<Month>, bill::Error> {
    let Some(total) = result.total().and_then(|total| total.get(METRIC)) else { return Ok(None) };
    let begin: Date = result.time_period().and_then(|span| span.start().parse().ok()).ok_or(bill::Error::Month(0))?;
    Ok(Some(Month {
        first_day: day_number(begin.first_of_month()),
        currency: total.unit().unwrap_or_default().parse()?,
        amount_micros: bill::micros(total.amount().unwrap_or_default())?,
        estimated: result.estimated(),
    }))
}

#[cfg(test)]
mod tests {
    use aws_sdk_costexplorer::types::MetricValue;

    use super::*;

    fn read(start: &str, amount: &str, unit: &str) -> Result<Option<Month>, bill::Error> {
        let span = DateInterval::builder().start(start).end("2026-12-01").build().unwrap();
        let total = MetricValue::builder().amount(amount).unit(unit).build();
        month(&ResultByTime::builder().time_period(span).total(METRIC, total).estimated(true).build())
    }

    #[test]
    fn a_month_is_told_in_numbers_and_a_currency_or_not_at_all() {
        let november = read("2026-11-01", "41.2345678901", "USD").unwrap().unwrap();
        assert_eq!((november.first_day, november.amount_micros, november.estimated), (20_758, 41_234_568, true));
        assert_eq!(read("2026-11-01", "41", "Kim Doe"), Err(bill::Error::Currency));
        assert_eq!(read("2026-11-01", "Kim Doe", "USD"), Err(bill::Error::Amount));
        assert!(read("Kim Doe", "41", "USD").is_err());
        assert_eq!(month(&ResultByTime::builder().build()), Ok(None));
    }
}
