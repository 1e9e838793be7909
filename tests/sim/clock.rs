//! Simulated time in milliseconds since 1970, and the wall clock of Europe/London.

use jiff::Timestamp;

/// Milliseconds since 1970, UTC.
pub type Ms = i64;
/// One second.
pub const SECOND: Ms = 1000;
/// One minute.
pub const MINUTE: Ms = 60 * SECOND;
/// One hour.
pub const HOUR: Ms = 60 * MINUTE;
/// One day of 24 hours.
pub const DAY: Ms = 24 * HOUR;

/// As the decision has it.
pub fn stamp(at: Ms) -> Timestamp {
    Timestamp::from_millisecond(at).unwrap_or(Timestamp::MAX)
}

/// Days since 1970 of a date (Howard Hinnant's `days_from_civil`).
pub const fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let of_era = year - era * 400;
    let of_year = (153 * (month + if month > 2 { -3 } else { 9 }) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

/// Year, month and day of a day since 1970.
pub fn date(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let of_era = days - era * 146_097;
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (year + era * 400 + i64::from(month <= 2), month, day)
}

/// Monday is 0.
pub const fn weekday(days: i64) -> i64 {
    (days + 3).rem_euclid(7)
}

/// When summer time begins and ends, by years since 1970: at 01:00 UTC on the last Sunday of March and of October.
const SUMMERS: [(Ms, Ms); 200] = {
    let mut summers = [(0, 0); 200];
    let mut year = 0;
    while year < summers.len() {
        let march = days(1970 + year as i64, 3, 31);
        let october = days(1970 + year as i64, 10, 31);
        let begin = march - (weekday(march) + 1) % 7;
        let end = october - (weekday(october) + 1) % 7;
        summers[year] = (begin * DAY + HOUR, end * DAY + HOUR);
        year += 1;
    }
    summers
};

/// Whether it is summer time in London.
fn is_summer(at: Ms) -> bool {
    const YEAR: Ms = 31_556_952_000; // its few hours beside the calendar's year do not reach into summer
    let year = usize::try_from(at.div_euclid(YEAR)).unwrap_or(usize::MAX);
    SUMMERS.get(year).is_some_and(|(begin, end)| *begin <= at && at < *end)
}

/// The instant at which London's clocks show so many milliseconds after midnight on a day. What they skip is an hour later,
/// what they show twice is the first.
pub fn london(day: i64, of_day: Ms) -> Ms {
    let at = day * DAY + of_day;
    if is_summer(at - HOUR) { at - HOUR } else { at }
}

/// The day that London's calendar shows.
pub fn london_day(at: Ms) -> i64 {
    (if is_summer(at) { at + HOUR } else { at }).div_euclid(DAY)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn london_changes_its_clocks() {
        let at = |month, day, hour, minute| london(days(2027, month, day), hour * HOUR + minute * MINUTE);
        let utc = |text: &str| text.parse::<Timestamp>().expect("a time").as_millisecond();
        assert_eq!(at(3, 27, 2, 0), utc("2027-03-27T02:00:00Z"));
        assert_eq!(at(3, 28, 0, 30), utc("2027-03-28T00:30:00Z"));
        assert_eq!(at(3, 28, 1, 30), utc("2027-03-28T01:30:00Z"), "skipped: 02:30 on the clock");
        assert_eq!(at(3, 28, 2, 0), utc("2027-03-28T01:00:00Z"));
        assert_eq!(at(10, 31, 1, 30), utc("2027-10-31T00:30:00Z"), "the first of two");
        assert_eq!(at(10, 31, 2, 0), utc("2027-10-31T02:00:00Z"));
        assert_eq!(date(days(2027, 10, 31)), (2027, 10, 31));
        assert_eq!(weekday(days(2027, 10, 31)), 6);
    }
}
