//! What the database is doing, and why it does not pause: read only when its status is asked for.
//!
//! The numbers are CloudWatch's and some minutes old. Where they cannot be read the state is told all the same.

use std::time::{Duration, SystemTime};

use aws_sdk_cloudwatch::{
    primitives::DateTime,
    types::{Dimension, Metric, MetricDataQuery, MetricDataResult, MetricStat},
};
use aws_sdk_rds::types::{DbCluster, DbInstance};
use sfdata_proto::v1::{self as wire, AuroraPauseBlockerReason as Reason};

use super::{Aurora, of::Of};
use crate::services::{Error, aws::failure};

/// CloudWatch has a value a minute, which comes some minutes late.
const BACK: Duration = Duration::from_secs(600);
const PERIOD: i32 = 60;
const DIMENSION_OF_CLUSTER: &str = "DBClusterIdentifier";
const DIMENSION_OF_INSTANCE: &str = "DBInstanceIdentifier";
const CAPACITY: &str = "capacity";
const CONNECTIONS: &str = "connections";

/// What CloudWatch measured last.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Measured {
    acu: Option<f64>,
    connections: Option<u32>,
    at_unix_ms: i64,
}

impl Aurora {
    pub(super) async fn activity(&self, name: &str, cluster: &DbCluster) -> wire::AuroraActivity {
        let (measured, all) =
            tokio::join!(self.measured(DIMENSION_OF_CLUSTER, name), self.all_snapshots(Of::Cluster(name)));
        let mut errors = Vec::new();
        let measured = measured.unwrap_or_else(|error| {
            errors.push(error.health());
            Measured::default()
        });
        let all = all.unwrap_or_else(|error| {
            errors.push(error.health());
            Vec::new()
        });
        let taking = all.iter().any(|snapshot| snapshot.state.status == "creating");
        let last = all.into_iter().find(|snapshot| snapshot.state.status == "available");
        wire::AuroraActivity {
            current_acu: measured.acu,
            connections: measured.connections,
            measured_unix_ms: measured.at_unix_ms,
            error: errors.join("; "),
            latest_restorable_unix_ms: cluster.latest_restorable_time().and_then(|at| at.to_millis().ok()).unwrap_or(0),
            last_snapshot: last.map(|last| last.state),
            pause_blockers: blockers(cluster, measured, taking),
        }
    }

    /// The open connections of a plain instance; it has no capacity that changes.
    pub(super) async fn activity_of_instance(&self, name: &str, instance: &DbInstance) -> wire::AuroraActivity {
        let (measured, error) = match self.measured(DIMENSION_OF_INSTANCE, name).await {
            Ok(measured) => (measured, String::new()),
            Err(error) => (Measured::default(), error.health()),
        };
        wire::AuroraActivity {
            current_acu: None,
            connections: measured.connections,
            measured_unix_ms: measured.at_unix_ms,
            error,
            latest_restorable_unix_ms: instance
                .latest_restorable_time()
                .and_then(|at| at.to_millis().ok())
                .unwrap_or(0),
            last_snapshot: None,
            pause_blockers: vec![wire::AuroraPauseBlocker {
                reason: Reason::NotServerless.into(),
                detail: "a plain instance never pauses; hubctl aurora stop stops it".into(),
            }],
        }
    }

    async fn measured(&self, dimension: &str, name: &str) -> Result<Measured, Error> {
        let now = SystemTime::now();
        let query = |id: &str, metric: &str, stat: &str| {
            let dimension = Dimension::builder().name(dimension).value(name).build();
            let metric = Metric::builder().namespace("AWS/RDS").metric_name(metric).dimensions(dimension).build();
            let stat = MetricStat::builder().metric(metric).period(PERIOD).stat(stat).build();
            MetricDataQuery::builder().id(id).metric_stat(stat).build()
        };
        let call = self.metrics.get_metric_data().start_time((now - BACK).into()).end_time(now.into());
        let answer = call
            .metric_data_queries(query(CAPACITY, "ServerlessDatabaseCapacity", "Average"))
            // One value a minute from each instance: their sum over a minute is the cluster's.
            .metric_data_queries(query(CONNECTIONS, "DatabaseConnections", "Sum"))
            .send()
            .await
            .map_err(|e| {
                let tried = format_args!("read the load of {name} from CloudWatch");
                failure(tried, "cloudwatch:GetMetricData", e)
            })?;
        Ok(newest(answer.metric_data_results()))
    }
}

fn newest(results: &[MetricDataResult]) -> Measured {
    let of = |id: &str| -> Option<(DateTime, f64)> {
        let result = results.iter().find(|result| result.id() == Some(id))?;
        let all = result.timestamps().iter().zip(result.values());
        all.map(|(at, value)| (*at, *value)).max_by_key(|(at, _)| at.as_nanos())
    };
    let (capacity, connections) = (of(CAPACITY), of(CONNECTIONS));
    // The older of the two says how far to trust them.
    let at = [capacity, connections].into_iter().flatten().filter_map(|(at, _)| at.to_millis().ok()).min();
    Measured {
        acu: capacity.map(|(_, value)| value),
        connections: connections.map(|(_, value)| value.round() as u32),
        at_unix_ms: at.unwrap_or_default(),
    }
}

/// Everything that keeps the cluster from pausing ("Scaling to zero ACUs", Aurora user guide), as far as RDS and CloudWatch
/// show it; none when it may pause, or does.
fn blockers(cluster: &DbCluster, measured: Measured, taking_a_snapshot: bool) -> Vec<wire::AuroraPauseBlocker> {
    let mut found = Vec::new();
    let mut add = |reason: Reason, detail: String| {
        found.push(wire::AuroraPauseBlocker { reason: reason.into(), detail });
    };
    let Some(range) = cluster.serverless_v2_scaling_configuration() else {
        add(Reason::NotServerless, "its instances are provisioned and never pause; hubctl aurora stop stops it".into());
        return found;
    };
    let min = range.min_capacity().unwrap_or_default();
    if min > 0.0 {
        let text = format!("its minimum is {min} ACU; hubctl aurora set-capacity 0 MAX --pause-after lets it pause");
        add(Reason::MinimumAboveZero, text);
    }
    if let Some(connections) = measured.connections.filter(|connections| *connections > 0) {
        add(Reason::Connections, format!("{connections} connections are open; Dagster's daemon alone keeps some"));
    }
    let replicas = cluster.read_replica_identifiers().len();
    let source = cluster.replication_source_identifier().filter(|source| !source.is_empty());
    let global = cluster.global_cluster_identifier().filter(|global| !global.is_empty());
    if let Some(global) = global {
        add(Reason::Replication, format!("it belongs to the global database {global}"));
    } else if let Some(source) = source {
        add(Reason::Replication, format!("it replicates {source}"));
    } else if replicas > 0 {
        add(Reason::Replication, format!("{replicas} clusters replicate it"));
    }
    if taking_a_snapshot || cluster.status() == Some("backing-up") {
        add(Reason::Backup, "a backup is being taken".into());
    }
    found
}

#[cfg(test)]
mod tests {
    use aws_sdk_rds::types::{ServerlessV2ScalingConfigurationInfo, builders::DbClusterBuilder};

    use super::*;

    fn cluster(min: f64) -> DbClusterBuilder {
        let range = ServerlessV2ScalingConfigurationInfo::builder().min_capacity(min).max_capacity(4.0).build();
        DbCluster::builder().status("available").serverless_v2_scaling_configuration(range)
    }

    #[test]
    fn each_reason_is_found_and_none_made_up() {
        use Reason::{Backup, Connections, MinimumAboveZero, NotServerless, Replication};
        let idle = Measured { acu: Some(0.0), connections: Some(0), at_unix_ms: 1 };
        let busy = Measured { connections: Some(3), ..idle };
        let unknown = Measured::default();
        for (cluster, measured, snapshot, reasons) in [
            (cluster(0.0), idle, false, &[][..]),
            (cluster(0.0), unknown, false, &[]),
            (cluster(0.0), busy, false, &[Connections]),
            (cluster(0.5), idle, false, &[MinimumAboveZero]),
            (cluster(0.5), busy, true, &[MinimumAboveZero, Connections, Backup]),
            (cluster(0.0).status("backing-up"), idle, false, &[Backup]),
            (cluster(0.0).global_cluster_identifier("world"), idle, false, &[Replication]),
            (cluster(0.0).replication_source_identifier("arn:x"), idle, false, &[Replication]),
            (cluster(0.0).replication_source_identifier(""), idle, false, &[]),
            (cluster(0.0).read_replica_identifiers("arn:y"), idle, false, &[Replication]),
            (DbCluster::builder().status("available"), busy, true, &[NotServerless]),
        ] {
            let cluster = cluster.build();
            let found: Vec<Reason> = blockers(&cluster, measured, snapshot).iter().map(|one| one.reason()).collect();
            assert_eq!(found, reasons, "{cluster:?} {measured:?}");
        }
    }

    #[test]
    fn the_newest_value_counts_whatever_the_order() {
        let result = |id: &str, values: &[(i64, f64)]| {
            let mut result = MetricDataResult::builder().id(id);
            for (at, value) in values {
                result = result.timestamps(DateTime::from_secs(*at)).values(*value);
            }
            result.build()
        };
        let both = [result(CONNECTIONS, &[(60, 7.0), (120, 2.0)]), result(CAPACITY, &[(180, 1.5), (60, 0.5)])];
        assert_eq!(newest(&both), Measured { acu: Some(1.5), connections: Some(2), at_unix_ms: 120_000 });
        assert_eq!(newest(&[]), Measured::default());
    }
}
