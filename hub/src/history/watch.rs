//! What was seen of the fleet since it was last written: how each agent was at the last look, and its open slots, whole. Pure
//! but for what it asks of a slot that may have been written before.

use std::collections::{BTreeMap, HashMap, btree_map::Entry};

use sfdata_common::ids::AgentId;

use super::{
    level::{Level, pieces},
    times::{State, Times},
};

/// Slots of one agent.
pub type Slots = BTreeMap<u32, Times>;

/// See the file's head.
#[derive(Debug, Default)]
pub struct Watch {
    /// The last look, in seconds since the Unix epoch.
    last: Option<i64>,
    seen: HashMap<AgentId, State>,
    open: BTreeMap<AgentId, Slots>,
}

impl Watch {
    /// Everybody is like this now: from the last look until now it was as it was seen then. `known` tells what is written of a
    /// slot already.
    pub fn look<E>(
        &mut self,
        states: HashMap<AgentId, State>,
        now: i64,
        known: impl Fn(&AgentId, u32) -> Result<Times, E>,
    ) -> Result<(), E> {
        let from = self.last.replace(now).unwrap_or(now);
        let before = std::mem::replace(&mut self.seen, states);
        let mut slot_of = |agent: &AgentId, slot: u32, change: &dyn Fn(&mut Times)| {
            let slots = self.open.entry(agent.clone()).or_default();
            let times = match slots.entry(slot) {
                Entry::Occupied(open) => open.into_mut(),
                Entry::Vacant(new) => new.insert(known(agent, slot)?),
            };
            change(times);
            Ok(())
        };
        for (slot, seconds) in pieces(from, now) {
            for (agent, state) in &before {
                slot_of(agent, slot, &|times| times.add(state, seconds, Level::Slot.seconds()))?;
            }
        }
        for (agent, state) in &self.seen {
            if before.get(agent).is_some_and(|before| state.has_woken(before)) {
                slot_of(agent, Level::Slot.at(now), &Times::wake)?;
            }
        }
        Ok(())
    }

    /// The open slots that this picks.
    pub fn open(&self, pick: impl Fn(u32) -> bool) -> Vec<(AgentId, Slots)> {
        let picked = |slots: &Slots| -> Slots {
            slots.iter().filter(|(slot, _)| pick(**slot)).map(|(slot, times)| (*slot, times.clone())).collect()
        };
        let all = self.open.iter().map(|(agent, slots)| (agent.clone(), picked(slots)));
        all.filter(|(_, slots)| !slots.is_empty()).collect()
    }

    /// One agent's open slots.
    pub fn of(&self, agent: &AgentId) -> Slots {
        self.open.get(agent).cloned().unwrap_or_default()
    }

    /// These are written: those that are over, and did not change meanwhile, need not be remembered.
    pub fn written(&mut self, written: &[(AgentId, Slots)], now: i64) {
        let present = Level::Slot.at(now);
        for (agent, written) in written {
            if let Some(slots) = self.open.get_mut(agent) {
                slots.retain(|slot, times| *slot == present || written.get(slot) != Some(times));
            }
        }
        self.open.retain(|_, slots| !slots.is_empty());
    }
}
