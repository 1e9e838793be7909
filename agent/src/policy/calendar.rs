//! The LA's freezes: whole days in Europe/London in which its policy lets less through.

use jiff::{Timestamp, civil::Date};
use serde::Deserialize;
use sfdata_common::{limits, policy::local};

/// One `[[freeze]]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Freeze {
    /// What it is for, as operators are told.
    pub name: String,
    /// Its first day.
    pub from: Date,
    /// Its last day, which is part of it.
    pub to: Date,
}

impl Freeze {
    /// Whether it is in force at that time.
    pub fn holds(&self, at: Timestamp) -> bool {
        (self.from..=self.to).contains(&local(at).date())
    }

    /// What is wrong with it.
    pub fn odd(&self) -> Option<&'static str> {
        let named = !self.name.trim().is_empty() && self.name.len() <= limits::FREEZE_NAME_BYTES;
        if !named || self.name.contains(char::is_control) {
            Some("has no name that can be told: write 1 to 100 characters on one line")
        } else if self.from > self.to {
            Some("ends before it begins: `to` is its last day, and not before `from`")
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use jiff::{ToSpan as _, tz::TimeZone};
    use proptest::prelude::*;
    use sfdata_common::policy::ZONE;

    use super::*;

    fn freeze(from: &str, to: &str) -> Freeze {
        Freeze { name: "SSDA903 return".into(), from: from.parse().unwrap(), to: to.parse().unwrap() }
    }

    #[test]
    fn a_freeze_is_of_whole_days_where_the_la_is() {
        for (from, to, at, holds) in [
            // Summer time: midnight in London is 23:00 of the day before in UTC.
            ("2027-04-01", "2027-04-30", "2027-03-31T22:59:59Z", false),
            ("2027-04-01", "2027-04-30", "2027-03-31T23:00:00Z", true),
            ("2027-04-01", "2027-04-30", "2027-04-30T22:59:59Z", true),
            ("2027-04-01", "2027-04-30", "2027-04-30T23:00:00Z", false),
            // The day on which the clock goes forward has 23 hours, the one on which it goes back 25.
            ("2027-03-28", "2027-03-28", "2027-03-27T23:59:59Z", false),
            ("2027-03-28", "2027-03-28", "2027-03-28T00:00:00Z", true),
            ("2027-03-28", "2027-03-28", "2027-03-28T22:59:59Z", true),
            ("2027-03-28", "2027-03-28", "2027-03-28T23:00:00Z", false),
            ("2027-10-31", "2027-10-31", "2027-10-30T22:59:59Z", false),
            ("2027-10-31", "2027-10-31", "2027-10-30T23:00:00Z", true),
            ("2027-10-31", "2027-10-31", "2027-10-31T23:59:59Z", true),
            ("2027-10-31", "2027-10-31", "2027-11-01T00:00:00Z", false),
            // Over a year's end.
            ("2026-12-24", "2027-01-03", "2026-12-31T23:59:59Z", true),
            ("2026-12-24", "2027-01-03", "2027-01-03T23:59:59Z", true),
            ("2026-12-24", "2027-01-03", "2027-01-04T00:00:00Z", false),
        ] {
            assert_eq!(freeze(from, to).holds(at.parse().unwrap()), holds, "{from} to {to} at {at}");
        }
    }

    #[test]
    fn what_can_not_be_meant_is_told() {
        assert_eq!(freeze("2027-04-01", "2027-04-01").odd(), None);
        assert!(freeze("2027-04-02", "2027-04-01").odd().unwrap().contains("ends before"));
        assert!(Freeze { name: " ".into(), ..freeze("2027-04-01", "2027-04-01") }.odd().is_some());
        assert!(Freeze { name: "a\nb".into(), ..freeze("2027-04-01", "2027-04-01") }.odd().is_some());
    }

    proptest! {
        #[test]
        fn it_holds_from_midnight_to_midnight_and_at_no_other_time(start in 0i64..20_000, days in 0i64..400, off in -2_000i64..12_000) {
            let from = jiff::civil::date(2000, 1, 1) + start.days();
            let freeze = Freeze { name: "x".into(), from, to: from + days.days() };
            let midnight = |day: Date| day.to_zoned(ZONE).unwrap().timestamp();
            let (begin, end) = (midnight(freeze.from), midnight(freeze.to + 1.day()));
            let at = begin + (off * 3_600).seconds();
            prop_assert_eq!(freeze.holds(at), begin <= at && at < end, "{}", at.to_zoned(TimeZone::UTC));
            prop_assert!(freeze.holds(begin) && !freeze.holds(begin - 1.second()));
            prop_assert!(freeze.holds(end - 1.second()) && !freeze.holds(end));
        }
    }
}
