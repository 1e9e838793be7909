//! The hub's own leaf, and the TLS configurations of both gRPC listeners that are made of it.
//!
//! The leaf lives in memory only: a new key at each start and each renewal. Configurations are exchanged as a whole,
//! and only when the new ones could be made: what works is never replaced by what does not.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use sfdata_common::{
    Timestamp,
    error::chain,
    peer::Subject,
    retry::jittered,
    tls::{self, Identity, TlsKey},
};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::authority::{self, Authority};
use crate::{metrics::Metrics, server::SharedTls};

/// Spread of the renewal around half of the leaf's life.
const SPREAD: f64 = 0.1;
/// Between tries when a renewal failed.
const RETRY: Duration = Duration::from_secs(60);
/// Shortest wait: what the CA's own end leaves of a leaf gets ever shorter.
const SHORTEST: Duration = Duration::from_millis(100);
/// A CA that ends within this time is complained about at each renewal: its successor needs a signed trust bundle.
const CA_WARNING: Duration = Duration::from_secs(180 * 24 * 3600);

/// Why the listeners' TLS could not be made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No new leaf.
    #[error("the hub's own certificate could not be renewed")]
    Issue(#[from] authority::Error),
    /// Key, leaf or CA certificates that TLS does not take.
    #[error("the TLS configuration could not be made")]
    Tls(#[from] tls::Error),
}

/// TLS of the hub's listeners, kept young.
pub struct Serving {
    authority: Arc<Authority>,
    hub_id: String,
    lifetime: Duration,
    metrics: Metrics,
    authenticated: SharedTls,
    enrolment: SharedTls,
    current: Mutex<Current>,
}

struct Current {
    identity: Identity,
    /// Who issues the clients' certificates.
    roots: Vec<Vec<u8>>,
}

impl Serving {
    /// Make the first leaf. `bundle_cas`: the CA certificates of the trust bundle, which are trusted beside our own.
    pub fn start(
        authority: Arc<Authority>,
        hub_id: &str,
        lifetime: Duration,
        bundle_cas: &[Vec<u8>],
        metrics: Metrics,
        now: Timestamp,
    ) -> Result<Self, Error> {
        let current =
            Current { identity: leaf(&authority, hub_id, lifetime, now)?, roots: roots(&authority, bundle_cas) };
        let [authenticated, enrolment] = current.configurations()?.map(|config| Arc::new(ArcSwap::new(config)));
        let serving = Self {
            authority,
            hub_id: hub_id.to_owned(),
            lifetime,
            metrics,
            authenticated,
            enrolment,
            current: Mutex::new(current),
        };
        serving.note(now);
        Ok(serving)
    }

    /// For the listener of agents and operators.
    pub fn authenticated(&self) -> SharedTls {
        Arc::clone(&self.authenticated)
    }

    /// For the enrolment listener.
    pub fn enrolment(&self) -> SharedTls {
        Arc::clone(&self.enrolment)
    }

    /// Trust the CA certificates of a newer bundle, and our own. Connections that are open stay so.
    pub fn trust(&self, bundle_cas: &[Vec<u8>]) -> Result<(), Error> {
        let mut current = self.current();
        let before = std::mem::replace(&mut current.roots, roots(&self.authority, bundle_cas));
        match current.configurations() {
            Ok(configurations) => {
                self.swap(configurations);
                Ok(())
            }
            Err(error) => {
                current.roots = before;
                Err(error.into())
            }
        }
    }

    /// End of the current leaf.
    pub fn not_after(&self) -> Timestamp {
        self.current().identity.peer().not_after
    }

    /// A new leaf now. Repeating it is harmless; when it fails, the current one stays.
    pub fn renew(&self, now: Timestamp) -> Result<(), Error> {
        let identity = leaf(&self.authority, &self.hub_id, self.lifetime, now)?;
        {
            let mut current = self.current();
            // Another CA may have taken the place of ours meanwhile.
            let new = Current { identity, roots: roots(&self.authority, &current.roots) };
            self.swap(new.configurations()?);
            *current = new;
        }
        self.note(now);
        Ok(())
    }

    /// Renew at half of each leaf's life, until `stop`.
    pub async fn run(&self, stop: CancellationToken) {
        let mut wait = self.half_life(Timestamp::now());
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = sleep(wait) => {}
            }
            let now = Timestamp::now();
            wait = match self.renew(now) {
                Ok(()) => self.half_life(now),
                Err(error) => {
                    error!(error = %chain(&error), ends = %self.not_after(), "the hub's certificate was not renewed");
                    RETRY.min(self.half_life(now))
                }
            };
        }
    }

    /// Until the next renewal; of a leaf that has ended, until the next try.
    fn half_life(&self, now: Timestamp) -> Duration {
        match until(self.not_after(), now) {
            Duration::ZERO => RETRY,
            left => jittered(left / 2, SPREAD).max(SHORTEST),
        }
    }

    fn note(&self, now: Timestamp) {
        let (leaf, ca) = (self.not_after(), self.authority.not_after());
        self.metrics.certificate_expires.set(leaf.as_second());
        self.metrics.ca_expires.set(ca.as_second());
        info!(ends = %leaf, "the hub has a new certificate");
        if until(ca, now) < CA_WARNING {
            warn!(ends = %ca, "the hub's CA ends soon; put a new one into the trust bundle before");
        }
    }

    fn swap(&self, [authenticated, enrolment]: [Arc<ServerConfig>; 2]) {
        self.authenticated.store(authenticated);
        self.enrolment.store(enrolment);
    }

    fn current(&self) -> MutexGuard<'_, Current> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Current {
    /// Of the authenticated listener and of the enrolment listener.
    fn configurations(&self) -> Result<[Arc<ServerConfig>; 2], tls::Error> {
        Ok([tls::server(&self.identity, Some(&self.roots))?, tls::server(&self.identity, None)?])
    }
}

fn leaf(authority: &Authority, hub_id: &str, lifetime: Duration, now: Timestamp) -> Result<Identity, Error> {
    let key = TlsKey::generate()?;
    let chain = authority.issue(&key.request()?, &Subject::Hub(hub_id.to_owned()), lifetime, now)?;
    Ok(Identity::new(chain, &key)?)
}

fn roots(authority: &Authority, bundle_cas: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let own = authority.certificate();
    let others: Vec<_> = bundle_cas.iter().filter(|der| **der != own).cloned().collect();
    let mut roots = vec![own];
    roots.extend(others);
    roots
}

fn until(end: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(end.duration_since(now)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_works_is_not_replaced_by_what_does_not() {
        let folder = tempfile::tempdir().unwrap();
        let now = Timestamp::now();
        let authority = Arc::new(Authority::create(folder.path(), "sfdata.example", now).unwrap());
        let hour = Duration::from_secs(3600);
        let metrics = Metrics::default();
        let serving = Serving::start(Arc::clone(&authority), "core", hour, &[], metrics.clone(), now).unwrap();
        let shared = serving.authenticated();
        let first = shared.load_full();

        assert!(serving.trust(&[b"no certificate".to_vec()]).is_err());
        assert!(serving.renew(authority.not_after()).is_err());
        assert!(Arc::ptr_eq(&first, &shared.load_full()));

        let ends = serving.not_after();
        serving.renew(now + hour).unwrap();
        assert_eq!(serving.not_after(), ends + hour);
        assert_eq!(metrics.certificate_expires.get(), serving.not_after().as_second());
        assert!(!Arc::ptr_eq(&first, &shared.load_full()));
    }

    #[tokio::test]
    async fn the_leaf_is_renewed_by_itself_and_the_task_stops() {
        let folder = tempfile::tempdir().unwrap();
        let now = Timestamp::now();
        let authority = Arc::new(Authority::create(folder.path(), "sfdata.example", now).unwrap());
        let serving = Serving::start(authority, "core", Duration::from_secs(2), &[], Metrics::default(), now).unwrap();
        let (ends, stop) = (serving.not_after(), CancellationToken::new());
        let watch = async {
            while serving.not_after() == ends {
                sleep(Duration::from_millis(20)).await;
            }
            stop.cancel();
        };
        let both = futures::future::join(serving.run(stop.clone()), watch);
        tokio::time::timeout(Duration::from_secs(5), both).await.unwrap();
    }
}
