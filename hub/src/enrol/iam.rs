//! Joining by AWS identity, without any secret: the agent signs one request to AWS STS with its task's role, over a challenge
//! of this hub and its certificate request; the hub looks at it strictly ([`request`]), has STS say who signed it ([`sts`],
//! [`reply`]), and compares that with what an admin has registered; the account may have to be one of an organisation ([`organization`]).
//!
//! Invariants: a challenge takes one attempt, whatever comes of it; STS is asked for nobody who is not registered, and
//! nothing but a checked request; the role that joins first is pinned by its unique id ([`super::joins`]).

pub mod organization;
pub mod reply;
pub mod request;
pub mod sts;
#[cfg(test)]
mod tests;

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, PoisonError},
};

use jiff::Timestamp;
use sfdata_common::{
    ids::{self, AgentId},
    keys::{self as crypto, PublicKey},
    limits,
    peer::Subject,
};
use sfdata_proto::v1 as wire;
use tracing::info;

use self::{
    organization::Organization,
    request::{Expected, Refusal},
    sts::Sts,
};
use crate::{
    audit, config,
    enrol::{
        authority,
        joins::{self, Admitted, Join, Right},
    },
    fleet::{self, Fleet},
    metrics::Metrics,
    sessions::{Sessions, lock_clone},
    signer::{self, SharedSigner},
    store::{self, Batch, Store},
    trust::Trust,
};

/// Why an agent does not join by its AWS identity.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No agent's name.
    #[error(transparent)]
    Name(#[from] ids::Error),
    /// Not sent, used up or too old.
    #[error("this challenge is not one that waits for an answer: it takes one attempt, within {} s", limits::CHALLENGE.as_secs())]
    Challenge,
    /// No receipt key.
    #[error("the agent sent no valid receipt key")]
    ReceiptKey,
    /// The signed request.
    #[error("the signed request is not accepted: {0}")]
    Request(#[from] Refusal),
    /// STS.
    #[error(transparent)]
    Sts(#[from] sts::Error),
    /// The organisation.
    #[error(transparent)]
    Organization(#[from] organization::Error),
    /// The certificate request, or the CA.
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

/// Challenges that wait for their answer.
#[derive(Default)]
struct Challenges {
    waiting: HashMap<[u8; 32], (AgentId, Timestamp)>,
    /// In the order of their making; some are answered.
    order: VecDeque<[u8; 32]>,
}

impl Challenges {
    fn put(&mut self, challenge: [u8; 32], agent: AgentId, now: Timestamp) {
        // A flood of them pushes out only what is older than all of the flood.
        while self.order.len() >= limits::CHALLENGES {
            self.order.pop_front().and_then(|oldest| self.waiting.remove(&oldest));
        }
        self.order.push_back(challenge);
        self.waiting.insert(challenge, (agent, now));
    }

    /// Whose it is; it is used up by being asked for.
    fn take(&mut self, challenge: &[u8], now: Timestamp) -> Option<([u8; 32], AgentId)> {
        let challenge: [u8; 32] = challenge.try_into().ok()?;
        let (agent, made) = self.waiting.remove(&challenge)?;
        let age = now.duration_since(made);
        (!age.is_negative() && age.unsigned_abs() <= limits::CHALLENGE).then_some((challenge, agent))
    }
}

/// What joining by AWS identity works with.
pub struct Parts {
    /// The audit record.
    pub store: Store,
    /// The registry.
    pub fleet: Arc<Fleet>,
    /// Ended when two instances are alive.
    pub sessions: Arc<Sessions>,
    /// The trust domain, and whose counts hold.
    pub trust: Arc<Trust>,
    /// Signs counts.
    pub dispatch: SharedSigner,
    /// Counters.
    pub metrics: Metrics,
    /// Whom to ask.
    pub settings: config::Aws,
}

/// Lets agents join by their AWS identity.
pub struct Iam {
    parts: Parts,
    sts: Sts,
    organization: Option<Organization>,
    challenges: Mutex<Challenges>,
    /// Of each agent the refusal that was put on record last, and when.
    noted: Mutex<HashMap<AgentId, (String, Timestamp)>>,
}

impl Iam {
    /// With these parts; nothing is asked yet.
    pub fn new(parts: Parts) -> Self {
        let sts = Sts::new(&parts.settings);
        let organization = Organization::new(&parts.settings);
        Self { parts, sts, organization, challenges: Mutex::default(), noted: Mutex::default() }
    }

    fn challenges(&self) -> std::sync::MutexGuard<'_, Challenges> {
        self.challenges.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What this agent has to sign. Whether it is registered is told to whoever answers: names of LAs are no secret, and who
    /// mends a configuration has to know.
    pub fn challenge(&self, agent: &str, now: Timestamp) -> Result<wire::ChallengeResponse, Error> {
        let agent = agent.parse()?;
        let challenge = crypto::random()?;
        self.challenges().put(challenge, agent, now);
        Ok(wire::ChallengeResponse {
            challenge: challenge.to_vec().into(),
            sts_host: self.sts.host().to_owned(),
            sts_region: self.sts.region().to_owned(),
        })
    }

    /// Let in who signed a challenge, with what `issue` gives; the agent is in the registry, durably, when this returns.
    pub async fn join(
        &self,
        request: &wire::EnrolAwsRequest,
        now: Timestamp,
        issue: impl FnOnce(&Subject) -> Result<Vec<Vec<u8>>, authority::Error>,
    ) -> Result<Admitted, Error> {
        let (challenge, agent) = self.challenges().take(&request.challenge, now).ok_or(Error::Challenge)?;
        let who = request.agent.as_ref().filter(|who| PublicKey::from_bytes(&who.receipt_key).is_some());
        let who = who.ok_or(Error::ReceiptKey)?;
        let Parts { fleet, trust, dispatch, metrics, .. } = &self.parts;
        let signer = dispatch.load_full();
        fleet.may_join_by_aws(&agent).map_err(fleet::Error::Join)?;
        let checked = request::check(
            &request.signed_request,
            &Expected {
                host: self.sts.host(),
                region: self.sts.region(),
                challenge: &challenge,
                server_id: trust.domain(),
                csr_der: &request.csr_der,
                now,
            },
        )?;
        let caller = self.sts.caller(&checked).await?;
        info!(%agent, account = %caller.account, role = %caller.role, session = caller.session, "AWS tells who asks to join");
        let subject = Subject::Agent(agent.clone());
        let admitted = async {
            if let Some(organization) = &self.organization {
                organization.has(caller.account.as_str()).await?;
            }
            let certificates = issue(&subject)?;
            let told = who.joined.as_ref().and_then(|joined| {
                let mut keys = trust.dispatch_keys();
                keys.push(signer.public());
                joins::told(joined, trust.domain(), &agent, &keys)
            });
            let join = Join {
                receipt_key: who.receipt_key.clone(),
                version: joins::version(&who.version),
                key: authority::key_digest(&certificates[0])?,
                right: Right::Aws { caller, told },
            };
            let (written, counter) = fleet.agent_joined(&agent, &join, now, Batch::default())?;
            written.await?;
            Ok((certificates, joins::sign(trust.domain(), &agent, counter, &signer, metrics, now).await?))
        };
        match admitted.await {
            Ok((certificates, joined)) => Ok(Admitted { subject, certificates, joined: Some(joined) }),
            Err(error) => {
                self.note(&agent, &error, now).await?;
                Err(error)
            }
        }
    }

    /// Whether this refusal is to be put on record: an agent goes on trying, and the record is kept for ever.
    fn is_news(&self, agent: &AgentId, why: String, now: Timestamp) -> bool {
        let mut noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
        let lately = |at: &Timestamp| now.duration_since(*at).unsigned_abs() < limits::JOIN_REFUSAL_NOTED;
        if noted.get(agent).is_some_and(|(before, at)| *before == why && lately(at)) {
            return false;
        }
        noted.insert(agent.clone(), (why, now));
        true
    }

    /// Put on record who of the agent's own account was refused; of strangers, of whom there is no end, the log tells.
    async fn note(&self, agent: &AgentId, error: &Error, now: Timestamp) -> Result<(), store::Error> {
        let Parts { store, fleet, sessions, .. } = &self.parts;
        match error {
            Error::Fleet(fleet::Error::Join(joins::Refusal::Clone { known, told, .. })) => {
                lock_clone(fleet, sessions, agent, &format!("clone: a join with count {told} after {known}")).await;
                Ok(())
            }
            Error::Fleet(fleet::Error::Join(refusal)) if !matches!(refusal, joins::Refusal::OtherAccount { .. }) => {
                if !self.is_news(agent, refusal.to_string(), now) {
                    return Ok(());
                }
                let mut batch = Batch::default();
                let subject = audit::agent(agent);
                batch.audit(audit::draft(now, "agent.join-refused", audit::HUB, subject, refusal.to_string()));
                store.commit(batch).await
            }
            _ => Ok(()),
        }
    }
}
