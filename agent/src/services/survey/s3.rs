//! Buckets of the region and their tags; no object is looked at.

use std::collections::BTreeMap;

use aws_sdk_s3::error::{ProvideErrorMetadata as _, SdkError};
use sfdata_common::limits;

use super::{Survey, bounded, not_read};
use crate::{
    discover::Bucket,
    services::{Error, aws::failure},
};

impl Survey {
    pub(super) async fn buckets_with_tags(&self, unread: &mut Vec<String>) -> Vec<Bucket> {
        let names = self.buckets().await.unwrap_or_else(|error| not_read(unread, &error));
        let (mut buckets, mut denied) = (Vec::new(), 0_usize);
        for name in bounded(names, "buckets", unread) {
            let tags = match self.tags(&name).await {
                Ok(tags) => tags,
                // Often none may be read: one is told as it is, the others are counted.
                Err(error) => {
                    denied += 1;
                    if denied == 1 { not_read(unread, &error) } else { BTreeMap::new() }
                }
            };
            buckets.push(Bucket { name, tags });
        }
        if denied > 1 {
            unread.push(format!("the tags of {} more buckets could not be read either", denied - 1));
        }
        buckets
    }

    /// Names of the account's buckets in the region.
    pub(in crate::services) async fn buckets(&self) -> Result<Vec<String>, Error> {
        let region = self.region();
        let call = self.s3.list_buckets().bucket_region(&region).max_buckets(1000);
        let mut pages = call.into_paginator().items().send();
        let mut names = Vec::new();
        while let Some(bucket) = pages.next().await {
            let bucket = bucket.map_err(|e| failure("list the buckets", "s3:ListAllMyBuckets", e))?;
            if bucket.bucket_region().is_none_or(|of| of == region) {
                names.extend(bucket.name);
            }
            if names.len() > limits::DISCOVER_MOST {
                break;
            }
        }
        names.sort();
        Ok(names)
    }

    /// An error unless the bucket exists and may be listed.
    pub(in crate::services) async fn look_at_bucket(&self, name: &str) -> Result<(), Error> {
        let answer = self.s3.head_bucket().bucket(name).send().await;
        answer.map(|_| ()).map_err(|e| failure(format_args!("look at bucket {name}"), "s3:ListBucket", e))
    }

    async fn tags(&self, bucket: &str) -> Result<BTreeMap<String, String>, Error> {
        match self.s3.get_bucket_tagging().bucket(bucket).send().await {
            Ok(answer) => Ok(answer.tag_set.into_iter().map(|tag| (tag.key, tag.value)).collect()),
            Err(SdkError::ServiceError(error)) if error.err().code() == Some("NoSuchTagSet") => Ok(BTreeMap::new()),
            Err(error) => Err(failure(format_args!("read the tags of bucket {bucket}"), "s3:GetBucketTagging", error)),
        }
    }
}
