//! Which buckets have their requests counted by CloudWatch. That costs the LA money, so that nothing here switches it on.

use aws_sdk_s3::types::{MetricsConfiguration, MetricsFilter};
use sfdata_common::{command::Bucket, limits};

use super::S3;
use crate::services::{Error, aws::failure};

impl S3 {
    /// The filter by which CloudWatch counts all requests to a bucket, where it has one.
    pub async fn request_filter(&self, role: Bucket, bucket: &str) -> Result<Option<String>, Error> {
        let mut token = None;
        for _ in 0..limits::BUCKET_METRICS_PAGES {
            let call = self.client.list_bucket_metrics_configurations().bucket(bucket).set_continuation_token(token);
            let page = call.expected_bucket_owner(self.owner().await?).send().await.map_err(|e| {
                failure(
                    format_args!("read whether requests to bucket {bucket} ({role}) are counted"),
                    "s3:GetMetricsConfiguration",
                    e,
                )
            })?;
            let found = page.metrics_configuration_list().iter().find(|one| is_of_all(one));
            if let Some(found) = found {
                return Ok(Some(found.id().to_owned()));
            }
            token = page.next_continuation_token;
            if token.is_none() {
                break;
            }
        }
        Ok(None)
    }
}

/// Filters for a part of the bucket may overlap, and leave out the rest.
fn is_of_all(configuration: &MetricsConfiguration) -> bool {
    match configuration.filter() {
        None => true,
        Some(MetricsFilter::Prefix(prefix)) => prefix.is_empty(),
        Some(_) => false,
    }
}
