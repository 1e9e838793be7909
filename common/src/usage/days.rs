//! Days as usage counts them: in UTC, since the Unix epoch.

use jiff::{civil::Date, tz::TimeZone};

use super::Hour;
use crate::Timestamp;

/// Months that are told together beside the present one: a year, and the same month of the year before.
pub const MONTHS_BEFORE: i32 = 12;

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

/// Whether a month begins on that day, and the day after its last where one does.
pub fn month_from(day: u32) -> Option<u32> {
    let date = date_of(day);
    (date.day() == 1 && day_number(date) == day).then(|| day_number(date.last_of_month()) + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_is_its_number() {
        let first = jiff::civil::date(2026, 11, 1);
        assert_eq!((day_number(first), date_of(20_758)), (20_758, first));
        assert_eq!(day_number(jiff::civil::date(1969, 1, 1)), 0);
        assert_eq!([20_757, 20_758, u32::MAX].map(month_from), [None, Some(20_788), None]);
    }
}
