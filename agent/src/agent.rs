//! Putting the agent together: open what is durable, take up what was begun, hold the link, stop in order.

use std::{
    io,
    net::SocketAddr,
    sync::{Arc, Weak},
};

use sfdata_common::{
    Timestamp,
    error::chain,
    ids::AgentId,
    limits, ops,
    telemetry::traces::{self, Tracer},
};
use tokio::{net::TcpListener, sync::watch};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    approvals::Approvals,
    arrivals::{self, Handle, Source},
    audit,
    config::Config,
    connect::{self, Link, Status},
    door::Door,
    execute::{self, Executor, Outbox},
    identity::{self, Identity},
    journal::{self, Journal},
    metrics::{Metrics, Seen},
    policy::{self, Brake, Sharing, Watched},
    power,
    report::Reporter,
    runs::Runs,
    services::Services,
    trust::{self, Trust},
    usage,
};

/// Why the agent does not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Who it is.
    #[error(transparent)]
    Identity(#[from] identity::Error),
    /// Whom it trusts.
    #[error(transparent)]
    Trust(#[from] trust::Error),
    /// The LA's policy.
    #[error(transparent)]
    Policy(#[from] policy::Error),
    /// The journal.
    #[error(transparent)]
    Journal(#[from] journal::Error),
    /// The agent's own record.
    #[error(transparent)]
    Audit(#[from] audit::Error),
    /// Where traces go.
    #[error(transparent)]
    Telemetry(#[from] traces::Error),
    /// The book of arrivals.
    #[error(transparent)]
    Arrivals(#[from] arrivals::Error),
    /// The listener for health and metrics.
    #[error("cannot listen on ops.address {address}; give it a port of its own, or leave [ops] out")]
    Ops {
        /// Where.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
}

/// An agent that runs.
pub struct Agent {
    id: AgentId,
    status: watch::Receiver<Status>,
    arrivals: Handle,
    tasks: TaskTracker,
    executor: Executor,
    tracer: Tracer,
    stop: CancellationToken,
    failed: watch::Receiver<Option<journal::Error>>,
    arrivals_failed: watch::Receiver<Option<arrivals::Error>>,
    ops: TaskTracker,
    ops_stop: CancellationToken,
    /// What the metrics are looked up in.
    _seen: Arc<Seen>,
}

impl Agent {
    /// Open everything and begin; it stops when `stop` is cancelled, or the journal or the book of arrivals fails.
    pub async fn start(config: &Config, stop: CancellationToken) -> Result<Self, Error> {
        let data_dir = &config.data_dir;
        let services = Box::pin(Services::new(&config.aws, &config.platform, Sharing::new(data_dir))).await;
        let services = services
            .with_dagster(&config.dagster)
            .with_images(&config.images)
            .with_task(config.task_metadata.as_deref());
        let by_aws = identity::by_aws(config, &services);
        match &by_aws {
            Some(by_aws) if !Identity::exists(data_dir) => drop(Box::pin(by_aws.enrol(Timestamp::now())).await?),
            None if !Identity::exists(data_dir) => return Err(identity::Error::Absent(data_dir.clone()).into()),
            _ => {}
        }
        let listener = match config.ops.address {
            Some(address) => Some(TcpListener::bind(address).await.map_err(|source| Error::Ops { address, source })?),
            None => None,
        };
        let rules = Watched::open(config)?;
        let trust = Arc::new(Trust::open(data_dir)?);
        let identity = Identity::open(data_dir, config.hub.address.as_deref(), Arc::clone(&trust))?;
        let identity = Arc::new(identity.joining_again(by_aws)?);
        let journal = Arc::new(Journal::open(data_dir)?);
        if let Some(fault) = journal.fault() {
            tracing::error!(fault, "only reads will be let in");
        }
        let failed = journal.failed();
        let metrics = Metrics::of(&services);
        let arrivals = Handle::open(config)?;
        if arrivals.is_on() && config.power.is_none() {
            tracing::warn!("[arrivals] without [power]: what arrives is taken in and waits; nothing hands it on");
        }
        let taking_in = Source::new(&arrivals, services.clone(), &config.aws).run(stop.clone());
        let (reports, reporter) = Reporter::new(services.clone(), arrivals.clone(), &metrics);
        let runs = Runs::open(data_dir);
        let (power, controller) = power::controller::new(power::controller::Parts {
            settings: config.power.as_ref(),
            data_dir,
            services: services.clone(),
            arrivals: arrivals.clone(),
            runs: runs.clone(),
            metrics: metrics.clone(),
        });
        let looking = controller.is_none().then(|| runs.clone().watch(services.dagster.clone(), stop.clone()));
        let presence = services.clone().tell_presence(config.platform.clone(), stop.clone());
        let unsharing = services.s3.clone().keep_unshared(stop.clone());
        let (usage, meters) = usage::open(config, services.clone(), power.clone());
        let outbox = Arc::<Outbox>::default();
        let (version, name) = (env!("CARGO_PKG_VERSION"), identity.agent().as_str());
        let tracer = Tracer::start(&config.telemetry, "sfdata-agent", version, Some(name))?;
        let door = Arc::new(Door {
            agent: identity.agent().clone(),
            trust: Arc::clone(&trust),
            journal: Arc::clone(&journal),
            rules,
            brake: Brake::new(data_dir),
        });
        let executor = Executor::new(execute::Parts {
            identity: Arc::clone(&identity),
            door: Arc::clone(&door),
            journal: Arc::clone(&journal),
            approvals: Approvals::new(data_dir),
            log: audit::Log::open(data_dir)?,
            services,
            arrivals: arrivals.clone(),
            power,
            reports: reports.clone(),
            outbox: Arc::clone(&outbox),
            metrics: metrics.clone(),
            tracer: tracer.clone(),
            stop: stop.clone(),
        });
        executor.resume();
        let link = Link::new(connect::Parts {
            identity: Arc::clone(&identity),
            trust,
            journal: Arc::clone(&journal),
            door: Arc::clone(&door),
            executor: executor.clone(),
            reports: reports.clone(),
            runs,
            usage: usage.clone(),
            outbox,
            metrics: metrics.clone(),
            tracer: tracer.clone(),
        });
        let (id, status) = (identity.agent().clone(), link.status());
        let seen = Arc::new(Seen {
            link: link.status(),
            identity: Arc::clone(&identity),
            journal,
            door: Arc::clone(&door),
            executor: executor.clone(),
            arrivals: arrivals.clone(),
            usage,
        });
        metrics.live.asks(&seen);
        let (ops, ops_stop) = (TaskTracker::new(), CancellationToken::new());
        if let Some(listener) = listener {
            ops.spawn(serve(listener, Arc::downgrade(&seen), metrics, stop.clone(), ops_stop.clone()));
        }
        let tasks = TaskTracker::new();
        if let Some(controller) = controller {
            tasks.spawn(controller(reports).run(stop.clone()));
        }
        if let Some(looking) = looking {
            tasks.spawn(looking);
        }
        if let Some(meters) = meters {
            tasks.spawn(meters.run(stop.clone()));
        }
        let (reporting, renewing, linking) = (stop.clone(), stop.clone(), stop.clone());
        tasks.spawn(presence);
        tasks.spawn(unsharing);
        tasks.spawn(taking_in);
        tasks.spawn(reporter.run(reporting));
        tasks.spawn(async move { identity.run(renewing).await });
        tasks.spawn(async move { link.run(linking).await });
        let arrivals_failed = arrivals.failed();
        Ok(Self {
            id,
            status,
            arrivals,
            tasks,
            executor,
            tracer,
            stop,
            failed,
            arrivals_failed,
            ops,
            ops_stop,
            _seen: seen,
        })
    }

    /// Its id.
    pub fn id(&self) -> &AgentId {
        &self.id
    }

    /// How its link is.
    pub fn status(&self) -> watch::Receiver<Status> {
        self.status.clone()
    }

    /// What has arrived.
    pub fn arrivals(&self) -> Handle {
        self.arrivals.clone()
    }

    /// Wait until it was asked to stop and has. What runs stays begun in the journal and is taken up at the next start. An
    /// error means that the journal, or the book of arrivals, failed.
    pub async fn stopped(mut self) -> Result<(), Error> {
        tokio::select! {
            () = self.stop.cancelled() => {}
            Ok(_) = self.failed.wait_for(Option::is_some) => self.stop.cancel(),
            Ok(_) = self.arrivals_failed.wait_for(Option::is_some) => self.stop.cancel(),
        }
        self.tasks.close();
        self.tasks.wait().await;
        self.executor.stopped().await;
        self.ops_stop.cancel();
        self.ops.close();
        self.ops.wait().await;
        self.tracer.stop(limits::TRACE_FLUSH).await;
        if let Some(failure) = self.failed.borrow().clone() {
            return Err(failure.into());
        }
        if let Some(failure) = self.arrivals_failed.borrow().clone() {
            return Err(failure.into());
        }
        Ok(())
    }
}

/// Health and metrics until `over`. Should that fail, the agent does its work all the same.
async fn serve(
    listener: TcpListener,
    seen: Weak<Seen>,
    metrics: Metrics,
    stop: CancellationToken,
    over: CancellationToken,
) {
    let reasons = move || seen.upgrade().map_or_else(Vec::new, |seen| seen.reasons(stop.is_cancelled()));
    let shown = ops::Shown { reasons: Arc::new(reasons), metrics: metrics.page() };
    if let Err(error) = ops::serve(listener, shown, over).await {
        tracing::error!(error = %chain(&error), "health and metrics are not served any more");
    }
}
