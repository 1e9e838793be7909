//! What is there before the hub starts: its folder with keys, store and registry, and everybody's certificates.
//!
//! Made with the hub's own library, as `sfdata-hub init` and enrolment make it: 10,000 enrolments over the wire would
//! take three hours, because the hub lets an address try 60 times a minute. Only the store's records of what enrolment
//! leaves are written directly; the certificates are issued by the hub's own CA.

use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
    sync::Arc,
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, anyhow};
use sfdata_agent::trust::Trust;
use sfdata_common::{
    Timestamp, envelope,
    ids::{AgentId, OperatorName},
    keys::SigningKey,
    limits,
    peer::Subject,
    tls::{Identity, TlsKey},
    trust::{Bundle, OperatorKey, Role},
};
use sfdata_hub::{
    config::Config,
    enrol::{authority::Authority, identity::HubKeys},
    hub,
    metrics::Metrics,
    signer::SharedSigner,
    store::{Batch, Store, keys, records},
};

pub(crate) const TRUST_DOMAIN: &str = "load.sfdata.example";
const HUB_ID: &str = "core";
const OPERATOR_KEY: &str = "operator.key";
/// Agents written to the store in one batch.
const RECORDS: usize = 500;

/// A hub's folder, and who may speak to it.
pub(crate) struct Estate {
    folder: tempfile::TempDir,
    pub(crate) config: PathBuf,
    pub(crate) address: SocketAddr,
    pub(crate) enrol: SocketAddr,
    pub(crate) ops: SocketAddr,
    pub(crate) authority: Arc<Authority>,
    pub(crate) dispatch: SharedSigner,
    pub(crate) bundle: Bundle,
    pub(crate) trust: Arc<Trust>,
    pub(crate) operator: OperatorName,
    pub(crate) operator_key: Arc<SigningKey>,
    /// An operator who may only look.
    pub(crate) viewer: OperatorName,
    /// Lets the operator join with the real hubctl.
    pub(crate) operator_token: String,
    /// Signs every agent's receipts: who holds which key makes no difference to the hub's work.
    pub(crate) receipt_key: Arc<SigningKey>,
    pub(crate) agents: Vec<AgentId>,
}

impl Estate {
    /// A hub that knows `agents` agents and one operator, below `parent`.
    pub(crate) async fn new(parent: &Path, agents: usize) -> Result<Self> {
        std::fs::create_dir_all(parent).with_context(|| format!("cannot make {}", parent.display()))?;
        let folder = tempfile::tempdir_in(parent)?;
        let [address, enrol, ops] = free_addresses()?;
        let config = folder.path().join("hub.toml");
        let data_dir = folder.path().join("hub");
        let text = format!(
            "data_dir = {data_dir:?}\ntrust_domain = {TRUST_DOMAIN:?}\nhub_id = {HUB_ID:?}\n\
             [listen]\naddress = \"{address}\"\nenrol = \"{enrol}\"\nops = \"{ops}\"\n\
             [public]\naddress = \"{address}\"\nenrol_address = \"{enrol}\"\n"
        );
        std::fs::write(&config, text)?;

        let (now, operator, viewer) =
            (Timestamp::now(), "alice".parse::<OperatorName>()?, "victor".parse::<OperatorName>()?);
        let (operator_token, _) = hub::init(&Config::open(config.as_path())?, &operator, now).await?;
        let keys = HubKeys::open_or_create(&data_dir, TRUST_DOMAIN, HUB_ID, now)?;
        let operator_key = Arc::new(SigningKey::create(&folder.path().join(OPERATOR_KEY))?);
        let (root, receipt_key) = (SigningKey::generate()?, Arc::new(SigningKey::generate()?));
        let may = |name: &OperatorName, key: &SigningKey, role: Role| OperatorKey {
            name: name.clone(),
            key: key.public(),
            roles: vec![role],
            expires: now + Duration::from_secs(24 * 3600),
        };
        let bundle = Bundle {
            version: 1,
            trust_domain: TRUST_DOMAIN.into(),
            issued: now,
            root_keys: vec![root.public()],
            threshold: 1,
            operators: vec![
                may(&operator, &operator_key, Role::Admin),
                may(&viewer, &SigningKey::generate()?, Role::Viewer),
            ],
            dispatch_keys: vec![keys.dispatch.load().public()],
            ca_certificates: vec![keys.authority.certificate()],
        };
        let mut signed = bundle.unsigned();
        envelope::add_signature(&mut signed, &root);

        let agents: Vec<AgentId> = (0..agents).map(|n| format!("la-{n:05}").parse()).collect::<Result<_, _>>()?;
        let store = Store::open(&data_dir, Metrics::default())?;
        let mut batch = Batch::default();
        batch.put(keys::bundle(bundle.version), &signed);
        for name in [&operator, &viewer] {
            batch.put(keys::operator(name), &records::Operator { joined: true, ..Default::default() });
        }
        store.commit(batch).await?;
        let joined = records::Agent {
            account: "000000000000".into(),
            receipt_key: receipt_key.public().as_bytes().to_vec().into(),
            version: env!("CARGO_PKG_VERSION").into(),
            since: now.as_millisecond(),
            ..Default::default()
        };
        for some in agents.chunks(RECORDS) {
            let mut batch = Batch::default();
            some.iter().for_each(|agent| batch.put(keys::agent(agent), &joined));
            store.commit(batch).await?;
        }
        store.close().await;
        let (authority, dispatch) = (keys.authority, keys.dispatch);
        let trust = Arc::new(Trust::in_memory(bundle.clone()));
        Ok(Self {
            folder,
            config,
            address,
            enrol,
            ops,
            authority,
            dispatch,
            bundle,
            trust,
            operator,
            operator_key,
            viewer,
            operator_token,
            receipt_key,
            agents,
        })
    }

    /// Where everything of this run lies.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Where the operator's signing key lies.
    pub(crate) fn operator_key_file(&self) -> PathBuf {
        self.folder.path().join(OPERATOR_KEY)
    }

    /// The folder of the hub's CA.
    pub(crate) fn hub_keys(&self) -> PathBuf {
        self.folder.path().join("hub")
    }

    /// A certificate of the hub's CA, as enrolment gives it.
    pub(crate) fn certificate(&self, subject: &Subject) -> Result<Identity> {
        let key = TlsKey::generate()?;
        let chain = self.authority.issue(&key.request()?, subject, limits::AGENT_CERTIFICATE, Timestamp::now())?;
        Ok(Identity::new(chain, &key)?)
    }

    /// A certificate for each agent, in their order, made on all cores.
    pub(crate) fn agent_certificates(&self) -> Result<Vec<Identity>> {
        let cores = thread::available_parallelism()?.get();
        let share = self.agents.len().div_ceil(cores).max(1);
        let each = |agent: &AgentId| self.certificate(&Subject::Agent(agent.clone()));
        let parts = thread::scope(|scope| {
            let parts: Vec<_> = self
                .agents
                .chunks(share)
                .map(|some| scope.spawn(move || some.iter().map(each).collect::<Result<Vec<_>>>()))
                .collect();
            parts
                .into_iter()
                .map(|part| part.join().map_err(|_| anyhow!("a thread panicked"))?)
                .collect::<Result<Vec<_>>>()
        });
        Ok(parts?.into_iter().flatten().collect())
    }
}

fn free_addresses<const N: usize>() -> Result<[SocketAddr; N]> {
    let listeners: Vec<_> = (0..N).map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0))).collect::<Result<_, _>>()?;
    let addresses: Vec<_> = listeners.iter().map(TcpListener::local_addr).collect::<Result<_, _>>()?;
    addresses.try_into().map_err(|_| anyhow!("{N} addresses"))
}
