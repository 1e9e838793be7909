//! Putting the hub together, and taking it apart again: open, serve, drain, close.

mod error;

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use jiff::Timestamp;
use sfdata_common::{error::chain, ids::OperatorName, limits, peer::Peer, telemetry::traces::Tracer};
use sfdata_proto::v1::{
    self as wire, enrol_service_server::EnrolServiceServer, link_service_server::LinkServiceServer,
    operator_service_server::OperatorServiceServer, proposal_service_server::ProposalServiceServer,
    renewal_service_server::RenewalServiceServer,
};
use tokio::{
    net::TcpListener,
    sync::{Mutex, watch},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::{codec::CompressionEncoding, service::Routes};
use tracing::{error, info};

pub use self::error::Error;
use crate::{
    admin,
    alerts::{self, Alerts, channels},
    api::{
        agent::{Links, Renewals},
        enrol::{Enrolment, Tries},
        operator::Operators,
    },
    audit,
    authorize::Authorizer,
    backups,
    commands::Commands,
    config::Config,
    disk,
    dispatch::Dispatcher,
    enrol::{
        authority::Authority,
        iam::{self, Iam},
        identity::{self, HubKeys, IDENTITY_FILE},
        serving::Serving,
        tokens::Tokens,
    },
    fleet::Fleet,
    health::Judge,
    history::History,
    metrics::Metrics,
    ops, page,
    queue::Queue,
    rotation::{self, Rotation},
    server::{self, Clients, Connections, Limits, Server},
    sessions::{Link, Sessions},
    signer::{SharedSigner, kms},
    store::{self, Batch, Store, keys, records},
    tasks,
    trust::{Own, Trust},
    usage::Usage,
};

/// What everything else is built on: store, bundles, registry, invitations.
struct Ground {
    authority: Arc<Authority>,
    dispatch: SharedSigner,
    rotation: Arc<Rotation>,
    store: Store,
    trust: Arc<Trust>,
    fleet: Arc<Fleet>,
    tokens: Arc<Tokens>,
}

impl Ground {
    fn open(config: &Config, keys: HubKeys, store: Store, metrics: Metrics) -> Result<Self, Error> {
        let (authority, dispatch) = (Arc::clone(&keys.authority), Arc::clone(&keys.dispatch));
        let own = Own {
            trust_domain: config.trust_domain.clone(),
            dispatch: Arc::clone(&dispatch),
            authority: Arc::clone(&authority),
        };
        let trust = Trust::load(store.clone(), own)?;
        let judge = Judge::new(config.health.clone(), config.certificates.agent_lifetime);
        let fleet = Arc::new(Fleet::load(store.clone(), judge)?);
        let (people, bundles, place) = (Arc::clone(&fleet), Arc::clone(&trust), config.public.clone());
        let tokens = Arc::new(Tokens::new(store.clone(), people, bundles, &keys, place, metrics));
        let (bundles, agents) = (Arc::clone(&trust), Arc::clone(&fleet));
        let rotation = Arc::new(Rotation::new(keys, bundles, agents, store.clone(), &config.data_dir));
        Ok(Self { authority, dispatch, rotation, store, trust, fleet, tokens })
    }
}

/// Make a hub in `data_dir`, or find it there, and invite an operator. Gives the join token and the identity file.
/// Harmless to repeat: keys and data stay, the token is a new one.
pub async fn init(config: &Config, operator: &OperatorName, now: Timestamp) -> Result<(String, PathBuf), Error> {
    check_identity(&config.data_dir)?;
    let kms = Box::pin(kms::ask(&config.dispatch)).await?;
    let keys = HubKeys::with_kms(&config.data_dir, &config.trust_domain, &config.hub_id, kms, now)?;
    let metrics = Metrics::default();
    let store = if Store::exists(&config.data_dir) {
        Store::open(&config.data_dir, metrics.clone())?
    } else {
        let store = Store::create(&config.data_dir, metrics.clone())?;
        let mut batch = Batch::default();
        batch.put(keys::EPOCH.to_vec(), &records::Epoch { number: 1, statement: None });
        batch.audit(audit::draft(now, "hub.created", audit::HUB, config.hub_id.clone(), ""));
        store.commit(batch).await?;
        store
    };
    let ground = Ground::open(config, keys, store, metrics)?;
    ground.fleet.expect_operator(audit::HUB.into(), operator, now).await?;
    let (token, _) = ground.tokens.for_operator(operator, now).await?;
    ground.store.close().await;
    Ok((token, config.data_dir.join(IDENTITY_FILE)))
}

/// Where a running hub listens.
#[derive(Debug, Clone, Copy)]
pub struct Addresses {
    /// Agents and operators.
    pub authenticated: SocketAddr,
    /// Enrolment.
    pub enrolment: SocketAddr,
    /// Health and metrics.
    pub ops: SocketAddr,
}

/// A hub that runs.
pub struct Hub {
    /// Where it listens.
    pub addresses: Addresses,
    tasks: TaskTracker,
    stop: CancellationToken,
    store: Store,
    failed: watch::Receiver<Option<store::Error>>,
    readiness: watch::Sender<ops::Readiness>,
    /// The operations listener tells of the drain, so it ends after it.
    ops: TaskTracker,
    ops_stop: CancellationToken,
    tracer: Tracer,
}

impl Hub {
    /// Open everything and begin to serve; it stops when `stop` is cancelled or the store fails.
    pub async fn start(config: &Config, stop: CancellationToken) -> Result<Self, Error> {
        let data_dir: &Path = &config.data_dir;
        check_identity(data_dir)?;
        if !data_dir.join(IDENTITY_FILE).exists() {
            return Err(Error::NoHub(data_dir.into()));
        }
        let authenticated = server::bind("listen.address", config.listen.address)?;
        let enrolment = server::bind("listen.enrol", config.listen.enrol)?;
        let ops = server::bind("listen.ops", config.listen.ops)?;
        let addresses = Addresses {
            authenticated: authenticated.local_addr().map_err(Error::Ops)?,
            enrolment: enrolment.local_addr().map_err(Error::Ops)?,
            ops: ops.local_addr().map_err(Error::Ops)?,
        };
        let metrics = Metrics::default();
        let tasks = TaskTracker::new();
        let (readiness, ready) = watch::channel(ops::Readiness::default());
        let ops_stop = CancellationToken::new();
        let abandoned = ops_stop.clone().drop_guard(); // a start that fails gives its port back
        let ops_tasks = TaskTracker::new();
        let serving = sfdata_common::ops::serve(ops, ops::shown(ready, &metrics), ops_stop.clone());
        spawn(&ops_tasks, "operations", &stop, serving);

        let now = Timestamp::now();
        let kms = Box::pin(kms::ask(&config.dispatch)).await?;
        let keys = HubKeys::with_kms(data_dir, &config.trust_domain, &config.hub_id, kms, now)?;
        let ground = Ground::open(config, keys, Store::open(data_dir, metrics.clone())?, metrics.clone())?;
        check_clock(&ground.store, now)?;
        let failed = ground.store.failed();
        let store = ground.store.clone();
        let tracer =
            Tracer::start(&config.telemetry, "sfdata-hub", env!("CARGO_PKG_VERSION"), Some(config.hub_id.as_str()))?;
        let parts = Parts::new(config, ground, metrics, tasks.clone(), tracer.clone(), stop.clone()).await?;
        parts.serve(authenticated, enrolment)?;
        admin::listen(data_dir, store.clone(), &tasks, stop.clone())?;
        rotation::listen(Arc::clone(&parts.ground.rotation), Arc::clone(&parts.serving), &tasks, stop.clone())
            .map_err(Error::Keys)?;
        parts.keep(readiness.clone());
        readiness.send_modify(|readiness| readiness.started = true);
        info!(address = %addresses.authenticated, enrol = %addresses.enrolment, ops = %addresses.ops, "the hub is ready");
        abandoned.disarm();
        Ok(Self { addresses, tasks, stop, store, failed, readiness, ops: ops_tasks, ops_stop, tracer })
    }

    /// Wait until the hub was asked to stop and has drained. An error means that the store failed.
    pub async fn stopped(mut self) -> Result<(), store::Error> {
        let failure = tokio::select! {
            () = self.stop.cancelled() => None,
            // A writer that is gone without a word has panicked.
            failed = self.failed.wait_for(Option::is_some) => {
                failed.map_or(Some(store::Error::Stopped), |failed| failed.clone())
            }
        };
        self.readiness.send_modify(|readiness| {
            readiness.draining = true;
            readiness.store_failed = failure.as_ref().map(|failure| chain(failure).to_string());
        });
        self.stop.cancel();
        self.tasks.close();
        let drained = tokio::time::timeout(limits::DRAIN + Duration::from_secs(5), self.tasks.wait()).await;
        if drained.is_err() {
            error!("some tasks did not end in time");
        }
        self.store.close().await;
        self.ops_stop.cancel();
        self.ops.close();
        self.ops.wait().await;
        self.tracer.stop(limits::TRACE_FLUSH).await;
        info!("the hub has stopped");
        match self.failed.borrow().clone().or(failure) {
            Some(failure) => Err(failure),
            None => Ok(()),
        }
    }
}

/// A hub that has a store has had keys, and is never given new ones.
fn check_identity(data_dir: &Path) -> Result<(), identity::Error> {
    let missing = data_dir.join(IDENTITY_FILE);
    if Store::exists(data_dir) && !missing.exists() {
        return Err(identity::Error::Missing { missing, identity: Store::folder(data_dir) });
    }
    Ok(())
}

/// A clock that is behind what was recorded would make fresh certificates and commands invalid.
fn check_clock(store: &Store, now: Timestamp) -> Result<(), Error> {
    let first = store.audit(0).next().transpose()?;
    let made = first.and_then(|entry| Timestamp::from_millisecond(entry.at_unix_ms).ok()).unwrap_or_default();
    if now + limits::CLOCK_SKEW < made { Err(Error::Clock { now, made }) } else { Ok(()) }
}

fn spawn<E: std::error::Error>(
    tasks: &TaskTracker,
    name: &'static str,
    stop: &CancellationToken,
    work: impl Future<Output = Result<(), E>> + Send + 'static,
) {
    let stop = stop.clone();
    tasks.spawn(async move {
        if let Err(error) = work.await {
            error!(task = name, error = %chain(&error), "a part of the hub failed; the hub stops");
            stop.cancel();
        }
    });
}

/// The parts of a running hub.
struct Parts {
    config: Config,
    ground: Ground,
    metrics: Metrics,
    tasks: TaskTracker,
    stop: CancellationToken,
    queue: Arc<Queue>,
    sessions: Arc<Sessions>,
    commands: Arc<Commands>,
    usage: Arc<Usage>,
    history: Arc<History>,
    authorizer: Arc<Authorizer>,
    alerts: Arc<Alerts>,
    connections: Connections,
    serving: Arc<Serving>,
    disk: disk::Gauge,
}

impl Parts {
    async fn new(
        config: &Config,
        ground: Ground,
        metrics: Metrics,
        tasks: TaskTracker,
        tracer: Tracer,
        stop: CancellationToken,
    ) -> Result<Self, Error> {
        let queue = Arc::new(Queue::load(ground.store.clone(), metrics.clone(), ground.trust.epoch()).await?);
        let sessions = Arc::<Sessions>::default();
        let authorizer =
            Arc::new(Authorizer::new(config.policy()?, Arc::clone(&ground.trust), Arc::clone(&ground.fleet)));
        let disk = disk::Gauge::new(&config.data_dir);
        let commands = Arc::new(Commands {
            store: ground.store.clone(),
            authorizer: Arc::clone(&authorizer),
            queue: Arc::clone(&queue),
            sessions: Arc::clone(&sessions),
            fleet: Arc::clone(&ground.fleet),
            metrics: metrics.clone(),
            disk: disk.clone(),
            tracer,
            deciding: Mutex::default(),
        });
        let usage = Arc::new(Usage::new(ground.store.clone(), metrics.clone()));
        let history = Arc::new(History::new(ground.store.clone()));
        let alerts = Alerts::load(alerts::Parts {
            store: ground.store.clone(),
            disk: disk.clone(),
            metrics: metrics.clone(),
            settings: config.alerts.clone(),
            lifetime: config.certificates.hub_lifetime,
            usage: Arc::clone(&usage),
            costs: config.costs.clone(),
            channels: Box::pin(channels::open(&config.alerts, &config.hub_id)).await?,
        })?;
        let serving = Serving::start(
            Arc::clone(&ground.authority),
            &config.hub_id,
            config.certificates.hub_lifetime,
            &ground.trust.ca_certificates(),
            metrics.clone(),
            Timestamp::now(),
        )?;
        Ok(Self {
            config: config.clone(),
            ground,
            metrics,
            tasks,
            stop,
            queue,
            sessions,
            commands,
            usage,
            history,
            authorizer,
            alerts: Arc::new(alerts),
            connections: Connections::default(),
            serving: Arc::new(serving),
            disk,
        })
    }

    fn serve(&self, authenticated: TcpListener, enrolment: TcpListener) -> Result<(), Error> {
        let fleet = Arc::clone(&self.ground.fleet);
        let (health_reporter, health) = tonic_health::server::health_reporter();
        let reflection = tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(wire::DESCRIPTORS)
            .build_v1();
        let routes = Routes::new(self.link_service())
            .add_service(self.operator_service())
            .add_service(ProposalServiceServer::new(self.operators()).max_decoding_message_size(limits::MESSAGE_BYTES))
            .add_service(
                RenewalServiceServer::new(Renewals {
                    fleet: Arc::clone(&fleet),
                    authority: Arc::clone(&self.ground.authority),
                    certificates: self.config.certificates.clone(),
                    metrics: self.metrics.clone(),
                })
                .max_decoding_message_size(limits::ENROL_MESSAGE_BYTES),
            )
            .add_service(health);
        let routes = match reflection {
            Ok(reflection) => routes.add_service(reflection),
            Err(error) => {
                error!(%error, "reflection is not served");
                routes
            }
        };
        let routes = Routes::from(routes.into_axum_router().merge(page::routes(self.operators())));
        self.tasks.spawn(async move {
            health_reporter.set_serving::<OperatorServiceServer<Operators>>().await;
            health_reporter.set_serving::<LinkServiceServer<Links>>().await;
        });
        let server = Server {
            name: "authenticated",
            tls: self.serving.authenticated(),
            clients: Clients::Certified {
                trust_domain: self.config.trust_domain.clone(),
                admit: Arc::new(move |peer: &Peer| fleet.admits(&peer.subject)),
            },
            connections: self.connections.clone(),
            limits: Limits::authenticated(),
            metrics: self.metrics.clone(),
        };
        spawn(
            &self.tasks,
            "authenticated listener",
            &self.stop,
            server.serve(authenticated, routes, self.stop.clone()),
        );

        let server = Server {
            name: "enrolment",
            tls: self.serving.enrolment(),
            clients: Clients::Anybody,
            connections: self.connections.clone(),
            limits: Limits::enrolment(),
            metrics: self.metrics.clone(),
        };
        let routes = Routes::new(
            EnrolServiceServer::new(Enrolment {
                tokens: Arc::clone(&self.ground.tokens),
                iam: self.iam(),
                fleet: Arc::clone(&self.ground.fleet),
                authority: Arc::clone(&self.ground.authority),
                trust: Arc::clone(&self.ground.trust),
                certificates: self.config.certificates.clone(),
                metrics: self.metrics.clone(),
                tries: Tries::default(),
            })
            .max_decoding_message_size(limits::ENROL_MESSAGE_BYTES),
        );
        spawn(&self.tasks, "enrolment listener", &self.stop, server.serve(enrolment, routes, self.stop.clone()));
        Ok(())
    }

    fn iam(&self) -> Iam {
        Iam::new(iam::Parts {
            store: self.ground.store.clone(),
            fleet: Arc::clone(&self.ground.fleet),
            sessions: Arc::clone(&self.sessions),
            trust: Arc::clone(&self.ground.trust),
            dispatch: Arc::clone(&self.ground.dispatch),
            metrics: self.metrics.clone(),
            settings: self.config.enrol.aws.clone(),
        })
    }

    fn link_service(&self) -> LinkServiceServer<Links> {
        let link = Link {
            fleet: Arc::clone(&self.ground.fleet),
            queue: Arc::clone(&self.queue),
            sessions: Arc::clone(&self.sessions),
            trust: Arc::clone(&self.ground.trust),
            dispatcher: Arc::new(Dispatcher::new(
                Arc::clone(&self.ground.dispatch),
                self.metrics.clone(),
                self.commands.tracer.clone(),
            )),
            commands: Arc::clone(&self.commands),
            usage: Arc::clone(&self.usage),
            metrics: self.metrics.clone(),
            stop: self.stop.clone(),
        };
        LinkServiceServer::new(Links { link, tasks: self.tasks.clone() })
            .max_decoding_message_size(limits::MESSAGE_BYTES)
    }

    fn operator_service(&self) -> OperatorServiceServer<Operators> {
        // Packed for who asks for it: hubctl does where an answer has the whole fleet in it.
        OperatorServiceServer::new(self.operators())
            .max_decoding_message_size(limits::MESSAGE_BYTES)
            .send_compressed(CompressionEncoding::Gzip)
    }

    fn operators(&self) -> Operators {
        Operators {
            commands: Arc::clone(&self.commands),
            authorizer: Arc::clone(&self.authorizer),
            fleet: Arc::clone(&self.ground.fleet),
            queue: Arc::clone(&self.queue),
            sessions: Arc::clone(&self.sessions),
            connections: self.connections.clone(),
            tokens: Arc::clone(&self.ground.tokens),
            trust: Arc::clone(&self.ground.trust),
            alerts: Arc::clone(&self.alerts),
            usage: Arc::clone(&self.usage),
            history: Arc::clone(&self.history),
            costs: self.config.costs.clone(),
            store: self.ground.store.clone(),
            stop: self.stop.clone(),
        }
    }

    /// Start the background work.
    fn keep(&self, readiness: watch::Sender<ops::Readiness>) {
        let stop = || self.stop.clone();
        let second = Duration::from_secs(1);
        let (queue, metrics) = (Arc::clone(&self.queue), self.metrics.clone());
        self.tasks.spawn(tasks::every("expire", second, stop(), move || {
            let queue = Arc::clone(&queue);
            metrics.queue_depth.set(queue.total().try_into().unwrap_or(i64::MAX));
            async move { queue.expire(Timestamp::now()).await }
        }));
        let (disk, store) = (self.disk.clone(), self.ground.store.clone());
        self.tasks.spawn(tasks::every("disk", 5 * second, stop(), move || {
            disk.pass();
            let low = disk.check().err().map(|low| low.free_bytes);
            readiness.send_modify(|readiness| readiness.disk_low = low);
            std::future::ready(store.note_disk())
        }));
        let fleet = Arc::clone(&self.ground.fleet);
        self.tasks.spawn(tasks::every("fleet", 30 * second, stop(), move || {
            fleet.pass();
            std::future::ready(Ok::<_, store::Error>(()))
        }));
        if let Some(settings) = self.config.backup.clone() {
            let (store, metrics) = (self.ground.store.clone(), self.metrics.clone());
            self.tasks.spawn(tasks::every("backup", 60 * second, stop(), move || {
                let (settings, store, failing) = (settings.clone(), store.clone(), metrics.backup_failing.clone());
                async move {
                    let taken = backups::pass(&settings, &store, Timestamp::now()).await;
                    failing.set(taken.is_err().into());
                    taken
                }
            }));
        }
        self.look();
        let alerts = Arc::clone(&self.alerts);
        self.tasks.spawn(tasks::every("notices", second, stop(), move || {
            let alerts = Arc::clone(&alerts);
            async move { alerts.deliver(Timestamp::now()).await }
        }));
        let (commands, tokens) = (Arc::clone(&self.commands), Arc::clone(&self.ground.tokens));
        let (usage, history) = (Arc::clone(&self.usage), Arc::clone(&self.history));
        let store = self.ground.store.clone();
        self.tasks.spawn(tasks::every("prune", 3600 * second, stop(), move || {
            let (commands, tokens, usage) = (Arc::clone(&commands), Arc::clone(&tokens), Arc::clone(&usage));
            let (history, store) = (Arc::clone(&history), store.clone());
            async move {
                let now = Timestamp::now();
                tokens.prune(now).await?;
                usage.forget(now).await?;
                history.forget(now).await?;
                commands.prune(now).await?;
                store.note_oldest()
            }
        }));
        let (serving, stop_serving) = (Arc::clone(&self.serving), stop());
        self.tasks.spawn(async move { serving.run(stop_serving).await });
        let (serving, trust, stop) = (Arc::clone(&self.serving), Arc::clone(&self.ground.trust), stop());
        self.tasks.spawn(async move {
            let mut changes = trust.changes();
            loop {
                tokio::select! {
                    () = stop.cancelled() => return,
                    changed = changes.changed() => if changed.is_err() { return },
                }
                if let Err(error) = serving.trust(&trust.ca_certificates()) {
                    error!(error = %chain(&error), "the CAs of the new trust bundle can't be used; the old ones stay");
                }
            }
        });
    }

    /// Every few seconds one look at the fleet, for alerts and history alike.
    fn look(&self) {
        let second = Duration::from_secs(1);
        let (fleet, queue) = (Arc::clone(&self.ground.fleet), Arc::clone(&self.queue));
        let trust = Arc::clone(&self.ground.trust);
        let (alerts, history) = (Arc::clone(&self.alerts), Arc::clone(&self.history));
        self.tasks.spawn(tasks::every("look", 5 * second, self.stop.clone(), move || {
            let (alerts, history) = (Arc::clone(&alerts), Arc::clone(&history));
            let now = Timestamp::now();
            let agents = fleet.agents(|agent| queue.depth(agent), now);
            let operators = fleet.operators(trust.bundle().as_deref(), now);
            async move {
                let looked = history.look(&agents, now);
                alerts.pass(&agents, &operators, now).await.and(looked)
            }
        }));
        let (history, stop) = (Arc::clone(&self.history), self.stop.clone());
        self.tasks.spawn(async move {
            let writing = || {
                let history = Arc::clone(&history);
                async move { history.pass(Timestamp::now()).await }
            };
            tasks::every("history", 5 * second, stop, writing).await;
            if let Err(error) = history.close(Timestamp::now()).await {
                error!(error = %chain(&error), "what was seen in the last minutes is missing in the history");
            }
        });
    }
}
