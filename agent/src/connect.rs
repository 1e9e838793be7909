//! Stops 8 and 11 on a command's path: the link to the hub. Dials, holds one stream, hands deliveries to the door,
//! sends outcomes until they are confirmed, and begins again whenever the stream ends.
//!
//! Running actions don't know of it: they go on while it is down. A younger certificate makes it connect anew.

use std::{
    collections::HashSet,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::{Duration, Instant},
};

use jiff::Timestamp;
use sfdata_common::{
    error::chain,
    ids::CommandId,
    limits,
    outcome::{RefusalReason, refusal_name},
    report::closed,
    retry::Reconnect,
    telemetry::traces::{SpanKind, TraceContext, Tracer},
};
use sfdata_proto::v1::{
    self as wire, connect_request::Message as ToHub, connect_response::Message as FromHub,
    link_service_client::LinkServiceClient,
};
use tokio::{
    sync::{mpsc, watch},
    time::MissedTickBehavior,
};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Streaming};
use tracing::{debug, info, warn};

use crate::{
    door::Door,
    execute::{Executor, Outbox},
    identity::Identity,
    journal::{self, Begun, Journal},
    metrics::{CONNECTS, Metrics},
    report,
    runs::Runs,
    trust::Trust,
    usage,
    verify::Judgement,
};

/// How the link is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Status {
    /// The hub has welcomed this agent.
    pub connected: bool,
    /// Tries since the last welcome.
    pub tries: u32,
}

/// What a link works with.
pub struct Parts {
    /// Who this is.
    pub identity: Arc<Identity>,
    /// Whom to trust.
    pub trust: Arc<Trust>,
    /// What outlives the process.
    pub journal: Arc<Journal>,
    /// Judges what is delivered.
    pub door: Arc<Door>,
    /// Runs what is let in.
    pub executor: Executor,
    /// Looks at the platform.
    pub reports: report::Handle,
    /// How runs ended.
    pub runs: Runs,
    /// What was used.
    pub usage: usage::Handle,
    /// From running actions.
    pub outbox: Arc<Outbox>,
    /// Counts tries and refusals.
    pub metrics: Metrics,
    /// Where a command's time goes.
    pub tracer: Tracer,
}

/// The link; run it once.
pub struct Link {
    parts: Parts,
    boot_id: String,
    began: Instant,
    skew_ms: AtomicI64,
    status: watch::Sender<Status>,
}

/// Why a stream ended.
#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error("the process stops")]
    Stop,
    #[error("a younger certificate is used from now on")]
    Renewed,
    #[error("the hub said goodbye: {reason}")]
    Goodbye { reason: String, wait: Duration },
    #[error("the hub ended the stream")]
    Closed,
    #[error("the stream broke")]
    Broken(#[from] Box<tonic::Status>),
    #[error("the journal can't be written")]
    Journal(#[from] journal::Error),
}

impl From<tonic::Status> for Ended {
    fn from(status: tonic::Status) -> Self {
        Self::Broken(Box::new(status))
    }
}

impl Ended {
    /// What became of a try that ended like this before the hub's welcome.
    fn without_welcome(&self) -> Option<&'static str> {
        let [_, refused, failed] = CONNECTS;
        match self {
            Self::Stop | Self::Renewed => None,
            Self::Goodbye { .. } => Some(refused),
            Self::Broken(status) if matches!(status.code(), Code::PermissionDenied | Code::Unauthenticated) => {
                Some(refused)
            }
            Self::Broken(_) | Self::Closed | Self::Journal(_) => Some(failed),
        }
    }
}

type Sender = mpsc::Sender<wire::ConnectRequest>;

impl Link {
    /// Put together.
    pub fn new(parts: Parts) -> Self {
        let boot_id = CommandId::generate().to_string();
        Self {
            parts,
            boot_id,
            began: Instant::now(),
            skew_ms: AtomicI64::new(0),
            status: watch::channel(Status::default()).0,
        }
    }

    /// How the link is, now and later.
    pub fn status(&self) -> watch::Receiver<Status> {
        self.status.subscribe()
    }

    /// Keep connected until `stop`.
    pub async fn run(&self, stop: CancellationToken) {
        let mut backoff = Reconnect::default();
        loop {
            self.status.send_modify(|status| status.tries += 1);
            let ended = self.hold(&stop).await;
            self.parts.outbox.attach(None);
            if self.status.borrow().connected {
                backoff = Reconnect::default();
                self.status.send_replace(Status::default());
            } else if let Some(result) = ended.without_welcome() {
                self.parts.metrics.connects.inc(result);
            }
            let wait = match &ended {
                Ended::Stop => return,
                Ended::Renewed => Duration::ZERO,
                Ended::Goodbye { wait, .. } => backoff.next_delay() + *wait,
                Ended::Closed | Ended::Broken(_) | Ended::Journal(_) => backoff.next_delay(),
            };
            let hub = self.parts.identity.address();
            if matches!(ended, Ended::Renewed | Ended::Goodbye { .. }) {
                info!(hub, reason = %ended, ?wait, "connecting anew");
            } else {
                warn!(hub, error = %chain(&ended), ?wait, "not connected; trying again");
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    /// One stream, from Hello to its end.
    async fn hold(&self, stop: &CancellationToken) -> Ended {
        let renewed = self.parts.identity.changes();
        let (sender, messages) = mpsc::channel(limits::STREAM_BACKLOG);
        let hello = wire::ConnectRequest { message: Some(ToHub::Hello(self.hello())) };
        if sender.try_send(hello).is_err() {
            return Ended::Closed;
        }
        let mut client = LinkServiceClient::new(self.parts.identity.channel())
            .max_decoding_message_size(limits::MESSAGE_BYTES)
            .max_encoding_message_size(limits::MESSAGE_BYTES);
        let connected = tokio::select! {
            () = stop.cancelled() => return Ended::Stop,
            connected = client.connect(ReceiverStream::new(messages)) => connected,
        };
        match connected {
            Ok(stream) => match self.serve(stream.into_inner(), &sender, renewed, stop).await {
                Ok(ended) | Err(ended) => ended,
            },
            Err(status) => status.into(),
        }
    }

    fn hello(&self) -> wire::Hello {
        let last = self.parts.journal.last();
        wire::Hello {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            boot_id: self.boot_id.clone(),
            epoch: last.epoch,
            last_sequence: last.sequence,
            running: self.parts.journal.running().iter().map(ToString::to_string).collect(),
            clock_unix_ms: Timestamp::now().as_millisecond(),
            trust_version: self.parts.trust.bundle().version,
            waiting: self.parts.journal.waiting().iter().map(ToString::to_string).collect(),
        }
    }

    async fn serve(
        &self,
        mut incoming: Streaming<wire::ConnectResponse>,
        out: &Sender,
        mut renewed: watch::Receiver<u64>,
        stop: &CancellationToken,
    ) -> Result<Ended, Ended> {
        let mut session = Session { link: self, out, sent: HashSet::new(), asked_from: None, telling: false };
        let mut reports = self.parts.reports.subscribe();
        let mut reported = None;
        let mut beat = tokio::time::interval(limits::HEALTH_INTERVAL);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut welcomed = false;
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => return Ok(Ended::Stop),
                _ = renewed.changed() => return Ok(Ended::Renewed),
                message = incoming.message() => {
                    let Some(message) = message? else { return Ok(Ended::Closed) };
                    match message.message {
                        Some(FromHub::Welcome(welcome)) => {
                            let skew = Timestamp::now().as_millisecond() - welcome.clock_unix_ms;
                            self.skew_ms.store(skew, Ordering::Relaxed);
                            self.status.send_modify(|status| status.connected = true);
                            self.parts.metrics.connects.inc(CONNECTS[0]);
                            self.parts.outbox.attach(Some(out.clone()));
                            info!(hub = self.parts.identity.address(), "connected");
                            welcomed = true;
                            session.send_receipt_key().await?;
                            session.send_receipts().await?;
                            session.send_usage().await?;
                            session.send_bill().await?;
                        }
                        Some(message) => if let Some(ended) = session.take(message).await? { return Ok(ended) },
                        None => {}
                    }
                }
                () = self.parts.usage.changed(), if welcomed && !session.telling => session.send_usage().await?,
                () = self.parts.usage.billed(), if welcomed => session.send_bill().await?,
                () = self.parts.outbox.has_receipt(), if welcomed => session.send_receipts().await?,
                Ok(()) = reports.changed(), if welcomed => {
                    let health = self.health();
                    if reported.as_ref().is_none_or(|before| report::differs(before, &health)) {
                        session.send(ToHub::Health(Box::new(health.clone()))).await?;
                        reported = Some(health);
                    }
                }
                _ = beat.tick(), if welcomed => {
                    session.send_receipt_key().await?;
                    session.send(ToHub::Health(Box::new(self.health()))).await?;
                }
            }
        }
    }

    fn health(&self) -> wire::Health {
        let mut health = self.parts.reports.latest().map_or_else(wire::Health::default, |seen| (*seen).clone());
        health.agent_version = env!("CARGO_PKG_VERSION").to_owned();
        health.uptime_seconds = self.began.elapsed().as_secs();
        health.clock_skew_ms = self.skew_ms.load(Ordering::Relaxed);
        let journal = &self.parts.journal;
        health.journal = Some(wire::JournalHealth {
            running: journal.running().len().try_into().unwrap_or(u32::MAX),
            queued: self.parts.executor.queued().try_into().unwrap_or(u32::MAX),
            unacknowledged: journal.unsent_count().try_into().unwrap_or(u32::MAX),
        });
        health.hold = self.parts.door.held();
        health.power = self.parts.executor.power();
        health.runs = self.parts.runs.health();
        health.certificate_expires_unix_ms = self.parts.identity.expires().as_millisecond();
        closed(health)
    }
}

struct Session<'a> {
    link: &'a Link,
    out: &'a Sender,
    /// Receipts sent on this stream.
    sent: HashSet<CommandId>,
    /// The last number when a gap was reported: one question for one gap.
    asked_from: Option<u64>,
    /// Records of usage are on their way, and not confirmed.
    telling: bool,
}

impl Session<'_> {
    async fn send(&self, message: ToHub) -> Result<(), Ended> {
        let message = wire::ConnectRequest { message: Some(message) };
        match tokio::time::timeout(limits::KEEPALIVE_TIMEOUT, self.out.send(message)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(Ended::Closed),
        }
    }

    /// The key that signs receipts next, while there is one.
    async fn send_receipt_key(&self) -> Result<(), Ended> {
        match self.link.parts.identity.next_receipt_key(Timestamp::now()) {
            Some(statement) => self.send(ToHub::ReceiptKey(statement)).await,
            None => Ok(()),
        }
    }

    async fn send_receipts(&mut self) -> Result<(), Ended> {
        for (id, receipt) in self.link.parts.journal.unsent(|id| self.sent.contains(id)) {
            self.send(ToHub::Receipt(receipt)).await?;
            self.sent.insert(id);
        }
        Ok(())
    }

    /// One message at a time: the next when the hub has this one.
    async fn send_usage(&mut self) -> Result<(), Ended> {
        let batch = self.link.parts.usage.batch();
        self.telling = batch.is_some();
        match batch {
            Some(batch) => self.send(ToHub::Usage(batch)).await,
            None => Ok(()),
        }
    }

    async fn send_bill(&mut self) -> Result<(), Ended> {
        match self.link.parts.usage.bill() {
            Some(bill) => self.send(ToHub::Bill(bill)).await,
            None => Ok(()),
        }
    }

    async fn take(&mut self, message: FromHub) -> Result<Option<Ended>, Ended> {
        let parts = &self.link.parts;
        match message {
            FromHub::Delivery(delivery) => self.judge(&delivery).await?,
            FromHub::ReceiptsKept(kept) => {
                let ids: Vec<CommandId> = kept.command_ids.iter().filter_map(|id| id.parse().ok()).collect();
                parts.journal.forget(&ids);
                self.sent.retain(|id| !ids.contains(id));
            }
            FromHub::TrustBundle(envelope) => match parts.trust.accept(&envelope) {
                Ok(version) => {
                    info!(version, "a newer trust bundle holds from now on");
                    self.send(ToHub::TrustTaken(wire::TrustTaken { version })).await?;
                }
                Err(error) => warn!(error = %chain(&error), "the hub offers a trust bundle that does not hold"),
            },
            FromHub::EpochStatement(envelope) => match parts.trust.bundle().verify_epoch(&envelope, Timestamp::now()) {
                Ok(statement) if statement.epoch > parts.journal.last().epoch => {
                    info!(
                        epoch = statement.epoch,
                        operator = statement.operator,
                        "the hub was restored; counting anew"
                    );
                    parts.journal.enter(statement.epoch).await?;
                }
                Ok(_) => debug!("an epoch statement that is not needed"),
                Err(error) => warn!(error = %chain(&error), "the hub offers an epoch that does not hold"),
            },
            FromHub::Goodbye(goodbye) => {
                let wait = Duration::from_millis(goodbye.retry_after_ms.into()).min(limits::RECONNECT_MAX);
                return Ok(Some(Ended::Goodbye { reason: goodbye.reason, wait }));
            }
            FromHub::UsageKept(kept) => {
                parts.usage.kept(&kept);
                self.send_usage().await?;
            }
            FromHub::BillKept(kept) => parts.usage.bill_kept(&kept),
            FromHub::ReceiptKeyKept(kept) => {
                if let Err(error) = parts.identity.receipt_key_kept(&kept.public_key) {
                    warn!(error = %chain(&error), "the next receipt key can't be put in place; it is tried again");
                }
            }
            FromHub::Welcome(_) => {}
        }
        Ok(None)
    }

    /// The door, and what follows from its judgement.
    async fn judge(&mut self, delivery: &wire::Delivery) -> Result<(), Ended> {
        let parts = &self.link.parts;
        let now = Timestamp::now();
        let told = TraceContext::parse(&delivery.traceparent);
        let mut span = parts.tracer.span("receive", SpanKind::Consumer, told).agent(parts.identity.agent());
        let verifying = parts.tracer.span("verify", SpanKind::Internal, span.context());
        let judgement = parts.door.judge(delivery, now);
        drop(verifying);
        match judgement {
            Judgement::Verified(verified) => {
                let span = span.command(verified.command());
                let writing = parts.tracer.span("journal", SpanKind::Internal, span.context());
                parts.journal.accept(&verified, now).await?;
                drop(writing);
                parts.executor.start(Begun { verified: *verified, began: now, trace: span.context() });
            }
            Judgement::Void(position) => parts.journal.skip(position).await?,
            Judgement::Refused(refused) => {
                span.failed("refused");
                parts.metrics.refusals.inc(refusal_name(refused.reason));
                parts.executor.refuse(*refused, now).await?;
            }
            Judgement::Rejected(rejected) => {
                span.failed("rejected");
                let reason = rejected.refused.as_ref().map_or(RefusalReason::Unspecified, wire::Refused::reason);
                parts.metrics.refusals.inc(refusal_name(reason));
                warn!(command = rejected.command_id, reason = reason.as_str_name(), "a delivery was rejected");
                let last = parts.journal.last().sequence;
                self.send(ToHub::Rejected(rejected)).await?;
                // A number that was not taken leaves a gap; the hub fills it with a void or sends it again.
                let leaves_gap = !matches!(reason, RefusalReason::Replayed | RefusalReason::WrongEpoch);
                if leaves_gap && self.asked_from != Some(last) {
                    self.asked_from = Some(last);
                    self.send(ToHub::Resync(wire::Resync { last_sequence: last })).await?;
                }
            }
        }
        Ok(())
    }
}
