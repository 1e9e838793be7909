//! The use cases: submit, cancel, complete, watch. Each reads as a story.
//!
//! Stops 3 and 12 on a command's path: an operator's order comes in here on its way to the agents, and the agents'
//! receipts on their way back.

mod newest;
mod proof;
mod proposals;

use std::sync::Arc;

use jiff::Timestamp;
use prost::Message as _;
use sfdata_common::{
    command::{Action, Agent as AgentAction},
    dispatch::RECEIPT_PAYLOAD_TYPE,
    envelope,
    ids::{AgentId, CommandId, OperatorName, Position},
    limits,
    outcome::{Outcome, refusal_name},
    telemetry::traces::{SpanKind, TraceContext, Tracer},
};
use sfdata_proto::v1 as wire;
use tokio::sync::Mutex;
use tracing::{info, warn};

use crate::{
    audit::{self, About as _},
    authorize::{Authorizer, Denied, Order},
    disk,
    fleet::Fleet,
    lifecycle::State,
    metrics::Metrics,
    queue::{self, Queue, Watcher},
    sessions::Sessions,
    store::{self, Batch, Store, keys, records},
};

pub use self::{newest::Newest, proposals::Error as ProposalError};

/// Most commands in one answer of a list.
const LIST: usize = 1_000;
/// Most records looked through for one list with a filter.
const LOOK: usize = 20_000;

/// Why a command is not taken.
#[derive(Debug, thiserror::Error)]
pub enum SubmitError {
    /// The operator may not.
    #[error(transparent)]
    Denied(#[from] Denied),
    /// The queue does not take it.
    #[error(transparent)]
    Queue(#[from] queue::Error),
    /// The disk is nearly full.
    #[error(transparent)]
    Disk(#[from] disk::Low),
    /// The record of a denial could not be written.
    #[error(transparent)]
    Store(#[from] store::Error),
}

/// Why a receipt is not kept.
#[derive(Debug, thiserror::Error)]
pub enum ReceiptError {
    /// Not signed by this agent's receipt key, or not a receipt of this agent.
    #[error("the receipt is not signed by the receipt key of agent {0}")]
    Signature(AgentId),
    /// Not a receipt.
    #[error("the receipt cannot be read")]
    Malformed,
    /// The store.
    #[error(transparent)]
    Store(#[from] store::Error),
}

/// A command that was taken: where it stands, and what will happen to it.
pub struct Following {
    /// Which.
    pub id: CommandId,
    /// Where each target stands; empty for a new command.
    pub now: Vec<wire::CommandEvent>,
    /// What happens from here on; `None` when it has ended.
    pub later: Option<Watcher>,
}

/// The use cases over commands.
pub struct Commands {
    /// Everything that ever happened.
    pub store: Store,
    /// Who may.
    pub authorizer: Arc<Authorizer>,
    /// What has not ended.
    pub queue: Arc<Queue>,
    /// Who is connected.
    pub sessions: Arc<Sessions>,
    /// Registry.
    pub fleet: Arc<Fleet>,
    /// Counters.
    pub metrics: Metrics,
    /// Watches the room on the disk.
    pub disk: disk::Gauge,
    /// Where a command's time goes.
    pub tracer: Tracer,
    /// Proposals are looked at and changed in one step.
    pub deciding: Mutex<()>,
}

impl Commands {
    /// Take an operator's signed command. When this returns it is durable and on its way; its trace goes on with it.
    pub async fn submit(
        &self,
        by: &OperatorName,
        envelope: wire::Envelope,
        trace: Option<TraceContext>,
        now: Timestamp,
    ) -> Result<Following, SubmitError> {
        self.disk.check()?;
        let span = self.tracer.span("submit", SpanKind::Server, trace);
        let mut authorizing = self.tracer.span("authorize", SpanKind::Internal, span.context());
        let authorized = match self.authorizer.authorize(by, envelope, now) {
            Ok(authorized) => authorized,
            Err(denied) => {
                authorizing.failed(denied.name());
                drop(authorizing);
                self.record_denial(by, "command.submit", &denied, now).await?;
                return Err(denied.into());
            }
        };
        let order = authorized.order();
        let command = &order.command;
        drop(authorizing);
        let span = span.command(command);
        let enqueuing = self.tracer.span("enqueue", SpanKind::Internal, span.context());
        let pushed = self.queue.push(&authorized, span.context(), now).await;
        drop(enqueuing);
        let Some(later) = pushed? else {
            return Ok(self.follow(command.id)?.unwrap_or(Following { id: command.id, now: Vec::new(), later: None }));
        };
        self.metrics.commands_submitted.inc(command.action.name());
        self.fleet.operator_signed(by, now);
        if let Action::Agent(AgentAction::Cancel(other)) = command.action {
            let detail = format!("taken back by {by} before it was sent");
            self.queue.cancel_waiting(other, &command.targets, &detail, now).await?;
        }
        self.sessions.nudge(&command.targets);
        Ok(Following { id: command.id, now: Vec::new(), later: Some(later) })
    }

    /// Put a denial on record.
    pub async fn record_denial(
        &self,
        by: &OperatorName,
        what: &str,
        denied: &Denied,
        now: Timestamp,
    ) -> Result<(), store::Error> {
        self.metrics.commands_denied.inc(denied.name());
        info!(operator = %by, what, reason = %denied, "denied");
        let mut batch = Batch::default();
        batch.audit(audit::draft(now, "operator.denied", audit::operator(by), what, denied.to_string()));
        self.store.commit(batch).await
    }

    /// Keep the hub's signed word that a command goes to an agent, for who wants proof. Nobody waits for it: what comes of the
    /// command is written later, and so is durable later.
    pub fn keep_dispatch(&self, agent: &AgentId, id: CommandId, dispatch: &wire::Envelope) {
        let mut batch = Batch::default();
        batch.put(keys::dispatch(id, agent), dispatch);
        drop(self.store.submit(batch));
    }

    /// Keep an agent's receipt. When this returns it is durable and its watchers know.
    pub async fn complete(
        &self,
        agent: &AgentId,
        envelope: wire::Envelope,
        now: Timestamp,
    ) -> Result<CommandId, ReceiptError> {
        let keys = self.fleet.receipt_keys(agent, now);
        if envelope::count_signers(&envelope, RECEIPT_PAYLOAD_TYPE, &keys) == 0 {
            return Err(ReceiptError::Signature(agent.clone()));
        }
        let receipt = wire::Receipt::decode(&envelope.payload[..]).map_err(|_| ReceiptError::Malformed)?;
        if receipt.agent_id != agent.as_str() {
            return Err(ReceiptError::Signature(agent.clone()));
        }
        let id: CommandId = receipt.command_id.parse().map_err(|_| ReceiptError::Malformed)?;
        let outcome = receipt.outcome.clone().and_then(|outcome| Outcome::try_from(outcome).ok());
        let outcome = outcome.ok_or(ReceiptError::Malformed)?;
        let position = Position { epoch: receipt.epoch, sequence: receipt.sequence };
        let dispatched = self.queue.dispatched(agent, id);
        let trace = dispatched.and_then(|(_, trace)| trace);
        let mut span = self.tracer.span("complete", SpanKind::Internal, trace).about(id).agent(agent);
        span.ended(&outcome);
        if dispatched.is_some_and(|(expected, _)| expected != position) {
            warn!(%agent, command = %id, %position, "a receipt for another place in the order");
        }
        match self.queue.ended(agent, id, outcome, Some((envelope.clone(), position)), now).await {
            Ok(()) => Ok(id),
            Err(queue::Error::Store(error)) => Err(error.into()),
            Err(error) => {
                self.keep_stray(agent, id, &envelope, &error, now).await?;
                Ok(id)
            }
        }
    }

    /// A receipt that fits nothing: repeated after its acknowledgement was lost, or for a command that a
    /// restored hub does not know. The first needs nothing; the second is put on record.
    async fn keep_stray(
        &self,
        agent: &AgentId,
        id: CommandId,
        envelope: &wire::Envelope,
        error: &queue::Error,
        now: Timestamp,
    ) -> Result<(), store::Error> {
        self.store.commit(Batch::default()).await?; // the first one may only be on its way to the disk
        let known: Option<records::Delivery> = self.store.get(&keys::delivery(id, agent))?;
        if known.and_then(|record| record.receipt).is_some_and(|receipt| receipt.payload == envelope.payload) {
            return Ok(());
        }
        warn!(%agent, command = %id, %error, "a receipt that does not fit; it is put on record");
        self.metrics.illegal_transitions.inc();
        let mut batch = Batch::default();
        let detail = format!("{agent}: {error}");
        batch.audit(audit::draft(now, "receipt.stray", audit::agent(agent), id.to_string(), detail).about(envelope));
        self.store.commit(batch).await
    }

    /// An agent did not even take a delivery's number. What it names was only claimed by the delivery.
    pub async fn rejected(
        &self,
        agent: &AgentId,
        rejected: wire::Rejected,
        now: Timestamp,
    ) -> Result<(), store::Error> {
        let refused = rejected.refused.unwrap_or_default();
        let reason = refused.reason();
        let position = Position { epoch: rejected.epoch, sequence: rejected.sequence };
        warn!(%agent, command = rejected.command_id, %position, reason = refusal_name(reason), "a delivery was refused");
        self.metrics.refusals.inc(refusal_name(reason));
        let mut batch = Batch::default();
        let detail = format!("{agent} {position} {}: {}", refusal_name(reason), refused.detail);
        batch.audit(audit::draft(now, "delivery.refused", audit::agent(agent), rejected.command_id.clone(), detail));
        self.store.commit(batch).await?;

        // A replay or a gap says nothing about the command itself; it may well be running. One that was seen already
        // and is only rejected has its own outcome on the way.
        let ends = !matches!(
            reason,
            wire::RefusalReason::Replayed | wire::RefusalReason::SequenceGap | wire::RefusalReason::AlreadySeen
        );
        let Ok(id) = rejected.command_id.parse() else { return Ok(()) };
        if ends && self.queue.dispatched(agent, id).is_some_and(|(place, _)| place == position) {
            let outcome = Outcome::Refused { reason, detail: refused.detail };
            match self.queue.ended(agent, id, outcome, None, now).await {
                Err(queue::Error::Store(error)) => return Err(error),
                Err(error) => info!(%agent, command = %id, %error, "a refusal that does not fit"),
                Ok(()) => {}
            }
        }
        Ok(())
    }

    /// Where a command stands and what happens to it; `None` when there is none of that id.
    pub fn follow(&self, id: CommandId) -> Result<Option<Following>, store::Error> {
        if let Some((now, watcher)) = self.queue.watch(id) {
            return Ok(Some(Following { id, now, later: Some(watcher) }));
        }
        if self.store.get::<records::Command>(&keys::command(id))?.is_none() {
            return Ok(None);
        }
        let now = self
            .targets(id)?
            .into_iter()
            .map(|target| wire::CommandEvent {
                command_id: id.to_string(),
                agent_id: target.agent_id,
                state: target.state,
                at_unix_ms: target.changed_unix_ms,
                outcome: target.outcome,
                progress: None,
            })
            .collect();
        Ok(Some(Following { id, now, later: None }))
    }

    /// One command, whole; `None` when there is none of that id.
    pub fn show(&self, id: CommandId) -> Result<Option<wire::GetCommandResponse>, store::Error> {
        let Some(order) = self.order(id)? else { return Ok(None) };
        let targets = self.targets(id)?;
        let summary = Some(summary(&order, &targets));
        Ok(Some(wire::GetCommandResponse { summary, command: Some(order.envelope), targets, proof: None }))
    }

    /// Commands, newest first.
    pub fn list(&self, wanted: &wire::ListCommandsRequest) -> Result<Vec<wire::CommandSummary>, store::Error> {
        let limit = match wanted.limit as usize {
            0 => LIST,
            limit => limit.min(LIST),
        };
        let ids: Vec<CommandId> = if wanted.unfinished {
            self.queue.unfinished()
        } else {
            let look = if wanted.agent_id.is_empty() { limit } else { LOOK };
            self.newest(look)?
        };
        let mut commands = Vec::new();
        for id in ids {
            let Some(order) = self.order(id)? else { continue };
            if wanted.agent_id.is_empty()
                || order.command.targets.iter().any(|target| target.as_str() == wanted.agent_id)
            {
                commands.push(summary(&order, &self.targets(id)?));
            }
            if commands.len() == limit {
                break;
            }
        }
        Ok(commands)
    }

    /// Ids of so many commands, newest first.
    fn newest(&self, limit: usize) -> Result<Vec<CommandId>, store::Error> {
        let newest = self.store.scan::<records::Command>(keys::COMMANDS).rev().take(limit);
        newest.map(|item| item.map(|(key, _)| CommandId::from_bytes(&key))).filter_map(Result::transpose).collect()
    }

    fn order(&self, id: CommandId) -> Result<Option<Order>, store::Error> {
        let record = self.store.get::<records::Command>(&keys::command(id))?;
        let Some(records::Command { envelope: Some(envelope), submitted }) = record else { return Ok(None) };
        let submitted = Timestamp::from_millisecond(submitted).unwrap_or_default();
        Ok(Order::stored(envelope, submitted)
            .inspect_err(|error| warn!(command = %id, %error, "a stored command"))
            .ok())
    }

    /// Every target of a command: as stored, with the newer state of those that have not ended.
    fn targets(&self, id: CommandId) -> Result<Vec<wire::TargetStatus>, store::Error> {
        let live = self.queue.states(id).unwrap_or_default();
        let mut targets = Vec::new();
        for item in self.store.scan::<records::Delivery>(&keys::deliveries(id)) {
            let (key, record) = item?;
            let agent_id = String::from_utf8_lossy(&key).into_owned();
            let outcome = record.outcome.clone().and_then(|outcome| Outcome::try_from(outcome).ok());
            let mut target = wire::TargetStatus {
                state: outcome.as_ref().map_or(State::Waiting, State::of).to_wire().into(),
                epoch: record.epoch,
                sequence: record.sequence,
                changed_unix_ms: record.changed,
                outcome: record.outcome,
                receipt: record.receipt,
                agent_id,
                progress: None,
            };
            let newer = live.iter().find(|(agent, ..)| agent.as_str() == target.agent_id);
            if let (None, Some((agent, position, state, changed))) = (&outcome, newer) {
                target.progress = self.queue.told(agent, id);
                target.state = state.to_wire().into();
                target.epoch = position.epoch;
                target.sequence = position.sequence;
                target.changed_unix_ms = changed.as_millisecond();
            }
            targets.push(target);
        }
        Ok(targets)
    }

    /// Forget commands that are older than the bound, and proposals that nobody approved. Harmless to repeat.
    pub async fn prune(&self, now: Timestamp) -> Result<(), store::Error> {
        self.lapse(now).await?;
        let Ok(oldest) = now.checked_sub(limits::COMMANDS_KEPT) else { return Ok(()) };
        let mut batch = Batch::default();
        let old = self
            .store
            .scan::<records::Command>(keys::COMMANDS)
            .take(LIST)
            .take_while(|item| item.as_ref().is_ok_and(|(_, record)| record.submitted < oldest.as_millisecond()));
        let mut count = 0;
        for item in old {
            let (key, _) = item?;
            let Some(id) = CommandId::from_bytes(&key) else { continue };
            if self.queue.states(id).is_some() {
                continue;
            }
            batch.delete(keys::command(id));
            for delivery in self.store.scan::<records::Delivery>(&keys::deliveries(id)) {
                let (agent, _) = delivery?;
                batch.delete([keys::dispatches(id), agent.clone()].concat());
                batch.delete([keys::deliveries(id), agent].concat());
            }
            count += 1;
        }
        if count > 0 {
            batch.audit(audit::draft(now, "commands.pruned", audit::HUB, format!("{count} commands"), ""));
            self.store.commit(batch).await?;
        }
        Ok(())
    }
}

fn summary(order: &Order, targets: &[wire::TargetStatus]) -> wire::CommandSummary {
    let command = &order.command;
    let mut states: Vec<wire::StateCount> = Vec::new();
    for target in targets {
        match states.iter_mut().find(|count| count.state == target.state) {
            Some(count) => count.targets += 1,
            None => states.push(wire::StateCount { state: target.state, targets: 1 }),
        }
    }
    states.sort_by_key(|count| count.state);
    wire::CommandSummary {
        id: command.id.to_string(),
        action: command.action.name().to_owned(),
        operator: command.operator.to_string(),
        reason: command.reason.clone(),
        submitted_unix_ms: order.submitted.as_millisecond(),
        expires_unix_ms: command.expires.as_millisecond(),
        states,
    }
}
