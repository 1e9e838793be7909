//! Who this agent is: its certificate with key, its receipt key, and where its hub is. How it joins is in [`joining`].
//!
//! Keys are made here and never leave. The certificate lives a day and is renewed at half of that, ±10 %; the link
//! connects anew with the younger one and running actions notice nothing. One that has ended, since the agent was off for
//! long, cannot be renewed: an agent that may join by its AWS identity then joins again.

mod joining;
pub mod receipts;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use arc_swap::ArcSwap;
use jiff::Timestamp;
use prost::Message as _;
use rustls::ClientConfig;
use sfdata_common::{
    channel::{self, SharedTls},
    error::chain,
    ids::{AccountId, AgentId},
    join, keyfile,
    keys::{self, SigningKey},
    limits,
    peer::Subject,
    retry::jittered,
    tls::{self, Identity as Certificate, Knows, TlsKey},
};
use sfdata_proto::v1::{self as wire, renewal_service_client::RenewalServiceClient};
use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

pub use self::joining::{ByAws, by_aws, enrol};
use self::receipts::Receipts;
use crate::{
    journal, services,
    trust::{self, Trust},
};

/// Key and chain in one file, so that they change together.
const TLS_FILE: &str = "identity.pem";
const RECEIPT_FILE: &str = "receipt.key";
const HOME_FILE: &str = "home.pem";
const HOME_TAG: &str = "SFDATA AGENT HOME";
/// Between tries to renew.
const RETRY: Duration = Duration::from_secs(60);

/// Why there is no usable identity.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The token's text.
    #[error(transparent)]
    Token(#[from] join::Invalid),
    /// A token for somebody else.
    #[error("this token is for an operator; an agent's token comes from `hubctl agents invite`")]
    OperatorToken,
    /// The names in the token.
    #[error("the token names an invalid agent or account")]
    Names(#[from] sfdata_common::ids::Error),
    /// Another account.
    #[error(
        "the token is for AWS account {expected}, and these credentials belong to {found}; run it in the right account"
    )]
    Account {
        /// In the token.
        expected: AccountId,
        /// As STS tells.
        found: String,
    },
    /// Enrolled before.
    #[error("{0} holds an identity already; to enrol anew, move that folder away first")]
    Present(PathBuf),
    /// Enrolled, and well.
    #[error(
        "{path} holds an identity whose certificate is valid until {until} and is renewed by itself; there is nothing to do"
    )]
    Valid {
        /// Where.
        path: PathBuf,
        /// When it ends.
        until: Timestamp,
    },
    /// Another agent's folder.
    #[error(
        "{path} holds the identity of {found}, and [join] is for {expected}; give each agent a data_dir of its own"
    )]
    OtherAgent {
        /// Where.
        path: PathBuf,
        /// Whose it is.
        found: String,
        /// Of the configuration.
        expected: String,
    },
    /// Not enrolled.
    #[error("{0} holds no identity; enrol first: sfdata-agent enrol --token sfjoin_…, or --aws")]
    Absent(PathBuf),
    /// No place to join.
    #[error("the configuration has no [join] section; paste there what `hubctl agents register` printed")]
    NoPlace,
    /// The file of the count of joins.
    #[error("{0} cannot be read; restore it, or have an admin say hubctl agents register --again and remove it")]
    Count(PathBuf),
    /// What is to be signed, or the credentials.
    #[error(transparent)]
    Services(#[from] services::Error),
    /// The hub said no, or can't be reached.
    #[error("the hub at {address} did not let this agent join: {}", status.message())]
    Refused {
        /// Where.
        address: String,
        /// What it said.
        #[source]
        status: Box<tonic::Status>,
    },
    /// The hub's answer lacks something.
    #[error("the hub's answer has no {0}")]
    Incomplete(&'static str),
    /// The folder.
    #[error("cannot make the folder {path}")]
    Folder {
        /// Which.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The file of where the hub is.
    #[error("{0} cannot be read; enrol anew")]
    Home(PathBuf),
    /// Key files.
    #[error(transparent)]
    File(#[from] keyfile::Error),
    /// Keys.
    #[error(transparent)]
    Key(#[from] keys::Error),
    /// TLS.
    #[error(transparent)]
    Tls(#[from] tls::Error),
    /// The bundle.
    #[error(transparent)]
    Trust(#[from] trust::Error),
    /// The journal.
    #[error(transparent)]
    Journal(#[from] journal::Error),
}

/// Key and chain of an agent that was enrolled.
fn read_certificate(data_dir: &Path) -> Result<Certificate, Error> {
    let text = keyfile::read_secret(&data_dir.join(TLS_FILE))?;
    let key = TlsKey::from_pem(&text)?;
    let mut chain = tls::certificates_from_pem(text.as_bytes())?;
    chain.remove(0); // the key
    Ok(Certificate::new(chain, &key)?)
}

fn to_pem(key: &TlsKey, chain: &[Vec<u8>]) -> String {
    format!("{}{}", key.to_pem().as_str(), tls::certificates_to_pem(chain))
}

/// The identity in use; share it by `Arc`.
pub struct Identity {
    agent: AgentId,
    address: String,
    receipts: Receipts,
    /// Where a renewed certificate is kept; `None` keeps it in memory.
    path: Option<PathBuf>,
    certificate: ArcSwap<Certificate>,
    tls: SharedTls,
    trust: Arc<Trust>,
    /// How it joins again when the certificate has ended.
    by_aws: Option<ByAws>,
    changes: watch::Sender<u64>,
}

impl Identity {
    /// Whether an agent was enrolled in `data_dir`.
    pub fn exists(data_dir: &Path) -> bool {
        data_dir.join(HOME_FILE).exists()
    }

    /// Id of the agent that was enrolled in `data_dir`, if one was.
    pub fn id_in(data_dir: &Path) -> Option<AgentId> {
        match read_certificate(data_dir).ok()?.peer().subject.clone() {
            Subject::Agent(agent) => Some(agent),
            _ => None,
        }
    }

    /// Open what enrolment left in `data_dir`. `address` takes the place of the token's.
    pub fn open(data_dir: &Path, address: Option<&str>, trust: Arc<Trust>) -> Result<Self, Error> {
        let home_path = data_dir.join(HOME_FILE);
        if !home_path.exists() {
            return Err(Error::Absent(data_dir.into()));
        }
        let home = pem::parse(keyfile::read(&home_path)?)
            .ok()
            .and_then(|block| wire::JoinToken::decode(block.contents()).ok())
            .ok_or_else(|| Error::Home(home_path.clone()))?;
        let certificate = read_certificate(data_dir)?;
        let receipt_key = Arc::new(SigningKey::read(&data_dir.join(RECEIPT_FILE))?);
        let address = address.map_or(home.address, str::to_owned);
        Self::new(address, certificate, receipt_key, trust, Some(data_dir.join(TLS_FILE)))
    }

    /// Put an identity together.
    pub fn new(
        address: String,
        certificate: Certificate,
        receipt_key: Arc<SigningKey>,
        trust: Arc<Trust>,
        path: Option<PathBuf>,
    ) -> Result<Self, Error> {
        let Subject::Agent(agent) = certificate.peer().subject.clone() else { return Err(Error::OperatorToken) };
        let tls = Arc::new(ArcSwap::new(client(&certificate, &trust)?));
        let (certificate, changes) = (ArcSwap::from_pointee(certificate), watch::channel(0).0);
        let receipts = Receipts::new(receipt_key, path.as_ref().and_then(|path| path.parent()).map(Path::to_owned));
        Ok(Self { agent, address, receipts, path, certificate, tls, trust, by_aws: None, changes })
    }

    /// Join again like this when the certificate has ended.
    pub fn joining_again(self, by_aws: Option<ByAws>) -> Result<Self, Error> {
        by_aws.as_ref().map_or(Ok(()), |by_aws| by_aws.is_of(&self.certificate.load()))?;
        Ok(Self { by_aws, ..self })
    }

    /// Its own id.
    pub fn agent(&self) -> &AgentId {
        &self.agent
    }

    /// Signs receipts.
    pub fn receipt_key(&self) -> Arc<SigningKey> {
        self.receipts.key()
    }

    /// What the hub is to be told of the key that signs receipts next, while there is one.
    pub fn next_receipt_key(&self, now: Timestamp) -> Option<wire::Envelope> {
        self.receipts.statement(&self.agent, now)
    }

    /// The hub has that key on its register. When this fails the present one stays, and it is told again.
    pub fn receipt_key_kept(&self, public: &[u8]) -> Result<(), Error> {
        Ok(self.receipts.taken(public)?)
    }

    /// A new channel to the hub, with the newest certificate.
    pub fn channel(&self) -> tonic::transport::Channel {
        channel::open(&self.address, Arc::clone(&self.tls))
    }

    /// `host:port` of the hub.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Notified when the certificate or the trusted CAs changed.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Get a younger certificate with a new key. When this fails, the current one stays.
    pub async fn renew(&self) -> Result<(), Error> {
        let key = TlsKey::generate()?;
        let request = wire::RenewRequest { csr_der: key.request()?.into() };
        let answer = RenewalServiceClient::new(self.channel())
            .renew(request)
            .await
            .map_err(|status| Error::Refused { address: self.address.clone(), status: Box::new(status) })?;
        let chain: Vec<Vec<u8>> = answer.into_inner().certificates.iter().map(|der| der.to_vec()).collect();
        let certificate = Certificate::new(chain.clone(), &key)?;
        let config = client(&certificate, &self.trust)?;
        if let Some(path) = &self.path {
            keyfile::replace_secret(path, &to_pem(&key, &chain))?;
        }
        self.take(certificate, config);
        Ok(())
    }

    /// Get a certificate in place of one that has ended, by AWS identity.
    async fn join_again(&self, by_aws: &ByAws) -> Result<(), Error> {
        let (key, chain) = by_aws.again(&self.trust.bundle(), &self.receipt_key(), Timestamp::now()).await?;
        let certificate = Certificate::new(chain, &key)?;
        let config = client(&certificate, &self.trust)?;
        self.take(certificate, config);
        Ok(())
    }

    /// The younger one: by AWS identity where there is nothing left to renew.
    async fn rejuvenate(&self) -> Result<(), Error> {
        match &self.by_aws {
            Some(by_aws) if self.expires() <= Timestamp::now() => self.join_again(by_aws).await,
            _ => self.renew().await,
        }
    }

    fn take(&self, certificate: Certificate, config: Arc<ClientConfig>) {
        info!(until = %certificate.peer().not_after, "certificate renewed");
        self.certificate.store(Arc::new(certificate));
        self.tls.store(config);
        self.changes.send_modify(|count| *count += 1);
    }

    /// Keep the certificate young and follow the bundle's CAs, until `stop`.
    pub async fn run(&self, stop: CancellationToken) {
        let mut trust = self.trust.changes();
        // A moment, not a pause: a newer trust bundle must not put the renewal off.
        let mut due = Instant::now() + self.until_renewal(Timestamp::now());
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                changed = trust.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    match client(&self.certificate.load(), &self.trust) {
                        Ok(config) => self.tls.store(config),
                        Err(error) => warn!(error = %chain(&error), "the new bundle's CAs cannot be used"),
                    }
                }
                () = sleep_until(due) => {
                    let wait = match self.rejuvenate().await {
                        Ok(()) => self.until_renewal(Timestamp::now()),
                        Err(error) => {
                            warn!(error = %chain(&error), "the certificate was not renewed; trying again");
                            jittered(RETRY.min(self.lifetime() / 10), 0.5)
                        }
                    };
                    due = Instant::now() + wait;
                }
            }
        }
    }

    /// When the certificate in use ends.
    pub fn expires(&self) -> Timestamp {
        self.certificate.load().peer().not_after
    }

    fn lifetime(&self) -> Duration {
        let certificate = self.certificate.load();
        let peer = certificate.peer();
        let valid = peer.not_after.duration_since(peer.not_before).unsigned_abs();
        valid.saturating_sub(limits::CERTIFICATE_BACKDATE).max(Duration::from_secs(1))
    }

    /// Until half of the certificate's life, ±10 % of that, so that a fleet does not renew in step.
    fn until_renewal(&self, now: Timestamp) -> Duration {
        let left = self.certificate.load().peer().not_after.duration_since(now);
        let left = Duration::try_from(left).unwrap_or_default();
        left.saturating_sub(self.lifetime() - jittered(self.lifetime() / 2, 0.1))
    }
}

fn client(certificate: &Certificate, trust: &Trust) -> Result<Arc<ClientConfig>, tls::Error> {
    let bundle = trust.bundle();
    let knows = Knows::Cas { certificates: &bundle.ca_certificates, trust_domain: &bundle.trust_domain };
    tls::client(Some(certificate), knows)
}
