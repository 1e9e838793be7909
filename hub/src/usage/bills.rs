//! What AWS charges, as agents read it: taken in durably and once, and kept by the month apart from what was used.
//!
//! A later reading of the same book replaces an earlier one. An agent that lost its book begins another, whose readings count
//! anew: there the one that was read last holds.

use jiff::Timestamp;
use sfdata_common::{
    ids::AgentId,
    limits,
    usage::{Hour, bill::Month},
};
use sfdata_proto::v1 as wire;

use super::{DAYS_KEPT, Usage};
use crate::store::{self, Batch, keys, records::UsageBill};

impl Usage {
    /// Take in what an agent read. What can't be is counted, told in the log, and confirmed all the same.
    pub async fn take_bill(
        &self,
        agent: &AgentId,
        told: wire::Bill,
        now: Timestamp,
    ) -> Result<wire::BillKept, store::Error> {
        let wire::Bill { book, revision, read_unix_ms, months } = told;
        // A clock that is ahead must not keep out what is read when it was set.
        let read = read_unix_ms.clamp(0, now.as_millisecond());
        let _held = self.hold(agent).await;
        let mut batch = Batch::default();
        for month in months.iter().take(limits::BILL_MONTHS) {
            match Month::try_from(month) {
                Ok(month) if is_in_time(month.first_day, now) => {
                    let key = keys::usage(keys::USAGE_BILLS, agent, month.first_day);
                    let told = UsageBill { month: Some((&month).into()), book, revision, read };
                    if self.store.get::<UsageBill>(&key)?.is_none_or(|known| is_later(&told, &known)) {
                        batch.put(key, &told);
                    }
                }
                Ok(month) => {
                    self.refuse(
                        agent,
                        "time",
                        &format!("a bill of day {} is too old or has not begun", month.first_day),
                    );
                }
                Err(error) => self.refuse(agent, "malformed", &error.to_string()),
            }
        }
        let surplus = months.len().saturating_sub(limits::BILL_MONTHS);
        if surplus > 0 {
            self.refuse(agent, "too-many", &format!("{surplus} months more than a bill may have"));
        }
        self.store.commit(batch).await?;
        Ok(wire::BillKept { book, revision })
    }

    /// Each agent's months that begin from one day until before another, in order.
    pub fn bills(&self, agents: &[AgentId], from: u32, until: u32) -> Result<Vec<(AgentId, UsageBill)>, store::Error> {
        let mut bills = Vec::new();
        for agent in agents {
            let key = |day| keys::usage(keys::USAGE_BILLS, agent, day);
            for item in self.store.range(key(from), key(until)) {
                bills.push((agent.clone(), item?.1));
            }
        }
        Ok(bills)
    }
}

fn is_later(told: &UsageBill, known: &UsageBill) -> bool {
    if told.book == known.book { told.revision > known.revision } else { told.read >= known.read }
}

/// Begun, and not older than usage is kept.
fn is_in_time(first_day: u32, now: Timestamp) -> bool {
    let today = Hour::of(now + limits::CLOCK_SKEW).day();
    (today.saturating_sub(DAYS_KEPT)..=today).contains(&first_day)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::usage::tests::{Bench, now};

    /// 2026-06-01, the month of the bench's clock, and the one before.
    const JUNE: u32 = 20_605;
    const MAY: u32 = 20_574;

    fn bill(book: u64, revision: u64, read: i64, months: &[(u32, i64)]) -> wire::Bill {
        let month = |(first_day, amount_micros): &(u32, i64)| wire::BillMonth {
            first_day: *first_day,
            currency: "USD".into(),
            amount_micros: *amount_micros,
            estimated: *first_day == JUNE,
        };
        wire::Bill { book, revision, read_unix_ms: read, months: months.iter().map(month).collect() }
    }

    async fn take(bench: &Bench, told: wire::Bill) -> u64 {
        bench.usage.take_bill(&bench.agent, told, now()).await.unwrap().revision
    }

    fn known(bench: &Bench) -> Vec<(u32, i64)> {
        let bills = bench.usage.bills(std::slice::from_ref(&bench.agent), 0, u32::MAX).unwrap();
        let months = bills.into_iter().filter_map(|(_, bill)| bill.month);
        months.map(|month| (month.first_day, month.amount_micros)).collect()
    }

    #[tokio::test]
    async fn a_later_reading_takes_the_place_of_an_earlier_one_and_is_no_usage() {
        let (bench, ms) = (Bench::new(), now().as_millisecond());
        assert_eq!(take(&bench, bill(1, 1, ms - 9, &[(MAY, 30), (JUNE, 10)])).await, 1);
        take(&bench, bill(1, 3, ms - 7, &[(JUNE, -12)])).await;
        take(&bench, bill(1, 2, ms - 8, &[(MAY, 31), (JUNE, 11)])).await;
        assert_eq!(known(&bench), [(MAY, 31), (JUNE, -12)], "of each month the last that was told of it");
        take(&bench, bill(9, 1, ms - 8, &[(JUNE, 5)])).await;
        assert_eq!(known(&bench)[1], (JUNE, -12), "another book, read before");
        take(&bench, bill(9, 2, ms + 1_000_000_000, &[(JUNE, 6)])).await;
        assert_eq!(known(&bench)[1], (JUNE, 6));
        take(&bench, bill(4, 1, ms, &[(JUNE, 7)])).await;
        assert_eq!(known(&bench)[1], (JUNE, 7), "a clock that was ahead keeps nobody out");
        assert_eq!((bench.sum(), bench.usage.agents().unwrap().len()), (0, 1));
        let later = now() + jiff::SignedDuration::from_hours(24 * (3 * 366 + 32));
        bench.usage.forget(later).await.unwrap();
        assert_eq!(known(&bench), []);
    }

    #[tokio::test]
    async fn what_cannot_be_is_counted_confirmed_and_not_taken() {
        let bench = Bench::new();
        let (july, years_ago) = (JUNE + 30, JUNE - 4 * 365 - 1);
        let odd = [(july, 1), (years_ago, 1), (JUNE + 1, 1), (JUNE, i64::MAX), (MAY, 8)];
        assert_eq!(take(&bench, bill(1, 1, 0, &odd)).await, 1, "it is confirmed, lest it come for ever");
        let mut named = bill(1, 2, 0, &[(JUNE, 1)]);
        named.months[0].currency = "Kim Doe".into();
        take(&bench, named).await;
        take(&bench, bill(1, 3, 0, &[(MAY, 9); limits::BILL_MONTHS + 2])).await;
        assert_eq!(["time", "malformed", "too-many"].map(|reason| bench.refused(reason)), [2, 3, 1]);
        assert_eq!(known(&bench), [(MAY, 9)]);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        /// However often, late and in whatever order readings are told, of each month the last reading holds, and no usage comes
        /// of it.
        #[test]
        fn the_last_reading_holds_in_whatever_order_they_come(
            told in proptest::collection::vec((any::<bool>(), -100_i64..100), 1..12),
            order in proptest::collection::vec(any::<prop::sample::Index>(), 0..30),
        ) {
            let readings: Vec<wire::Bill> = told.iter().zip(1..).map(|((both, amount), revision)| {
                let months = [(JUNE, *amount), (MAY, amount + 1000)];
                // Clocks are set: the time of reading has no say within a book.
                bill(1, revision, 1_000 - i64::try_from(revision).unwrap(), &months[..1 + usize::from(*both)])
            }).collect();
            let mut last: std::collections::BTreeMap<u32, i64> = std::collections::BTreeMap::new();
            for reading in &readings {
                last.extend(reading.months.iter().map(|month| (month.first_day, month.amount_micros)));
            }
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let bench = Bench::new();
                for at in &order {
                    take(&bench, at.get(&readings).clone()).await;
                }
                for reading in readings.iter().rev() {
                    take(&bench, reading.clone()).await;
                }
                for at in &order {
                    take(&bench, at.get(&readings).clone()).await;
                }
                assert_eq!(known(&bench), last.into_iter().collect::<Vec<_>>());
                assert_eq!(bench.sum(), 0);
            });
        }
    }
}
