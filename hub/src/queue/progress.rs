//! How far commands are at their agents: told to watchers, and kept in memory alone.

use jiff::Timestamp;
use sfdata_common::ids::{AgentId, CommandId};
use sfdata_proto::v1 as wire;

use super::Queue;

impl Queue {
    /// How far a command is: told to watchers, and in memory until it changes its state. Parts of an answer are only told.
    pub fn progress(&self, agent: &AgentId, id: CommandId, progress: wire::CommandProgress, now: Timestamp) {
        if let Some(live) = self.lock().live.get_mut(&id)
            && let Some(target) = live.targets.get_mut(agent)
            && !target.state.is_final()
        {
            let mut event = target.event(id, agent);
            event.at_unix_ms = now.as_millisecond();
            if progress.sealed.is_none() {
                target.progress = Some(Box::new(progress.clone()));
            }
            event.progress = Some(progress);
            live.tell(&event);
        }
    }

    /// How far a command is at an agent, as told last.
    pub fn told(&self, agent: &AgentId, id: CommandId) -> Option<wire::CommandProgress> {
        let inner = self.lock();
        let target = inner.live.get(&id)?.targets.get(agent)?;
        target.progress.as_deref().filter(|_| target.outcome.is_none()).cloned()
    }
}
