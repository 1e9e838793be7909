//! Joining a hub, by a token or by this account's AWS identity: keys are made, a certificate comes back, the trust bundle is
//! pinned and a journal begun. By AWS identity an agent joins again as well, when its certificate has ended: keys, trust
//! and journal stay, and the count of its joins goes on.
//!
//! Invariants: the folder counts as enrolled by the file that is written last; the key that is asked for with is on disk
//! before, so that an answer that was lost is asked for again with the same; the count is on disk before the certificate.

use std::{
    fs::{self, DirBuilder},
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use arc_swap::ArcSwap;
use jiff::Timestamp;
use prost::Message as _;
use sfdata_common::{
    channel,
    dispatch::JOINED_PAYLOAD_TYPE,
    envelope,
    ids::{AccountId, AgentId},
    join::{self, JoinToken, Subject as Bearer},
    keyfile,
    keys::SigningKey,
    peer::Subject,
    tls::{self, Identity as Certificate, Knows, TlsKey},
    trust::Bundle,
};
use sfdata_proto::v1::{self as wire, enrol_service_client::EnrolServiceClient};
use tracing::info;

use super::{Error, HOME_FILE, HOME_TAG, RECEIPT_FILE, TLS_FILE, to_pem};
use crate::{
    config::Config,
    journal::Journal,
    services::{Services, sts::Asked},
    trust::Trust,
};

/// The key of a join that has not come to its end.
const JOINING_FILE: &str = "joining.key";
/// The hub's signed count of this agent's joins.
const JOINED_FILE: &str = "joined.pem";
const JOINED_TAG: &str = "SFDATA JOINED";

/// What joining by AWS identity needs.
pub struct ByAws {
    /// State of the agent.
    pub data_dir: PathBuf,
    /// Where to join, and what is pinned.
    pub place: JoinToken,
    /// Sign.
    pub services: Services,
}

/// Where this configuration says that an agent joins by its AWS identity, if it does.
pub fn by_aws(config: &Config, services: &Services) -> Option<ByAws> {
    let place = config.join.as_ref()?.place();
    Some(ByAws { data_dir: config.data_dir.clone(), place, services: services.clone() })
}

/// Join with a token.
pub async fn enrol(data_dir: &Path, token: &str, account: &str, now: Timestamp) -> Result<AgentId, Error> {
    let token = join::decode(token)?;
    let Some(Bearer::Agent(bearer)) = &token.subject else { return Err(Error::OperatorToken) };
    let (agent, expected) = (bearer.agent_id.parse::<AgentId>()?, bearer.account.parse::<AccountId>()?);
    if expected.as_str() != account {
        return Err(Error::Account { expected, found: account.to_owned() });
    }
    if data_dir.join(HOME_FILE).exists() {
        return Err(Error::Present(data_dir.into()));
    }
    make_folder(data_dir)?;
    let (key, receipt) = (TlsKey::generate()?, receipt_key(data_dir)?);
    let request = wire::EnrolRequest {
        secret: token.secret.clone(),
        csr_der: key.request()?.into(),
        subject: Some(wire::enrol_request::Subject::Agent(this_agent(account, &receipt, None))),
    };
    let knows = Knows::Pin { ca: &token.ca_pin, trust_domain: &token.trust_domain };
    let answer = hub(&token.enrol_address, knows)?
        .enrol(request)
        .await
        .map_err(|status| Error::Refused { address: token.enrol_address.clone(), status: Box::new(status) })?
        .into_inner();
    settle(data_dir, &token, &key, &answer)?;
    info!(%agent, %now, "enrolled");
    Ok(agent)
}

impl ByAws {
    /// Join, or join again where an identity was there whose certificate has ended.
    pub async fn enrol(&self, now: Timestamp) -> Result<AgentId, Error> {
        let Some(Bearer::Agent(bearer)) = &self.place.subject else { return Err(Error::OperatorToken) };
        let agent: AgentId = bearer.agent_id.parse()?;
        let data_dir = &self.data_dir;
        if data_dir.join(HOME_FILE).exists() {
            let certificate = super::read_certificate(data_dir)?;
            self.is_of(&certificate)?;
            let until = certificate.peer().not_after;
            if until > now {
                return Err(Error::Valid { path: data_dir.clone(), until });
            }
            self.again(&Trust::open(data_dir)?.bundle(), &receipt_key(data_dir)?, now).await?;
            return Ok(agent);
        }
        make_folder(data_dir)?;
        let knows = Knows::Pin { ca: &self.place.ca_pin, trust_domain: &self.place.trust_domain };
        let (key, answer) = self.ask(knows, &receipt_key(data_dir)?, now).await?;
        settle(data_dir, &self.place, &key, &answer)?;
        self.done();
        info!(%agent, "joined by AWS identity");
        Ok(agent)
    }

    /// Whether this certificate is that of the agent which joins: two share nothing, be they of one account and role.
    pub(super) fn is_of(&self, certificate: &Certificate) -> Result<(), Error> {
        let Some(Bearer::Agent(bearer)) = &self.place.subject else { return Err(Error::OperatorToken) };
        match &certificate.peer().subject {
            Subject::Agent(agent) if agent.as_str() == bearer.agent_id => Ok(()),
            found => Err(Error::OtherAgent {
                path: self.data_dir.clone(),
                found: found.to_string(),
                expected: bearer.agent_id.clone(),
            }),
        }
    }

    /// Join again with all that is there; the new key and chain are on disk when this returns.
    pub(super) async fn again(
        &self,
        bundle: &Bundle,
        receipt: &SigningKey,
        now: Timestamp,
    ) -> Result<(TlsKey, Vec<Vec<u8>>), Error> {
        let knows = Knows::Cas { certificates: &bundle.ca_certificates, trust_domain: &bundle.trust_domain };
        let (key, answer) = self.ask(knows, receipt, now).await?;
        // It may be signed by a key of a newer bundle, which this agent is still to get; the hub looks at it when it comes back.
        keep_count(&self.data_dir, answer.joined.as_ref())?;
        let chain = keep_certificate(&self.data_dir, &key, &answer)?;
        self.done();
        info!("joined again by AWS identity");
        Ok((key, chain))
    }

    async fn ask(
        &self,
        knows: Knows<'_>,
        receipt: &SigningKey,
        now: Timestamp,
    ) -> Result<(TlsKey, wire::EnrolResponse), Error> {
        let Some(Bearer::Agent(bearer)) = &self.place.subject else { return Err(Error::OperatorToken) };
        let address = &self.place.enrol_address;
        let refused = |status| Error::Refused { address: address.clone(), status: Box::new(status) };
        let mut hub = hub(address, knows)?;
        let key = self.key()?;
        let csr_der = key.request()?;
        let asked = wire::ChallengeRequest { agent_id: bearer.agent_id.clone() };
        let asked = hub.challenge(asked).await.map_err(refused)?.into_inner();
        let proof = Asked {
            host: &asked.sts_host,
            region: &asked.sts_region,
            challenge: &asked.challenge,
            server_id: &self.place.trust_domain,
            csr_der: &csr_der,
        };
        let signed_request = self.services.prove_identity(&proof, now).await?.into();
        let joined = read_count(&self.data_dir)?;
        let request = wire::EnrolAwsRequest {
            challenge: asked.challenge,
            signed_request,
            csr_der: csr_der.into(),
            agent: Some(this_agent(&bearer.account, receipt, joined)),
        };
        let answer = hub.enrol_aws(request).await.map_err(refused)?.into_inner().enrolled;
        Ok((key, answer.ok_or(Error::Incomplete("certificate"))?))
    }

    /// The key to join with: a new one, or that of a try whose answer never came.
    fn key(&self) -> Result<TlsKey, Error> {
        let path = self.data_dir.join(JOINING_FILE);
        if path.exists() {
            return Ok(TlsKey::read(&path)?);
        }
        let key = TlsKey::generate()?;
        keyfile::replace_secret(&path, &key.to_pem())?;
        Ok(key)
    }

    fn done(&self) {
        // One that stays is used once more, which harms nothing.
        let _ = fs::remove_file(self.data_dir.join(JOINING_FILE));
    }
}

fn hub(address: &str, knows: Knows<'_>) -> Result<EnrolServiceClient<tonic::transport::Channel>, Error> {
    let tls = Arc::new(ArcSwap::new(tls::client(None, knows)?));
    Ok(EnrolServiceClient::new(channel::open(address, tls)))
}

fn make_folder(data_dir: &Path) -> Result<(), Error> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(data_dir);
    made.map_err(|source| Error::Folder { path: data_dir.into(), source })
}

fn receipt_key(data_dir: &Path) -> Result<SigningKey, Error> {
    let path = data_dir.join(RECEIPT_FILE);
    match SigningKey::read(&path) {
        Ok(key) => Ok(key), // of an earlier join, or of a try that did not come to its end
        Err(_) => Ok(SigningKey::create(&path)?),
    }
}

fn this_agent(account: &str, receipt: &SigningKey, joined: Option<wire::Envelope>) -> wire::EnrollingAgent {
    wire::EnrollingAgent {
        account: account.to_owned(),
        receipt_key: receipt.public().as_bytes().to_vec().into(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        joined,
    }
}

/// Keep all that a first join gives.
fn settle(data_dir: &Path, place: &JoinToken, key: &TlsKey, answer: &wire::EnrolResponse) -> Result<(), Error> {
    let envelope = answer.trust_bundle.as_ref().ok_or(Error::Incomplete("trust bundle"))?;
    let trust = Trust::create(data_dir, envelope, &place.root_pin)?;
    Journal::create(data_dir, answer.epoch)?;
    let keys = trust.bundle().dispatch_keys.clone();
    let signed = |joined: &&wire::Envelope| envelope::count_signers(joined, JOINED_PAYLOAD_TYPE, &keys) > 0;
    keep_count(data_dir, answer.joined.as_ref().filter(signed))?;
    keep_certificate(data_dir, key, answer)?;
    // Last: with this file the folder counts as enrolled.
    let home = JoinToken { secret: Default::default(), ..place.clone() };
    let home = pem::encode(&pem::Pem::new(HOME_TAG, home.encode_to_vec()));
    Ok(keyfile::write(&data_dir.join(HOME_FILE), home.as_bytes())?)
}

fn keep_certificate(data_dir: &Path, key: &TlsKey, answer: &wire::EnrolResponse) -> Result<Vec<Vec<u8>>, Error> {
    let chain: Vec<Vec<u8>> = answer.certificates.iter().map(|der| der.to_vec()).collect();
    Certificate::new(chain.clone(), key)?;
    keyfile::replace_secret(&data_dir.join(TLS_FILE), &to_pem(key, &chain))?;
    Ok(chain)
}

fn keep_count(data_dir: &Path, joined: Option<&wire::Envelope>) -> Result<(), Error> {
    let joined = joined.ok_or(Error::Incomplete("count of joins that its key signed"))?;
    let text = pem::encode(&pem::Pem::new(JOINED_TAG, joined.encode_to_vec()));
    Ok(keyfile::write(&data_dir.join(JOINED_FILE), text.as_bytes())?)
}

fn read_count(data_dir: &Path) -> Result<Option<wire::Envelope>, Error> {
    let path = data_dir.join(JOINED_FILE);
    if !path.exists() {
        return Ok(None); // never joined, or with an agent that knew of no counts
    }
    let block = pem::parse(keyfile::read(&path)?).ok().filter(|block| block.tag() == JOINED_TAG);
    let joined = block.and_then(|block| wire::Envelope::decode(block.contents()).ok());
    joined.map(Some).ok_or(Error::Count(path))
}
