//! How many objects the buckets hold, and how large they are.
//!
//! A listing costs one request for each thousand objects, so it is done when asked for and never by the reporter.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use aws_sdk_s3::types::Object;
use futures::future::join_all;
use sfdata_common::command::Bucket;
use sfdata_proto::v1::{self as wire, action_result::Kind};
use tokio::time::Instant;

use super::{S3, joined};
use crate::{
    execute::Job,
    services::{Error, aws::failure},
};

/// Progress is told no more often: an operator watches it, and a page takes far less.
const TELL: Duration = Duration::from_secs(1);

impl S3 {
    /// Count all buckets side by side. Each is counted to its end, so that one denied bucket is told together
    /// with any other, and not one at a time.
    pub(super) async fn usage(&self, job: &Job) -> Result<Kind, Error> {
        let meant = self.meant(None)?;
        let count = Count::new(job, &meant);
        let each = meant.iter().enumerate().map(|(at, (role, bucket))| self.count(at, *role, bucket, &count));
        let counted = join_all(each).await;
        let (buckets, errors): (Vec<_>, Vec<_>) = counted.into_iter().partition(Result::is_ok);
        match joined(errors.into_iter().filter_map(Result::err)) {
            Some(error) => Err(error),
            None => Ok(Kind::S3Usage(wire::S3UsageResult { buckets: buckets.into_iter().flatten().collect() })),
        }
    }

    async fn count(
        &self,
        at: usize,
        role: Bucket,
        bucket: &str,
        count: &Count<'_>,
    ) -> Result<wire::BucketUsage, Error> {
        let owner = self.owner().await?;
        let mut usage = wire::BucketUsage { role: role.to_string(), bucket: bucket.into(), objects: 0, size_bytes: 0 };
        let mut pages =
            self.client.list_objects_v2().bucket(bucket).expected_bucket_owner(owner).into_paginator().send();
        loop {
            let page = tokio::select! {
                biased;
                () = count.job.cancelled().cancelled() => {
                    return Err(Error::cancelled(format!("{role}: {} objects were counted", usage.objects)));
                }
                page = pages.next() => page,
            };
            let Some(page) = page else { return Ok(usage) };
            let page = page.map_err(|e| failure(format_args!("list bucket {bucket} ({role})"), "s3:ListBucket", e))?;
            usage.objects += page.contents().len() as u64;
            usage.size_bytes += page.contents().iter().map(size).sum::<u64>();
            count.tell(at, usage.objects);
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
