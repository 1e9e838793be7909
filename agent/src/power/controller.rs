//! The one task that looks, decides, remembers and does, in this order, again and again.
//!
//! What is to be remembered is durable before anything of it is done; when it can't be written, nothing is done. An order that
//! fails is told as a fault and given again at the next look, for as long as the decision asks for it.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use futures::future::join_all;
use jiff::Timestamp;
use sfdata_common::{limits, outcome::FailureCode};
use sfdata_proto::v1 as wire;
use tokio::{
    sync::{Notify, mpsc, oneshot, watch},
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::{
    decide::{Act, Decision, Fault, decide, preview},
    observation::Observation,
    settings::{Poll, Settings},
    sources::Sources,
    state::{Phase, State, Wishes},
    store::Store,
    tell,
};
use crate::{
    arrivals,
    metrics::Metrics,
    report,
    runs::Runs,
    services::{Error, Services, dagster},
};

/// Nothing goes unseen for longer, whatever the decision says: clocks jump, and people start services by hand.
const LOOK_MOST: Duration = Duration::from_secs(60);
/// Before an order that failed is given again.
const FAILED_PAUSE: Duration = Duration::from_secs(1);
/// Before the next try when the state can't be written.
const WRITE_PAUSE: Duration = Duration::from_secs(5);

/// What somebody wants of the platform's power.
#[derive(Debug, Clone, Copy)]
pub(super) enum Wish {
    /// Nothing but a fresh look.
    Look,
    /// Dagster, for a person.
    Person,
    /// Nothing that was asked for before.
    Sleep,
    /// Dagster, until then.
    AwakeUntil(Timestamp),
    /// That it leaves the services alone, or no longer does.
    Manual(bool),
}

/// What was seen, decided and remembered last.
#[derive(Debug, Clone)]
pub(super) struct Shown {
    pub(super) decision: Decision,
    pub(super) told: wire::PowerState,
}

type Ask = (Wish, oneshot::Sender<Result<Arc<Shown>, Error>>);

/// The way to the controller. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Handle {
    managed: Option<Managed>,
}

#[derive(Debug, Clone)]
struct Managed {
    asks: mpsc::Sender<Ask>,
    shown: watch::Receiver<Option<Arc<Shown>>>,
    busy: Arc<Busy>,
    settings: Arc<Settings>,
}

/// Commands at work that power has to know of.
#[derive(Debug, Default)]
pub(super) struct Busy {
    pub(super) commands: AtomicU32,
    pub(super) needs: AtomicU32,
    changed: Notify,
}

/// Counts as a reason to be awake for as long as it lives.
#[derive(Debug)]
pub struct Claim {
    busy: Option<Arc<Busy>>,
    needs: bool,
}

impl Drop for Claim {
    fn drop(&mut self) {
        let Some(busy) = &self.busy else { return };
        busy.commands.fetch_sub(1, Ordering::Relaxed);
        if self.needs {
            busy.needs.fetch_sub(1, Ordering::Relaxed);
        }
        busy.changed.notify_one();
    }
}

impl Handle {
    /// Where the platform's power is left alone.
    pub fn off() -> Self {
        Self { managed: None }
    }

    /// A command that changes the platform is at work: it is not put to sleep meanwhile.
    pub fn at_work(&self) -> Claim {
        self.claim(false)
    }

    /// A command can't go on before Dagster is awake.
    pub(super) fn needed(&self) -> Claim {
        self.claim(true)
    }

    fn claim(&self, needs: bool) -> Claim {
        let busy = self.managed.as_ref().map(|managed| Arc::clone(&managed.busy));
        if let Some(busy) = &busy {
            busy.commands.fetch_add(1, Ordering::Relaxed);
            busy.needs.fetch_add(needs.into(), Ordering::Relaxed);
            if needs {
                busy.changed.notify_one();
            }
        }
        Claim { busy, needs }
    }

    /// What it tells of itself in a health report; `None` where the platform's power is left alone.
    pub fn health(&self) -> Option<wire::PowerState> {
        let shown = self.managed.as_ref()?.shown.borrow().clone()?;
        let mut told = shown.told.clone();
        told.alarms.truncate(tell::ALARMS_IN_HEALTH);
        Some(told)
    }

    /// The settings, where there are any.
    pub(super) fn settings(&self) -> Option<&Settings> {
        self.managed.as_ref().map(|managed| &*managed.settings)
    }

    /// Take this wish; it is durable, and a look was taken with it, when this returns.
    pub(super) async fn ask(&self, wish: Wish) -> Result<Arc<Shown>, Error> {
        let managed = self.managed.as_ref().ok_or_else(unmanaged)?;
        let stopped = || Error::failed(FailureCode::Unavailable, "the agent is stopping; ask again when it is back");
        let (reply, answer) = oneshot::channel();
        managed.asks.send((wish, reply)).await.map_err(|_| stopped())?;
        answer.await.map_err(|_| stopped())?
    }

    /// What is shown, as it changes.
    pub(super) fn subscribe(&self) -> Option<watch::Receiver<Option<Arc<Shown>>>> {
        self.managed.as_ref().map(|managed| managed.shown.clone())
    }
}

pub(super) fn unmanaged() -> Error {
    let text = "the agent leaves the power of this platform alone; let it have a [power] section in its configuration";
    Error::failed(FailureCode::Rejected, text)
}

/// The task behind a [`Handle`].
#[derive(Debug)]
pub struct Controller {
    settings: Arc<Settings>,
    store: Store,
    state: State,
    /// What is on disk.
    saved: Option<State>,
    sources: Sources,
    services: Services,
    arrivals: arrivals::Handle,
    reports: report::Handle,
    asks: mpsc::Receiver<Ask>,
    shown: watch::Sender<Option<Arc<Shown>>>,
    busy: Arc<Busy>,
    metrics: Metrics,
}

/// What a controller works with.
#[derive(Debug)]
pub struct Parts<'a> {
    /// `None`: the platform's power is left alone.
    pub settings: Option<&'a Settings>,
    /// Where the state is kept.
    pub data_dir: &'a Path,
    /// The platform.
    pub services: Services,
    /// Files that wait.
    pub arrivals: arrivals::Handle,
    /// Counts what is seen of runs.
    pub runs: Runs,
    /// Counts what is done.
    pub metrics: Metrics,
}

/// The way to a controller, and what is to become one when there is somebody to report to.
pub fn new(parts: Parts<'_>) -> (Handle, Option<impl FnOnce(report::Handle) -> Controller>) {
    let Parts { settings, data_dir, services, arrivals, runs, metrics } = parts;
    let Some(settings) = settings else { return (Handle::off(), None) };
    let mut settings = settings.clone();
    if arrivals.is_on() {
        settings.sensor_poll.get_or_insert(Poll(None)); // they are told of what sensors would look for
    }
    let settings = Arc::new(settings);
    let (asks, asked) = mpsc::channel(limits::ACTIONS_AT_ONCE);
    let (shown, latest) = watch::channel(None);
    let busy = Arc::<Busy>::default();
    let store = Store::new(data_dir);
    let managed = Managed { asks, shown: latest, busy: Arc::clone(&busy), settings: Arc::clone(&settings) };
    let controller = move |reports| Controller {
        settings,
        state: store.load(Timestamp::now()),
        saved: None,
        store,
        sources: Sources::new(services.clone(), arrivals.clone(), runs),
        services,
        arrivals,
        reports,
        asks: asked,
        shown,
        busy,
        metrics,
    };
    (Handle { managed: Some(managed) }, Some(controller))
}

impl Controller {
    /// Run until stopped. An order that is under way then is given again after the restart.
    pub async fn run(mut self, stop: CancellationToken) {
        tokio::select! {
            biased;
            () = stop.cancelled() => {}
            () = self.passes() => {}
        }
    }

    async fn passes(&mut self) {
        let mut waiting = self.arrivals.subscribe();
        let mut askers: Vec<oneshot::Sender<Result<Arc<Shown>, Error>>> = Vec::new();
        loop {
            let pause = match self.pass().await {
                Ok((shown, pause)) => {
                    for asker in askers.drain(..) {
                        let _: Result<_, _> = asker.send(Ok(Arc::clone(&shown))); // who asked may have been cancelled
                    }
                    pause.min(LOOK_MOST)
                }
                Err(error) => {
                    warn!(error, "the state of the platform's power cannot be written; nothing is done");
                    let text =
                        format!("cannot write the state of the platform's power: {error}; free space on that disk");
                    for asker in askers.drain(..) {
                        let _: Result<_, _> = asker.send(Err(Error::failed(FailureCode::Internal, text.clone())));
                    }
                    WRITE_PAUSE
                }
            };
            let ask = tokio::select! {
                biased;
                Some(ask) = self.asks.recv() => Some(ask),
                () = self.busy.changed.notified() => None,
                Ok(()) = waiting.changed() => None,
                () = sleep(pause) => None,
            };
            let mut next = ask;
            while let Some((wish, asker)) = next {
                wished(&mut self.state, wish, Timestamp::now());
                askers.push(asker);
                next = self.asks.try_recv().ok();
            }
        }
    }

    /// Look, decide, remember, do. An error is that it can't be remembered.
    async fn pass(&mut self) -> Result<(Arc<Shown>, Duration), String> {
        let (asked, began) = (Timestamp::now(), Instant::now());
        let busy = (self.busy.commands.load(Ordering::Relaxed), self.busy.needs.load(Ordering::Relaxed));
        let seen = self.sources.look(&self.state, busy).await;
        self.metrics.power_look_seconds.observe(began.elapsed().as_secs_f64());
        let now = Timestamp::now();
        let mut decision = decide(&seen, &self.state, &self.settings, now);
        if self.saved.as_ref() != Some(&decision.state) {
            self.store.save(&decision.state).await?;
            self.saved = Some(decision.state.clone());
        }
        debug!(
            phase = decision.state.phase.as_str(),
            took = ?now.duration_since(asked).unsigned_abs(),
            again = ?decision.again,
            reasons = decision.reasons.len(),
            acts = ?decision.acts,
            "a look at the platform's power"
        );
        let moved = decision.state.generation != self.state.generation;
        if moved {
            self.count(&decision.state);
        }
        self.state = decision.state.clone();
        if moved {
            let State { phase, generation, cause, .. } = &self.state;
            info!(phase = phase.as_str(), generation, cause, "the platform's power");
        }
        let failed = self.do_all(&decision.acts).await;
        let pause = if failed.is_empty() { decision.again } else { decision.again.max(FAILED_PAUSE) };
        decision.faults.extend(failed);
        let told = self.shown.borrow().as_ref().map(|shown| kinds(&shown.decision.faults)).unwrap_or_default();
        let shown = self.show(&seen, decision, now);
        if moved || told != kinds(&shown.decision.faults) {
            self.reports.nudge();
        }
        Ok((shown, pause))
    }

    /// Another phase is entered.
    fn count(&self, next: &State) {
        self.metrics.power_transitions.inc(next.phase.as_str());
        if (self.state.phase, next.phase) == (Phase::Waking, Phase::Awake) {
            let took = Duration::try_from(next.since.duration_since(self.state.since)).unwrap_or_default();
            self.metrics.wake_seconds.observe(took.as_secs_f64());
        }
    }

    fn show(&self, seen: &Observation, decision: Decision, now: Timestamp) -> Arc<Shown> {
        let alarms = preview(seen, &decision.state, &self.settings, now);
        let told = tell::state(&decision, &alarms, &self.settings);
        let shown = Arc::new(Shown { decision, told });
        self.shown.send_replace(Some(Arc::clone(&shown)));
        shown
    }

    /// All at once, each within its own time.
    async fn do_all(&self, acts: &[Act]) -> Vec<Fault> {
        let each = acts.iter().map(|act| async move {
            let late = || Error::failed(FailureCode::Unavailable, "it took too long");
            let done = timeout(limits::POWER_ACT, self.act(act)).await.unwrap_or_else(|_| Err(late()));
            match done {
                Ok(()) => None,
                Err(error) => {
                    warn!(?act, %error, "an order of the platform's power failed");
                    Some(Fault { kind: "order-failed", detail: error.to_string() })
                }
            }
        });
        join_all(each).await.into_iter().flatten().collect()
    }

    async fn act(&self, act: &Act) -> Result<(), Error> {
        match act {
            Act::StartDatabase => self.services.aurora.start().await,
            Act::Scale { service, to } => self.services.ecs.set_count(service, *to).await,
            Act::Renew { service } => self.services.ecs.renew(service).await,
            Act::Capacity { service, to } => self.services.ecs.set_strategy(service, to).await,
            Act::Reload { location } => self.services.dagster.reload(location).await.map(|_| ()),
            Act::HandOn => self.hand_on().await,
        }
    }

    async fn hand_on(&self) -> Result<(), Error> {
        let dagster = &self.services.dagster;
        let loaded = async |location: Option<String>| dagster.is_loaded(location.as_deref()).await;
        let find = async |run: String| Ok(!dagster.runs_by_tag(arrivals::ARRIVAL_TAG, &run).await?.is_empty());
        let launch = async |one: arrivals::Launch| {
            let arrivals::Launch { job, location, repository, tags } = one;
            let tags = tags.into_iter().collect();
            dagster.launch(&dagster::Launch { job, location, repository, config: None, tags }).await
        };
        let done = self.arrivals.hand_on(loaded, find, launch).await?;
        self.metrics.arrivals_handed_on.add(done.arrivals.try_into().unwrap_or_default());
        if done.arrivals + done.parked > 0 {
            info!(arrivals = done.arrivals, runs = done.runs, parked = done.parked, "what had arrived was handed on");
        }
        done.failure.map_or(Ok(()), Err)
    }
}

fn kinds(faults: &[Fault]) -> Vec<&'static str> {
    faults.iter().map(|fault| fault.kind).collect()
}

fn wished(state: &mut State, wish: Wish, now: Timestamp) {
    let manual = state.wishes.manual;
    match wish {
        Wish::Look => {}
        Wish::Person => state.wishes.person = Some(now),
        Wish::Sleep => state.wishes = Wishes { manual, ..Wishes::default() },
        Wish::AwakeUntil(until) => state.wishes.awake_until = Some(until),
        // What people did meanwhile is not known: look before anything is put to sleep.
        Wish::Manual(false) if manual => {
            state.wishes.manual = false;
            state.enter(Phase::Awake, now);
        }
        Wish::Manual(manual) => state.wishes.manual = manual,
    }
}
