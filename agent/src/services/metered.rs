//! What CloudWatch has measured of the platform: the database's capacity, and what the buckets hold. One call for all of it,
//! since each metric that is asked for costs.

use std::time::{Duration, SystemTime};

use aws_sdk_cloudwatch::{
    Client,
    types::{Dimension, Metric, MetricDataQuery, MetricDataResult, MetricStat},
};
use sfdata_common::{limits, usage::Component};
use tokio::time::timeout;

use super::{
    Error, aws,
    aws::{client, failure},
};
use crate::config::{Buckets, Platform};
use sfdata_common::outcome::FailureCode;

/// Of the database's capacity, in seconds.
pub const CAPACITY_PERIOD: i64 = 300;
/// S3 tells what a bucket holds once a day.
const DAY: i64 = 24 * 3600;
/// It comes a day late, and is put right later.
const DAYS_BACK: u64 = 3;

/// One value that was measured from then on for a period.
pub type Point = (i64, f64);

/// What was measured.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Measured {
    /// ACU, on average over [`CAPACITY_PERIOD`].
    pub capacity: Vec<Point>,
    /// Bytes of each bucket, on average over a day in UTC.
    pub stored: Vec<(Component, Vec<Point>)>,
}

/// Reads them. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Metered {
    client: Client,
    cluster: Option<String>,
    buckets: Buckets,
}

impl Metered {
    pub(super) fn new(aws: &aws::Aws, platform: &Platform) -> Self {
        Self {
            client: client!(aws, aws_sdk_cloudwatch),
            cluster: platform.aurora_cluster.clone(),
            buckets: platform.buckets.clone(),
        }
    }

    /// What was measured: capacity for so long, stored bytes for some days.
    pub async fn read(&self, back: Duration) -> Result<Measured, Error> {
        let buckets = [
            (Component::DataStore, &self.buckets.data_store),
            (Component::Workspace, &self.buckets.workspace),
            (Component::Shared, &self.buckets.shared),
            (Component::Backup, &self.buckets.backup),
        ];
        let mut queries = Vec::new();
        if let Some(cluster) = &self.cluster {
            let metric = metric("AWS/RDS", "ServerlessDatabaseCapacity", &[("DBClusterIdentifier", cluster)]);
            queries.push(query("capacity", metric, CAPACITY_PERIOD));
        }
        let stored: Vec<(Component, &String)> =
            buckets.into_iter().filter_map(|(component, name)| Some((component, name.as_ref()?))).collect();
        for (number, (_, bucket)) in stored.iter().enumerate() {
            let dimensions = [("BucketName", bucket.as_str()), ("StorageType", "StandardStorage")];
            queries.push(query(&format!("stored{number}"), metric("AWS/S3", "BucketSizeBytes", &dimensions), DAY));
        }
        if queries.is_empty() {
            return Ok(Measured::default());
        }
        let now = SystemTime::now();
        let from = now - back.max(Duration::from_secs(DAYS_BACK * 24 * 3600));
        let call = self.client.get_metric_data().start_time(from.into()).end_time(now.into());
        let pages = call.set_metric_data_queries(Some(queries)).into_paginator().send();
        let read = async {
            let mut pages = pages;
            let mut results = Vec::new();
            while let Some(page) = pages.next().await {
                let page =
                    page.map_err(|e| failure("read what was used from CloudWatch", "cloudwatch:GetMetricData", e))?;
                results.extend(page.metric_data_results.unwrap_or_default());
            }
            Ok(results)
        };
        let late = || Error::failed(FailureCode::Unavailable, "CloudWatch did not tell in time what was used");
        let results = timeout(limits::AWS_CALL, read).await.unwrap_or_else(|_| Err(late()))?;
        let stored = stored
            .iter()
            .enumerate()
            .map(|(number, (component, _))| (*component, points(&results, &format!("stored{number}"))));
        Ok(Measured { stored: stored.collect(), capacity: points(&results, "capacity") })
    }
}

fn metric(namespace: &str, name: &str, dimensions: &[(&str, &str)]) -> Metric {
    let dimensions = dimensions.iter().map(|(name, value)| Dimension::builder().name(*name).value(*value).build());
    Metric::builder().namespace(namespace).metric_name(name).set_dimensions(Some(dimensions.collect())).build()
}

fn query(id: &str, metric: Metric, period: i64) -> MetricDataQuery {
    let period = i32::try_from(period).unwrap_or(i32::MAX);
    let stat = MetricStat::builder().metric(metric).period(period).stat("Average").build();
    MetricDataQuery::builder().id(id).metric_stat(stat).build()
}

fn points(results: &[MetricDataResult], id: &str) -> Vec<Point> {
    let of = results.iter().filter(|result| result.id() == Some(id));
    let mut points: Vec<Point> = of
        .flat_map(|result| result.timestamps().iter().map(|at| at.secs()).zip(result.values().iter().copied()))
        .filter(|(_, value)| value.is_finite() && *value >= 0.0)
        .collect();
    points.sort_by_key(|(at, _)| *at);
    points.dedup_by_key(|(at, _)| *at);
    points
}
