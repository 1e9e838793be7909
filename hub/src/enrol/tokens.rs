//! Join tokens: made by an invitation, redeemed once.
//!
//! The store holds the digest of a token's secret, for whom it is, and until when. A token is used up in the same
//! durable batch that lets its bearer in.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use jiff::Timestamp;
use sfdata_common::{
    ids::{AccountId, AgentId, OperatorName},
    join::{self, JoinToken, Subject as Bearer},
    keys::{self as crypto, PublicKey, sha256},
    limits,
    peer::Subject,
};
use sfdata_proto::v1 as wire;
use tokio::sync::Mutex;

use crate::{
    audit,
    config::Public,
    enrol::{
        authority::{self, Authority},
        identity::HubKeys,
        joins::{self, Admitted, Join, Right},
    },
    fleet::{self, Fleet},
    metrics::Metrics,
    signer::{self, SharedSigner},
    store::{self, Batch, Store, keys, records},
    trust::Trust,
};

/// Why an invitation or a token does not work.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Not one of ours.
    #[error("this join token is not known here; ask whoever invited you for a new one")]
    Unknown,
    /// Used before.
    #[error("this join token was used already; ask whoever invited you for a new one")]
    Used,
    /// Too late.
    #[error("this join token expired at {0}; ask whoever invited you for a new one")]
    Expired(Timestamp),
    /// Somebody else's.
    #[error("this join token is for another kind of member; agents use `sfdata-agent enrol`, operators `hubctl login`")]
    OtherKind,
    /// Another account than the one invited.
    #[error("this join token is for AWS account {expected}, and the agent runs in {found}")]
    Account {
        /// Invited.
        expected: String,
        /// As the agent's STS tells.
        found: String,
    },
    /// No receipt key.
    #[error("the agent sent no valid receipt key")]
    ReceiptKey,
    /// Agents must pin the root keys.
    #[error("there is no trust bundle yet; publish one before inviting agents: hubctl trust publish")]
    NoBundle,
    /// The request, or the CA.
    #[error(transparent)]
    Issue(#[from] authority::Error),
    /// The random generator.
    #[error(transparent)]
    Random(#[from] crypto::Error),
    /// The hub's word on the join.
    #[error(transparent)]
    Signer(#[from] signer::Error),
    /// The registry.
    #[error(transparent)]
    Fleet(#[from] fleet::Error),
    /// The store.
    #[error(transparent)]
    Store(#[from] store::Error),
}

/// Makes and redeems tokens.
pub struct Tokens {
    store: Store,
    fleet: Arc<Fleet>,
    trust: Arc<Trust>,
    authority: Arc<Authority>,
    dispatch: SharedSigner,
    metrics: Metrics,
    public: Public,
    redeeming: Mutex<()>,
}

impl Tokens {
    /// Tokens that pin the CA of these keys and lead to these addresses.
    pub fn new(
        store: Store,
        fleet: Arc<Fleet>,
        trust: Arc<Trust>,
        keys: &HubKeys,
        public: Public,
        metrics: Metrics,
    ) -> Self {
        let (authority, dispatch) = (Arc::clone(&keys.authority), Arc::clone(&keys.dispatch));
        Self { store, fleet, trust, authority, dispatch, metrics, public, redeeming: Mutex::default() }
    }

    /// Where an agent joins by its AWS identity, and what it pins: a token without a secret.
    pub fn place(&self, agent: &AgentId, account: &AccountId) -> Result<JoinToken, Error> {
        if self.trust.version() == 0 {
            return Err(Error::NoBundle);
        }
        Ok(self.token(Bearer::Agent(wire::AgentSubject { agent_id: agent.to_string(), account: account.to_string() })))
    }

    fn token(&self, bearer: Bearer) -> JoinToken {
        JoinToken {
            enrol_address: self.public.enrol_address.clone(),
            address: self.public.address.clone(),
            ca_pin: sha256(&self.authority.certificate()).to_vec().into(),
            root_pin: self.trust.with(|bundle| Bytes::copy_from_slice(&bundle.root_pin())).unwrap_or_default(),
            secret: Bytes::new(),
            trust_domain: self.trust.domain().to_owned(),
            subject: Some(bearer),
        }
    }

    /// A token for an agent that the registry expects. Gives its text and its end.
    pub async fn for_agent(
        &self,
        agent: &AgentId,
        account: &AccountId,
        now: Timestamp,
    ) -> Result<(String, Timestamp), Error> {
        if self.trust.version() == 0 {
            return Err(Error::NoBundle);
        }
        let bearer = wire::AgentSubject { agent_id: agent.to_string(), account: account.to_string() };
        let record = records::Token { agent: agent.to_string(), account: account.to_string(), ..Default::default() };
        self.make(Bearer::Agent(bearer), record, now).await
    }

    /// A token for an operator that the registry expects.
    pub async fn for_operator(&self, name: &OperatorName, now: Timestamp) -> Result<(String, Timestamp), Error> {
        let bearer = wire::OperatorSubject { name: name.to_string() };
        let record = records::Token { operator: name.to_string(), ..Default::default() };
        self.make(Bearer::Operator(bearer), record, now).await
    }

    async fn make(
        &self,
        bearer: Bearer,
        mut record: records::Token,
        now: Timestamp,
    ) -> Result<(String, Timestamp), Error> {
        let secret: [u8; 32] = crypto::random()?;
        let expires = now + limits::JOIN_TOKEN;
        record.expires = expires.as_millisecond();
        let mut batch = Batch::default();
        batch.put(keys::token(&sha256(&secret)), &record);
        self.store.commit(batch).await?;
        let token = JoinToken { secret: secret.to_vec().into(), ..self.token(bearer) };
        Ok((join::encode(&token).to_string(), expires))
    }

    /// Use up a token for what `issue` gives to its bearer, who is in the registry, durably, when this returns.
    /// A token is not spent on a request that can't be answered.
    pub async fn redeem(
        &self,
        request: &wire::EnrolRequest,
        now: Timestamp,
        issue: impl FnOnce(&Subject) -> Result<Vec<Vec<u8>>, authority::Error>,
    ) -> Result<Admitted, Error> {
        let _one_at_a_time = self.redeeming.lock().await;
        let key = keys::token(&sha256(&request.secret));
        let mut record: records::Token = self.store.get(&key)?.ok_or(Error::Unknown)?;
        if record.used != 0 {
            return Err(Error::Used);
        }
        if record.expires <= now.as_millisecond() {
            return Err(Error::Expired(Timestamp::from_millisecond(record.expires).unwrap_or_default()));
        }
        record.used = now.as_millisecond();
        let mut batch = Batch::default();
        batch.put(key, &record);
        match &request.subject {
            Some(wire::enrol_request::Subject::Agent(agent)) if !record.agent.is_empty() => {
                let id: AgentId = record.agent.parse().map_err(|_| Error::Unknown)?;
                if agent.account != record.account {
                    let (expected, found) = (record.account, agent.account.chars().take(20).collect());
                    return Err(Error::Account { expected, found });
                }
                if PublicKey::from_bytes(&agent.receipt_key).is_none() {
                    return Err(Error::ReceiptKey);
                }
                if self.fleet.facts(&id).is_none() {
                    return Err(Error::Unknown);
                }
                let subject = Subject::Agent(id.clone());
                let certificates = issue(&subject)?;
                let signer = self.dispatch.load_full();
                signer.ready(&self.metrics).await?; // a token is used up once
                let join = Join {
                    receipt_key: agent.receipt_key.clone(),
                    version: joins::version(&agent.version),
                    key: authority::key_digest(&certificates[0])?,
                    right: Right::Token,
                };
                let (written, counter) = self.fleet.agent_joined(&id, &join, now, batch)?;
                written.await?;
                let joined = joins::sign(self.trust.domain(), &id, counter, &signer, &self.metrics, now).await?;
                Ok(Admitted { subject, certificates, joined: Some(joined) })
            }
            Some(wire::enrol_request::Subject::Operator(_)) if !record.operator.is_empty() => {
                let name: OperatorName = record.operator.parse().map_err(|_| Error::Unknown)?;
                let subject = Subject::Operator(name.clone());
                let certificates = issue(&subject)?;
                batch.audit(audit::draft(now, "operator.joined", audit::operator(&name), audit::operator(&name), ""));
                self.fleet.operator_joined(&name, now, batch)?.await?;
                Ok(Admitted { subject, certificates, joined: None })
            }
            _ => Err(Error::OtherKind),
        }
    }

    /// Forget tokens that ended a day ago. Harmless to repeat.
    pub async fn prune(&self, now: Timestamp) -> Result<(), store::Error> {
        let old = now.as_millisecond() - Duration::from_secs(24 * 3600).as_millis() as i64;
        let mut batch = Batch::default();
        for item in self.store.scan::<records::Token>(keys::TOKENS) {
            let (key, record) = item?;
            if record.expires < old {
                batch.delete([keys::TOKENS, &key].concat());
            }
        }
        self.store.commit(batch).await
    }
}
