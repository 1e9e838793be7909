//! The trust bundle as the hub carries it: it can hand it on, and can't change it.
//!
//! Every version is kept, because an agent that was away takes them one by one.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use jiff::Timestamp;
use sfdata_common::{envelope, ids::OperatorName, keys::PublicKey, trust::Bundle};
use sfdata_proto::v1 as wire;
use tokio::sync::{Mutex, watch};

use crate::{
    audit::{self, About as _},
    enrol::authority::Authority,
    signer::SharedSigner,
    store::{self, Batch, Store, keys, records},
};

/// Why a bundle or statement was not taken.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It does not verify.
    #[error(transparent)]
    Bundle(#[from] sfdata_common::trust::Error),
    /// It would cut the hub off from its agents.
    #[error("the trust bundle does not list this hub's {0}; take it from hub-identity.pem and make the bundle anew")]
    NotOurs(&'static str),
    /// There is nothing to state.
    #[error("the statement is for epoch {stated}; the hub is in epoch {current}")]
    Epoch {
        /// The hub's.
        current: u64,
        /// The statement's.
        stated: u64,
    },
    /// There is no bundle yet.
    #[error("this hub has no trust bundle yet; publish one first (hubctl trust publish)")]
    None,
    /// The store.
    #[error(transparent)]
    Store(#[from] store::Error),
}

/// What the hub itself must find in every bundle.
pub struct Own {
    /// `sfdata.example`.
    pub trust_domain: String,
    /// Its dispatch key.
    pub dispatch: SharedSigner,
    /// Its CA.
    pub authority: Arc<Authority>,
}

struct Held {
    bundle: Arc<Bundle>,
    envelope: wire::Envelope,
}

/// The bundles and the epoch.
pub struct Trust {
    store: Store,
    own: Own,
    current: ArcSwapOption<Held>,
    epoch: std::sync::RwLock<records::Epoch>,
    /// Counts changes, so that sessions look again.
    changes: watch::Sender<u64>,
    publishing: Mutex<()>,
}

impl Trust {
    /// Read what the store holds.
    pub fn load(store: Store, own: Own) -> Result<Arc<Self>, Error> {
        let newest = store.scan::<wire::Envelope>(keys::BUNDLES).next_back().transpose()?;
        let current = match newest {
            None => None,
            Some((_, envelope)) => {
                let bundle = Arc::new(Bundle::parse(&envelope.payload)?);
                Some(Arc::new(Held { bundle, envelope }))
            }
        };
        let epoch = store.get(keys::EPOCH)?.unwrap_or(records::Epoch { number: 1, statement: None });
        Ok(Arc::new(Self {
            store,
            own,
            current: ArcSwapOption::new(current),
            epoch: std::sync::RwLock::new(epoch),
            changes: watch::channel(0).0,
            publishing: Mutex::default(),
        }))
    }

    /// The newest bundle's signed envelope.
    pub fn envelope(&self) -> Option<wire::Envelope> {
        self.current.load().as_ref().map(|held| held.envelope.clone())
    }

    /// What it says.
    pub fn bundle(&self) -> Option<Arc<Bundle>> {
        self.current.load().as_ref().map(|held| Arc::clone(&held.bundle))
    }

    /// Its version; 0 before the first.
    pub fn version(&self) -> u64 {
        self.current.load().as_ref().map_or(0, |held| held.bundle.version)
    }

    /// Look at the newest bundle.
    pub fn with<T>(&self, look: impl FnOnce(&Bundle) -> T) -> Option<T> {
        self.current.load().as_ref().map(|held| look(&held.bundle))
    }

    /// All dispatch keys that any version has listed: what the hub itself said under one of them still holds for it.
    pub fn dispatch_keys(&self) -> Vec<PublicKey> {
        let stored = self.store.scan::<wire::Envelope>(keys::BUNDLES).filter_map(Result::ok);
        let bundles = stored.filter_map(|(_, envelope)| Bundle::parse(&envelope.payload).ok());
        bundles.flat_map(|bundle| bundle.dispatch_keys).collect()
    }

    /// The version from which on every bundle has listed this dispatch key; none while the newest does not.
    pub fn lists_dispatch_since(&self, key: &PublicKey) -> Result<Option<u64>, store::Error> {
        self.lists_since(|bundle| bundle.dispatch_keys.contains(key))
    }

    /// The same for a CA's certificate.
    pub fn lists_ca_since(&self, certificate: &[u8]) -> Result<Option<u64>, store::Error> {
        self.lists_since(|bundle| bundle.ca_certificates.iter().any(|der| der == certificate))
    }

    fn lists_since(&self, lists: impl Fn(&Bundle) -> bool) -> Result<Option<u64>, store::Error> {
        let mut since = None;
        for version in (1..=self.version()).rev() {
            let stored = self.store.get::<wire::Envelope>(&keys::bundle(version))?;
            let listed = stored.and_then(|envelope| Bundle::parse(&envelope.payload).ok());
            if !listed.is_some_and(|bundle| lists(&bundle)) {
                break;
            }
            since = Some(version);
        }
        Ok(since)
    }

    /// The key of this operator that signed it, if it is listed and has not expired.
    pub fn signer(
        &self,
        name: &OperatorName,
        envelope: &wire::Envelope,
        payload_type: &str,
        now: Timestamp,
    ) -> Option<sfdata_common::trust::OperatorKey> {
        self.with(|bundle| {
            let mut keys = bundle.operator_keys(name).filter(|key| key.expires > now);
            keys.find(|key| envelope::is_signed_by(envelope, payload_type, &key.key)).cloned()
        })
        .flatten()
    }

    /// An operator's key, if it is listed and has not expired.
    pub fn operator(&self, name: &OperatorName, now: Timestamp) -> Option<sfdata_common::trust::OperatorKey> {
        self.with(|bundle| bundle.operator(name).filter(|key| key.expires > now).cloned()).flatten()
    }

    /// CAs whose leaves may connect: the bundle's, and the hub's own before there is one.
    pub fn ca_certificates(&self) -> Vec<Vec<u8>> {
        let mut certificates = self.with(|bundle| bundle.ca_certificates.clone()).unwrap_or_default();
        let own = self.own.authority.certificate();
        if !certificates.contains(&own) {
            certificates.push(own);
        }
        certificates
    }

    /// First part of every identity here.
    pub fn domain(&self) -> &str {
        &self.own.trust_domain
    }

    /// Notified when a bundle or statement was published.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Bundles after `version`, in order, for an agent that was away.
    pub fn after(&self, version: u64) -> Result<Vec<wire::Envelope>, store::Error> {
        (version + 1..=self.version()).filter_map(|v| self.store.get(&keys::bundle(v)).transpose()).collect()
    }

    /// The epoch of sequence numbers.
    pub fn epoch(&self) -> u64 {
        self.read_epoch().number
    }

    /// The operator's word for the epoch, where there is one.
    pub fn statement(&self) -> Option<wire::Envelope> {
        self.read_epoch().statement.clone()
    }

    /// Whether agents of an older epoch have to wait for an operator's word.
    pub fn needs_statement(&self) -> bool {
        let epoch = self.read_epoch();
        epoch.number > 1 && epoch.statement.is_none()
    }

    fn read_epoch(&self) -> std::sync::RwLockReadGuard<'_, records::Epoch> {
        self.epoch.read().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Take a bundle: the first by its own threshold, each later one by its predecessor's too.
    pub async fn publish(&self, by: &OperatorName, envelope: wire::Envelope, now: Timestamp) -> Result<u64, Error> {
        let _one_at_a_time = self.publishing.lock().await;
        let bundle = match self.current.load_full() {
            Some(held) if held.envelope.payload == envelope.payload => return Ok(held.bundle.version),
            Some(held) => held.bundle.verify_next(&envelope)?,
            None => Bundle::verify_first(&envelope, None)?,
        };
        if bundle.trust_domain != self.own.trust_domain {
            let (ours, offered) = (self.own.trust_domain.clone(), bundle.trust_domain);
            return Err(sfdata_common::trust::Error::TrustDomain { ours, offered }.into());
        }
        if !bundle.dispatch_keys.contains(&self.own.dispatch.load().public()) {
            return Err(Error::NotOurs("dispatch key"));
        }
        if !bundle.ca_certificates.contains(&self.own.authority.certificate()) {
            return Err(Error::NotOurs("CA certificate"));
        }
        let version = bundle.version;
        let mut batch = Batch::default();
        batch.put(keys::bundle(version), &envelope);
        batch.audit(
            audit::draft(now, "trust.published", audit::operator(by), format!("version {version}"), String::new())
                .about(&envelope),
        );
        self.store.commit(batch).await?;
        self.current.store(Some(Arc::new(Held { bundle: Arc::new(bundle), envelope })));
        self.changes.send_modify(|count| *count += 1);
        Ok(version)
    }

    /// Take an admin's word that the hub was restored.
    pub async fn accept_epoch(&self, by: &OperatorName, envelope: wire::Envelope, now: Timestamp) -> Result<(), Error> {
        let _one_at_a_time = self.publishing.lock().await;
        let held = self.current.load_full().ok_or(Error::None)?;
        let statement = held.bundle.verify_epoch(&envelope, now)?;
        let current = self.epoch();
        if statement.epoch != current {
            return Err(Error::Epoch { current, stated: statement.epoch });
        }
        let epoch = records::Epoch { number: current, statement: Some(envelope.clone()) };
        let mut batch = Batch::default();
        batch.put(keys::EPOCH.to_vec(), &epoch);
        let subject = format!("epoch {current}");
        batch.audit(
            audit::draft(now, "epoch.accepted", audit::operator(by), subject, statement.reason).about(&envelope),
        );
        self.store.commit(batch).await?;
        *self.epoch.write().unwrap_or_else(std::sync::PoisonError::into_inner) = epoch;
        self.changes.send_modify(|count| *count += 1);
        Ok(())
    }
}
