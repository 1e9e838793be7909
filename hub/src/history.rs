//! How each agent was over time: seconds by word of health and by phase and cause of power, from looks at the fleet every few
//! seconds, kept by five minutes, by the hour and by the day.
//!
//! By the hub's clock alone, whatever agents take the time to be. Slots are written when they are over, and at a stop in order;
//! hours and days are summed up anew from the next finer level in the same batch, so that one is never without the other and
//! writing again changes nothing. A hub that is killed loses what it saw since the last whole slot: five minutes at most. What
//! it did not see is missing, and counts as nothing.

pub mod level;
pub mod times;
pub mod watch;

use std::{
    collections::BTreeMap,
    ops::Range,
    sync::{Mutex, MutexGuard, PoisonError},
};

use jiff::Timestamp;
use sfdata_common::{ids::AgentId, limits};
use sfdata_proto::v1::{AgentState, AgentSummary};
use tokio::time::Instant;

use self::{
    level::Level,
    times::{State, Times},
    watch::{Slots, Watch},
};
use crate::store::{self, Batch, Store, keys, records};

/// Agents whose slots are written in one batch: some milliseconds of work, and a whole region.
const AGENTS_AT_ONCE: usize = 1_000;

/// The fleet's history; share it by `Arc`.
pub struct History {
    store: Store,
    began: Instant,
    watch: Mutex<Watch>,
}

impl History {
    /// Over what the store has.
    pub fn new(store: Store) -> Self {
        Self { store, began: Instant::now(), watch: Mutex::default() }
    }

    fn watch(&self) -> MutexGuard<'_, Watch> {
        self.watch.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Everybody is like this now.
    pub fn look(&self, agents: &[AgentSummary], now: Timestamp) -> Result<(), store::Error> {
        // Of a hub that has just started nobody knows whether it will be heard of.
        let early = self.began.elapsed() < limits::AWAY_AFTER;
        let known = agents.iter().filter(|agent| !(early && agent.state() == AgentState::Away));
        let states = known.filter_map(|agent| Some((agent.agent_id.parse().ok()?, State::of(agent)?))).collect();
        self.watch().look(states, now.as_second(), |agent, slot| stored(&self.store, agent, Level::Slot, slot))
    }

    /// Write the slots that are over. May run at any time.
    pub async fn pass(&self, now: Timestamp) -> Result<(), store::Error> {
        let present = Level::Slot.at(now.as_second());
        self.write(|slot| slot != present, now).await
    }

    /// Write everything that was seen: the hub stops.
    pub async fn close(&self, now: Timestamp) -> Result<(), store::Error> {
        self.write(|_| true, now).await
    }

    async fn write(&self, pick: impl Fn(u32) -> bool, now: Timestamp) -> Result<(), store::Error> {
        let open = self.watch().open(pick);
        for some in open.chunks(AGENTS_AT_ONCE) {
            let (store, slots) = (self.store.clone(), some.to_vec());
            let made = tokio::task::spawn_blocking(move || batch(&store, &slots)).await;
            self.store.commit(made.map_err(|_| store::Error::Stopped)??).await?;
            self.watch().written(some, now.as_second());
        }
        Ok(())
    }

    /// An agent's spans of that level, in order, the present one as far as it has come.
    pub fn read(&self, agent: &AgentId, level: Level, spans: Range<u32>) -> Result<Vec<(u32, Times)>, store::Error> {
        let open = self.watch().of(agent);
        let key = |number| keys::history(level.kind(), agent, number);
        let mut found: BTreeMap<u32, Times> = BTreeMap::new();
        for item in self.store.range::<records::History>(key(spans.start), key(spans.end)) {
            let (key, record) = item?;
            found.extend(keys::history_at(&key).map(|number| (number, record.into())));
        }
        for slot in open.keys() {
            let number = level.at(Level::Slot.begin(*slot));
            if spans.contains(&number) {
                found.insert(number, anew(&self.store, agent, level, number, &open)?);
            }
        }
        Ok(found.into_iter().collect())
    }

    /// Forget what is too old. May run at any time.
    pub async fn forget(&self, now: Timestamp) -> Result<(), store::Error> {
        for level in Level::ALL {
            let oldest = now.saturating_sub(level.kept()).unwrap_or(Timestamp::UNIX_EPOCH);
            self.store.forget(level.kind(), level.at(oldest.as_second())).await?;
        }
        Ok(())
    }
}

/// These slots, and what they change in hours and days.
fn batch(store: &Store, slots: &[(AgentId, Slots)]) -> Result<Batch, store::Error> {
    let mut batch = Batch::default();
    for (agent, changed) in slots {
        for level in Level::ALL {
            let mut numbers: Vec<u32> = changed.keys().map(|slot| level.at(Level::Slot.begin(*slot))).collect();
            numbers.dedup();
            for number in numbers {
                let times = anew(store, agent, level, number, changed)?;
                batch.put(keys::history(level.kind(), agent, number), &times.span(0));
            }
        }
    }
    Ok(batch)
}

/// A span as it is with these slots, which may not be written yet.
fn anew(store: &Store, agent: &AgentId, level: Level, number: u32, changed: &Slots) -> Result<Times, store::Error> {
    if changed.range(level.slots(number)).next().is_none() {
        return stored(store, agent, level, number);
    }
    let Some((finer, parts)) = level.parts(number) else {
        return Ok(changed.get(&number).cloned().unwrap_or_default());
    };
    let parts = parts.map(|part| anew(store, agent, finer, part, changed)).collect::<Result<Vec<_>, _>>()?;
    let sum = Times::sum(&parts);
    // A clock that was set back far leads to where the finer records are no longer kept.
    let before = stored(store, agent, level, number)?;
    Ok(if before.watched() > sum.watched() { before } else { sum })
}

fn stored(store: &Store, agent: &AgentId, level: Level, number: u32) -> Result<Times, store::Error> {
    let record = store.get::<records::History>(&keys::history(level.kind(), agent, number))?;
    Ok(record.map(Times::from).unwrap_or_default())
}

#[cfg(test)]
mod tests;
