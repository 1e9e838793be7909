//! Stop 10 on a command's path: a flat match from typed command to service, and the order of what runs.
//!
//! Actions on one resource run one after the other, in the order of their numbers; different resources side by side;
//! reads wait for nobody. Work that was begun before a restart is taken up again by the same match, because every
//! action is written as "make it so".

mod approval;
mod job;

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use bytes::Bytes;
use jiff::Timestamp;
use prost::Message as _;
use sfdata_common::{
    command::{Action, Agent as AgentAction, Command, Mode, Resource},
    dispatch::RECEIPT_PAYLOAD_TYPE,
    envelope,
    error::chain,
    ids::{CommandId, OperatorName, Position},
    limits,
    outcome::{FailureCode, Outcome, RefusalReason, failure_name, refusal_name},
    report::closed,
    telemetry::traces::{Span, SpanKind, Tracer},
};
use sfdata_proto::v1::{self as wire, action_result::Kind, connect_request::Message as ToHub};
use tokio::sync::Semaphore;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{error, info};

use crate::{
    approvals::Approvals,
    arrivals,
    audit::{self, Entry},
    door::Door,
    identity::Identity,
    journal::{self, Begun, Journal},
    metrics::Metrics,
    power, report,
    services::{Error, Services},
    verify::Refused,
};

pub use self::job::{Job, Outbox};

/// Runs what the door let in.
#[derive(Clone)]
pub struct Executor {
    inner: Arc<Inner>,
}

struct Inner {
    identity: Arc<Identity>,
    door: Arc<Door>,
    journal: Arc<Journal>,
    approvals: Approvals,
    log: audit::Log,
    services: Services,
    arrivals: arrivals::Handle,
    power: power::Handle,
    reports: report::Handle,
    outbox: Arc<Outbox>,
    metrics: Metrics,
    tracer: Tracer,
    table: Mutex<Table>,
    reads: Semaphore,
    queued: AtomicUsize,
    tasks: TaskTracker,
    /// The process ends: what runs stays begun in the journal.
    stop: CancellationToken,
}

#[derive(Default)]
struct Table {
    /// Who was last in line for a resource: cancelled when it is done.
    lines: HashMap<Resource, CancellationToken>,
    /// The operators' wish to stop, by command, with who ordered it.
    running: HashMap<CommandId, (OperatorName, CancellationToken)>,
}

/// What an executor works with.
pub struct Parts {
    /// Signs receipts.
    pub identity: Arc<Identity>,
    /// Judges anew what had to wait.
    pub door: Arc<Door>,
    /// What outlives the process.
    pub journal: Arc<Journal>,
    /// The LA's word on what waits for it.
    pub approvals: Approvals,
    /// The agent's own record.
    pub log: audit::Log,
    /// The platform.
    pub services: Services,
    /// What has arrived.
    pub arrivals: arrivals::Handle,
    /// Whether it sleeps.
    pub power: power::Handle,
    /// Looks at the platform.
    pub reports: report::Handle,
    /// To the hub.
    pub outbox: Arc<Outbox>,
    /// Counts how commands end.
    pub metrics: Metrics,
    /// Where a command's time goes.
    pub tracer: Tracer,
    /// The process ends.
    pub stop: CancellationToken,
}

impl Executor {
    /// Put together.
    pub fn new(parts: Parts) -> Self {
        let Parts { identity, door, journal, approvals, log, services, arrivals, power, .. } = parts;
        let Parts { reports, outbox, metrics, tracer, stop, .. } = parts;
        let inner = Inner {
            identity,
            door,
            journal,
            approvals,
            log,
            services,
            arrivals,
            power,
            reports,
            outbox,
            metrics,
            tracer,
            table: Mutex::default(),
            reads: Semaphore::new(limits::ACTIONS_AT_ONCE),
            queued: AtomicUsize::new(0),
            tasks: TaskTracker::new(),
            stop,
        };
        Self { inner: Arc::new(inner) }
    }

    /// Take up what was begun before this start.
    pub fn resume(&self) {
        self.inner.approvals.keep(&self.inner.journal.waiting());
        for begun in self.inner.journal.begun() {
            info!(command = %begun.verified.command().id, "taking up again what was begun before the restart");
            self.go(begun, true);
        }
    }

    /// Run a command that is in the journal. Called in the order of their numbers.
    pub fn start(&self, begun: Begun) {
        self.go(begun, false);
    }

    fn go(&self, begun: Begun, resumed: bool) {
        let id = begun.verified.command().id;
        let cancelled = CancellationToken::new();
        // What waits for the LA has no place in its resource's order yet: it would hold up what comes behind.
        let turn = {
            let mut table = self.inner.table.lock().unwrap_or_else(PoisonError::into_inner);
            let by = begun.verified.command().operator.clone();
            table.running.insert(id, (by, cancelled.clone()));
            (!begun.verified.on_approval()).then(|| table.place(begun.verified.command()))
        };
        let inner = Arc::clone(&self.inner);
        self.inner.tasks.spawn(async move {
            let work = async {
                match turn {
                    Some(turn) => inner.in_turn(&begun, turn, cancelled, resumed).await,
                    // It was never begun, before no restart either.
                    None => inner.on_approval(&begun, cancelled).await,
                }
            };
            tokio::select! {
                biased;
                () = work => {}
                () = inner.stop.cancelled() => {}
            }
        });
    }

    /// Put a refusal on record, signed: its number is used up, and its id is not let in until then. Where the command's
    /// own outcome is still on its way, the refusal is only told: nothing may take that outcome's place.
    pub async fn refuse(&self, refused: Refused, now: Timestamp) -> Result<(), journal::Error> {
        let Refused { position, id, digest, mut reason, detail, action, operator, until } = refused;
        let open = self.inner.journal.is_open(id);
        if open {
            reason = RefusalReason::AlreadySeen;
        }
        info!(command = %id, %position, reason = refusal_name(reason), detail, "refused");
        let outcome = Outcome::Refused { reason, detail: detail.clone() };
        self.inner.record(id, position, &digest, action, &operator, &outcome, now);
        if open {
            self.inner.journal.skip(position).await?;
            let (command_id, Position { epoch, sequence }) = (id.to_string(), position);
            let refused = Some(wire::Refused { reason: reason.into(), detail });
            self.inner.outbox.send(ToHub::Rejected(wire::Rejected { command_id, epoch, sequence, refused }));
            return Ok(());
        }
        let receipt = self.inner.receipt(id, position, &digest, &outcome, now, now);
        self.inner.journal.refuse(position, id, until, receipt).await?;
        self.inner.outbox.receipts.notify_one();
        Ok(())
    }

    /// Whether the platform sleeps, where the agent decides it.
    pub fn power(&self) -> Option<wire::PowerState> {
        self.inner.power.health()
    }

    /// Commands that wait for another one on the same resource.
    pub fn queued(&self) -> usize {
        self.inner.queued.load(Ordering::Relaxed)
    }

    /// Wait until nothing runs; call it after the stop.
    pub async fn stopped(&self) {
        self.inner.tasks.close();
        self.inner.tasks.wait().await;
    }
}

impl Table {
    /// A place in the order of its resource, behind all that have one.
    fn place(&mut self, command: &Command) -> Turn {
        command.resource().map(|resource| {
            let done = CancellationToken::new();
            let before = self.lines.insert(resource.clone(), done.clone());
            (resource, before, done)
        })
    }
}

type Turn = Option<(Resource, Option<CancellationToken>, CancellationToken)>;

impl Inner {
    async fn in_turn(&self, begun: &Begun, turn: Turn, cancelled: CancellationToken, resumed: bool) {
        let id = begun.verified.command().id;
        let outcome = match &turn {
            Some((_, Some(before), _)) if !before.is_cancelled() => {
                self.outbox.send(ToHub::Received(wire::Received { command_id: id.to_string() }));
                self.queued.fetch_add(1, Ordering::Relaxed);
                // Cancelled or not: who comes behind must wait for who is before.
                before.cancelled().await;
                self.queued.fetch_sub(1, Ordering::Relaxed);
                if cancelled.is_cancelled() {
                    Outcome::Cancelled { detail: "before it was begun".into() }
                } else {
                    self.run(begun, cancelled, resumed).await
                }
            }
            _ => self.run(begun, cancelled, resumed).await,
        };
        self.finish(begun, outcome).await;
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        table.running.remove(&id);
        if let Some((resource, _, done)) = turn {
            done.cancel();
            if table.lines.get(&resource).is_some_and(CancellationToken::is_cancelled) {
                table.lines.remove(&resource);
            }
        }
    }

    async fn run(&self, begun: &Begun, cancelled: CancellationToken, resumed: bool) -> Outcome {
        let mut span = self.span("execute", begun);
        let outcome = self.act(begun, cancelled, resumed).await;
        span.ended(&outcome);
        outcome
    }

    fn span(&self, name: &'static str, begun: &Begun) -> Span {
        let span = self.tracer.span(name, SpanKind::Internal, begun.trace);
        span.command(begun.verified.command()).agent(self.identity.agent())
    }

    async fn act(&self, begun: &Begun, cancelled: CancellationToken, resumed: bool) -> Outcome {
        let command = begun.verified.command();
        // What only the agent itself is asked for waits for no reading: least of all the wish to stop one.
        let waits = command.resource().is_none() && !matches!(command.action, Action::Agent(_) | Action::Power(_));
        let _place = if waits { self.reads.acquire().await.ok() } else { None };
        self.outbox.send(ToHub::Started(wire::Started { command_id: command.id.to_string() }));
        let (journal, outbox) = (Arc::clone(&self.journal), Arc::clone(&self.outbox));
        let agent = self.identity.agent().clone();
        let &Command { id, mode, reply_key, .. } = command;
        let job = Job { command: id, agent, mode, reply_key, resumed, cancelled, journal, outbox };
        let acts = mode != Mode::PlanOnly && command.action.has_plan();
        if acts {
            self.reports.nudge(); // what moves is looked at more often
        }
        let _claim = match &command.action {
            Action::Ecs(_) | Action::Aurora(_) if acts => Some(self.power.at_work()),
            Action::Dagster(action) if acts => match action.launches() {
                Some(deadline) => match self.power.awake_for(deadline, &job).await {
                    Ok(claim) => claim,
                    Err(error) => return error.into(),
                },
                None => Some(self.power.at_work()),
            },
            _ => None,
        };
        let result = match &command.action {
            Action::Ecs(action) => self.services.ecs.execute(action, &job).await,
            Action::Aurora(action) => self.services.aurora.execute(action, &job).await,
            Action::S3(action) => self.services.s3.execute(action, &job).await,
            Action::Logs(action) => self.services.logs.execute(action, &job).await,
            Action::Arrivals(action) => self.arrivals.execute(action, Box::pin(self.services.account()), &job).await,
            Action::Power(action) => self.power.execute(action, &job).await,
            Action::Dagster(action) => self.services.dagster.execute(action, &job).await,
            Action::Images(action) => self.services.images.execute(action, &job).await,
            Action::Agent(action) => self.on_the_agent(action, &command.operator, &job).await,
        };
        if acts {
            self.reports.nudge();
        }
        match result {
            Ok(result) => Outcome::success(result),
            Err(error) => error.into(),
        }
    }

    fn running(&self, id: CommandId) -> Option<(OperatorName, CancellationToken)> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner).running.get(&id).cloned()
    }

    async fn on_the_agent(&self, action: &AgentAction, by: &OperatorName, job: &Job) -> Result<Kind, Error> {
        match action {
            AgentAction::Refresh => {
                let health = Some(closed((*self.reports.refresh().await?).clone()));
                Ok(Kind::AgentRefresh(wire::AgentRefreshResult { health }))
            }
            AgentAction::Upgrade { image, deadline } => self.services.ecs.upgrade(image, *deadline, job).await,
            AgentAction::Discover { cluster } => {
                let proposal = tokio::select! {
                    biased;
                    () = job.cancelled().cancelled() => return Err(Error::cancelled("nothing was changed")),
                    proposal = self.services.discover(cluster.as_deref()) => proposal?,
                };
                Ok(Kind::AgentDiscover(proposal.into()))
            }
            AgentAction::CancelOwn(id) => {
                let disposition = match self.running(*id) {
                    Some((ordered_by, running)) if ordered_by == *by => {
                        running.cancel();
                        wire::CancelDisposition::Asked
                    }
                    Some((ordered_by, _)) => {
                        let text = format!("command {id} was ordered by {ordered_by}; stop it with agent.cancel");
                        return Err(Error::failed(FailureCode::AccessDenied, text));
                    }
                    None if self.journal.has_seen(*id) => wire::CancelDisposition::AlreadyEnded,
                    None => {
                        let text =
                            format!("no command {id} runs here; what has not come yet is stopped with agent.cancel");
                        return Err(Error::failed(FailureCode::NotFound, text));
                    }
                };
                Ok(Kind::AgentCancel(wire::AgentCancelResult { disposition: disposition.into() }))
            }
            AgentAction::Cancel(id) => {
                let disposition = match self.running(*id) {
                    Some((_, running)) => {
                        running.cancel();
                        wire::CancelDisposition::Asked
                    }
                    None if self.journal.has_seen(*id) => wire::CancelDisposition::AlreadyEnded,
                    None => {
                        // Whoever delivers it later, it will not be let in.
                        let barred = self.journal.bar(*id, Timestamp::now() + limits::COMMAND_VALIDITY_MAX).await;
                        barred.map_err(|error| Error::failed(FailureCode::Internal, chain(&error).to_string()))?;
                        wire::CancelDisposition::NotBegun
                    }
                };
                Ok(Kind::AgentCancel(wire::AgentCancelResult { disposition: disposition.into() }))
            }
        }
    }

    async fn finish(&self, begun: &Begun, outcome: Outcome) {
        let (verified, now) = (&begun.verified, Timestamp::now());
        let command = verified.command();
        let outcome = bounded(outcome);
        let mut span = self.span("receipt", begun);
        span.ended(&outcome);
        info!(command = %command.id, action = command.action.name(), outcome = outcome.name(), "ended");
        self.metrics.commands.count([command.action.name().into(), outcome.name().into()]);
        let (position, digest) = (verified.position(), verified.digest());
        self.record(command.id, position, &digest, command.action.name(), command.operator.as_str(), &outcome, now);
        let receipt = self.receipt(command.id, position, &digest, &outcome, begun.began, now);
        if let Err(error) = self.journal.finish(command.id, receipt).await {
            error!(error = %chain(&error), "the outcome is not durable; it will be found again after a restart");
            return;
        }
        self.outbox.receipts.notify_one();
    }

    fn receipt(
        &self,
        id: CommandId,
        position: Position,
        digest: &[u8],
        outcome: &Outcome,
        began: Timestamp,
        ended: Timestamp,
    ) -> wire::Envelope {
        let receipt = wire::Receipt {
            agent_id: self.identity.agent().to_string(),
            epoch: position.epoch,
            sequence: position.sequence,
            command_id: id.to_string(),
            command_digest: Bytes::copy_from_slice(digest),
            outcome: Some(outcome.to_wire()),
            began_unix_ms: began.as_millisecond(),
            ended_unix_ms: ended.as_millisecond(),
        };
        envelope::seal(RECEIPT_PAYLOAD_TYPE, receipt.encode_to_vec(), &self.identity.receipt_key())
    }

    fn record(
        &self,
        id: CommandId,
        position: Position,
        digest: &[u8],
        action: &str,
        operator: &str,
        outcome: &Outcome,
        at: Timestamp,
    ) {
        let outcome = match outcome {
            Outcome::Failed { code, message } => format!("failed: {}: {message}", failure_name(*code)),
            Outcome::Refused { reason, detail } => format!("refused: {}: {detail}", refusal_name(*reason)),
            other => other.name().to_owned(),
        };
        self.note(id, position, digest, action, operator, outcome, at);
    }

    fn note(
        &self,
        id: CommandId,
        position: Position,
        digest: &[u8],
        action: &str,
        operator: &str,
        outcome: String,
        at: Timestamp,
    ) {
        let entry = Entry {
            index: 0,
            at,
            position: position.to_string(),
            command_id: id.to_string(),
            action: action.to_owned(),
            operator: operator.to_owned(),
            digest: hex::encode(digest),
            outcome,
            hash: String::new(),
        };
        if let Err(error) = self.log.append(entry) {
            error!(error = %chain(&error), "the agent's own record could not be written");
        }
    }
}

/// An outcome that fits into its message.
fn bounded(outcome: Outcome) -> Outcome {
    let size = outcome.to_wire().encoded_len();
    if size <= limits::OUTCOME_BYTES {
        return outcome;
    }
    Outcome::Failed {
        code: FailureCode::Internal,
        message: format!(
            "the result has {size} bytes, and at most {} can be sent; ask for less",
            limits::OUTCOME_BYTES
        ),
    }
}
