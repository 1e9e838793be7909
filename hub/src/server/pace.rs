//! Requests of one peer: so many a second, of all of its connections together.
//!
//! Even a request that is refused costs a signature's check or a look into the registry, and streams are many: who may open
//! them could take the hub's CPU from everybody. Above its rate a peer waits, which its own open streams bound; a peer that
//! would have to wait long has its connection ended, so that going on costs it a handshake each time, and those are bounded.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use futures::future::{BoxFuture, Either, FutureExt as _};
use http::{Request, Response};
use sfdata_common::{limits, peer::Subject};
use tokio::time::{Instant, sleep};
use tonic::{Status, body::Body};
use tower::{Layer, Service};
use tracing::debug;

use super::connection::{ConnectedPeer, Whose};
use crate::metrics::Metrics;

/// A peer that was quiet may send so much of its rate at once.
const BURST: Duration = Duration::from_secs(1);
/// Above its rate a request waits so long at most.
const LONGEST_WAIT: Duration = Duration::from_secs(1);
/// Peers that are remembered before those are forgotten that are within their rates.
const REMEMBERED: usize = 4_096;

/// For each peer, when it will have used up what it sent so far.
#[derive(Debug, Clone)]
pub(super) struct Pace {
    used_until: Arc<Mutex<HashMap<Whose, Instant>>>,
    metrics: Metrics,
}

impl Pace {
    pub(super) fn new(metrics: Metrics) -> Self {
        Self { used_until: Arc::default(), metrics }
    }

    /// How long its next request waits; nothing if it sent too many.
    fn wait(&self, whose: &Whose, now: Instant) -> Option<Duration> {
        let mut all = self.used_until.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= REMEMBERED && !all.contains_key(whose) {
            all.retain(|_, until| *until > now);
        }
        let until = all.entry(whose.clone()).or_insert(now);
        let from = (*until).max(now);
        let wait = (from - now).saturating_sub(BURST);
        if wait > LONGEST_WAIT {
            return None;
        }
        *until = from + Duration::from_secs(1) / rate(whose);
        Some(wait)
    }
}

/// Requests a second.
fn rate(whose: &Whose) -> u32 {
    match whose {
        Whose::Subject(Subject::Operator(_)) => limits::OPERATOR_REQUESTS_PER_SECOND,
        Whose::Subject(_) | Whose::Address(_) => limits::REQUESTS_PER_SECOND,
    }
}

impl<S> Layer<S> for Pace {
    type Service = Paced<S>;

    fn layer(&self, inner: S) -> Paced<S> {
        Paced { inner, pace: self.clone() }
    }
}

/// See [`Pace`].
#[derive(Clone)]
pub(super) struct Paced<S> {
    inner: S,
    pace: Pace,
}

impl<S> Service<Request<Body>> for Paced<S>
where
    S: Service<Request<Body>, Response = Response<Body>>,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Either<S::Future, BoxFuture<'static, Result<Response<Body>, S::Error>>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let Some(peer) = request.extensions().get::<ConnectedPeer>() else {
            return Either::Left(self.inner.call(request));
        };
        let whose = peer.whose();
        match self.pace.wait(&whose, Instant::now()) {
            Some(Duration::ZERO) => Either::Left(self.inner.call(request)),
            Some(wait) => {
                let answer = self.inner.call(request); // does nothing before it is polled
                Either::Right(
                    async move {
                        sleep(wait).await;
                        answer.await
                    }
                    .boxed(),
                )
            }
            None => {
                self.pace.metrics.load_shed.inc("requests");
                debug!(remote = %peer.remote, ?whose, "too many requests; its connection is ended");
                peer.end();
                let refused =
                    Status::resource_exhausted(format!("more than {} requests a second; send fewer", rate(&whose)));
                Either::Right(async move { Ok(refused.into_http()) }.boxed())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn operator() -> Whose {
        Whose::Subject(Subject::Operator("alice".parse().unwrap()))
    }

    fn address(last: u8) -> Whose {
        Whose::Address([127, 0, 0, last].into())
    }

    #[test]
    fn a_peer_has_its_rate_waits_above_it_and_is_told_to_stop() {
        for (whose, rate) in
            [(operator(), limits::OPERATOR_REQUESTS_PER_SECOND), (address(1), limits::REQUESTS_PER_SECOND)]
        {
            let (pace, now) = (Pace::new(Metrics::default()), Instant::now());
            let mut waits = Vec::new();
            while let Some(wait) = pace.wait(&whose, now) {
                waits.push(wait);
            }
            let at_once = waits.iter().filter(|wait| wait.is_zero()).count() as u32;
            assert!((rate..=rate + 1).contains(&at_once), "{at_once} of {rate} at once");
            assert!(waits.is_sorted() && waits.last().unwrap() <= &LONGEST_WAIT);
            assert!((2 * rate..=2 * rate + 2).contains(&(waits.len() as u32)), "{} in all", waits.len());
            // A peer that is told to stop loses nothing by it: it goes on as its time does.
            let later = now + Duration::from_millis(500);
            let more = (0..).take_while(|_| pace.wait(&whose, later).is_some()).count() as u32;
            assert!((rate / 2 - 1..=rate / 2 + 1).contains(&more), "{more} after half a second");
        }
    }

    #[test]
    fn one_peer_takes_nothing_of_another() {
        let (pace, now) = (Pace::new(Metrics::default()), Instant::now());
        while pace.wait(&address(1), now).is_some() {}
        assert_eq!(pace.wait(&address(2), now), Some(Duration::ZERO));
    }

    #[test]
    fn only_who_is_above_its_rate_is_remembered_for_long() {
        let (pace, now) = (Pace::new(Metrics::default()), Instant::now());
        while pace.wait(&address(1), now).is_some() {}
        for n in 0..2 * REMEMBERED as u32 {
            pace.wait(&Whose::Address(std::net::Ipv4Addr::from(0x0a00_0000 + n).into()), now);
        }
        pace.wait(&address(2), now + BURST);
        let all = pace.used_until.lock().unwrap();
        assert!(all.len() == 2 && all.contains_key(&address(1)), "{} are remembered", all.len());
    }
}
