//! What is known of AWS's bill, and when it is asked for again. Pure: the book keeps it, the meters ask.
//!
//! A question costs money. So when it may be put again is on disk before it is put, and neither a restart nor an agent that ends
//! in between repeats it.

use jiff::{SignedDuration, Span, Timestamp, civil::Date, tz::TimeZone};
use serde::{Deserialize, Serialize};
use sfdata_common::usage::{bill::Month, days::MONTHS_BEFORE};
use sfdata_proto::v1 as wire;

/// After an answer: AWS itself brings the bill up to date some times a day.
const EVERY: SignedDuration = SignedDuration::from_hours(24);
/// After a question that was not answered.
const AGAIN: SignedDuration = SignedDuration::from_hours(6);

/// As the book keeps it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Bill {
    /// Counts with each reading.
    revision: u64,
    /// Of the last reading, in milliseconds.
    read: i64,
    months: Vec<Month>,
    /// The revision that the hub has.
    kept: u64,
    /// Not to be asked before, in milliseconds.
    next: i64,
}

impl Bill {
    /// Whether it is time to ask. What is further ahead than ever was set comes from a clock that was wrong.
    pub(super) fn is_due(&self, now: Timestamp) -> bool {
        self.next <= now.as_millisecond() || self.next > (now + EVERY).as_millisecond()
    }

    /// It is asked now. To be durable before.
    pub(super) fn asked(&self, now: Timestamp) -> Self {
        Self { next: (now + AGAIN).as_millisecond(), ..self.clone() }
    }

    /// The answer: months that it has not told stay as they are at the hub.
    pub(super) fn answered(&self, now: Timestamp, months: Vec<Month>) -> Self {
        let next = (now + EVERY).as_millisecond();
        Self { revision: self.revision + 1, read: now.as_millisecond(), months, kept: self.kept, next }
    }

    /// What the hub may not have.
    pub(super) fn unsent(&self, book: u64) -> Option<wire::Bill> {
        let months = self.months.iter().map(wire::BillMonth::from);
        (self.revision > self.kept).then(|| wire::Bill {
            book,
            revision: self.revision,
            read_unix_ms: self.read,
            months: months.collect(),
        })
    }

    /// The hub has it; `None` where that is no news.
    pub(super) fn kept(&self, revision: u64) -> Option<Self> {
        let news = self.kept < revision && revision <= self.revision;
        news.then(|| Self { kept: revision, ..self.clone() })
    }
}

/// What is asked for: from the first day until before the last. AWS takes no day beyond the present month.
pub(super) fn span(now: Timestamp) -> (Date, Date) {
    let today = now.to_zoned(TimeZone::UTC).date();
    let from = today.first_of_month().saturating_sub(Span::new().months(MONTHS_BEFORE));
    (from, today.saturating_add(Span::new().days(1)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(hours: i64) -> Timestamp {
        Timestamp::from_second(495_012 * 3600).unwrap() + SignedDuration::from_hours(hours)
    }

    fn month(amount_micros: i64) -> Vec<Month> {
        vec![Month { first_day: 20_758, currency: "USD".parse().unwrap(), amount_micros, estimated: true }]
    }

    #[test]
    fn a_year_and_the_present_month_are_asked_for() {
        let of = |text: &str| span(text.parse().unwrap());
        let date = jiff::civil::date;
        assert_eq!(of("2026-11-24T06:00:00Z"), (date(2025, 11, 1), date(2026, 11, 25)));
        assert_eq!(of("2026-11-30T23:59:59Z"), (date(2025, 11, 1), date(2026, 12, 1)));
        assert_eq!(of("2026-12-01T00:00:00Z"), (date(2025, 12, 1), date(2026, 12, 2)));
    }

    #[test]
    fn it_is_asked_once_a_day_and_sooner_where_there_was_no_answer() {
        let bill = Bill::default();
        assert!(bill.is_due(at(0)));
        let asked = bill.asked(at(0));
        assert!(!asked.is_due(at(0)) && !asked.is_due(at(5)) && asked.is_due(at(6)));
        let answered = asked.answered(at(0), month(1));
        assert!(!answered.is_due(at(23)) && answered.is_due(at(24)));
        assert!(answered.is_due(at(-1)), "the clock was ahead");
        assert_eq!((asked.unsent(1), answered.unsent(1).map(|bill| bill.revision)), (None, Some(1)));
    }

    #[derive(Debug, Clone)]
    enum Event {
        Look,
        Answered,
        Told,
        Kept(u64),
        Restart,
    }

    fn event() -> impl Strategy<Value = Event> {
        prop_oneof![
            3 => Just(Event::Look),
            2 => Just(Event::Answered),
            2 => Just(Event::Told),
            1 => (0_u64..20).prop_map(Event::Kept),
            1 => Just(Event::Restart),
        ]
    }

    proptest! {
        /// Over restarts, connections that break and confirmations that come late, twice or of nothing: an answer is asked for
        /// once a day, and what the hub has in the end is the last one.
        #[test]
        fn the_last_answer_reaches_the_hub_and_no_day_has_two_of_them(
            events in prop::collection::vec((event(), 0_i64..30), 0..60),
        ) {
            let (mut bill, mut now, mut hub) = (Bill::default(), 0, (0, Vec::new()));
            let (mut last, mut answers, mut asked, mut pause) = (Vec::new(), 0, None, 0);
            let tell = |bill: &Bill, hub: &mut (u64, Vec<wire::BillMonth>)| if let Some(told) = bill.unsent(1) {
                // As the hub does it.
                if told.revision > hub.0 {
                    *hub = (told.revision, told.months);
                }
            };
            for (event, hours) in events {
                now += hours;
                match event {
                    Event::Look => if bill.is_due(at(now)) {
                        prop_assert!(asked.is_none_or(|before| now - before >= pause), "{asked:?} and {now}");
                        bill = bill.asked(at(now));
                        (asked, pause) = (Some(now), 6);
                    },
                    Event::Answered => {
                        pause = 24 + now - asked.unwrap_or(now);
                        answers += 1;
                        last = month(answers);
                        bill = bill.answered(at(now), last.clone());
                    }
                    Event::Told => tell(&bill, &mut hub),
                    // The hub confirms what it has, and nobody more than that.
                    Event::Kept(revision) if revision <= hub.0 => bill = bill.kept(revision).unwrap_or(bill),
                    Event::Kept(_) => {}
                    Event::Restart => {
                        let text = serde_json::to_vec(&bill).unwrap();
                        bill = serde_json::from_slice(&text).unwrap();
                    }
                }
            }
            tell(&bill, &mut hub);
            prop_assert_eq!(hub.1, last.iter().map(wire::BillMonth::from).collect::<Vec<_>>());
        }
    }
}
