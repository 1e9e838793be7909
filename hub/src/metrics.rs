//! What Prometheus reads of the hub, as cheap handles that every module holds.
//!
//! prometheus-client writes OpenMetrics, whose counters are declared without `_total`; the older text format, which
//! every scraper and promtool reads, declares them with it. [`Total`] is a counter that is registered under its full
//! name, so that the page is valid text format. Labels come from fixed sets: their number is bounded.

mod fleet;

use std::{
    borrow::Cow,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use prometheus_client::{
    encoding::{EncodeMetric, MetricEncoder, text},
    metrics::{
        MetricType, TypedMetric,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
    },
    registry::{Metric, Registry},
};
use sfdata_common::outcome::{self, FailureCode, Outcome, RefusalReason};

pub use self::fleet::{Cost, Fleet, Seen};
use crate::server;

/// `Content-Type` of [`Metrics::text`].
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// A number that only grows while the process lives.
#[derive(Debug, Clone, Default)]
pub struct Total(Arc<AtomicU64>);

impl Total {
    /// One more.
    pub fn inc(&self) {
        self.add(1);
    }

    /// Some more.
    pub fn add(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    /// So far.
    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl TypedMetric for Total {
    const TYPE: MetricType = MetricType::Counter;
}

impl EncodeMetric for Total {
    // The counter's own encoding would add a second `_total`.
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        encoder.encode_gauge(&self.value())
    }

    fn metric_type(&self) -> MetricType {
        Self::TYPE
    }
}

type Labels = [(&'static str, Cow<'static, str>); 1];

/// Counters of one name, told apart by one label.
#[derive(Debug, Clone)]
pub struct Totals {
    label: &'static str,
    family: Family<Labels, Total>,
}

impl Totals {
    /// One more of this kind.
    pub fn inc(&self, kind: impl Into<Cow<'static, str>>) {
        self.family.get_or_create(&[(self.label, kind.into())]).inc();
    }

    /// So far of this kind.
    pub fn value(&self, kind: &'static str) -> u64 {
        self.family.get(&[(self.label, kind.into())]).map_or(0, |total| total.value())
    }

    /// Shows these kinds as 0 from the start, so that a first event is seen as a rise.
    fn starting_with(self, kinds: impl IntoIterator<Item = Cow<'static, str>>) -> Self {
        for kind in kinds {
            let _ = self.family.get_or_create(&[(self.label, kind)]);
        }
        self
    }
}

/// All metrics of the hub.
#[derive(Debug, Clone)]
pub struct Metrics {
    registry: Arc<Registry>,
    /// Agents with an open session.
    pub agents_connected: Gauge,
    /// Open TLS connections on both gRPC listeners.
    pub connections: Gauge,
    /// Handshakes that led to no connection, by `reason`.
    pub handshakes_failed: Totals,
    /// Tries to join, by `result`.
    pub enrolments: Totals,
    /// Sessions opened by agents.
    pub sessions_opened: Total,
    /// Sessions ended by a newer one of the same agent.
    pub sessions_fenced: Total,
    /// Commands taken, by `action`.
    pub commands_submitted: Totals,
    /// Commands not taken, by `reason`.
    pub commands_denied: Totals,
    /// Commands that have not ended, counted once for each agent.
    pub queue_depth: Gauge,
    /// Commands ended at one agent, by `outcome`. Use [`Metrics::ended`].
    pub outcomes: Totals,
    /// Of those, failures by `code`. Use [`Metrics::ended`].
    pub failures: Totals,
    /// Of those, refusals by `reason`. Use [`Metrics::ended`].
    pub refusals: Totals,
    /// Events that a command's lifecycle does not allow.
    pub illegal_transitions: Total,
    /// Requests turned away because the hub had too much to do, by `what` was exhausted.
    pub load_shed: Totals,
    /// How each LA is, and what holds of it.
    pub fleet: Fleet,
    /// Alerts that fire.
    pub alerts_firing: Gauge,
    /// Tries to deliver a notice of alerts, by `result`.
    pub notices: Totals,
    /// Records of usage that agents told, repeated ones among them.
    pub usage_records: Total,
    /// Of those, what was not taken, by `reason`.
    pub usage_refused: Totals,
    /// Entries written to the audit log.
    pub audit_entries: Total,
    /// Seconds from the first write of a batch to its being durable.
    pub store_commit_seconds: Histogram,
    /// Operations in one durable batch.
    pub store_batch_operations: Histogram,
    /// Unix time at which the issuing CA ends.
    pub ca_expires: Gauge,
    /// Unix time at which the hub's own leaf ends.
    pub certificate_expires: Gauge,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut new = Builder(Registry::with_prefix("sfdata_hub"));
        let build = new.add("build_info", "Always 1; the label tells the version", Family::<Labels, Gauge>::default());
        build.get_or_create(&[("version", env!("CARGO_PKG_VERSION").into())]).set(1);
        let outcomes = ["succeeded", "failed", "refused", "expired", "cancelled"].map(Cow::Borrowed);
        let failures = codes(FailureCode::try_from).map(|code| outcome::failure_name(code).into());
        let refusals = codes(RefusalReason::try_from).map(|reason| outcome::refusal_name(reason).into());
        Self {
            agents_connected: new.gauge("agents_connected", "Agents with an open session"),
            connections: new.gauge("connections", "Open TLS connections on both gRPC listeners"),
            handshakes_failed: new
                .totals("handshakes_failed_total", "Handshakes that led to no connection", "reason")
                .starting_with(server::REFUSALS.map(Cow::Borrowed)),
            enrolments: new.totals("enrolments_total", "Tries to join", "result"),
            sessions_opened: new.total("sessions_opened_total", "Sessions opened by agents"),
            sessions_fenced: new.total("sessions_fenced_total", "Sessions ended by a newer one of the same agent"),
            commands_submitted: new.totals("commands_submitted_total", "Commands taken", "action"),
            commands_denied: new.totals("commands_denied_total", "Commands not taken", "reason"),
            queue_depth: new.gauge("queue_depth", "Commands that have not ended, counted once for each agent"),
            outcomes: new.totals("outcomes_total", "Commands ended at one agent", "outcome").starting_with(outcomes),
            failures: new.totals("failures_total", "Commands that failed at one agent", "code").starting_with(failures),
            refusals: new.totals("refusals_total", "Commands that one agent refused", "reason").starting_with(refusals),
            illegal_transitions: new.total("illegal_transitions_total", "Events against a command's lifecycle"),
            load_shed: new.totals("load_shed_total", "Requests turned away for want of room", "what"),
            fleet: new.fleet(),
            alerts_firing: new.gauge("alerts_firing", "Alerts that fire, silenced ones among them"),
            notices: new
                .totals("notices_total", "Tries to deliver a notice of alerts", "result")
                .starting_with(["delivered", "failed", "given-up"].map(Cow::Borrowed)),
            usage_records: new
                .total("usage_records_total", "Records of usage told by agents, repeated ones among them"),
            usage_refused: new
                .totals("usage_refused_total", "Records of usage that were not taken", "reason")
                .starting_with(["malformed", "time", "too-many"].map(Cow::Borrowed)),
            audit_entries: new.total("audit_entries_total", "Entries written to the audit log"),
            store_commit_seconds: new.add(
                "store_commit_seconds",
                "Time from the first write of a batch to its being durable",
                Histogram::new([0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0]),
            ),
            store_batch_operations: new.add(
                "store_batch_operations",
                "Operations in one durable batch",
                Histogram::new(exponential_buckets(1.0, 2.0, 11)),
            ),
            ca_expires: new.gauge("ca_expiry_timestamp_seconds", "When the issuing CA ends"),
            certificate_expires: new.gauge("certificate_expiry_timestamp_seconds", "When the hub's own leaf ends"),
            registry: Arc::new(new.0),
        }
    }
}

impl Metrics {
    /// Count the end of a command at one agent: its outcome and, with it, the code or reason.
    pub fn ended(&self, outcome: &Outcome) {
        self.outcomes.inc(outcome.name());
        match outcome {
            Outcome::Failed { code, .. } => self.failures.inc(outcome::failure_name(*code)),
            Outcome::Refused { reason, .. } => self.refusals.inc(outcome::refusal_name(*reason)),
            Outcome::Succeeded(_) | Outcome::Expired | Outcome::Cancelled { .. } => {}
        }
    }

    /// Everything in the Prometheus text format, version 0.0.4.
    pub fn text(&self) -> String {
        let mut page = String::with_capacity(16 * 1024);
        // Writing to a string does not fail.
        let _ = text::encode_registry(&mut page, &self.registry);
        page
    }
}

/// All values of a wire enumeration, the unspecified one excepted.
fn codes<T, E>(parse: impl Fn(i32) -> Result<T, E>) -> impl Iterator<Item = T> {
    (1..).map_while(move |number| parse(number).ok())
}

struct Builder(Registry);

impl Builder {
    fn add<M: Metric + Clone>(&mut self, name: &str, help: &str, metric: M) -> M {
        self.0.register(name, help, metric.clone());
        metric
    }

    fn gauge(&mut self, name: &str, help: &str) -> Gauge {
        self.add(name, help, Gauge::default())
    }

    fn total(&mut self, name: &str, help: &str) -> Total {
        self.add(name, help, Total::default())
    }

    fn fleet(&mut self) -> Fleet {
        let fleet = Fleet::default();
        self.0.register_collector(Box::new(fleet.clone()));
        fleet
    }

    fn totals(&mut self, name: &str, help: &str, label: &'static str) -> Totals {
        Totals { label, family: self.add(name, help, Family::default()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads the text format as a scraper does: every sample belongs to the family declared before it.
    fn samples(page: &str) -> Vec<(String, f64)> {
        let (mut family, mut kind) = ("", "");
        let mut samples = Vec::new();
        for line in page.lines() {
            if let Some(declared) = line.strip_prefix("# TYPE ") {
                (family, kind) = declared.split_once(' ').unwrap();
                assert!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
                assert_eq!(kind == "counter", family.ends_with("_total"), "{line}");
                assert!(family.starts_with("sfdata_hub_"), "{line}");
            } else if !line.starts_with("# HELP ") {
                let (sample, value) = line.rsplit_once(' ').unwrap();
                let name = sample.split('{').next().unwrap();
                let suffix = name.strip_prefix(family).unwrap_or_else(|| panic!("{line} is not of {family}"));
                let suffixes: &[&str] = if kind == "histogram" { &["_bucket", "_sum", "_count"] } else { &[""] };
                assert!(suffixes.contains(&suffix), "{line}");
                samples.push((sample.to_owned(), value.parse().unwrap()));
            }
        }
        samples
    }

    #[test]
    fn the_page_is_prometheus_text() {
        let metrics = Metrics::default();
        metrics.clone().commands_submitted.inc("ecs.restart");
        metrics.agents_connected.set(3);
        metrics.store_commit_seconds.observe(0.004);
        metrics.ended(&Outcome::Refused { reason: RefusalReason::Held, detail: "d".into() });
        metrics.fleet.saw(Seen {
            words: [("ely".to_owned(), "asleep".to_owned())].into(),
            conditions: [(("ely".to_owned(), "run-failed".to_owned()), 2), ((String::new(), "disk-low".to_owned()), 1)]
                .into(),
            currency: "USD".into(),
            costs: [("ely".to_owned(), Cost { so_far: 1.5, forecast: 3.0, budget: None })].into(),
        });
        let samples = samples(&metrics.text());
        let has = |name: &str, value: f64| {
            let found = samples.iter().find(|(sample, _)| sample == name).unwrap_or_else(|| panic!("no {name}"));
            assert_eq!(found.1, value, "{name}");
        };
        has("sfdata_hub_commands_submitted_total{action=\"ecs.restart\"}", 1.0);
        has("sfdata_hub_agents_connected", 3.0);
        has("sfdata_hub_outcomes_total{outcome=\"refused\"}", 1.0);
        has("sfdata_hub_outcomes_total{outcome=\"expired\"}", 0.0);
        has("sfdata_hub_refusals_total{reason=\"held\"}", 1.0);
        has("sfdata_hub_refusals_total{reason=\"journal\"}", 0.0);
        has("sfdata_hub_failures_total{code=\"internal\"}", 0.0);
        has("sfdata_hub_store_commit_seconds_bucket{le=\"0.005\"}", 1.0);
        has("sfdata_hub_store_commit_seconds_bucket{le=\"0.002\"}", 0.0);
        has("sfdata_hub_agent_health{agent=\"ely\",word=\"asleep\"}", 1.0);
        has("sfdata_hub_alert_conditions{agent=\"ely\",rule=\"run-failed\"}", 2.0);
        has("sfdata_hub_alert_conditions{agent=\"\",rule=\"disk-low\"}", 1.0);
        has("sfdata_hub_agent_month_cost_forecast{agent=\"ely\",currency=\"USD\"}", 3.0);
        assert!(!samples.iter().any(|(sample, _)| sample.starts_with("sfdata_hub_agent_month_cost_budget")));
    }

    #[test]
    fn what_rules_and_dashboard_read_is_there() {
        let metrics = Metrics::default();
        // Of these nothing is written before the first.
        metrics.commands_denied.inc("away");
        metrics.load_shed.inc("streams");
        let page = metrics.text();
        let read = [include_str!("../../deploy/prometheus/rules.yml"), include_str!("../../deploy/grafana/fleet.json")];
        for file in read {
            let names = file.split("sfdata_hub_").skip(1);
            let names = names.map(|rest| rest.split(|c: char| !c.is_ascii_lowercase() && c != '_').next().unwrap());
            let mut count = 0;
            for name in names {
                let family = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end));
                let declared = format!("\n# TYPE sfdata_hub_{} ", family.unwrap_or(name));
                assert!(page.contains(&declared), "there is no sfdata_hub_{name}");
                count += 1;
            }
            assert!(count > 10, "{count}");
        }
    }
}
