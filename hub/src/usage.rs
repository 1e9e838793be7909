//! What agents used: taken in durably, once, however often and late it is told, and kept by hour and by day.
//!
//! A record replaces the earlier revision of its key in the same book of the agent. An agent that lost its book begins another
//! one, which knows less of the present hour: there the higher amount holds. So nothing that comes twice counts twice.

mod bills;
pub mod estimate;

use std::{
    collections::BTreeMap,
    hash::{BuildHasher as _, BuildHasherDefault, DefaultHasher},
    time::Duration,
};

use jiff::Timestamp;
use sfdata_common::{
    ids::AgentId,
    limits,
    usage::{Hour, Key, Record},
};
use sfdata_proto::v1 as wire;
use tokio::sync::{Mutex, MutexGuard};
use tracing::warn;

use crate::{
    metrics::Metrics,
    store::{
        self, Batch, Store, keys,
        records::{UsageAmount, UsageDay, UsageHour},
    },
};

/// How long usage is kept by hour.
const HOURS_KEPT: Duration = Duration::from_secs(60 * 24 * 3600);
/// How long usage is kept by day.
const DAYS_KEPT: u32 = 3 * 366;
/// Agents whose usage is written side by side; those that share a lock wait for one another.
const LOCKS: usize = 64;

/// The fleet's usage.
pub struct Usage {
    store: Store,
    metrics: Metrics,
    /// An hour is read, changed and written by one at a time.
    locks: [Mutex<()>; LOCKS],
}

impl Usage {
    /// Over what the store has.
    pub fn new(store: Store, metrics: Metrics) -> Self {
        Self { store, metrics, locks: std::array::from_fn(|_| Mutex::new(())) }
    }

    /// Take in what an agent tells. What can't be is counted, told in the log, and confirmed all the same: it would not be
    /// better the next time.
    pub async fn take(
        &self,
        agent: &AgentId,
        told: wire::UsageBatch,
        now: Timestamp,
    ) -> Result<wire::UsageKept, store::Error> {
        let wire::UsageBatch { book, region, records } = told;
        let kept = wire::UsageKept { book, revision: records.last().map_or(0, |record| record.revision) };
        let region: String = if is_region(&region) { region } else { String::new() };
        let mut hours: BTreeMap<Hour, Vec<Record>> = BTreeMap::new();
        for record in records.iter().take(limits::USAGE_BATCH) {
            match Record::try_from(record) {
                Ok(record) if is_in_time(record.hour, now) => hours.entry(record.hour).or_default().push(record),
                Ok(record) => self.refuse(
                    agent,
                    "time",
                    &format!("hour {} is older than agents keep it, or has not come yet", record.hour.0),
                ),
                Err(error) => self.refuse(agent, "malformed", &error.to_string()),
            }
        }
        let surplus = records.len().saturating_sub(limits::USAGE_BATCH);
        if surplus > 0 {
            self.refuse(agent, "too-many", &format!("{surplus} records more than a message may have"));
        }
        let _held = self.hold(agent).await;
        let mut batch = Batch::default();
        let mut days: BTreeMap<u32, BTreeMap<Hour, UsageHour>> = BTreeMap::new();
        for (hour, records) in hours {
            let key = keys::usage(keys::USAGE_HOURS, agent, hour.0);
            let mut of_hour: UsageHour = self.store.get(&key)?.unwrap_or_default();
            let mut known = known(&of_hour);
            let added =
                records.into_iter().map(|record| merge(&mut known, book, record)).filter(|taken| !taken).count();
            of_hour.amounts = known.values().map(|(book, record)| amount_of(*book, record)).collect();
            if added > 0 {
                self.refuse(agent, "too-many", &format!("{added} records more than hour {} may have", hour.0));
            }
            if !region.is_empty() {
                of_hour.region.clone_from(&region);
            }
            batch.put(key, &of_hour);
            days.entry(hour.day()).or_default().insert(hour, of_hour);
        }
        for (day, changed) in days {
            batch.put(keys::usage(keys::USAGE_DAYS, agent, day), &self.day(agent, day, changed)?);
        }
        self.store.commit(batch).await?;
        self.metrics.usage_records.add(records.len().try_into().unwrap_or(u64::MAX));
        Ok(kept)
    }

    /// Only the holder writes what this agent tells.
    async fn hold(&self, agent: &AgentId) -> MutexGuard<'_, ()> {
        let lock = BuildHasherDefault::<DefaultHasher>::default().hash_one(agent.as_str());
        self.locks[usize::try_from(lock % LOCKS as u64).unwrap_or_default()].lock().await
    }

    fn refuse(&self, agent: &AgentId, reason: &'static str, text: &str) {
        warn!(%agent, reason, text, "a record of usage is not taken");
        self.metrics.usage_refused.inc(reason);
    }

    /// A day anew from its hours; `changed` are not in the store yet.
    fn day(&self, agent: &AgentId, day: u32, mut changed: BTreeMap<Hour, UsageHour>) -> Result<UsageDay, store::Error> {
        let mut sums: BTreeMap<Key, u64> = BTreeMap::new();
        let mut made = UsageDay::default();
        for hour in (day * 24..day * 24 + 24).map(Hour) {
            let of_hour = match changed.remove(&hour) {
                Some(of_hour) => Some(of_hour),
                None => self.store.get(&keys::usage(keys::USAGE_HOURS, agent, hour.0))?,
            };
            let Some(of_hour) = of_hour else { continue };
            if made.first_hour == 0 {
                made.first_hour = hour.0;
            }
            (made.last_hour, made.region) = (hour.0, of_hour.region);
            for record in of_hour.amounts.iter().filter_map(|amount| Record::try_from(amount.record.as_ref()?).ok()) {
                let sum = sums.entry(record.key).or_default();
                *sum = sum.saturating_add(record.amount);
            }
        }
        let hour = Hour(day * 24);
        made.amounts =
            sums.into_iter().map(|(key, amount)| amount_of(0, &Record { revision: 0, hour, key, amount })).collect();
        Ok(made)
    }

    /// Forget what is too old. May run at any time.
    pub async fn forget(&self, now: Timestamp) -> Result<(), store::Error> {
        let oldest = Hour::of(now - HOURS_KEPT);
        let day = Hour::of(now).day().saturating_sub(DAYS_KEPT);
        self.store.forget(keys::USAGE_HOURS, oldest.day() * 24).await?;
        self.store.forget(keys::USAGE_DAYS, day).await?;
        self.store.forget(keys::USAGE_BILLS, day).await
    }

    /// Each agent's days from one until before another, in order.
    pub fn days(
        &self,
        agents: &[AgentId],
        from: u32,
        until: u32,
    ) -> Result<Vec<(AgentId, u32, UsageDay)>, store::Error> {
        let mut days = Vec::new();
        for agent in agents {
            for item in self
                .store
                .range(keys::usage(keys::USAGE_DAYS, agent, from), keys::usage(keys::USAGE_DAYS, agent, until))
            {
                let (key, day) = item?;
                if let Some((agent, number)) = keys::usage_at(&key[keys::USAGE_DAYS.len()..]) {
                    days.push((agent, number, day));
                }
            }
        }
        Ok(days)
    }

    /// All agents of which anything is known, those that were removed from the registry among them.
    pub fn agents(&self) -> Result<Vec<AgentId>, store::Error> {
        let mut agents = self.store.agents(keys::USAGE_DAYS)?;
        agents.extend(self.store.agents(keys::USAGE_BILLS)?);
        agents.sort();
        agents.dedup();
        Ok(agents)
    }
}

/// Not older than agents keep it, and not of the future: an agent's clock may be a little ahead.
fn is_in_time(hour: Hour, now: Timestamp) -> bool {
    Hour::of(now - limits::USAGE_KEPT) <= hour && hour <= Hour::of(now + limits::CLOCK_SKEW)
}

fn is_region(text: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=32).contains(&text.len()) && text.bytes().all(fits)
}

fn amount_of(book: u64, record: &Record) -> UsageAmount {
    UsageAmount { record: Some(record.into()), book }
}

/// An hour's records by key, each with its book.
type Known = BTreeMap<Key, (u64, Record)>;

fn known(hour: &UsageHour) -> Known {
    let records = hour.amounts.iter().filter_map(|amount| {
        let record = Record::try_from(amount.record.as_ref()?).ok()?;
        Some((record.key.clone(), (amount.book, record)))
    });
    records.collect()
}

/// Let a record take its place in its hour; false when there is none left.
fn merge(known: &mut Known, book: u64, record: Record) -> bool {
    let full = known.len() >= limits::USAGE_KEYS_PER_HOUR;
    match known.get_mut(&record.key) {
        Some((of, before)) => {
            let newer = if *of == book { record.revision > before.revision } else { record.amount >= before.amount };
            if newer {
                (*of, *before) = (book, record);
            }
        }
        None if full => return false,
        None => _ = known.insert(record.key.clone(), (book, record)),
    }
    true
}

#[cfg(test)]
mod tests;
