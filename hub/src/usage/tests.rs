//! What agents tell is taken in once, whatever they tell and however often.

use proptest::prelude::*;
use sfdata_common::usage::{Component, Meter};

use super::*;

const HOUR: u32 = 495_012; // noon

pub(super) fn now() -> Timestamp {
    Timestamp::from_second(Hour(HOUR).begin() + 1800).unwrap()
}

fn record(revision: u64, hour: u32, amount: u64) -> wire::UsageRecord {
    let key = Key::new(Meter::FargateCpu, Component::Daemon);
    (&Record { revision, hour: Hour(hour), key, amount }).into()
}

fn batch(book: u64, records: Vec<wire::UsageRecord>) -> wire::UsageBatch {
    wire::UsageBatch { book, region: "eu-west-2".into(), records }
}

pub(super) struct Bench {
    pub(super) usage: Usage,
    pub(super) agent: AgentId,
    home: tempfile::TempDir,
}

impl Bench {
    pub(super) fn new() -> Self {
        let home = tempfile::tempdir().unwrap();
        let store = Store::create(home.path(), Metrics::default()).unwrap();
        Self { usage: Usage::new(store, Metrics::default()), agent: "camden".parse().unwrap(), home }
    }

    async fn take(&self, told: wire::UsageBatch) -> u64 {
        self.usage.take(&self.agent, told, now()).await.unwrap().revision
    }

    /// All that is known, by the day.
    pub(super) fn sum(&self) -> u64 {
        let days = self.usage.days(std::slice::from_ref(&self.agent), 0, u32::MAX).unwrap();
        let amounts = days.iter().flat_map(|(_, _, day)| &day.amounts);
        amounts.map(|amount| amount.record.as_ref().unwrap().amount).sum()
    }

    pub(super) fn refused(&self, reason: &'static str) -> u64 {
        self.usage.metrics.usage_refused.value(reason)
    }
}

#[tokio::test]
async fn what_comes_again_late_or_out_of_order_counts_once() {
    let bench = Bench::new();
    assert_eq!(bench.take(batch(1, vec![record(1, HOUR, 60), record(2, HOUR - 1, 100)])).await, 2);
    bench.take(batch(1, vec![record(1, HOUR, 60), record(2, HOUR - 1, 100)])).await;
    assert_eq!(bench.sum(), 160);
    bench.take(batch(1, vec![record(3, HOUR, 50)])).await;
    assert_eq!(bench.sum(), 150, "a later revision holds, also where it is less");
    bench.take(batch(1, vec![record(1, HOUR, 60)])).await;
    assert_eq!(bench.sum(), 150);
    bench.take(batch(9, vec![record(1, HOUR, 20)])).await;
    assert_eq!(bench.sum(), 150, "a new book knows less of an hour that has begun");
    bench.take(batch(9, vec![record(2, HOUR, 90)])).await;
    assert_eq!(bench.sum(), 190);
    bench.take(batch(1, vec![record(3, HOUR, 50)])).await;
    assert_eq!(bench.sum(), 190);
    bench.take(wire::UsageBatch { region: "<b>".into(), ..batch(9, vec![record(3, HOUR, 90)]) }).await;
    bench.usage.store.close().await;
    drop(bench.usage.store);
    let again = Store::open(bench.home.path(), Metrics::default()).unwrap();
    let days: Vec<UsageDay> = again.scan(keys::USAGE_DAYS).map(|day| day.unwrap().1).collect();
    assert_eq!((days.len(), days[0].first_hour, days[0].last_hour), (1, HOUR - 1, HOUR));
    assert_eq!(days[0].region, "eu-west-2", "what is no region leaves the prices as they were");
}

#[tokio::test]
async fn what_cannot_be_is_counted_confirmed_and_not_taken() {
    let bench = Bench::new();
    let hours = [0, HOUR - 36 * 24, HOUR + 2, u32::MAX];
    let odd = hours.iter().enumerate().map(|(at, hour)| record(at as u64 + 1, *hour, 60)).collect();
    assert_eq!(bench.take(batch(1, odd)).await, 4, "it is confirmed, lest it come for ever");
    assert_eq!((bench.sum(), bench.refused("time")), (0, 4));
    bench.take(batch(1, vec![record(5, HOUR, u64::MAX)])).await;
    assert_eq!((bench.sum(), bench.refused("malformed")), (0, 1));

    // Twenty thousand jobs fit into no hour, and what was there stays.
    bench.take(batch(1, vec![record(6, HOUR, 60)])).await;
    for part in 0..40_u64 {
        let jobs = (0..500).map(|at| wire::UsageRecord {
            job: format!("job_{}", part * 500 + at),
            ..record(7 + part * 500 + at, HOUR, 1)
        });
        bench.take(batch(1, jobs.collect())).await;
    }
    let most = limits::USAGE_KEYS_PER_HOUR as u64;
    assert_eq!(bench.sum(), 60 + most - 1);
    let long = vec![record(u64::MAX, HOUR - 1, 1); limits::USAGE_BATCH + 3];
    bench.take(batch(1, long)).await;
    assert_eq!(bench.sum(), 60 + most);
    assert_eq!(bench.usage.agents().unwrap(), std::slice::from_ref(&bench.agent));
}

#[tokio::test]
async fn hours_go_after_60_days_and_their_days_stay() {
    let bench = Bench::new();
    bench.take(batch(1, vec![record(1, HOUR - 24, 60), record(2, HOUR, 60)])).await;
    let later = |days: i64| now() + jiff::SignedDuration::from_hours(days * 24);
    let hours = || bench.usage.store.scan::<UsageHour>(keys::USAGE_HOURS).count();
    bench.usage.forget(later(59)).await.unwrap();
    assert_eq!((hours(), bench.sum()), (2, 120));
    bench.usage.forget(later(62)).await.unwrap();
    assert_eq!((hours(), bench.sum()), (0, 120));
    bench.usage.forget(later(3 * 366 + 1)).await.unwrap();
    assert_eq!(bench.sum(), 0);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// However batches are repeated and shuffled, once all has come it counts as if each had come once and in order.
    #[test]
    fn no_order_and_no_repetition_changes_the_sum(
        told in proptest::collection::vec((0_u32..30, 0_u64..3600), 1..40),
        order in proptest::collection::vec(any::<prop::sample::Index>(), 0..80),
    ) {
        let records: Vec<wire::UsageRecord> =
            told.iter().zip(1..).map(|((back, amount), revision)| record(revision, HOUR - back, *amount)).collect();
        let last: BTreeMap<u32, u64> = told.iter().map(|(back, amount)| (*back, *amount)).collect();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let bench = Bench::new();
            for at in &order {
                bench.take(batch(1, vec![at.get(&records).clone()])).await;
            }
            bench.take(batch(1, records.clone())).await;
            for at in &order {
                bench.take(batch(1, vec![at.get(&records).clone()])).await;
            }
            assert_eq!(bench.sum(), last.values().sum::<u64>());
        });
    }
}
