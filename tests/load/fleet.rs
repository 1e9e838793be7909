//! Many agents in one process: each holds its own connection over mutual TLS with the product's own link, and each
//! delivery passes the product's own door. Journals are kept in memory, so that the hub is what is measured.

use std::{ops::Range, sync::Arc, time::Duration};

use anyhow::{Context as _, Result, ensure};
use sfdata_agent::{
    approvals::Approvals,
    arrivals, audit,
    config::{Aws, Buckets, Platform, Storage},
    connect::{self, Link, Status},
    door::Door,
    execute::{self, Executor, Outbox},
    identity::Identity,
    journal::Journal,
    metrics::Metrics,
    policy::{Brake, Rules, Sharing, Watched},
    report::{Handle, Reporter},
    runs::Runs,
    services::Services,
    usage,
};
use sfdata_common::{ids::AgentId, telemetry::traces::Tracer};
use tokio::{sync::watch, task::JoinHandle, time::timeout};
use tokio_util::sync::CancellationToken;

use crate::estate::Estate;

/// The hub's first epoch.
const EPOCH: u64 = 1;
const CONNECTED_WITHIN: Duration = Duration::from_secs(120);

/// Every agent of the estate, connected or not.
pub(crate) struct Fleet {
    members: Vec<Member>,
    shared: Shared,
}

/// What a real agent has for itself and these have together: it costs the hub nothing either way.
struct Shared {
    rules: Arc<Rules>,
    services: Services,
    reports: Handle,
    _reporter: Reporter,
}

struct Member {
    identity: Arc<Identity>,
    journal: Arc<Journal>,
    running: Option<Running>,
}

struct Running {
    stop: CancellationToken,
    status: watch::Receiver<Status>,
    task: JoinHandle<()>,
}

impl Fleet {
    /// Agents that are not connected yet.
    pub(crate) async fn new(estate: &Estate) -> Result<Self> {
        let mut members = Vec::with_capacity(estate.agents.len());
        for certificate in estate.agent_certificates()? {
            let (receipt_key, trust) = (Arc::clone(&estate.receipt_key), Arc::clone(&estate.trust));
            let identity = Identity::new(estate.address.to_string(), certificate, receipt_key, trust, None)?;
            let journal = Arc::new(Journal::in_memory(EPOCH));
            members.push(Member { identity: Arc::new(identity), journal, running: None });
        }
        let services = services().await;
        let (reports, reporter) = Reporter::new(services.clone(), arrivals::Handle::off(), &Metrics::default());
        let rules = Arc::new(Rules::load(None, &[])?);
        Ok(Self { members, shared: Shared { rules, services, reports, _reporter: reporter } })
    }

    /// Ids of these agents, sorted.
    pub(crate) fn ids(&self, which: Range<usize>) -> Vec<AgentId> {
        self.members[which].iter().map(|member| member.identity.agent().clone()).collect()
    }

    /// Connect these agents, and wait until the hub has welcomed each.
    pub(crate) async fn connect(&mut self, estate: &Estate, which: Range<usize>) -> Result<()> {
        for member in &mut self.members[which.clone()] {
            if member.running.is_none() {
                member.running = Some(self.shared.run(estate, member));
            }
        }
        self.connected(which).await
    }

    /// Wait until the hub has welcomed each of these.
    pub(crate) async fn connected(&self, which: Range<usize>) -> Result<()> {
        let each = async {
            for member in &self.members[which] {
                let running = member.running.as_ref().context("an agent that was not started")?;
                running.status.clone().wait_for(|status| status.connected).await?;
            }
            Ok(())
        };
        timeout(CONNECTED_WITHIN, each).await.context("not all agents are connected")?
    }

    /// Look at these now, before the hub is killed; each has to be seen to lose it and to be welcomed anew.
    pub(crate) fn watch(&self, which: Range<usize>) -> Vec<watch::Receiver<Status>> {
        let running = self.members[which].iter().filter_map(|member| member.running.as_ref());
        let fresh = running.map(|running| {
            let mut status = running.status.clone();
            status.mark_unchanged();
            status
        });
        fresh.collect()
    }

    /// The most tries that any of these took to be connected.
    pub(crate) fn most_tries(&self, which: Range<usize>) -> u32 {
        let running = self.members[which].iter().filter_map(|member| member.running.as_ref());
        running.map(|running| running.status.borrow().tries).max().unwrap_or_default()
    }

    /// Wait until each of those that are watched has lost the hub and found it again.
    pub(crate) async fn reconnected(watched: Vec<watch::Receiver<Status>>) -> Result<()> {
        let each = async {
            for mut status in watched {
                status.changed().await?;
                status.wait_for(|status| status.connected).await?;
            }
            Ok(())
        };
        timeout(CONNECTED_WITHIN, each).await.context("not all agents came back")?
    }

    /// Disconnect these agents. They keep their journals.
    pub(crate) async fn disconnect(&mut self, which: Range<usize>) -> Result<()> {
        let running: Vec<Running> = self.members[which].iter_mut().filter_map(|member| member.running.take()).collect();
        running.iter().for_each(|running| running.stop.cancel());
        for running in running {
            running.task.await?;
        }
        Ok(())
    }

    /// None of them was refused what it should have taken: each has accepted as many as were ordered of it.
    pub(crate) fn check_accepted(&self, which: Range<usize>, least: u64) -> Result<()> {
        for member in &self.members[which] {
            let last = member.journal.last().sequence;
            ensure!(last >= least, "agent {} accepted {last} commands of {least}", member.identity.agent());
        }
        Ok(())
    }
}

impl Shared {
    fn run(&self, estate: &Estate, member: &Member) -> Running {
        let stop = CancellationToken::new();
        let outbox = Arc::<Outbox>::default();
        let door = Arc::new(Door {
            agent: member.identity.agent().clone(),
            trust: Arc::clone(&estate.trust),
            journal: Arc::clone(&member.journal),
            rules: Watched::fixed(Arc::clone(&self.rules)),
            brake: Brake::none(),
        });
        let executor = Executor::new(execute::Parts {
            identity: Arc::clone(&member.identity),
            door: Arc::clone(&door),
            journal: Arc::clone(&member.journal),
            approvals: Approvals::none(),
            log: audit::Log::none(),
            services: self.services.clone(),
            arrivals: arrivals::Handle::off(),
            power: sfdata_agent::power::Handle::off(),
            reports: self.reports.clone(),
            outbox: Arc::clone(&outbox),
            metrics: Metrics::default(),
            tracer: Tracer::default(),
            stop: stop.clone(),
        });
        let link = Link::new(connect::Parts {
            identity: Arc::clone(&member.identity),
            trust: Arc::clone(&estate.trust),
            journal: Arc::clone(&member.journal),
            door,
            executor,
            reports: self.reports.clone(),
            runs: Runs::none(),
            usage: usage::Handle::off(),
            outbox,
            metrics: Metrics::default(),
            tracer: Tracer::default(),
        });
        let (status, until) = (link.status(), stop.clone());
        let task = tokio::spawn(async move { link.run(until).await });
        Running { stop, status, task }
    }
}

/// AWS clients that are never used: the one action of this load calls nobody.
pub(crate) async fn services() -> Services {
    let aws =
        Aws { region: "eu-west-2".into(), endpoint_url: Some("http://127.0.0.1:9".into()), credentials_file: None };
    let platform = Platform {
        cluster: "load".into(),
        webserver: "webserver".into(),
        daemon: "daemon".into(),
        code_servers: vec![],
        other_services: vec![],
        agent_service: None,
        aurora_cluster: None,
        database_instance: None,
        buckets: Buckets::default(),
        storage: Storage::default(),
    };
    Services::new(&aws, &platform, Sharing::none()).await
}
