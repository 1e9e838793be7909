//! What AWS charges an account for a month, by its own Cost Explorer. It stands beside what is metered and is never part of it.
//!
//! There is room for numbers and the three letters of a currency alone.

use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sfdata_proto::v1 as wire;

use super::days::month_from;
use crate::limits;

/// Why a month of a bill is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// It has to be told by its first day.
    #[error("no month begins on day {0} since the Unix epoch")]
    Month(u32),
    /// Not a currency of ISO 4217.
    #[error("a bill's currency has three capital letters, as USD")]
    Currency,
    /// Not a decimal number, or more than an account can cost.
    #[error("that is no amount of a bill")]
    Amount,
}

/// As ISO 4217 writes them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Currency([u8; 3]);

impl FromStr for Currency {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let letters: [u8; 3] = text.as_bytes().try_into().map_err(|_| Error::Currency)?;
        if letters.iter().all(u8::is_ascii_uppercase) { Ok(Self(letters)) } else { Err(Error::Currency) }
    }
}

impl TryFrom<String> for Currency {
    type Error = Error;

    fn try_from(text: String) -> Result<Self, Error> {
        text.parse()
    }
}

impl From<Currency> for String {
    fn from(currency: Currency) -> Self {
        currency.0.map(char::from).iter().collect()
    }
}

/// What a month comes to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Month {
    /// Its first day, since the Unix epoch.
    pub first_day: u32,
    /// What it is charged in.
    pub currency: Currency,
    /// Millionths of the currency; negative where credits are more than the charges.
    pub amount_micros: i64,
    /// AWS may still change it.
    pub estimated: bool,
}

/// Of an amount as AWS writes it, `12.3456789`, the millionths.
pub fn micros(amount: &str) -> Result<i64, Error> {
    let whole = amount.parse::<f64>().map_err(|_| Error::Amount)? * 1e6;
    if whole.is_finite() && whole.abs() <= limits::BILL_MICROS as f64 {
        #[expect(clippy::cast_possible_truncation, reason = "within the bound")]
        return Ok(whole.round() as i64);
    }
    Err(Error::Amount)
}

impl TryFrom<&wire::BillMonth> for Month {
    type Error = Error;

    fn try_from(month: &wire::BillMonth) -> Result<Self, Error> {
        let wire::BillMonth { first_day, currency, amount_micros, estimated } = month;
        month_from(*first_day).ok_or(Error::Month(*first_day))?;
        if amount_micros.unsigned_abs() > limits::BILL_MICROS {
            return Err(Error::Amount);
        }
        let (currency, amount_micros) = (currency.parse()?, *amount_micros);
        Ok(Self { first_day: *first_day, currency, amount_micros, estimated: *estimated })
    }
}

impl From<&Month> for wire::BillMonth {
    fn from(month: &Month) -> Self {
        let Month { first_day, currency, amount_micros, estimated } = month.clone();
        Self { first_day, currency: currency.into(), amount_micros, estimated }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn month(change: impl FnOnce(&mut wire::BillMonth)) -> Result<Month, Error> {
        let mut month =
            wire::BillMonth { first_day: 20_758, currency: "USD".into(), amount_micros: -1_500_000, estimated: true };
        change(&mut month);
        Month::try_from(&month)
    }

    #[test]
    fn what_is_written_is_read_and_nothing_but_a_currency_and_possible_amounts() {
        let one = month(|_| {}).unwrap();
        assert_eq!(Month::try_from(&wire::BillMonth::from(&one)).unwrap(), one);
        let kept = toml::to_string(&one).unwrap();
        assert_eq!(toml::from_str::<Month>(&kept).unwrap(), one);
        assert!(toml::from_str::<Month>(&kept.replace("USD", "Kim")).is_err());
        for odd in ["", "usd", "US", "Kim", "USDX", "<b>", "é1", "£"] {
            assert_eq!(month(|m| m.currency = odd.into()), Err(Error::Currency), "{odd}");
        }
        for day in [0_u32, 20_757, 20_759, u32::MAX] {
            let expected = if day == 0 { Ok(0) } else { Err(Error::Month(day)) };
            assert_eq!(month(|m| m.first_day = day).map(|m| m.first_day), expected);
        }
        assert_eq!(month(|m| m.amount_micros = i64::MIN), Err(Error::Amount));
    }

    #[test]
    fn amounts_are_read_as_aws_writes_them() {
        let read = ["12.3456789", "0", "-0.0000004", "-3.5", "1E1"].map(|text| micros(text).unwrap());
        assert_eq!(read, [12_345_679, 0, 0, -3_500_000, 10_000_000]);
        for odd in ["", "Kim Doe", "NaN", "inf", "1e30", "1,5"] {
            assert_eq!(micros(odd), Err(Error::Amount), "{odd}");
        }
    }
}
