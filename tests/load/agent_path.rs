//! The agent's own durable path, with nothing else around it: a delivery is there, the door verifies it, it is journalled
//! on disk, executed without doing anything, put on the agent's own record, and its receipt is durable.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};
use sfdata_agent::{
    approvals::Approvals,
    arrivals, audit,
    door::Door,
    execute::{self, Executor, Outbox},
    identity::Identity,
    journal::{Begun, Journal},
    metrics::Metrics,
    policy::{Brake, Rules, Watched},
    report::Reporter,
    verify::Judgement,
};
use sfdata_common::{Timestamp, ids::Position, peer::Subject, telemetry::traces::Tracer};
use sfdata_hub::{authorize::Order, dispatch::Dispatcher, queue::Outgoing};
use tokio_util::sync::CancellationToken;

use crate::{
    estate::Estate,
    fleet,
    numbers::{self, Latencies, show},
    operator::Operator,
};

const COMMANDS: u64 = 500;
const EPOCH: u64 = 1;

pub(crate) async fn measure(estate: &Estate) -> Result<()> {
    let folder = tempfile::tempdir_in(estate.folder())?;
    Journal::create(folder.path(), EPOCH)?;
    let journal = Arc::new(Journal::open(folder.path())?);
    let Some(agent) = estate.agents.first() else { bail!("no agent") };
    let certificate = estate.certificate(&Subject::Agent(agent.clone()))?;
    let (receipt_key, trust) = (Arc::clone(&estate.receipt_key), Arc::clone(&estate.trust));
    let identity = Arc::new(Identity::new(estate.address.to_string(), certificate, receipt_key, trust, None)?);
    let services = fleet::services().await;
    let (reports, _reporter) = Reporter::new(services.clone(), arrivals::Handle::off(), &Metrics::default());
    let door = Arc::new(Door {
        agent: agent.clone(),
        trust: Arc::clone(&estate.trust),
        journal: Arc::clone(&journal),
        rules: Watched::fixed(Arc::new(Rules::load(None, &[])?)),
        brake: Brake::none(),
    });
    let executor = Executor::new(execute::Parts {
        identity,
        door: Arc::clone(&door),
        journal: Arc::clone(&journal),
        approvals: Approvals::none(),
        log: audit::Log::open(folder.path())?,
        services,
        arrivals: arrivals::Handle::off(),
        power: sfdata_agent::power::Handle::off(),
        reports,
        outbox: Arc::<Outbox>::default(),
        metrics: Metrics::default(),
        tracer: Tracer::default(),
        stop: CancellationToken::new(),
    });
    let dispatcher =
        Dispatcher::new(Arc::clone(&estate.dispatch), sfdata_hub::metrics::Metrics::default(), Tracer::default());
    let operator = Operator::new(estate)?;

    let mut latencies: Vec<Duration> = Vec::new();
    for sequence in 1..=COMMANDS {
        let envelope = operator.sign(&operator.command(vec![agent.clone()]));
        let order = Some(Arc::new(Order::stored(envelope, Timestamp::now())?));
        let outgoing = Outgoing { position: Position { epoch: EPOCH, sequence }, order, trace: None };
        let delivery = dispatcher.sign(agent, &outgoing, Timestamp::now()).await?;

        let (began, now) = (Instant::now(), Timestamp::now());
        let judgement = door.judge(&delivery, now);
        let Judgement::Verified(verified) = judgement else { bail!("the door does not let it in: {judgement:?}") };
        let id = verified.command().id;
        journal.accept(&verified, now).await?;
        executor.start(Begun { verified: *verified, began: now, trace: None });
        executor.stopped().await; // nothing runs any more: its receipt is durable
        latencies.push(began.elapsed());
        journal.forget(&[id]);
    }
    let latencies = Latencies::new(latencies);
    show("agent_path_p50_ms", numbers::ms(latencies.p50()));
    show("agent_path_p99_ms", numbers::ms(latencies.p99()));
    Ok(())
}
