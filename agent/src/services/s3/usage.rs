//! How many objects the buckets hold, how large and how old they are, and what the last days have brought.
//!
//! Names of objects are read here and told nowhere; of their prefixes the first level is, where that was asked for.
//! A listing costs one request for each thousand objects, so it is done when asked for and never by the reporter.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use aws_sdk_s3::types::Object;
use futures::future::join_all;
use sfdata_common::{Timestamp, command::Bucket};
use sfdata_proto::v1::{self as wire, action_result::Kind};
use tokio::time::Instant;

use super::{S3, tally::Tally};
use crate::{
    execute::Job,
    services::{Error, aws::failure},
};

/// Progress is told no more often: an operator watches it, and a page takes far less.
const TELL: Duration = Duration::from_secs(1);

impl S3 {
    /// Count all buckets side by side. Each is counted to its end, so that one denied bucket is told together
    /// with any other, and not one at a time.
    pub(super) async fn usage(&self, by_prefix: bool, job: &Job) -> Result<Kind, Error> {
        let meant = self.meant(None)?;
        let now = Timestamp::now().as_millisecond();
        let count = Count::new(job, &meant);
        let each = meant.iter().enumerate().map(|(at, (role, bucket))| {
            let tally = Tally::new(by_prefix, now);
            self.count(at, *role, bucket, tally, &count)
        });
        let counted = join_all(each).await;
        let (buckets, errors): (Vec<_>, Vec<_>) = counted.into_iter().partition(Result::is_ok);
        match errors.into_iter().filter_map(Result::err).reduce(Error::and) {
            Some(error) => Err(error),
            None => {
                let buckets = buckets.into_iter().flatten().collect();
                let usage = Kind::S3Usage(wire::S3UsageResult { buckets, by_prefix });
                if by_prefix { job.reveal(usage) } else { Ok(usage) }
            }
        }
    }

    async fn count(
        &self,
        at: usize,
        role: Bucket,
        bucket: &str,
        mut tally: Tally,
        count: &Count<'_>,
    ) -> Result<wire::BucketUsage, Error> {
        let owner = self.owner().await?;
        let mut pages =
            self.client.list_objects_v2().bucket(bucket).expected_bucket_owner(owner).into_paginator().send();
        loop {
            let page = tokio::select! {
                biased;
                () = count.job.cancelled().cancelled() => {
                    return Err(Error::cancelled(format!("{role}: {} objects were counted", tally.objects())));
                }
                page = pages.next() => page,
            };
            let Some(page) = page else { return Ok(tally.end(role.to_string(), bucket.to_owned())) };
            let page = page.map_err(|e| failure(format_args!("list bucket {bucket} ({role})"), "s3:ListBucket", e))?;
            for object in page.contents() {
                let written = object.last_modified().and_then(|at| at.to_millis().ok()).unwrap_or_default();
                tally.add(object.key().unwrap_or_default(), size(object), written);
            }
            count.tell(at, tally.objects());
        }
    }
}

/// How far the buckets are, as one line for whoever watches.
struct Count<'a> {
    job: &'a Job,
    seen: Mutex<Seen>,
}

struct Seen {
    objects: Vec<(Bucket, u64)>,
    told: Instant,
}

impl<'a> Count<'a> {
    fn new(job: &'a Job, buckets: &[(Bucket, &str)]) -> Self {
        let objects = buckets.iter().map(|(role, _)| (*role, 0)).collect();
        Self { job, seen: Mutex::new(Seen { objects, told: Instant::now() }) }
    }

    fn tell(&self, at: usize, objects: u64) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, counted)) = seen.objects.get_mut(at) {
            *counted = objects;
        }
        if seen.told.elapsed() >= TELL {
            seen.told = Instant::now();
            let line: Vec<_> = seen.objects.iter().map(|(role, objects)| format!("{role} {objects}")).collect();
            self.job.progress(format!("objects counted: {}", line.join(", ")), None);
        }
    }
}

fn size(object: &Object) -> u64 {
    object.size().and_then(|size| u64::try_from(size).ok()).unwrap_or_default()
}
