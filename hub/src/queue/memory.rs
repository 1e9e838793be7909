//! What the queue holds in memory: each command that has not ended, and each agent's line of numbers.
//!
//! Plain data under the queue's one lock. Nothing here waits, and nothing here is told before the store has it.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use jiff::Timestamp;
use sfdata_common::{
    ids::{AgentId, CommandId, Position},
    limits,
    outcome::Outcome,
    telemetry::traces::TraceContext,
};
use sfdata_proto::v1 as wire;
use tokio::sync::mpsc;

use super::{Error, Watcher};
use crate::{
    authorize::Order,
    lifecycle::{self, Event, State},
    store::{Batch, Store, keys, records},
};

#[derive(Debug)]
pub(super) struct Target {
    pub(super) position: Position,
    pub(super) state: State,
    /// The store knows that it may have left.
    pub(super) handed_over: bool,
    /// It may have left in an earlier epoch, so that an agent which has not seen this place may know it all the same.
    pub(super) earlier: bool,
    pub(super) changed: Timestamp,
    pub(super) outcome: Option<Outcome>,
    /// How far it is in this state, as told last.
    pub(super) progress: Option<Box<wire::CommandProgress>>,
}

#[derive(Debug)]
pub(super) struct Live {
    pub(super) order: Arc<Order>,
    /// Where its trace goes on; not after a restart.
    pub(super) trace: Option<TraceContext>,
    pub(super) targets: HashMap<AgentId, Target>,
    /// Durable: may be sent.
    pub(super) ready: bool,
    pub(super) unfinished: usize,
    /// Targets whose end is not yet durable and told.
    pub(super) untold: usize,
    pub(super) watchers: Vec<mpsc::Sender<wire::CommandEvent>>,
}

impl Live {
    pub(super) fn new(order: Arc<Order>, targets: HashMap<AgentId, Target>) -> Self {
        let unfinished = targets.values().filter(|target| !target.state.is_final()).count();
        Self { order, trace: None, targets, ready: false, unfinished, untold: unfinished, watchers: Vec::new() }
    }

    pub(super) fn watch(&mut self) -> Watcher {
        let (sender, watcher) = mpsc::channel(limits::WATCH_BACKLOG.max(8 * self.targets.len()));
        self.watchers.retain(|watcher| !watcher.is_closed());
        if self.watchers.len() >= limits::WATCHERS_PER_COMMAND {
            self.watchers.remove(0);
        }
        self.watchers.push(sender);
        watcher
    }

    pub(super) fn tell(&mut self, event: &wire::CommandEvent) {
        // States are never left out: a watcher that does not keep up with them is dropped, asks again and is told where
        // everything stands. Steps of progress are left out while it is behind; parts of an answer only where there is
        // no more room than states need.
        let room = |watcher: &mpsc::Sender<_>| match &event.progress {
            None => true,
            Some(progress) if progress.sealed.is_some() => watcher.capacity() > watcher.max_capacity() / 8,
            Some(_) => watcher.capacity() >= watcher.max_capacity() / 2,
        };
        self.watchers.retain(|watcher| !room(watcher) || watcher.try_send(event.clone()).is_ok());
    }
}

#[derive(Debug)]
pub(super) struct Line {
    pub(super) record: records::Line,
    /// Numbers of commands that have not ended and that the agent is not known to have accepted.
    pub(super) pending: BTreeMap<u64, CommandId>,
    pub(super) unfinished: usize,
    pub(super) connected: bool,
}

impl Line {
    pub(super) fn new(epoch: u64) -> Self {
        let record = records::Line { epoch, next: 1, accepted: 0 };
        Self { record, pending: BTreeMap::new(), unfinished: 0, connected: false }
    }

    pub(super) fn give(&mut self, command: CommandId) -> Position {
        let position = Position { epoch: self.record.epoch, sequence: self.record.next };
        self.record.next += 1;
        self.pending.insert(position.sequence, command);
        position
    }

    pub(super) fn accepted(&mut self, position: Position) {
        if position.epoch == self.record.epoch {
            self.record.accepted = self.record.accepted.max(position.sequence);
            self.pending.remove(&position.sequence);
        }
    }
}

#[derive(Default)]
pub(super) struct Inner {
    pub(super) lines: HashMap<AgentId, Line>,
    pub(super) live: HashMap<CommandId, Live>,
    pub(super) by_expiry: BTreeSet<(Timestamp, CommandId)>,
}

impl Inner {
    pub(super) fn load(&mut self, store: &Store, id: CommandId, epoch: u64, moved: &mut Batch) -> Result<(), Error> {
        let Some(records::Command { envelope: Some(envelope), submitted }) = store.get(&keys::command(id))? else {
            return Ok(());
        };
        let submitted = Timestamp::from_millisecond(submitted).unwrap_or_default();
        let order = Order::stored(envelope, submitted).map_err(|source| Error::Stored(id, source))?;
        let mut targets = HashMap::new();
        for item in store.scan::<records::Delivery>(&keys::deliveries(id)) {
            let (key, record) = item?;
            let Ok(agent) = String::from_utf8_lossy(&key).parse::<AgentId>() else { continue };
            let mut target = Target {
                position: Position { epoch: record.epoch, sequence: record.sequence },
                state: if record.handed_over { State::Sent } else { State::Waiting },
                handed_over: record.handed_over,
                earlier: record.earlier,
                changed: Timestamp::from_millisecond(record.changed).unwrap_or_default(),
                outcome: record.outcome.and_then(|outcome| Outcome::try_from(outcome).ok()),
                progress: None,
            };
            match &target.outcome {
                Some(outcome) => target.state = State::of(outcome),
                None => {
                    let line = self.lines.entry(agent.clone()).or_insert_with(|| Line::new(epoch));
                    line.unfinished += 1;
                    if target.position.epoch == epoch {
                        line.pending.insert(target.position.sequence, id);
                    } else {
                        target.position = line.give(id); // after a restore: a place in the new epoch
                        target.earlier = target.handed_over;
                        moved.put(keys::line(&agent), &line.record);
                        moved.put(keys::delivery(id, &agent), &target.record(None));
                    }
                }
            }
            targets.insert(agent, target);
        }
        self.by_expiry.insert((order.command.expires, id));
        self.live.insert(id, Live { ready: true, ..Live::new(Arc::new(order), targets) });
        Ok(())
    }
}

impl Live {
    /// Take one step at one target and tell watchers.
    pub(super) fn step(&mut self, agent: &AgentId, event: Event, now: Timestamp) -> Result<Position, Error> {
        let id = self.order.command.id;
        let target = self.targets.get_mut(agent).ok_or_else(|| Error::Unknown(id, agent.clone()))?;
        let before = target.state;
        target.state = lifecycle::next(before, event)?;
        let position = target.position;
        if target.state != before {
            target.changed = now;
            target.progress = None;
            let event = target.event(id, agent);
            self.tell(&event);
        }
        Ok(position)
    }
}

impl Target {
    pub(super) fn record(&self, receipt: Option<wire::Envelope>) -> records::Delivery {
        records::Delivery {
            epoch: self.position.epoch,
            sequence: self.position.sequence,
            handed_over: self.handed_over,
            earlier: self.earlier,
            outcome: self.outcome.as_ref().map(Outcome::to_wire),
            receipt,
            changed: self.changed.as_millisecond(),
        }
    }

    pub(super) fn event(&self, id: CommandId, agent: &AgentId) -> wire::CommandEvent {
        wire::CommandEvent {
            command_id: id.to_string(),
            agent_id: agent.to_string(),
            state: self.state.to_wire().into(),
            at_unix_ms: self.changed.as_millisecond(),
            outcome: self.outcome.as_ref().map(Outcome::to_wire),
            progress: self.progress.as_deref().filter(|_| self.outcome.is_none()).cloned(),
        }
    }
}
