//! What CloudWatch has measured of the platform: the database's capacity, what the buckets hold, the requests to them and the
//! bytes that log groups take in. One call for all of it, since each metric that is asked for costs.

use aws_sdk_cloudwatch::{
    Client,
    primitives::DateTime,
    types::{Dimension, Metric, MetricDataQuery, MetricDataResult, MetricStat},
};
use futures::future::join_all;
use jiff::Timestamp;
use sfdata_common::{
    command::Bucket,
    limits,
    outcome::FailureCode,
    usage::{Component, Hour},
};
use tokio::time::timeout;
use tracing::warn;

use super::{
    Error, aws,
    aws::{client, failure},
    s3::S3,
};
use crate::config::{Buckets, Platform};

/// Of the database's capacity, in seconds.
pub const CAPACITY_PERIOD: i64 = 300;
/// S3 tells what a bucket holds once a day.
const DAY: i64 = 24 * 3600;
/// It comes a day late, and is put right later; the rest comes within the hour.
const DAYS_BACK: i64 = 3;

/// One value that was measured from then on for a period.
pub type Point = (i64, f64);

/// What was measured.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Measured {
    /// ACU, on average over [`CAPACITY_PERIOD`].
    pub capacity: Vec<Point>,
    /// Bytes of each bucket, on average over a day in UTC.
    pub stored: Vec<(Component, Vec<Point>)>,
    /// Requests to each bucket that has them counted, in an hour.
    pub requests: Vec<(Component, Vec<Point>)>,
    /// Bytes that each log group took in, in an hour.
    pub logs: Vec<Vec<Point>>,
}

/// Reads them. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Metered {
    client: Client,
    s3: S3,
    cluster: Option<String>,
    buckets: Buckets,
}

impl Metered {
    pub(super) fn new(aws: &aws::Aws, s3: &S3, platform: &Platform) -> Self {
        Self {
            client: client!(aws, aws_sdk_cloudwatch),
            s3: s3.clone(),
            cluster: platform.aurora_cluster.clone(),
            buckets: platform.buckets.clone(),
        }
    }

    /// What was measured in the last days, of these log groups among it.
    pub async fn read(&self, log_groups: &[String]) -> Result<Measured, Error> {
        let mut asked = Asked::default();
        if let Some(cluster) = &self.cluster {
            let metric = metric("AWS/RDS", "ServerlessDatabaseCapacity", &[("DBClusterIdentifier", cluster)]);
            asked.add(Part::Capacity, metric, CAPACITY_PERIOD, "Average");
        }
        let buckets = Bucket::ALL.into_iter().filter_map(|role| Some((role, self.buckets.of(role)?)));
        let filters =
            buckets.map(|(role, bucket)| async move { (role, bucket, self.s3.request_filter(role, bucket).await) });
        for (role, bucket, filter) in join_all(filters).await {
            let dimensions = [("BucketName", bucket), ("StorageType", "StandardStorage")];
            let of = component(role);
            asked.add(Part::Stored(of), metric("AWS/S3", "BucketSizeBytes", &dimensions), DAY, "Average");
            match filter {
                Ok(Some(filter)) => {
                    let dimensions = [("BucketName", bucket), ("FilterId", &filter)];
                    let metric = metric("AWS/S3", "AllRequests", &dimensions);
                    asked.add(Part::Requests(of), metric, Hour::SECONDS, "Sum");
                }
                Ok(None) => {}
                Err(error) => warn!(%error, "requests to that bucket are not metered; the rest is"),
            }
        }
        for group in log_groups {
            let metric = metric("AWS/Logs", "IncomingBytes", &[("LogGroupName", group)]);
            asked.add(Part::Logs, metric, Hour::SECONDS, "Sum");
        }
        asked.of(&self.client).await
    }
}

/// What a query is of.
#[derive(Debug, Clone, Copy)]
enum Part {
    Capacity,
    Stored(Component),
    Requests(Component),
    Logs,
}

/// Queries, each with an id that has its place in it.
#[derive(Debug, Default)]
struct Asked(Vec<(Part, MetricDataQuery)>);

impl Asked {
    fn add(&mut self, part: Part, metric: Metric, period: i64, stat: &str) {
        let id = id(self.0.len());
        let period = i32::try_from(period).unwrap_or(i32::MAX);
        let stat = MetricStat::builder().metric(metric).period(period).stat(stat).build();
        let query = MetricDataQuery::builder().id(id).metric_stat(stat).build();
        self.0.push((part, query));
    }

    async fn of(self, client: &Client) -> Result<Measured, Error> {
        if self.0.is_empty() {
            return Ok(Measured::default());
        }
        let now = Timestamp::now().as_second();
        let (parts, queries): (Vec<_>, Vec<_>) = self.0.into_iter().unzip();
        let call = client.get_metric_data().start_time(DateTime::from_secs(begin(now)));
        let call = call.end_time(DateTime::from_secs(now)).set_metric_data_queries(Some(queries));
        let mut pages = call.into_paginator().send();
        let read = async {
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
        let mut measured = Measured::default();
        for (place, part) in parts.into_iter().enumerate() {
            let points = points(&results, &id(place));
            match part {
                Part::Capacity => measured.capacity = points,
                Part::Stored(component) => measured.stored.push((component, points)),
                Part::Requests(component) => measured.requests.push((component, points)),
                Part::Logs => measured.logs.push(points),
            }
        }
        Ok(measured)
    }
}

/// At the beginning of a day: else CloudWatch would count hours and days from any minute on.
fn begin(now: i64) -> i64 {
    (now.div_euclid(DAY) - DAYS_BACK) * DAY
}

fn id(place: usize) -> String {
    format!("q{place}")
}

fn component(role: Bucket) -> Component {
    match role {
        Bucket::DataStore => Component::DataStore,
        Bucket::Workspace => Component::Workspace,
        Bucket::Shared => Component::Shared,
        Bucket::Backup => Component::Backup,
    }
}

fn metric(namespace: &str, name: &str, dimensions: &[(&str, &str)]) -> Metric {
    let dimensions = dimensions.iter().map(|(name, value)| Dimension::builder().name(*name).value(*value).build());
    Metric::builder().namespace(namespace).metric_name(name).set_dimensions(Some(dimensions.collect())).build()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_begins_with_a_day() {
        assert_eq!(begin(20_758 * 86_400 + 43_217), 20_755 * 86_400);
        assert_eq!(begin(20_758 * 86_400), 20_755 * 86_400);
    }
}
