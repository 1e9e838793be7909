//! The newest commands, looked at again and again: what is new and what has changed, and of what has ended nothing.

use std::collections::HashMap;

use sfdata_common::ids::CommandId;
use sfdata_proto::v1::CommandSummary;

use super::{Commands, LIST, summary};
use crate::store;

/// What one watcher was told of them.
#[derive(Debug, Default)]
pub struct Newest {
    told: HashMap<CommandId, Told>,
}

#[derive(Debug)]
struct Told {
    summary: CommandSummary,
    /// Nothing more can happen to it: it is not read again.
    ended: bool,
}

impl Commands {
    /// Of the newest `limit` commands, 0 for the bound of a list, those that the watcher does not know as they are; newest
    /// first.
    pub fn changed(&self, newest: &mut Newest, limit: u32) -> Result<Vec<CommandSummary>, store::Error> {
        let limit = match limit as usize {
            0 => LIST,
            limit => limit.min(LIST),
        };
        let (mut told, mut changed) = (HashMap::with_capacity(newest.told.len()), Vec::new());
        for id in self.newest(limit)? {
            let before = match newest.told.remove(&id) {
                Some(before) if before.ended => {
                    told.insert(id, before);
                    continue;
                }
                before => before,
            };
            let Some(order) = self.order(id)? else { continue };
            // Asked first: what ends between the two is looked at once more.
            let ended = self.queue.states(id).is_none();
            let summary = summary(&order, &self.targets(id)?);
            if before.is_none_or(|before| before.summary != summary) {
                changed.push(summary.clone());
            }
            told.insert(id, Told { summary, ended });
        }
        newest.told = told;
        Ok(changed)
    }
}
