//! What is looked up anew for each page: where the agent's parts stand, which they know themselves.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, OnceLock, Weak},
};

use jiff::Timestamp;
use prometheus_client::{collector::Collector, encoding::DescriptorEncoder, metrics::MetricType};
use sfdata_proto::v1::{PowerMode, PowerPhase};
use tokio::sync::watch;

use crate::{
    arrivals, connect::Status, door::Door, execute::Executor, identity::Identity, journal::Journal,
    power::state::Phase, usage,
};

/// The parts that are asked.
pub struct Seen {
    /// How the link is.
    pub link: watch::Receiver<Status>,
    /// Who this is.
    pub identity: Arc<Identity>,
    /// What outlives the process.
    pub journal: Arc<Journal>,
    /// The LA's hold, policy and freezes.
    pub door: Arc<Door>,
    /// What runs.
    pub executor: Executor,
    /// What has arrived.
    pub arrivals: arrivals::Handle,
    /// What was used.
    pub usage: usage::Handle,
}

impl Seen {
    /// Why the agent carries out no commands now; nothing when it does. A hold is the LA's own wish, and no reason.
    pub fn reasons(&self, stops: bool) -> Vec<String> {
        let Status { connected, tries } = *self.link.borrow();
        let hub = self.identity.address();
        let stops = stops.then(|| "draining: the agent was asked to stop".to_owned());
        let away = (!connected).then(|| format!("the hub at {hub} has not welcomed this agent in {tries} tries"));
        let journal = self.journal.fault().map(|fault| format!("only reads are let in: {fault}"));
        [stops, away, journal].into_iter().flatten().collect()
    }
}

/// The parts, while they are there; cheap to clone. It keeps none of them alive, since some of them count in the metrics
/// that it belongs to.
#[derive(Clone, Default)]
pub struct Live(Arc<OnceLock<Weak<Seen>>>);

impl Live {
    /// Ask these from now on.
    pub fn asks(&self, seen: &Arc<Seen>) {
        let _ = self.0.set(Arc::downgrade(seen)); // an agent is put together once
    }
}

impl fmt::Debug for Live {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Live").field("known", &self.0.get().is_some()).finish()
    }
}

type Samples<'a> = Vec<(Vec<(&'static str, &'a str)>, f64)>;

#[expect(clippy::cast_precision_loss, reason = "counts, and seconds since 1970")]
impl Collector for Live {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let Some(seen) = self.0.get().and_then(Weak::upgrade) else { return Ok(()) };
        let mut gauges = |name: &str, help: &str, samples: Samples<'_>| {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            for (labels, value) in samples {
                // Without labels there are no brackets either.
                match labels.as_slice() {
                    [] => family.encode_gauge(&value)?,
                    labels => family.encode_family(&labels)?.encode_gauge(&value)?,
                }
            }
            Ok::<_, fmt::Error>(())
        };
        let one = |value: f64| vec![(Vec::new(), value)];
        let flag = |holds: bool| one(if holds { 1.0 } else { 0.0 });

        gauges("connected", "Whether the hub has welcomed this agent", flag(seen.link.borrow().connected))?;
        let running = seen.journal.running().len() as f64;
        gauges("commands_running", "Commands that were let in and have not ended", one(running))?;
        let queued = seen.executor.queued() as f64;
        gauges("commands_queued", "Of those, the ones that wait for another on the same resource", one(queued))?;
        let unsent = seen.journal.unsent_count() as f64;
        gauges("outcomes_unacknowledged", "Outcomes in the journal that the hub has not confirmed", one(unsent))?;
        let fault = seen.journal.fault().is_some();
        gauges(
            "journal_faulty",
            "Whether the journal was lost or went back, so that only reads are let in",
            flag(fault),
        )?;
        gauges("held", "Whether the LA holds its agent", flag(seen.door.held().is_some()))?;
        let stale = seen.door.rules.fault().is_some();
        gauges(
            "policy_stale",
            "Whether policy or freezes were changed and do not hold, so that the former do",
            flag(stale),
        )?;
        let waiting = seen.journal.waiting().len() as f64;
        gauges("commands_on_approval", "Commands that wait for the LA's approval", one(waiting))?;
        let expires = seen.identity.expires().as_second() as f64;
        gauges("certificate_expiry_timestamp_seconds", "When the agent's certificate ends", one(expires))?;

        let waiting = seen.arrivals.waiting();
        gauges("arrivals_waiting", "Arrivals that Dagster has not got yet", one(waiting.count as f64))?;
        let oldest = waiting.oldest.map(Timestamp::as_second).map_or_else(Vec::new, |at| one(at as f64));
        gauges("arrivals_oldest_timestamp_seconds", "Since when the agent knows of the oldest one, if any", oldest)?;
        let parked = seen.arrivals.parked() as f64;
        gauges("arrivals_parked", "Arrivals that an operator has to retry or drop", one(parked))?;
        let unreadable = waiting.unreadable.is_some();
        gauges("arrivals_unreadable", "Whether it is not known what has arrived", flag(unreadable))?;
        let unsent = seen.usage.unsent() as f64;
        gauges("usage_records_unsent", "Records of usage that the hub has not confirmed", one(unsent))?;

        let Some(power) = seen.executor.power() else { return Ok(()) };
        let phase = match power.phase() {
            PowerPhase::Asleep => Some(Phase::Asleep),
            PowerPhase::Waking => Some(Phase::Waking),
            PowerPhase::Awake => Some(Phase::Awake),
            PowerPhase::Draining => Some(Phase::Draining),
            PowerPhase::Unspecified => None,
        };
        let phases = Phase::ALL.map(|one| (vec![("phase", one.as_str())], if Some(one) == phase { 1.0 } else { 0.0 }));
        gauges("power_phase", "1 for the phase that the platform's power is in", phases.into())?;
        let since = power.since_unix_ms as f64 / 1000.0;
        gauges("power_phase_timestamp_seconds", "When that phase was entered", one(since))?;
        let manual = power.mode() == PowerMode::Manual;
        gauges("power_manual", "Whether the platform's power is left to people for now", flag(manual))?;
        let mut kinds: BTreeMap<&str, f64> = BTreeMap::new();
        power.faults.iter().for_each(|fault| *kinds.entry(&fault.kind).or_default() += 1.0);
        let faults = kinds.into_iter().map(|(kind, count)| (vec![("kind", kind)], count)).collect();
        gauges("power_faults", "Faults of the platform's power that an operator should look at", faults)
    }
}
