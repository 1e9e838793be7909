//! What Prometheus reads of the hub, as cheap handles that every module holds.
//!
//! Labels come from fixed sets: their number is bounded.

mod fleet;
mod kept;

use prometheus_client::metrics::{
    gauge::Gauge,
    histogram::{Histogram, exponential_buckets},
};
use sfdata_common::{
    metrics::{Builder, Page, Total, Totals},
    outcome::{self, Outcome},
};

pub use self::{
    fleet::{Cost, Fleet, Seen},
    kept::Kept,
};
use crate::server;

/// All metrics of the hub.
#[derive(Debug, Clone)]
pub struct Metrics {
    page: Page,
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
    /// What the store keeps.
    pub kept: Kept,
    /// Seconds from the first write of a batch to its being durable.
    pub store_commit_seconds: Histogram,
    /// Operations in one durable batch.
    pub store_batch_operations: Histogram,
    /// Tries to have KMS sign a dispatch, by `result`.
    pub kms_signatures: Totals,
    /// Seconds that each took.
    pub kms_seconds: Histogram,
    /// 1 while dispatches can't be signed.
    pub signer_failing: Gauge,
    /// 1 while the backups that the hub takes by itself can't be taken.
    pub backup_failing: Gauge,
    /// Unix time at which the issuing CA ends.
    pub ca_expires: Gauge,
    /// Unix time at which the hub's own leaf ends.
    pub certificate_expires: Gauge,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut new = Builder::new("sfdata_hub", env!("CARGO_PKG_VERSION"));
        Self {
            agents_connected: new.gauge("agents_connected", "Agents with an open session"),
            connections: new.gauge("connections", "Open TLS connections on both gRPC listeners"),
            handshakes_failed: new
                .totals("handshakes_failed_total", "Handshakes that led to no connection", "reason")
                .starting_with(server::REFUSALS),
            enrolments: new.totals("enrolments_total", "Tries to join", "result"),
            sessions_opened: new.total("sessions_opened_total", "Sessions opened by agents"),
            sessions_fenced: new.total("sessions_fenced_total", "Sessions ended by a newer one of the same agent"),
            commands_submitted: new.totals("commands_submitted_total", "Commands taken", "action"),
            commands_denied: new.totals("commands_denied_total", "Commands not taken", "reason"),
            queue_depth: new.gauge("queue_depth", "Commands that have not ended, counted once for each agent"),
            outcomes: new
                .totals("outcomes_total", "Commands ended at one agent", "outcome")
                .starting_with(outcome::NAMES),
            failures: new
                .totals("failures_total", "Commands that failed at one agent", "code")
                .starting_with(outcome::failure_names()),
            refusals: new
                .totals("refusals_total", "Commands that one agent refused", "reason")
                .starting_with(outcome::refusal_names()),
            illegal_transitions: new.total("illegal_transitions_total", "Events against a command's lifecycle"),
            load_shed: new.totals("load_shed_total", "Requests turned away for want of room", "what"),
            fleet: new.collector(Fleet::default()),
            alerts_firing: new.gauge("alerts_firing", "Alerts that fire, silenced ones among them"),
            notices: new.totals("notices_total", "Tries to deliver a notice of alerts", "result").starting_with([
                "delivered",
                "failed",
                "given-up",
            ]),
            usage_records: new
                .total("usage_records_total", "Records of usage told by agents, repeated ones among them"),
            usage_refused: new
                .totals("usage_refused_total", "Records of usage that were not taken", "reason")
                .starting_with(["malformed", "time", "too-many"]),
            audit_entries: new.total("audit_entries_total", "Entries written to the audit log"),
            kept: new.collector(Kept::default()),
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
            kms_signatures: new
                .totals("kms_signatures_total", "Tries to have KMS sign a dispatch", "result")
                .starting_with(["ok", "failed", "wrong"]),
            kms_seconds: new.add(
                "kms_sign_seconds",
                "Time until KMS had signed, its retries among it",
                Histogram::new([0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0]),
            ),
            signer_failing: new.gauge("signer_failing", "1 while dispatches cannot be signed"),
            backup_failing: new.gauge("backup_failing", "1 while the hub's own backups cannot be taken"),
            ca_expires: new.gauge("ca_expiry_timestamp_seconds", "When the issuing CA ends"),
            certificate_expires: new.gauge("certificate_expiry_timestamp_seconds", "When the hub's own leaf ends"),
            page: new.page(),
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

    /// What Prometheus reads.
    pub fn page(&self) -> Page {
        self.page.clone()
    }
}

#[cfg(test)]
mod tests {
    use sfdata_common::outcome::RefusalReason;

    use super::*;

    #[test]
    fn what_was_counted_is_on_the_page() {
        let metrics = Metrics::default();
        metrics.clone().commands_submitted.inc("ecs.restart");
        metrics.agents_connected.set(3);
        metrics.store_commit_seconds.observe(0.004);
        metrics.ended(&Outcome::Refused { reason: RefusalReason::Held, detail: "d".into() });
        metrics.kept.changed(b"c/0", None, Some(7));
        metrics.kept.changed(b"c/1", None, Some(7));
        metrics.kept.changed(b"c/1", Some(7), None);
        metrics.kept.oldest(0, 1_800_000_000);
        metrics.kept.disk(4096);
        metrics.fleet.saw(Seen {
            words: [("ely".to_owned(), "asleep".to_owned())].into(),
            conditions: [(("ely".to_owned(), "run-failed".to_owned()), 2), ((String::new(), "disk-low".to_owned()), 1)]
                .into(),
            currency: "USD".into(),
            costs: [("ely".to_owned(), Cost { so_far: 1.5, forecast: 3.0, budget: None })].into(),
        });
        let page = metrics.page().text();
        let has = |sample: &str, value: &str| {
            assert!(page.lines().any(|line| line == format!("{sample} {value}")), "no {sample} {value}\n{page}");
        };
        has("sfdata_hub_commands_submitted_total{action=\"ecs.restart\"}", "1");
        has("sfdata_hub_agents_connected", "3");
        has("sfdata_hub_outcomes_total{outcome=\"refused\"}", "1");
        has("sfdata_hub_outcomes_total{outcome=\"expired\"}", "0");
        has("sfdata_hub_refusals_total{reason=\"held\"}", "1");
        has("sfdata_hub_refusals_total{reason=\"journal\"}", "0");
        has("sfdata_hub_failures_total{code=\"internal\"}", "0");
        has("sfdata_hub_store_commit_seconds_bucket{le=\"0.005\"}", "1");
        has("sfdata_hub_store_commit_seconds_bucket{le=\"0.002\"}", "0");
        has("sfdata_hub_store_records{kind=\"commands\"}", "1");
        has("sfdata_hub_store_records{kind=\"audit\"}", "0");
        has("sfdata_hub_store_record_bytes{kind=\"commands\"}", "10");
        has("sfdata_hub_store_oldest_record_timestamp_seconds{kind=\"commands\"}", "1800000000");
        has("sfdata_hub_store_disk_bytes", "4096");
        has("sfdata_hub_agent_health{agent=\"ely\",word=\"asleep\"}", "1.0");
        has("sfdata_hub_alert_conditions{agent=\"ely\",rule=\"run-failed\"}", "2.0");
        has("sfdata_hub_alert_conditions{agent=\"\",rule=\"disk-low\"}", "1.0");
        has("sfdata_hub_agent_month_cost_forecast{agent=\"ely\",currency=\"USD\"}", "3.0");
        assert!(!page.contains("\nsfdata_hub_agent_month_cost_budget{"));
    }

    #[test]
    fn what_rules_and_dashboard_read_is_there() {
        let metrics = Metrics::default();
        // Of these nothing is written before the first.
        metrics.commands_denied.inc("away");
        metrics.load_shed.inc("streams");
        let page = metrics.page().text();
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
