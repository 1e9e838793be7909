//! Stop 7 on a command's path: the live link of each agent. One session an agent; a newer one ends the older.
//!
//! A session sends what the queue has for its agent, in order, and takes in what the agent says. It ends on a lock,
//! on being superseded, when the agent does not read, and when the hub stops. An instance that comes
//! back after another one has superseded it proves that two are alive: the agent is locked.

use std::{
    collections::{HashMap, VecDeque},
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures::{StreamExt as _, stream::FuturesUnordered};
use jiff::Timestamp;
use prost::Message as _;
use sfdata_common::{
    ids::{AgentId, CommandId, Position},
    limits,
    peer::Subject,
    retry::jittered,
};
use sfdata_proto::v1::{self as wire, connect_request::Message as FromAgent, connect_response::Message as ToAgent};
use tokio::{
    sync::{Notify, mpsc},
    time::{Sleep, sleep},
};
use tokio_util::sync::CancellationToken;
use tonic::{Status, Streaming};
use tracing::{debug, info, warn};

use crate::{
    audit,
    commands::{Commands, ReceiptError},
    dispatch::{Burst, Dispatcher, Failed, Signed, Signing},
    fleet::{Fleet, receipts},
    lifecycle::Event,
    metrics::Metrics,
    queue::Queue,
    trust::Trust,
    usage::Usage,
};

/// Why the hub itself locks an agent.
pub const CLONED: &str = "two instances of this agent are alive: find and end one of them, then hubctl agents unlock, and register --again or invite";
/// Superseded instances remembered for an agent.
const INSTANCES: usize = 8;
/// Dispatches signed and handed to one stream in one go.
const BURST: usize = 64;

/// Why a session ends from the hub's side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Superseded,
    Closed,
}

struct Entry {
    generation: u64,
    boot_id: String,
    ended: CancellationToken,
    why: Arc<Mutex<End>>,
    nudge: Arc<Notify>,
}

#[derive(Default)]
struct Table {
    live: HashMap<AgentId, Entry>,
    superseded: HashMap<AgentId, VecDeque<String>>,
    generation: u64,
}

/// Which agents are connected now.
#[derive(Default)]
pub struct Sessions {
    table: Mutex<Table>,
}

struct Opened {
    generation: u64,
    ended: CancellationToken,
    why: Arc<Mutex<End>>,
    nudge: Arc<Notify>,
    superseded: bool,
    cloned: bool,
}

impl Sessions {
    fn table(&self) -> std::sync::MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn open(&self, agent: &AgentId, boot_id: &str) -> Opened {
        let mut table = self.table();
        table.generation += 1;
        let opened = Opened {
            generation: table.generation,
            ended: CancellationToken::new(),
            why: Arc::new(Mutex::new(End::Closed)),
            nudge: Arc::default(),
            superseded: false,
            cloned: table.superseded.get(agent).is_some_and(|boots| boots.iter().any(|boot| boot == boot_id)),
        };
        let entry = Entry {
            generation: opened.generation,
            boot_id: boot_id.to_owned(),
            ended: opened.ended.clone(),
            why: Arc::clone(&opened.why),
            nudge: Arc::clone(&opened.nudge),
        };
        let Some(older) = table.live.insert(agent.clone(), entry) else { return opened };
        *older.why.lock().unwrap_or_else(PoisonError::into_inner) = End::Superseded;
        older.ended.cancel();
        if older.boot_id != boot_id {
            let boots = table.superseded.entry(agent.clone()).or_default();
            boots.push_back(older.boot_id);
            if boots.len() > INSTANCES {
                boots.pop_front();
            }
        }
        Opened { superseded: true, ..opened }
    }

    /// Forget a session that ended; `false` when a newer one has taken its place.
    fn close(&self, agent: &AgentId, generation: u64) -> bool {
        let mut table = self.table();
        let current = table.live.get(agent).is_some_and(|entry| entry.generation == generation);
        if current {
            table.live.remove(agent);
        }
        current
    }

    /// There is something to send to these agents.
    pub fn nudge<'a>(&self, agents: impl IntoIterator<Item = &'a AgentId>) {
        let table = self.table();
        for agent in agents {
            if let Some(entry) = table.live.get(agent) {
                entry.nudge.notify_one();
            }
        }
    }

    /// There may be something for everybody: a trust bundle, an epoch's statement.
    pub fn nudge_all(&self) {
        self.table().live.values().for_each(|entry| entry.nudge.notify_one());
    }

    /// End an agent's session now, and let its instances begin anew.
    pub fn end(&self, agent: &AgentId) {
        let mut table = self.table();
        table.superseded.remove(agent);
        if let Some(entry) = table.live.get(agent) {
            entry.ended.cancel();
        }
    }

    /// End every session, so that each agent says hello again.
    pub fn end_all(&self) {
        self.table().live.values().for_each(|entry| entry.ended.cancel());
    }

    /// Sessions that live now.
    pub fn count(&self) -> usize {
        self.table().live.len()
    }
}

/// Lock an agent out because two instances of it are alive: by all signs one is a copy, and nobody can tell which.
pub async fn lock_clone(fleet: &Fleet, sessions: &Sessions, agent: &AgentId, sign: &str) {
    warn!(%agent, sign, "two instances of one agent are alive; the agent is locked");
    let locked = fleet.lock_agent(audit::HUB.into(), agent, Some(CLONED.into()), sign, Timestamp::now()).await;
    if let Err(error) = locked {
        warn!(%agent, %error, "the lock could not be stored");
    }
    sessions.end(agent);
}

/// What an agent says is kept and shown, so it has a bound.
fn cut(text: &str, most: usize) -> &str {
    &text[..text.floor_char_boundary(most)]
}

/// What a session works with.
#[derive(Clone)]
pub struct Link {
    /// Registry.
    pub fleet: Arc<Fleet>,
    /// What is to be sent.
    pub queue: Arc<Queue>,
    /// Who is connected.
    pub sessions: Arc<Sessions>,
    /// Bundles and epoch.
    pub trust: Arc<Trust>,
    /// Signs what leaves.
    pub dispatcher: Arc<Dispatcher>,
    /// Completes commands.
    pub commands: Arc<Commands>,
    /// What agents used.
    pub usage: Arc<Usage>,
    /// Counters.
    pub metrics: Metrics,
    /// The hub stops.
    pub stop: CancellationToken,
}

type Sender = mpsc::Sender<Result<wire::ConnectResponse, Status>>;

impl Link {
    /// Hold one agent's stream until it ends.
    pub async fn run(self, agent: AgentId, mut incoming: Streaming<wire::ConnectRequest>, out: Sender) {
        let hello = match tokio::time::timeout(limits::HELLO_TIMEOUT, incoming.message()).await {
            Ok(Ok(Some(wire::ConnectRequest { message: Some(FromAgent::Hello(hello)) })))
                if hello.boot_id.len() <= limits::VERSION_BYTES =>
            {
                hello
            }
            _ => {
                let _ = out.try_send(Err(Status::invalid_argument("the first message on a link is a valid Hello")));
                return;
            }
        };
        let opened = self.sessions.open(&agent, &hello.boot_id);
        self.metrics.sessions_opened.inc();
        if opened.superseded {
            self.metrics.sessions_fenced.inc();
        }
        if opened.cloned {
            warn!(%agent, hello.boot_id, "a superseded instance came back");
            lock_clone(&self.fleet, &self.sessions, &agent, "clone: a superseded instance came back").await;
        }
        let generation = opened.generation;
        self.metrics.agents_connected.set(self.sessions.count() as i64);
        debug!(%agent, version = cut(&hello.version, limits::VERSION_BYTES), "session begins");
        // Enter, then ask: whoever locks the agent does so before ending its session, so one of both sees the other.
        let status = if self.fleet.admits(&Subject::Agent(agent.clone())) {
            self.hold(&agent, &hello, incoming, &out, opened).await
        } else {
            Status::permission_denied(format!("agent {agent} is locked"))
        };
        if self.sessions.close(&agent, generation) {
            self.queue.disconnected(&agent);
            self.fleet.disconnected(&agent, Timestamp::now());
        }
        self.metrics.agents_connected.set(self.sessions.count() as i64);
        debug!(%agent, reason = status.message(), "session ends");
        let _ = out.try_send(Err(status));
    }

    async fn hold(
        &self,
        agent: &AgentId,
        hello: &wire::Hello,
        incoming: Streaming<wire::ConnectRequest>,
        out: &Sender,
        opened: Opened,
    ) -> Status {
        let now = Timestamp::now();
        let epoch = self.trust.epoch();
        let said = Position { epoch: hello.epoch, sequence: hello.last_sequence };
        let running: Vec<CommandId> = hello.running.iter().filter_map(|id| id.parse().ok()).collect();
        let waiting: Vec<CommandId> = hello.waiting.iter().filter_map(|id| id.parse().ok()).collect();
        let (cursor, note) = match self.queue.hello(agent, said, &running, &waiting, now) {
            Ok(_) if hello.epoch < epoch && self.trust.needs_statement() => {
                self.queue.disconnected(agent); // nothing is handed over
                (None, "waits for hubctl trust accept-restore".to_owned())
            }
            Ok(last) => (Some(last), String::new()),
            Err(diverged) => {
                warn!(%agent, error = %diverged, "nothing is sent to this agent");
                (None, diverged.to_string())
            }
        };
        self.fleet.connected(agent, cut(&hello.version, limits::VERSION_BYTES), note, now);
        let trust_version = hello.trust_version;
        self.fleet.trusts(agent, trust_version);
        let mut session =
            Session { link: self, agent, out, cursor, trust_version, signing: None, pause: None, failures: 0 };
        let welcome = wire::Welcome {
            clock_unix_ms: now.as_millisecond(),
            epoch,
            health_interval_seconds: limits::HEALTH_INTERVAL.as_secs() as u32,
        };
        let begun = async {
            session.send(ToAgent::Welcome(welcome)).await?;
            session.send_trust().await?; // before the statement, which it may verify
            if hello.epoch < epoch
                && let Some(statement) = self.trust.statement()
            {
                session.send(ToAgent::EpochStatement(statement)).await?;
            }
            session.go_on().await
        };
        match begun.await {
            Ok(()) => {
                let mut keeping = FuturesUnordered::new();
                let status = session.serve(incoming, opened, &mut keeping).await;
                // What is being stored is also to be told, to those who watch and to the list.
                while keeping.next().await.is_some() {}
                status
            }
            Err(status) => status,
        }
    }
}

/// A receipt that is being kept: resolves to its command.
type Keeping = Pin<Box<dyn Future<Output = Result<CommandId, Status>> + Send>>;

struct Session<'a> {
    link: &'a Link,
    agent: &'a AgentId,
    out: &'a Sender,
    /// Last number that was sent or needs no sending; `None` while nothing may be sent.
    cursor: Option<u64>,
    trust_version: u64,
    /// What is being signed, from behind the cursor on.
    signing: Option<Signing>,
    /// Nothing is signed before its end.
    pause: Option<Pin<Box<Sleep>>>,
    /// How often in turn signing has failed.
    failures: u32,
}

/// Resolves to what has been signed; never while nothing is.
async fn signed(signing: &mut Option<Signing>) -> Burst {
    match signing {
        Some(signing) => signing.await,
        None => std::future::pending().await,
    }
}

/// Resolves at the end of a pause; never while there is none.
async fn over(pause: &mut Option<Pin<Box<Sleep>>>) {
    match pause {
        Some(pause) => pause.await,
        None => std::future::pending().await,
    }
}

impl Session<'_> {
    async fn serve(
        &mut self,
        mut incoming: Streaming<wire::ConnectRequest>,
        opened: Opened,
        keeping: &mut FuturesUnordered<Keeping>,
    ) -> Status {
        loop {
            tokio::select! {
                biased;
                () = self.link.stop.cancelled() => {
                    self.goodbye("the hub restarts").await;
                    return Status::unavailable("the hub restarts");
                }
                () = opened.ended.cancelled() => {
                    let why = *opened.why.lock().unwrap_or_else(PoisonError::into_inner);
                    let status = match why {
                        End::Superseded => Status::aborted("a newer session of this agent took over"),
                        End::Closed => Status::permission_denied("the hub ended this session"),
                    };
                    self.goodbye(status.message()).await;
                    return status;
                }
                burst = signed(&mut self.signing) => {
                    self.signing = None;
                    if let Err(status) = self.deliver(burst).await {
                        return status;
                    }
                }
                () = over(&mut self.pause) => {
                    self.pause = None;
                    if let Err(status) = self.go_on().await {
                        return status;
                    }
                }
                Some(kept) = keeping.next(), if !keeping.is_empty() => {
                    match kept {
                        Ok(id) => {
                            let kept = wire::ReceiptsKept { command_ids: vec![CommandId::to_string(&id)] };
                            if let Err(status) = self.send(ToAgent::ReceiptsKept(kept)).await {
                                return status;
                            }
                        }
                        Err(status) => return status,
                    }
                }
                message = incoming.message(), if keeping.len() < limits::STREAM_BACKLOG => match message {
                    Ok(Some(message)) => {
                        let Some(message) = message.message else { continue };
                        self.link.fleet.seen(self.agent, Timestamp::now());
                        match message {
                            FromAgent::Receipt(receipt) => {
                                let (commands, agent) = (Arc::clone(&self.link.commands), self.agent.clone());
                                keeping.push(Box::pin(async move {
                                    match commands.complete(&agent, receipt, Timestamp::now()).await {
                                        Ok(id) => Ok(id),
                                        Err(ReceiptError::Store(error)) => Err(Status::unavailable(error.to_string())),
                                        Err(error) => Err(Status::invalid_argument(error.to_string())),
                                    }
                                }));
                            }
                            message => if let Err(status) = self.take(message).await { return status },
                        }
                    }
                    Ok(None) => return Status::ok("the agent ended the stream"),
                    Err(status) => return status,
                },
                () = opened.nudge.notified() => {
                    if let Err(status) = self.go_on().await {
                        return status;
                    }
                }
            }
        }
    }

    /// Everything but receipts.
    async fn take(&mut self, message: FromAgent) -> Result<(), Status> {
        let now = Timestamp::now();
        match message {
            FromAgent::Received(received) => self.advance(&received.command_id, Event::Received, now),
            FromAgent::Started(started) => self.advance(&started.command_id, Event::Started, now),
            FromAgent::Progress(progress) => {
                if let Ok(id) = progress.command_id.parse() {
                    let step = cut(&progress.step, limits::STEP_BYTES).to_owned();
                    let sealed = progress.sealed.filter(|part| part.encoded_len() <= limits::SEALED_PART_BYTES);
                    let progress = wire::CommandProgress { step, percent: progress.percent, sealed };
                    self.link.queue.progress(self.agent, id, progress, now);
                }
            }
            FromAgent::ReceiptKey(statement) => {
                match self.link.fleet.change_receipt_key(self.agent, &statement, now).await {
                    Ok(key) => {
                        let public_key = key.as_bytes().to_vec().into();
                        self.send(ToAgent::ReceiptKeyKept(wire::ReceiptKeyKept { public_key })).await?;
                    }
                    Err(receipts::Error::Store(error)) => return Err(Status::unavailable(error.to_string())),
                    Err(error) => warn!(agent = %self.agent, %error, "another receipt key is not taken"),
                }
            }
            FromAgent::TrustTaken(taken) => self.link.fleet.trusts(self.agent, taken.version),
            FromAgent::Health(health) => self.link.fleet.reported(self.agent, *health, now),
            FromAgent::Usage(told) => {
                let kept = self.link.usage.take(self.agent, told, now).await;
                let kept = kept.map_err(|error| Status::unavailable(error.to_string()))?;
                self.send(ToAgent::UsageKept(kept)).await?;
            }
            FromAgent::Bill(told) => {
                let kept = self.link.usage.take_bill(self.agent, told, now).await;
                let kept = kept.map_err(|error| Status::unavailable(error.to_string()))?;
                self.send(ToAgent::BillKept(kept)).await?;
            }
            FromAgent::Rejected(rejected) => {
                self.link
                    .commands
                    .rejected(self.agent, rejected, now)
                    .await
                    .map_err(|error| Status::unavailable(error.to_string()))?;
            }
            FromAgent::Resync(resync) => {
                debug!(agent = %self.agent, last = resync.last_sequence, "the agent asks for everything after");
                if let Some(cursor) = &mut self.cursor {
                    *cursor = resync.last_sequence.min(*cursor);
                }
                self.signing = None; // it began behind the number that is asked for
                self.go_on().await?;
            }
            FromAgent::Hello(_) | FromAgent::Receipt(_) => {
                return Err(Status::invalid_argument("Hello comes once, at the beginning"));
            }
        }
        Ok(())
    }

    fn advance(&self, id: &str, event: Event, now: Timestamp) {
        let Ok(id) = id.parse() else { return };
        if let Err(error) = self.link.queue.advanced(self.agent, id, event, now) {
            info!(agent = %self.agent, command = %id, %error, "the agent's word does not fit");
            self.link.metrics.illegal_transitions.inc();
        }
    }

    async fn send_trust(&mut self) -> Result<(), Status> {
        if self.trust_version >= self.link.trust.version() {
            return Ok(());
        }
        let bundles = self.link.trust.after(self.trust_version).map_err(|error| Status::internal(error.to_string()))?;
        for bundle in bundles {
            self.send(ToAgent::TrustBundle(bundle)).await?;
            self.trust_version += 1;
        }
        Ok(())
    }

    /// Send what the agent lacks of bundles, then have signed what comes next. A command comes after the bundle that its
    /// operator may be in.
    async fn go_on(&mut self) -> Result<(), Status> {
        self.send_trust().await?;
        let (None, None, Some(cursor)) = (&self.signing, &self.pause, self.cursor) else { return Ok(()) };
        let now = Timestamp::now();
        let next = self.link.queue.next(self.agent, cursor, BURST, now);
        if !next.outgoing.is_empty() {
            self.signing = Some(self.link.dispatcher.burst(self.agent, next, now));
        }
        Ok(())
    }

    /// Send what was signed. What was not is tried again after a pause; all else goes on meanwhile.
    async fn deliver(&mut self, burst: Burst) -> Result<(), Status> {
        for Signed { sequence, command, delivery, span } in burst.signed {
            if let (Some(id), Some(dispatch)) = (command, &delivery.dispatch) {
                self.link.commands.keep_dispatch(self.agent, id, dispatch);
            }
            self.send(ToAgent::Delivery(delivery)).await?;
            drop(span);
            self.cursor = Some(sequence);
        }
        match burst.failed {
            None => {
                self.failures = 0;
                self.go_on().await
            }
            Some(Failed::Store(error)) => Err(Status::unavailable(error.to_string())),
            Some(Failed::Signer(error)) => {
                debug!(agent = %self.agent, %error, tries = self.failures, "a dispatch waits for its signature");
                let pause = limits::SIGN_PAUSE.saturating_mul(1 << self.failures.min(10)).min(limits::SIGN_PAUSE_MOST);
                self.failures += 1;
                self.pause = Some(Box::pin(sleep(jittered(pause, 0.5))));
                Ok(())
            }
        }
    }

    /// Holds on to the stream alone: what is being signed can't be looked at from two threads.
    fn send(&self, message: ToAgent) -> impl Future<Output = Result<(), Status>> + Send + use<> {
        let (message, out) = (wire::ConnectResponse { message: Some(message) }, self.out.clone());
        async move {
            match tokio::time::timeout(limits::KEEPALIVE_TIMEOUT, out.send(Ok(message))).await {
                Ok(Ok(())) => Ok(()),
                Ok(Err(_)) => Err(Status::cancelled("the agent is gone")),
                Err(_) => Err(Status::deadline_exceeded("the agent does not read")),
            }
        }
    }

    async fn goodbye(&mut self, reason: &str) {
        let goodbye = wire::Goodbye { reason: reason.to_owned(), retry_after_ms: 0 };
        let message = wire::ConnectResponse { message: Some(ToAgent::Goodbye(goodbye)) };
        let _ = tokio::time::timeout(Duration::from_millis(100), self.out.send(Ok(message))).await;
    }
}
