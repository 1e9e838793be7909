//! The buckets of the platform: how many objects they hold, and how large they are.
//!
//! Names of objects never leave this file: they may name a child's record. A listing costs one request for
//! each thousand objects, so it is done when asked for and never by the reporter.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use aws_sdk_s3::{Client, config::Builder, types::Object};
use futures::future::join_all;
use sfdata_common::{command, outcome::FailureCode};
use sfdata_proto::v1::{self as wire, action_result::Kind};
use tokio::time::Instant;

use super::{
    Error,
    aws::{Aws, failure},
};
use crate::{
    config::{Buckets, Platform},
    execute::Job,
};

/// Progress is told no more often: an operator watches it, and a page takes far less.
const TELL: Duration = Duration::from_secs(1);

/// The platform's buckets.
#[derive(Debug, Clone)]
pub struct S3 {
    client: Client,
    buckets: Buckets,
}

impl S3 {
    pub(super) fn new(aws: &Aws, platform: &Platform) -> Self {
        Self { client: client(aws), buckets: platform.buckets.clone() }
    }

    /// Do what was ordered.
    pub async fn execute(&self, action: &command::S3, job: &Job) -> Result<Kind, Error> {
        match action {
            command::S3::Usage => self.usage(job).await,
        }
    }

    /// Count all buckets side by side. Each is counted to its end, so that one denied bucket is told together
    /// with any other, and not one at a time.
    async fn usage(&self, job: &Job) -> Result<Kind, Error> {
        let count = Count::new(job, self.buckets.named());
        let each = self.buckets.named().enumerate().map(|(at, (role, bucket))| self.count(at, role, bucket, &count));
        let counted = join_all(each).await;
        if counted.is_empty() {
            let text = "this agent has no buckets; name them under [platform.buckets] in its configuration";
            return Err(Error::failed(FailureCode::NotFound, text));
        }
        let (buckets, errors): (Vec<_>, Vec<_>) = counted.into_iter().partition(Result::is_ok);
        match joined(errors.into_iter().filter_map(Result::err)) {
            Some(error) => Err(error),
            None => Ok(Kind::S3Usage(wire::S3UsageResult { buckets: buckets.into_iter().flatten().collect() })),
        }
    }

    async fn count(&self, at: usize, role: &str, bucket: &str, count: &Count<'_>) -> Result<wire::BucketUsage, Error> {
        let mut usage = wire::BucketUsage { role: role.into(), bucket: bucket.into(), objects: 0, size_bytes: 0 };
        let mut pages = self.client.list_objects_v2().bucket(bucket).into_paginator().send();
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

pub(super) fn client(aws: &Aws) -> Client {
    Client::from_conf(Builder::from(aws.config()).force_path_style(aws.is_stand_in()).build())
}

/// How far the buckets are, as one line for whoever watches.
struct Count<'a> {
    job: &'a Job,
    seen: Mutex<Seen>,
}

struct Seen {
    objects: Vec<(&'static str, u64)>,
    told: Instant,
}

impl<'a> Count<'a> {
    fn new<'b>(job: &'a Job, buckets: impl Iterator<Item = (&'static str, &'b str)>) -> Self {
        let objects = buckets.map(|(role, _)| (role, 0)).collect();
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

/// All errors as one: a cancellation is one whatever else went wrong, otherwise the first gives the code.
fn joined(errors: impl Iterator<Item = Error>) -> Option<Error> {
    errors.reduce(|all, next| match (all, next) {
        (Error::Failed { code, message }, Error::Failed { message: next, .. }) => {
            Error::Failed { code, message: format!("{message}. And: {next}") }
        }
        (Error::Cancelled { detail }, Error::Cancelled { detail: next }) => {
            Error::Cancelled { detail: format!("{detail}; {next}") }
        }
        (Error::Failed { message: failed, .. }, Error::Cancelled { detail })
        | (Error::Cancelled { detail }, Error::Failed { message: failed, .. }) => {
            Error::Cancelled { detail: format!("{detail}. And: {failed}") }
        }
    })
}

fn size(object: &Object) -> u64 {
    object.size().and_then(|size| u64::try_from(size).ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_that_is_wrong_with_the_buckets_is_told_at_once() {
        let denied = Error::failed(FailureCode::AccessDenied, "cannot list a");
        let missing = Error::failed(FailureCode::NotFound, "cannot list b");
        let both = joined([denied.clone(), missing].into_iter());
        assert_eq!(both, Some(Error::failed(FailureCode::AccessDenied, "cannot list a. And: cannot list b")));
        let cancelled = Error::cancelled("shared: 7 objects were counted");
        assert!(matches!(joined([denied, cancelled].into_iter()), Some(Error::Cancelled { .. })));
        assert_eq!(joined(std::iter::empty()), None);
    }
}
