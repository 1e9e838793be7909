//! The reporter: looks at the platform and keeps what it saw for the link to send.
//!
//! One task, so that there is never more than one look at a time however many ask. It looks at once when nudged
//! or asked, every few seconds while something moves, and once a minute at rest, to spare the account's AWS
//! quota. A look never fails: what can't be read is told in its place.

use std::{sync::Arc, time::Duration};

use prometheus_client::metrics::histogram::Histogram;
use sfdata_common::{Timestamp, limits, outcome::FailureCode, retry::jittered};
use sfdata_proto::v1 as wire;
use tokio::{
    sync::{Notify, mpsc, oneshot, watch},
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use crate::{
    arrivals,
    metrics::Metrics,
    services::{Error, Services, ecs},
};

/// Askers that wait for a fresh look; each is one running action, and more wait in `send`.
const ASKERS: usize = limits::ACTIONS_AT_ONCE;

/// What other tasks see of the reporter. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Handle {
    seen: watch::Receiver<Option<Arc<wire::Health>>>,
    asks: mpsc::Sender<oneshot::Sender<Arc<wire::Health>>>,
    nudge: Arc<Notify>,
}

impl Handle {
    /// What was seen last; `None` before the first look. Journal, hold and clock skew are the link's to fill in.
    pub fn latest(&self) -> Option<Arc<wire::Health>> {
        self.seen.borrow().clone()
    }

    /// Look now, and tell what was seen. The look begins after this was called; all who ask meanwhile share the next.
    pub async fn refresh(&self) -> Result<Arc<wire::Health>, Error> {
        let stopped = || Error::failed(FailureCode::Unavailable, "the agent is stopping; ask again when it is back");
        let (reply, answer) = oneshot::channel();
        self.asks.send(reply).await.map_err(|_| stopped())?;
        answer.await.map_err(|_| stopped())
    }

    /// Something was, or is about to be, changed: look soon, and more often for a while. Costs the caller nothing.
    pub fn nudge(&self) {
        self.nudge.notify_one();
    }

    /// Marks each look as a change, also one that saw what the last one saw; [`differs`] tells them apart.
    pub fn subscribe(&self) -> watch::Receiver<Option<Arc<wire::Health>>> {
        self.seen.clone()
    }
}

/// The task behind a [`Handle`].
#[derive(Debug)]
pub struct Reporter {
    services: Services,
    arrivals: arrivals::Handle,
    began: Instant,
    /// Of each look, in seconds.
    took: Histogram,
    seen: watch::Sender<Option<Arc<wire::Health>>>,
    asks: mpsc::Receiver<oneshot::Sender<Arc<wire::Health>>>,
    nudge: Arc<Notify>,
}

impl Reporter {
    /// A reporter that has not looked yet. The agent's uptime counts from here; `metrics` has how long each look took.
    pub fn new(services: Services, arrivals: arrivals::Handle, metrics: &Metrics) -> (Handle, Self) {
        let (seen, latest) = watch::channel(None);
        let (asks, asked) = mpsc::channel(ASKERS);
        let nudge = Arc::new(Notify::new());
        let handle = Handle { seen: latest, asks, nudge: Arc::clone(&nudge) };
        let took = metrics.health_look_seconds.clone();
        (handle, Self { services, arrivals, began: Instant::now(), took, seen, asks: asked, nudge })
    }

    /// Look until `stop`.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut pace = Pace { stirred: Instant::now(), moves: false };
        let mut askers: Vec<oneshot::Sender<_>> = Vec::new();
        loop {
            let health = tokio::select! {
                biased;
                () = stop.cancelled() => return,
                health = self.look() => Arc::new(health),
            };
            pace.saw(self.seen.borrow().as_deref(), &health, Instant::now());
            self.seen.send_replace(Some(Arc::clone(&health)));
            for asker in askers.drain(..) {
                let _: Result<_, _> = asker.send(Arc::clone(&health)); // who asked may have been cancelled
            }

            let pause = jittered(pace.pause(Instant::now()), 0.1);
            debug!(?pause, moves = pace.moves, "the platform was looked at");
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                Some(asker) = self.asks.recv() => askers.push(asker),
                () = self.nudge.notified() => pace.stirred = Instant::now(),
                () = sleep(pause) => {}
            }
            while let Ok(asker) = self.asks.try_recv() {
                askers.push(asker);
            }
        }
    }

    async fn look(&self) -> wire::Health {
        let (taken, began) = (Timestamp::now(), Instant::now());
        let (ecs, aurora) = self.services.health().await;
        self.took.observe(began.elapsed().as_secs_f64());
        wire::Health {
            taken_unix_ms: taken.as_millisecond(),
            agent_version: env!("CARGO_PKG_VERSION").into(),
            uptime_seconds: self.began.elapsed().as_secs(),
            ecs: Some(ecs),
            aurora: Some(aurora),
            arrivals: Some(self.arrivals.health()),
            ..Default::default()
        }
    }
}

/// Decides how soon to look again.
#[derive(Debug)]
struct Pace {
    /// When something last began to move, or was said to.
    stirred: Instant,
    /// Whether the last look saw something move.
    moves: bool,
}

impl Pace {
    fn saw(&mut self, before: Option<&wire::Health>, now: &wire::Health, at: Instant) {
        let moves = moves(now) || before.is_some_and(|before| differs(before, now));
        if moves && !self.moves {
            self.stirred = at;
        }
        self.moves = moves;
    }

    fn pause(&self, now: Instant) -> Duration {
        let since = now.saturating_duration_since(self.stirred);
        if !self.moves && since >= limits::HEALTH_LOOK_SETTLE {
            return limits::HEALTH_LOOK_REST;
        }
        (since / 10).clamp(limits::HEALTH_LOOK_MOVING, limits::HEALTH_LOOK_REST)
    }
}

/// Whether the platform is on its way to another state.
fn moves(health: &wire::Health) -> bool {
    let ecs = health.ecs.iter().flat_map(|ecs| &ecs.services).any(ecs::in_motion);
    let aurora = health.aurora.iter().filter_map(|aurora| aurora.state.as_ref());
    ecs || aurora.into_iter().any(|state| !matches!(state.status.as_str(), "available" | "stopped" | ""))
}

/// Whether two reports differ in something that matters: not in their times, and of what could not be read in
/// the kind of error alone, since AWS's request id is another each time.
pub fn differs(one: &wire::Health, other: &wire::Health) -> bool {
    fn without_times(health: &wire::Health) -> wire::Health {
        let mut health = wire::Health { taken_unix_ms: 0, uptime_seconds: 0, clock_skew_ms: 0, ..health.clone() };
        let kind = |error: &mut String| error.truncate(error.find(':').unwrap_or(error.len()));
        health.ecs.iter_mut().for_each(|ecs| kind(&mut ecs.error));
        health.aurora.iter_mut().for_each(|aurora| kind(&mut aurora.error));
        health.arrivals.iter_mut().for_each(|arrivals| kind(&mut arrivals.error));
        health
    }
    without_times(one) != without_times(other)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn health(running: u32, error: &str) -> wire::Health {
        let service = wire::EcsServiceState { name: "daemon".into(), desired: 1, running, ..Default::default() };
        let ecs = wire::EcsHealth { services: vec![service], error: error.into(), ..Default::default() };
        wire::Health { taken_unix_ms: 1, uptime_seconds: 1, ecs: Some(ecs), ..Default::default() }
    }

    #[test]
    fn times_and_request_ids_do_not_matter_all_else_does() {
        let one = health(1, "");
        let later = wire::Health { taken_unix_ms: 9, uptime_seconds: 9, clock_skew_ms: 9, ..one.clone() };
        assert!(!differs(&one, &later));
        assert!(differs(&one, &health(0, "")));
        let failed = |text| health(1, text);
        assert!(differs(&one, &failed("throttled: x")));
        assert!(!differs(&failed("throttled: request 1"), &failed("throttled: request 2")));
        assert!(differs(&failed("throttled: request 1"), &failed("access-denied: request 1")));
        let held = wire::Health { hold: Some(wire::Hold::default()), ..one.clone() };
        assert!(differs(&one, &held));
    }

    #[test]
    fn looks_are_quick_after_a_change_and_slow_down_while_it_lasts() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut pace = Pace { stirred: start, moves: false };
        assert_eq!(pace.pause(at(0)), limits::HEALTH_LOOK_MOVING, "just started");
        pace.saw(None, &health(1, ""), at(0));
        assert_eq!(pace.pause(at(60)), limits::HEALTH_LOOK_REST);

        pace.saw(Some(&health(1, "")), &health(0, ""), at(1000));
        assert_eq!(pace.pause(at(1010)), limits::HEALTH_LOOK_MOVING);
        pace.saw(Some(&health(0, "")), &health(0, ""), at(1100));
        assert_eq!(pace.pause(at(1100)), Duration::from_secs(10), "it has moved for 100 s");
        assert_eq!(pace.pause(at(9999)), limits::HEALTH_LOOK_REST, "it crashes for ever");

        pace.saw(Some(&health(0, "")), &health(1, ""), at(9999));
        pace.saw(Some(&health(1, "")), &health(1, ""), at(10_000));
        assert!(!pace.moves);
        assert_eq!(pace.pause(at(10_000)), limits::HEALTH_LOOK_REST);
        pace.stirred = at(10_050); // a nudge
        assert_eq!(pace.pause(at(10_060)), limits::HEALTH_LOOK_MOVING);
    }
}
