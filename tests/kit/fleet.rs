//! A fleet in one process: trust root, hub, operator alice with role admin, agents, and on demand the AWS stand-in.

use std::{
    path::{Path, PathBuf},
    sync::atomic::{AtomicU16, Ordering},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use sfdata_agent::{
    agent::Agent,
    arrivals,
    config::{self as agent_config, arrivals::Arrivals},
    connect, identity,
};
use sfdata_common::{
    Timestamp, envelope,
    error::chain,
    ids::AgentId,
    keys::SigningKey,
    telemetry::{Log, traces::Telemetry},
    trust::{Bundle, OperatorKey, Role},
};
use sfdata_hub::{
    alerts::rules::Settings,
    config::{self as hub_config, Config},
    health::Rules,
    hub::{self, Hub},
};
use sfdata_proto::v1 as wire;
use tempfile::TempDir;
use tokio::{sync::watch, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use crate::{
    eventually,
    operator::Operator,
    standin::{Account, Standin},
    wire::Wire,
};

/// The organisation of every test.
pub const TRUST_DOMAIN: &str = "sfdata.example";

/// Of agents' tasks, at the stand-in.
pub const ROLE: &str = "AgentRole";

/// A fleet.
pub struct Fleet {
    /// Everything lives here.
    pub folder: TempDir,
    /// The hub's configuration.
    pub hub_config: Config,
    /// Operator with role admin.
    pub alice: Operator,
    /// Signs trust bundles.
    pub root: SigningKey,
    /// The newest bundle.
    pub bundle: Bundle,
    /// Agents in the order of their making.
    pub agents: Vec<Member>,
    /// AWS.
    pub standin: Option<Standin>,
    hub: Option<Running>,
}

/// An agent of the fleet.
pub struct Member {
    /// Its id.
    pub id: AgentId,
    /// Its configuration.
    pub config: agent_config::Config,
    /// Its AWS account.
    pub account: Account,
    running: Option<(Running, Seen)>,
}

impl Member {
    /// Enrol it with a token.
    pub async fn enrol(&self, token: &str) -> Result<()> {
        identity::enrol(&self.config.data_dir, token, &self.account.id, Timestamp::now()).await?;
        Ok(())
    }
}

/// What an agent shows to whoever runs it.
struct Seen {
    link: watch::Receiver<connect::Status>,
    arrivals: arrivals::Handle,
}

struct Running {
    stop: CancellationToken,
    task: JoinHandle<Result<()>>,
}

impl Running {
    async fn stop(self) -> Result<()> {
        self.stop.cancel();
        self.task.await.context("a task panicked")?
    }
}

/// What is different from the usual fleet.
#[derive(Default)]
pub struct Options {
    /// Run the AWS stand-in.
    pub aws: bool,
    /// Life of agents' certificates.
    pub agent_lifetime: Option<Duration>,
    /// Life of operators' certificates.
    pub operator_lifetime: Option<Duration>,
    /// URL of the STS that the hub asks; without it the AWS stand-in.
    pub sts: Option<String>,
    /// Where the hub's dispatch key is, if not in a file.
    pub dispatch: hub_config::Dispatch,
}

impl Fleet {
    /// A fleet of `agents` with the AWS stand-in, every agent connected.
    pub async fn start(agents: usize) -> Self {
        Self::with(agents, Options { aws: true, ..Options::default() }).await
    }

    /// A fleet of `agents` in front of an AWS that is not there, every agent connected.
    pub async fn without_aws(agents: usize) -> Self {
        Self::with(agents, Options::default()).await
    }

    /// A fleet that differs from the usual.
    pub async fn with(agents: usize, options: Options) -> Self {
        Box::pin(Self::try_with(agents, options)).await.expect("the fleet starts")
    }

    async fn try_with(agents: usize, options: Options) -> Result<Self> {
        // What a failed test logged is shown with it.
        let lines =
            tracing_subscriber::fmt().with_test_writer().with_env_filter("info,sfdata_hub=debug,sfdata_agent=debug");
        let _ = lines.try_init();
        let folder = tempfile::tempdir()?;
        let standin = if options.aws { Some(Standin::start(folder.path()).await?) } else { None };
        let mut hub_config = hub_config(folder.path(), options.agent_lifetime)?;
        hub_config.enrol.aws.endpoint_url = options.sts.or_else(|| standin.as_ref().map(Standin::url));
        hub_config.dispatch = options.dispatch;
        let certificates = &mut hub_config.certificates;
        certificates.operator_lifetime = options.operator_lifetime.unwrap_or(certificates.operator_lifetime);
        let (token, identity_file) = hub::init(&hub_config, &"alice".parse()?, Timestamp::now()).await?;
        let running = start_hub(&hub_config).await?;
        let key = SigningKey::generate()?;
        let (root, mut bundle) = first_bundle(&identity_file)?;
        bundle.operators.push(operator_key("alice", &key, Role::Admin)?);
        let alice = Operator::join("alice", key, &token).await?;
        let mut fleet =
            Self { folder, hub_config, alice, root, bundle, agents: Vec::new(), standin, hub: Some(running) };
        fleet.publish().await?;
        for number in 0..agents {
            fleet.add(&format!("la-{number}"), &format!("{:012}", 200_000_000_000_u64 + number as u64)).await?;
        }
        for number in 0..agents {
            fleet.start_agent(number).await;
            fleet.connected(number).await;
        }
        Ok(fleet)
    }

    /// Sign the bundle by the root key and publish it; raise `bundle.version` first when there is one already.
    pub async fn publish(&self) -> Result<()> {
        let mut signed = self.bundle.unsigned();
        envelope::add_signature(&mut signed, &self.root);
        let request = wire::PublishTrustRequest { trust_bundle: Some(signed), force: false };
        self.alice.client.clone().publish_trust(request).await?;
        Ok(())
    }

    /// Let another operator join, with this role.
    pub async fn operator(&mut self, name: &str, role: Role) -> Operator {
        let attempt = async {
            let key = SigningKey::generate()?;
            self.bundle.version += 1;
            self.bundle.operators.push(operator_key(name, &key, role)?);
            self.publish().await?;
            let request = wire::InviteOperatorRequest { name: name.into() };
            let token = self.alice.client.clone().invite_operator(request).await?.into_inner().token;
            Operator::join(name, key, &token).await
        };
        attempt.await.expect("an operator joins")
    }

    /// A token for a new agent.
    pub async fn invite(&self, id: &str, account: &str) -> Result<String> {
        let request = wire::InviteAgentRequest { agent_id: id.into(), account: account.into(), ..Default::default() };
        Ok(self.alice.client.clone().invite_agent(request).await?.into_inner().token)
    }

    /// Invite and enrol an agent; it does not run yet.
    pub async fn add(&mut self, id: &str, account: &str) -> Result<()> {
        let token = self.invite(id, account).await?;
        self.prepare(id, account).await?;
        self.agents.last().context("no agent")?.enrol(&token).await
    }

    /// An account and a configuration for an agent, which is not enrolled yet.
    pub async fn prepare(&mut self, id: &str, account: &str) -> Result<()> {
        let account = match &self.standin {
            Some(standin) => standin.seed(self.folder.path(), id, account).await?,
            None => Account {
                id: account.into(),
                cluster: "none".into(),
                database: "none".into(),
                images: Default::default(),
                buckets: vec![],
                credentials: self.folder.path().join("none.credentials"),
            },
        };
        let config = agent_config(self.folder.path(), id, &account, self.standin.as_ref())?;
        self.agents.push(Member { id: id.parse()?, config, account, running: None });
        Ok(())
    }

    /// Let an agent join by its AWS identity; the configuration's section that an operator pastes.
    pub async fn register(&self, id: &str, account: &str, role: &str, again: bool) -> Result<agent_config::Join> {
        let request = wire::RegisterAgentRequest {
            agent_id: id.into(),
            account: account.into(),
            role: role.into(),
            again,
            ..Default::default()
        };
        let place = self.alice.client.clone().register_agent(request).await?.into_inner().join.context("no place")?;
        Ok(agent_config::Join {
            agent: id.parse()?,
            account: account.parse()?,
            address: place.address,
            enrol_address: place.enrol_address,
            trust_domain: place.trust_domain,
            ca_pin: hex::encode(place.ca_pin),
            root_pin: hex::encode(place.root_pin),
        })
    }

    /// Register an agent of a new account, and have it join when it is first started.
    pub async fn add_by_aws(&mut self, id: &str, account: &str) -> Result<()> {
        let account = self.aws().seed(self.folder.path(), id, account).await?;
        let mut config = agent_config(self.folder.path(), id, &account, self.standin.as_ref())?;
        config.join = Some(self.register(id, &account.id, ROLE, false).await?);
        self.agents.push(Member { id: id.parse()?, config, account, running: None });
        Ok(())
    }

    /// Start an agent that does not run.
    pub async fn start_agent(&mut self, number: usize) {
        let member = &mut self.agents[number];
        assert!(member.running.is_none(), "agent {} runs already", member.id);
        let stop = CancellationToken::new();
        let agent = Agent::start(&member.config, stop.clone()).await.expect("the agent starts");
        let seen = Seen { link: agent.status(), arrivals: agent.arrivals() };
        let task = tokio::spawn(async move { Ok(agent.stopped().await?) });
        member.running = Some((Running { stop, task }, seen));
    }

    /// Stop an agent in order, and wait until a hub that answers has seen it leave.
    pub async fn stop_agent(&mut self, number: usize) {
        let Some((running, _)) = self.agents[number].running.take() else { return };
        running.stop().await.expect("the agent stops in order");
        let id = &self.agents[number].id;
        eventually(&format!("{id} is away"), Duration::from_secs(20), async || {
            let seen = self.alice.agent(id).await;
            seen.map_or(true, |agent| agent.state() != wire::AgentState::Connected).then_some(())
        })
        .await;
    }

    /// Give an agent a policy of its LA's, and wait until it is connected with it.
    pub async fn with_policy(&mut self, number: usize, text: &str) {
        self.stop_agent(number).await;
        let policy = self.folder.path().join("policy.cedar");
        std::fs::write(&policy, text).expect("a policy");
        self.agents[number].config.policy = Some(policy);
        self.start_agent(number).await;
        self.connected(number).await;
    }

    /// Put a cable between an agent and its hub, and wait until it is connected through it.
    pub async fn wire(&mut self, number: usize) -> Wire {
        let wire = Wire::to(self.hub_config.listen.address).await.expect("a cable");
        self.stop_agent(number).await;
        self.agents[number].config.hub.address = Some(wire.address.to_string());
        self.start_agent(number).await;
        self.connected(number).await;
        wire
    }

    /// Wait until an agent is connected, as the hub sees it and, when this fleet runs it, as it sees itself.
    pub async fn connected(&self, number: usize) {
        let Member { id, running, .. } = &self.agents[number];
        eventually(&format!("{id} is connected"), Duration::from_secs(20), async || {
            let state = self.alice.agent(id).await.ok()?.state();
            let link = running.as_ref().is_none_or(|(_, seen)| seen.link.borrow().connected);
            (link && state == wire::AgentState::Connected).then_some(())
        })
        .await;
    }

    /// How the agent itself sees its link.
    pub fn link(&self, number: usize) -> watch::Receiver<connect::Status> {
        self.agents[number].running.as_ref().expect("the agent runs").1.link.clone()
    }

    /// What has arrived at an agent.
    pub fn arrivals(&self, number: usize) -> arrivals::Handle {
        self.agents[number].running.as_ref().expect("the agent runs").1.arrivals.clone()
    }

    /// Have an agent look for arrivals like this from its next start on, by a queue if one is made; its URL.
    pub async fn with_arrivals(&mut self, number: usize, mut settings: Arrivals, queue: bool) -> String {
        self.stop_agent(number).await;
        let member = &mut self.agents[number];
        let standin = self.standin.as_ref().expect("a fleet with AWS");
        let url = match queue {
            true => standin.seed_arrivals(member.id.as_str(), &member.account.id).await.expect("a queue"),
            false => String::new(),
        };
        settings.queue = Some(url.clone()).filter(|_| queue);
        member.config.arrivals = Some(settings);
        url
    }

    /// Stop the hub in order.
    pub async fn stop_hub(&mut self) {
        if let Some(running) = self.hub.take() {
            running.stop().await.expect("the hub stops in order");
        }
    }

    /// Start the hub that does not run, on the same ports.
    pub async fn start_hub(&mut self) {
        assert!(self.hub.is_none(), "the hub runs already");
        self.hub = Some(start_hub(&self.hub_config).await.expect("the hub starts"));
    }

    /// The stand-in.
    pub fn aws(&self) -> &Standin {
        self.standin.as_ref().expect("a fleet with AWS")
    }

    /// Stop everything in order; fails when a task failed.
    pub async fn stop(mut self) {
        for (running, _) in self.agents.iter_mut().filter_map(|member| member.running.take()) {
            running.stop().await.expect("the agent stops in order");
        }
        self.stop_hub().await;
    }
}

fn operator_key(name: &str, key: &SigningKey, role: Role) -> Result<OperatorKey> {
    // Far enough away that nobody is told of it.
    let expires = Timestamp::now() + Duration::from_secs(100 * 24 * 3600);
    Ok(OperatorKey { name: name.parse()?, key: key.public(), roles: vec![role], expires })
}

/// A first bundle for the hub of that identity file, without operators, and its root key.
pub fn first_bundle(identity_file: &Path) -> Result<(SigningKey, Bundle)> {
    let identity =
        sfdata_common::trust::hub_identity_from_pem(&std::fs::read(identity_file)?).context("no identity")?;
    let root = SigningKey::generate()?;
    let bundle = Bundle {
        version: 1,
        trust_domain: identity.trust_domain,
        issued: Timestamp::now(),
        root_keys: vec![root.public()],
        threshold: 1,
        operators: vec![],
        dispatch_keys: vec![sfdata_common::keys::PublicKey::from_bytes(&identity.dispatch_key).context("no key")?],
        ca_certificates: vec![identity.ca_certificate.to_vec()],
    };
    Ok((root, bundle))
}

async fn start_hub(config: &Config) -> Result<Running> {
    let stop = CancellationToken::new();
    // A hub that was just stopped may still be giving back its ports.
    let hub =
        eventually("the hub starts", Duration::from_secs(10), async || match Hub::start(config, stop.clone()).await {
            Ok(hub) => Some(Ok(hub)),
            Err(error @ (hub::Error::Server(_) | hub::Error::Store(sfdata_hub::store::Error::InUse { .. }))) => {
                tracing::warn!(error = %chain(&error), "the hub does not start yet");
                None
            }
            Err(error) => Some(Err(error)),
        })
        .await?;
    let task = tokio::spawn(async move { Ok(hub.stopped().await?) });
    Ok(Running { stop, task })
}

/// A free port: bound, and given back at once. Below those that the system gives to whoever dials (32768 and up), so that
/// it is still free when a hub comes back to it.
pub fn free_port() -> Result<u16> {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    const FIRST: u16 = 10_000;
    const COUNT: u16 = 22_000;
    let start = (std::process::id().wrapping_mul(997) % u32::from(COUNT)) as u16;
    for _ in 0..COUNT {
        let next = NEXT.fetch_add(1, Ordering::Relaxed) % COUNT;
        let port = FIRST + ((u32::from(start) + u32::from(next)) % u32::from(COUNT)) as u16;
        if std::net::TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return Ok(port);
        }
    }
    bail!("no port from {FIRST} on is free")
}

/// A hub's configuration on free ports.
pub fn hub_config(folder: &Path, agent_lifetime: Option<Duration>) -> Result<Config> {
    let [address, enrol, ops] = [free_port()?, free_port()?, free_port()?].map(|port| ([127, 0, 0, 1], port).into());
    let mut certificates = hub_config::Certificates::default();
    if let Some(lifetime) = agent_lifetime {
        certificates.agent_lifetime = lifetime;
    }
    Ok(Config {
        data_dir: folder.join("hub"),
        trust_domain: TRUST_DOMAIN.into(),
        hub_id: "core".into(),
        policy: None,
        listen: hub_config::Listen { address, enrol, ops },
        public: hub_config::Public { address: address.to_string(), enrol_address: enrol.to_string() },
        log: Log::default(),
        telemetry: Telemetry::default(),
        certificates,
        health: Rules::default(),
        alerts: Settings::default(),
        costs: hub_config::Costs::default(),
        enrol: hub_config::Enrol::default(),
        dispatch: hub_config::Dispatch::default(),
        backup: None,
    })
}

fn agent_config(folder: &Path, id: &str, account: &Account, standin: Option<&Standin>) -> Result<agent_config::Config> {
    let bucket = |role: &str| account.buckets.iter().find(|(of, _)| of == role).map(|(_, name)| name.clone());
    Ok(agent_config::Config {
        data_dir: folder.join(id),
        policy: None,
        freeze: vec![],
        task_metadata: None,
        file: None,
        hub: agent_config::Hub::default(),
        join: None,
        aws: agent_config::Aws {
            region: "eu-west-2".into(),
            endpoint_url: Some(standin.map_or_else(|| "http://127.0.0.1:9".to_owned(), Standin::url)),
            credentials_file: standin.map(|_| account.credentials.clone()),
        },
        platform: agent_config::Platform {
            cluster: account.cluster.clone(),
            webserver: "webserver".into(),
            daemon: "daemon".into(),
            code_servers: vec!["code-server".into()],
            other_services: vec![],
            agent_service: None,
            aurora_cluster: Some(account.database.clone()),
            database_instance: None,
            buckets: agent_config::Buckets {
                data_store: bucket("data-store"),
                workspace: bucket("workspace"),
                shared: bucket("shared"),
                backup: None,
                access_logs: None,
            },
            storage: agent_config::Storage::default(),
        },
        arrivals: None,
        usage: agent_config::Usage::default(),
        images: agent_config::Images::default(),
        power: None,
        dagster: agent_config::Dagster::default(),
        log: Log::default(),
        telemetry: Telemetry::default(),
        ops: agent_config::Ops::default(),
    })
}

/// Where the workspace's binaries are: beside this test's own.
pub fn binary(name: &str) -> PathBuf {
    let mut path = std::env::current_exe().expect("a test has a path");
    path.pop();
    if path.ends_with("deps") {
        path.pop();
    }
    path.join(name)
}
