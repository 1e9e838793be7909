//! Stop 6 on a command's path: every command that has not ended, and each agent's place in its order.
//!
//! Memory holds what is unfinished, the store holds everything. Changes are made in memory under one short lock and
//! handed to the store in the same order; what they lead to (an answer, a send, an event) waits until they are
//! durable. Should the store fail, the hub stops, so that memory never outlives a change that was lost.
//! Invariants: numbers are given without gaps per agent and epoch; a command that may have left for its agent
//! is ended only by that agent's word.

mod memory;
mod progress;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use jiff::Timestamp;
use sfdata_common::{
    command::ParseError,
    ids::{AgentId, CommandId, Position},
    limits,
    outcome::Outcome,
    telemetry::traces::TraceContext,
};
use sfdata_proto::v1 as wire;
use tokio::sync::{mpsc, watch};
use tracing::warn;

use memory::{Inner, Line, Live, Target};

use crate::{
    audit::{self, About as _},
    authorize::{Authorized, Order},
    lifecycle::{self, Event, Illegal, State},
    metrics::Metrics,
    store::{self, Batch, Store, Written, keys, records},
};

/// Why the queue does not take or change something.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// One agent's bound.
    #[error("agent {agent} already has {} commands waiting; cancel some or wait", limits::QUEUE_PER_AGENT)]
    AgentFull {
        /// Which.
        agent: AgentId,
    },
    /// The hub's bound.
    #[error("{} commands have not ended yet; wait for some to end", limits::UNFINISHED_COMMANDS)]
    Full,
    /// The same id for other bytes.
    #[error("command {0} exists already and says something else")]
    Taken(CommandId),
    /// A stored command that this release can't read.
    #[error("the stored command {0} can't be read; run the release that wrote it, or a later one")]
    Stored(CommandId, #[source] ParseError),
    /// Not known, or ended.
    #[error("command {0} is not waiting for agent {1}")]
    Unknown(CommandId, AgentId),
    /// Against the life cycle.
    #[error(transparent)]
    Illegal(#[from] Illegal),
    /// The store.
    #[error(transparent)]
    Store(#[from] store::Error),
}

/// Why an agent's own place and the hub's do not fit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Diverged {
    /// The agent forgot.
    #[error(
        "the agent's journal went back: it says {said}, and had accepted {accepted} before; \
         find out why its journal was lost, then remove the agent and invite it again"
    )]
    AgentWentBack {
        /// From its Hello.
        said: Position,
        /// What the hub knows.
        accepted: Position,
    },
    /// The hub forgot.
    #[error(
        "the agent has seen {said}, and this hub has given no more than {given}; \
         was the hub's store put back without sfdata-hub restore?"
    )]
    HubWentBack {
        /// From its Hello.
        said: Position,
        /// Last number given.
        given: Position,
    },
}

/// What is to leave for an agent: a command, or the void in its place.
#[derive(Debug, Clone)]
pub struct Outgoing {
    /// Its place.
    pub position: Position,
    /// The command; `None` is a void.
    pub order: Option<Arc<Order>>,
    /// Where its trace goes on.
    pub trace: Option<TraceContext>,
}

/// What to send next, and what must be durable before it may be sent.
pub struct Next {
    /// In order.
    pub outgoing: Vec<Outgoing>,
    /// The note that these may have left.
    pub first: Option<Written>,
}

/// Receives what happens to one command.
pub type Watcher = mpsc::Receiver<wire::CommandEvent>;

/// The queue; share it by `Arc`.
pub struct Queue {
    store: Store,
    metrics: Metrics,
    epoch: u64,
    inner: Mutex<Inner>,
    changes: watch::Sender<u64>,
}

impl Queue {
    /// Read what has not ended. What may have left for its agent counts as sent until the agent tells.
    pub async fn load(store: Store, metrics: Metrics, epoch: u64) -> Result<Self, Error> {
        let (mut inner, mut moved) = (Inner::default(), Batch::default());
        for item in store.scan::<records::Line>(keys::LINES) {
            let (key, record) = item?;
            let Ok(agent) = String::from_utf8_lossy(&key).parse::<AgentId>() else { continue };
            // After a restore numbers begin anew.
            let line = if record.epoch == epoch { Line { record, ..Line::new(epoch) } } else { Line::new(epoch) };
            inner.lines.insert(agent, line);
        }
        for item in store.scan::<()>(keys::UNFINISHED) {
            let (key, ()) = item?;
            let Some(id) = CommandId::from_bytes(&key) else { continue };
            inner.load(&store, id, epoch, &mut moved)?;
        }
        store.commit(moved).await?; // a place that was given stays
        Ok(Self { store, metrics, epoch, inner: Mutex::new(inner), changes: watch::channel(0).0 })
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Take a command; it may be sent once this has returned. `None` when it was handed in before: it is found, not
    /// doubled. Its trace is kept in memory only.
    pub async fn push(
        &self,
        authorized: &Authorized,
        trace: Option<TraceContext>,
        now: Timestamp,
    ) -> Result<Option<Watcher>, Error> {
        let order = authorized.order();
        let id = order.command.id;
        let (written, watcher) = {
            let mut inner = self.lock();
            match self.known(&inner, id)? {
                Some(known) if known != order.digest => return Err(Error::Taken(id)),
                // The first may not be durable yet: it is when this is.
                Some(_) => (self.store.submit(Batch::default()), None),
                None => {
                    let (written, watcher) = self.add(&mut inner, authorized, trace, now)?;
                    (written, Some(watcher))
                }
            }
        };
        written.await?;
        if let (Some(_), Some(live)) = (&watcher, self.lock().live.get_mut(&id)) {
            live.ready = true;
        }
        self.changed();
        Ok(watcher)
    }

    fn known(&self, inner: &Inner, id: CommandId) -> Result<Option<[u8; 32]>, Error> {
        if let Some(live) = inner.live.get(&id) {
            return Ok(Some(live.order.digest));
        }
        // Ids carry their time: one that is fresh and not in memory has ended, or never was.
        let stored = self.store.get::<records::Command>(&keys::command(id))?;
        Ok(stored.and_then(|record| record.envelope).map(|envelope| sfdata_common::keys::sha256(&envelope.payload)))
    }

    fn add(
        &self,
        inner: &mut Inner,
        authorized: &Authorized,
        trace: Option<TraceContext>,
        now: Timestamp,
    ) -> Result<(Written, Watcher), Error> {
        let order = authorized.order();
        let command = &order.command;
        if inner.live.len() >= limits::UNFINISHED_COMMANDS {
            return Err(Error::Full);
        }
        for agent in &command.targets {
            if inner.lines.get(agent).is_some_and(|line| line.unfinished >= limits::QUEUE_PER_AGENT) {
                return Err(Error::AgentFull { agent: agent.clone() });
            }
        }
        let mut batch = Batch::default();
        let record =
            records::Command { envelope: Some(order.envelope.clone()), submitted: order.submitted.as_millisecond() };
        batch.put(keys::command(command.id), &record);
        batch.put(keys::unfinished(command.id), &());
        batch.audit(audit::ordered(now, "command.submitted", command).about(&order.envelope));
        for approver in authorized.approvers() {
            let (actor, id) = (audit::operator(approver), command.id.to_string());
            batch.audit(audit::draft(now, "command.approved", actor, id, "").about(&order.envelope));
            batch.delete(keys::proposal(command.id));
        }
        let mut targets = HashMap::with_capacity(command.targets.len());
        for agent in &command.targets {
            let line = inner.lines.entry(agent.clone()).or_insert_with(|| Line::new(self.epoch));
            let position = line.give(command.id);
            line.unfinished += 1;
            let handed_over = line.connected;
            let target = Target {
                position,
                state: State::Waiting,
                handed_over,
                earlier: false,
                changed: now,
                outcome: None,
                progress: None,
            };
            batch.put(keys::line(agent), &line.record);
            batch.put(keys::delivery(command.id, agent), &target.record(None));
            if handed_over {
                batch.audit(dispatched(now, agent, command.id, position));
            }
            targets.insert(agent.clone(), target);
        }
        inner.by_expiry.insert((command.expires, command.id));
        let mut live = Live { trace, ..Live::new(Arc::clone(order), targets) };
        let watcher = live.watch();
        inner.live.insert(command.id, live);
        Ok((self.store.submit(batch), watcher))
    }

    /// An agent's session begins: settle what its journal says against what the hub believed. Gives the last
    /// number that needs no sending.
    pub fn hello(
        &self,
        agent: &AgentId,
        said: Position,
        running: &[CommandId],
        waiting: &[CommandId],
        now: Timestamp,
    ) -> Result<u64, Diverged> {
        let mut inner = self.lock();
        let inner = &mut *inner;
        let line = inner.lines.entry(agent.clone()).or_insert_with(|| Line::new(self.epoch));
        let given = Position { epoch: self.epoch, sequence: line.record.next - 1 };
        let accepted = Position { epoch: self.epoch, sequence: line.record.accepted };
        let last = if said.epoch == self.epoch { said.sequence } else { 0 };
        if said.epoch > self.epoch || last > given.sequence {
            return Err(Diverged::HubWentBack { said, given });
        }
        // Enrolment begins a journal in epoch 1 or later: an agent of none has lost it.
        if last < accepted.sequence || said.epoch == 0 {
            return Err(Diverged::AgentWentBack { said, accepted });
        }
        line.record.accepted = last;
        line.connected = true;
        let not_seen = line.pending.split_off(&(last + 1));
        let seen = std::mem::replace(&mut line.pending, not_seen);
        // What it runs from an earlier epoch is not sent again: a void goes in its place.
        let begun: Vec<CommandId> =
            line.pending.extract_if(.., |_, id| running.contains(id)).map(|(_, id)| id).collect();
        let began = |id: &CommandId| running.contains(id) && !waiting.contains(id);
        let events = line.pending.values().map(|id| (*id, Event::NotSeen)).chain(
            seen.into_values().chain(begun).map(|id| (id, if began(&id) { Event::Started } else { Event::Received })),
        );
        for (id, event) in events {
            if let Some(live) = inner.live.get_mut(&id) {
                if event == Event::NotSeen && live.targets.get(agent).is_some_and(|target| target.earlier) {
                    continue;
                }
                // What was believed lost in the queue and is in the journal was sent after all.
                if event != Event::NotSeen {
                    let _ = live.step(agent, Event::Sent, now);
                }
                if let Err(illegal) = live.step(agent, event, now) {
                    warn!(%agent, command = %id, error = %illegal, "a hello does not fit");
                    self.metrics.illegal_transitions.inc();
                }
            }
        }
        self.changed();
        Ok(last)
    }

    /// An agent's session ended.
    pub fn disconnected(&self, agent: &AgentId) {
        if let Some(line) = self.lock().lines.get_mut(agent) {
            line.connected = false;
        }
    }

    /// What is to leave for an agent after the number `cursor`, at most `limit`.
    pub fn next(&self, agent: &AgentId, cursor: u64, limit: usize, now: Timestamp) -> Next {
        let mut inner = self.lock();
        let inner = &mut *inner;
        let mut next = Next { outgoing: Vec::new(), first: None };
        let Some(line) = inner.lines.get(agent) else { return next };
        let mut batch = None;
        for sequence in (cursor + 1..line.record.next).take(limit) {
            let position = Position { epoch: self.epoch, sequence };
            let live = line.pending.get(&sequence).and_then(|id| inner.live.get_mut(id));
            let Some(live) = live else {
                // Why nothing goes in this place must be durable first, or a crash would bring the command back.
                batch.get_or_insert_with(Batch::default);
                next.outgoing.push(Outgoing { position, order: None, trace: None });
                continue;
            };
            if !live.ready {
                break;
            }
            let (order, id, trace) = (Arc::clone(&live.order), live.order.command.id, live.trace);
            if let Some(target) = live.targets.get_mut(agent)
                && !target.handed_over
            {
                target.handed_over = true;
                let batch = batch.get_or_insert_with(Batch::default);
                batch.put(keys::delivery(id, agent), &target.record(None));
                batch.audit(dispatched(now, agent, id, position));
            }
            if let Err(illegal) = live.step(agent, Event::Sent, now) {
                warn!(%agent, command = %id, error = %illegal, "a command that is about to be sent");
                self.metrics.illegal_transitions.inc();
            }
            next.outgoing.push(Outgoing { position, order: Some(order), trace });
        }
        next.first = batch.map(|batch| self.store.submit(batch));
        if !next.outgoing.is_empty() {
            self.changed();
        }
        next
    }

    /// The agent has a command in its journal, or began it.
    pub fn advanced(&self, agent: &AgentId, id: CommandId, event: Event, now: Timestamp) -> Result<(), Error> {
        let mut inner = self.lock();
        let inner = &mut *inner;
        let live = inner.live.get_mut(&id).ok_or_else(|| Error::Unknown(id, agent.clone()))?;
        let position = live.step(agent, event, now)?;
        if let Some(line) = inner.lines.get_mut(agent) {
            line.accepted(position);
        }
        self.changed();
        Ok(())
    }

    /// A command ended at an agent, with the agent's receipt and the place that it names, where there is one. Resolves
    /// when it is durable and told.
    pub async fn ended(
        &self,
        agent: &AgentId,
        id: CommandId,
        outcome: Outcome,
        receipt: Option<(wire::Envelope, Position)>,
        now: Timestamp,
    ) -> Result<(), Error> {
        let (written, event) = {
            let mut inner = self.lock();
            self.end(&mut inner, agent, id, outcome, receipt, now)?
        };
        written.await?;
        self.settle(id, &[event]);
        Ok(())
    }

    fn end(
        &self,
        inner: &mut Inner,
        agent: &AgentId,
        id: CommandId,
        outcome: Outcome,
        receipt: Option<(wire::Envelope, Position)>,
        now: Timestamp,
    ) -> Result<(Written, wire::CommandEvent), Error> {
        let live = inner.live.get_mut(&id).ok_or_else(|| Error::Unknown(id, agent.clone()))?;
        let target = live.targets.get_mut(agent).ok_or_else(|| Error::Unknown(id, agent.clone()))?;
        // What was done in an epoch that this hub forgot had been sent after all.
        let earlier = receipt.as_ref().is_some_and(|(_, place)| place.epoch < self.epoch);
        let receipt = receipt.map(|(receipt, _)| receipt);
        let sent = if earlier { lifecycle::next(target.state, Event::Sent).ok() } else { None };
        target.state = lifecycle::next(sent.unwrap_or(target.state), Event::Ended(State::of(&outcome)))?;
        target.changed = now;
        let detail = match &outcome {
            Outcome::Succeeded(_) | Outcome::Expired => String::new(),
            Outcome::Failed { code, message } => format!("{}: {message}", sfdata_common::outcome::failure_name(*code)),
            Outcome::Refused { reason, detail } => {
                format!("{}: {detail}", sfdata_common::outcome::refusal_name(*reason))
            }
            Outcome::Cancelled { detail } => detail.clone(),
        };
        self.metrics.ended(&outcome);
        let kind = format!("command.{}", outcome.name());
        let actor = if receipt.is_some() { audit::agent(agent) } else { audit::HUB.to_owned() };
        let entry = audit::draft(now, &kind, actor, id.to_string(), format!("{agent} {detail}").trim_end());
        target.outcome = Some(outcome);
        let event = target.event(id, agent);
        live.unfinished -= 1;

        let mut batch = Batch::default();
        batch.audit(match &receipt {
            Some(receipt) => entry.about(receipt),
            None => entry,
        });
        batch.put(keys::delivery(id, agent), &target.record(receipt.clone()));
        if live.unfinished == 0 {
            batch.delete(keys::unfinished(id));
            inner.by_expiry.remove(&(live.order.command.expires, id));
        }
        if let Some(line) = inner.lines.get_mut(agent) {
            line.unfinished -= 1;
            if receipt.is_some() && !earlier {
                line.accepted(target.position);
                batch.put(keys::line(agent), &line.record);
            } else {
                line.pending.remove(&target.position.sequence);
            }
        }
        Ok((self.store.submit(batch), event))
    }

    /// Tell what has become durable; forget a command that has ended everywhere.
    fn settle(&self, id: CommandId, events: &[wire::CommandEvent]) {
        let mut inner = self.lock();
        if let Some(live) = inner.live.get_mut(&id) {
            events.iter().for_each(|event| live.tell(event));
            live.untold -= events.len();
            if live.untold == 0 {
                inner.live.remove(&id);
            }
        }
        drop(inner);
        self.changed();
    }

    /// A command came, or is in another state at a target.
    fn changed(&self) {
        self.changes.send_modify(|count| *count += 1);
    }

    /// Changes whenever a command does, progress apart.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// End a command as cancelled wherever it has not been handed to an agent. Gives the agents.
    pub async fn cancel_waiting(
        &self,
        id: CommandId,
        targets: &[AgentId],
        detail: &str,
        now: Timestamp,
    ) -> Result<Vec<AgentId>, Error> {
        self.end_waiting(id, Some(targets), &Outcome::Cancelled { detail: detail.to_owned() }, now).await
    }

    async fn end_waiting(
        &self,
        id: CommandId,
        only: Option<&[AgentId]>,
        outcome: &Outcome,
        now: Timestamp,
    ) -> Result<Vec<AgentId>, Error> {
        let (mut writes, mut events) = (Vec::new(), Vec::new());
        {
            let mut inner = self.lock();
            let waiting: Vec<AgentId> = inner.live.get(&id).filter(|live| live.ready).map_or_else(Vec::new, |live| {
                let waits = |target: &Target| target.state == State::Waiting;
                live.targets
                    .iter()
                    .filter(|(agent, target)| waits(target) && only.is_none_or(|only| only.contains(agent)))
                    .map(|(agent, _)| agent.clone())
                    .collect()
            });
            for agent in &waiting {
                let (written, event) = self.end(&mut inner, agent, id, outcome.clone(), None, now)?;
                writes.push(written);
                events.push(event);
            }
        }
        for written in writes {
            written.await?;
        }
        self.settle(id, &events);
        Ok(events.iter().filter_map(|event| event.agent_id.parse().ok()).collect())
    }

    /// End what nobody began in time. Harmless to repeat.
    pub async fn expire(&self, now: Timestamp) -> Result<(), Error> {
        let due: Vec<CommandId> =
            self.lock().by_expiry.iter().take_while(|(expires, _)| *expires <= now).map(|(_, id)| *id).collect();
        for id in due {
            self.end_waiting(id, None, &Outcome::Expired, now).await?;
        }
        Ok(())
    }

    /// An agent was removed: nothing will ever come from it. What it may have begun ends as cancelled, and says so.
    pub async fn forget(&self, agent: &AgentId, now: Timestamp) -> Result<(), Error> {
        let (mut writes, mut events) = (Vec::new(), Vec::new());
        {
            let mut inner = self.lock();
            let affected: Vec<(CommandId, State)> = inner
                .live
                .iter()
                .filter_map(|(id, live)| live.targets.get(agent).map(|target| (*id, target.state)))
                .filter(|(_, state)| !state.is_final())
                .collect();
            for (id, state) in affected {
                let detail = match state {
                    State::Waiting => "the agent was removed before it was sent",
                    _ => "the agent was removed; it may have begun",
                };
                let outcome = Outcome::Cancelled { detail: detail.into() };
                let (written, event) = self.end(&mut inner, agent, id, outcome, None, now)?;
                writes.push(written);
                events.push((id, event));
            }
            inner.lines.remove(agent);
            let mut batch = Batch::default();
            batch.delete(keys::line(agent));
            writes.push(self.store.submit(batch));
        }
        for written in writes {
            written.await?;
        }
        for (id, event) in events {
            self.settle(id, &[event]);
        }
        Ok(())
    }

    /// Where a command stands at each target, and what happens from here on; `None` when it has ended everywhere.
    pub fn watch(&self, id: CommandId) -> Option<(Vec<wire::CommandEvent>, Watcher)> {
        let mut inner = self.lock();
        let live = inner.live.get_mut(&id)?;
        let watcher = live.watch();
        Some((live.targets.iter().map(|(agent, target)| target.event(id, agent)).collect(), watcher))
    }

    /// The states of an unfinished command's targets.
    pub fn states(&self, id: CommandId) -> Option<Vec<(AgentId, Position, State, Timestamp)>> {
        self.lock().live.get(&id).map(|live| {
            let row =
                |(agent, target): (&AgentId, &Target)| (agent.clone(), target.position, target.state, target.changed);
            live.targets.iter().map(row).collect()
        })
    }

    /// The place of a command that has not ended at an agent, and where its trace goes on.
    pub fn dispatched(&self, agent: &AgentId, id: CommandId) -> Option<(Position, Option<TraceContext>)> {
        let inner = self.lock();
        let live = inner.live.get(&id)?;
        live.targets.get(agent).map(|target| (target.position, live.trace))
    }

    /// Commands that have not ended at an agent.
    pub fn depth(&self, agent: &AgentId) -> usize {
        self.lock().lines.get(agent).map_or(0, |line| line.unfinished)
    }

    /// Commands that have not ended, counted once for each agent.
    pub fn total(&self) -> usize {
        self.lock().lines.values().map(|line| line.unfinished).sum()
    }

    /// Commands that have not ended, newest first.
    pub fn unfinished(&self) -> Vec<CommandId> {
        let mut ids: Vec<CommandId> = self.lock().live.keys().copied().collect();
        ids.sort_by(|a, b| b.cmp(a));
        ids
    }
}

fn dispatched(now: Timestamp, agent: &AgentId, id: CommandId, position: Position) -> wire::AuditEntry {
    audit::draft(now, "command.dispatched", audit::HUB, id.to_string(), format!("{agent} {position}"))
}
