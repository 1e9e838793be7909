//! Stop 10 on a command's path: a flat match from typed command to service, and the order of what runs.
//!
//! Actions on one resource run one after the other, in the order of their numbers; different resources side by side;
//! reads wait for nobody. Work that was begun before a restart is taken up again by the same match, because every
//! action is written as "make it so".

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
    command::{Action, Agent as AgentAction, Class, Mode, Resource},
    dispatch::RECEIPT_PAYLOAD_TYPE,
    envelope,
    error::chain,
    ids::{CommandId, Position},
    limits,
    outcome::{FailureCode, Outcome, RefusalReason, failure_name, refusal_name},
};
use sfdata_proto::v1::{self as wire, action_result::Kind, connect_request::Message as ToHub};
use tokio::sync::{Notify, Semaphore, mpsc};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{error, info};

use crate::{
    audit::{self, Entry},
    identity::Identity,
    journal::{self, Begun, Journal},
    report,
    services::{Error, Plan, Services},
    verify::Refused,
};

/// What a running action may use of the agent: its command's id, a way to tell how far it is, the
/// operator's wish to stop, and a durable note that a resumed action finds again.
#[derive(Clone)]
pub struct Job {
    command: CommandId,
    mode: Mode,
    cancelled: CancellationToken,
    journal: Arc<Journal>,
    outbox: Arc<Outbox>,
}

/// The note that the plan was the one that the operator saw: from then on the world may look different, by our own doing.
const AGREED: &[u8] = b"agreed";

impl Job {
    /// Whether it only asks what would be done.
    pub fn only_plans(&self) -> bool {
        self.mode == Mode::PlanOnly
    }

    /// Every change goes through here before it begins: hand over what is to be done. `Some` is the result of a command
    /// that only asks; `None` is the word to go on. An error is that the world has moved since the operator looked.
    pub async fn agree(&self, plan: Plan) -> Result<Option<Kind>, Error> {
        let plan = plan.into_wire();
        match self.mode {
            Mode::PlanOnly => return Ok(Some(Kind::Plan(plan))),
            Mode::ActIfPlan(digest) if self.journal.note(self.command).is_none() => {
                if plan.digest != digest[..] {
                    return Err(Error::failed(
                        FailureCode::Conflict,
                        format!(
                            "the plan is not the one that was agreed to: something has changed since, and nothing was \
                             done; its digest is now {}, look at it with --plan",
                            hex::encode(&plan.digest)
                        ),
                    ));
                }
                self.keep(Bytes::from_static(AGREED)).await?;
            }
            Mode::ActIfPlan(_) | Mode::Act => {}
        }
        if self.cancelled.is_cancelled() {
            return Err(Error::cancelled("nothing was changed"));
        }
        Ok(None)
    }

    /// Id of the command that is being executed; tokens for AWS are derived from it.
    pub fn command(&self) -> CommandId {
        self.command
    }

    /// Cancelled when an operator takes the command back.
    pub fn cancelled(&self) -> &CancellationToken {
        &self.cancelled
    }

    /// Tell watchers how far the action is. `percent`: 0 to 100 where it is known.
    pub fn progress(&self, step: impl Into<String>, percent: Option<u32>) {
        let (command_id, step) = (self.command.to_string(), step.into());
        self.outbox.send(ToHub::Progress(wire::Progress { command_id, step, percent }));
    }

    /// The note that was kept before a crash, if any.
    pub fn checkpoint(&self) -> Option<Bytes> {
        self.journal.note(self.command).filter(|note| note != AGREED)
    }

    /// Keep a note that a resumed action finds again; durable when this returns.
    pub async fn keep(&self, note: Bytes) -> Result<(), Error> {
        let kept = self.journal.keep(self.command, note).await;
        kept.map_err(|error| Error::failed(FailureCode::Internal, chain(&error).to_string()))
    }
}

/// Where messages for the hub go: to the link that is up, or nowhere. Outcomes don't depend on it: they
/// wait in the journal, and `receipts` tells the link to look there.
#[derive(Default)]
pub struct Outbox {
    link: Mutex<Option<mpsc::Sender<wire::ConnectRequest>>>,
    receipts: Notify,
}

impl Outbox {
    /// Send what the hub may miss.
    pub fn send(&self, message: ToHub) {
        if let Some(link) = self.link.lock().unwrap_or_else(PoisonError::into_inner).as_ref() {
            let _ = link.try_send(wire::ConnectRequest { message: Some(message) });
        }
    }

    /// A link is up, or (`None`) down.
    pub(crate) fn attach(&self, link: Option<mpsc::Sender<wire::ConnectRequest>>) {
        *self.link.lock().unwrap_or_else(PoisonError::into_inner) = link;
    }

    /// Resolves when there is an outcome to send.
    pub(crate) async fn has_receipt(&self) {
        self.receipts.notified().await;
    }
}

/// Runs what the door let in.
#[derive(Clone)]
pub struct Executor {
    inner: Arc<Inner>,
}

struct Inner {
    identity: Arc<Identity>,
    journal: Arc<Journal>,
    log: audit::Log,
    services: Services,
    reports: report::Handle,
    outbox: Arc<Outbox>,
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
    /// The operators' wish to stop, by command.
    running: HashMap<CommandId, CancellationToken>,
}

/// What an executor works with.
pub struct Parts {
    /// Signs receipts.
    pub identity: Arc<Identity>,
    /// What outlives the process.
    pub journal: Arc<Journal>,
    /// The agent's own record.
    pub log: audit::Log,
    /// The platform.
    pub services: Services,
    /// Looks at the platform.
    pub reports: report::Handle,
    /// To the hub.
    pub outbox: Arc<Outbox>,
    /// The process ends.
    pub stop: CancellationToken,
}

impl Executor {
    /// Put together.
    pub fn new(parts: Parts) -> Self {
        let Parts { identity, journal, log, services, reports, outbox, stop } = parts;
        let inner = Inner {
            identity,
            journal,
            log,
            services,
            reports,
            outbox,
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
        for begun in self.inner.journal.begun() {
            info!(command = %begun.verified.command().id, "taking up again what was begun before the restart");
            self.start(begun);
        }
    }

    /// Run a command that is in the journal. Called in the order of their numbers.
    pub fn start(&self, begun: Begun) {
        let id = begun.verified.command().id;
        let cancelled = CancellationToken::new();
        let turn = {
            let mut table = self.inner.table.lock().unwrap_or_else(PoisonError::into_inner);
            table.running.insert(id, cancelled.clone());
            begun.verified.command().resource().map(|resource| {
                let done = CancellationToken::new();
                let before = table.lines.insert(resource.clone(), done.clone());
                (resource, before, done)
            })
        };
        let inner = Arc::clone(&self.inner);
        self.inner.tasks.spawn(async move {
            let work = inner.in_turn(&begun, turn, cancelled);
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

type Turn = Option<(Resource, Option<CancellationToken>, CancellationToken)>;

impl Inner {
    async fn in_turn(&self, begun: &Begun, turn: Turn, cancelled: CancellationToken) {
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
                    self.run(begun, cancelled).await
                }
            }
            _ => self.run(begun, cancelled).await,
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

    async fn run(&self, begun: &Begun, cancelled: CancellationToken) -> Outcome {
        let command = begun.verified.command();
        let _place = if command.resource().is_none() { self.reads.acquire().await.ok() } else { None };
        self.outbox.send(ToHub::Started(wire::Started { command_id: command.id.to_string() }));
        let (journal, outbox) = (Arc::clone(&self.journal), Arc::clone(&self.outbox));
        let job = Job { command: command.id, mode: command.mode, cancelled, journal, outbox };
        let acts = command.class() != Class::Read;
        if acts {
            self.reports.nudge(); // what moves is looked at more often
        }
        let result = match &command.action {
            Action::Ecs(action) => self.services.ecs.execute(action, &job).await,
            Action::Aurora(action) => self.services.aurora.execute(action, &job).await,
            Action::S3(action) => self.services.s3.execute(action, &job).await,
            Action::Agent(action) => self.on_the_agent(action).await,
        };
        if acts {
            self.reports.nudge();
        }
        match result {
            Ok(result) => Outcome::success(result),
            Err(error) => error.into(),
        }
    }

    async fn on_the_agent(&self, action: &AgentAction) -> Result<Kind, Error> {
        match action {
            AgentAction::Refresh => {
                let health = Some((*self.reports.refresh().await?).clone());
                Ok(Kind::AgentRefresh(wire::AgentRefreshResult { health }))
            }
            AgentAction::Cancel(id) => {
                let running = self.table.lock().unwrap_or_else(PoisonError::into_inner).running.get(id).cloned();
                let disposition = match running {
                    Some(running) => {
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
        info!(command = %command.id, action = command.action.name(), outcome = outcome.name(), "ended");
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
        envelope::seal(RECEIPT_PAYLOAD_TYPE, receipt.encode_to_vec(), self.identity.receipt_key())
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
