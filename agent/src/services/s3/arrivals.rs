//! A listing of the data store for `arrivals`, page by page: the one place where names of objects leave this folder, for
//! the agent's own book and no further.

use super::S3;
use crate::services::{Error, aws::failure};

/// An object as a listing has it.
#[derive(Debug, Clone)]
pub struct Listed {
    /// Its key.
    pub key: String,
    /// Of its contents.
    pub etag: String,
    /// Its size.
    pub size: u64,
    /// In milliseconds; of a multipart upload, when it began.
    pub modified: i64,
}

impl S3 {
    /// A page of a bucket of this account, and where the next one begins.
    pub async fn listed(&self, bucket: &str, after: Option<String>) -> Result<(Vec<Listed>, Option<String>), Error> {
        let owner = self.owner().await?;
        let call = self.client.list_objects_v2().bucket(bucket).expected_bucket_owner(owner);
        let page = call.set_continuation_token(after).send().await;
        let page = page.map_err(|e| failure(format_args!("list bucket {bucket} (data-store)"), "s3:ListBucket", e))?;
        let one = |object: aws_sdk_s3::types::Object| {
            Some(Listed {
                etag: object.e_tag.unwrap_or_default(),
                size: object.size.and_then(|size| u64::try_from(size).ok()).unwrap_or_default(),
                modified: object.last_modified.and_then(|at| at.to_millis().ok()).unwrap_or_default(),
                key: object.key?,
            })
        };
        let next = page.next_continuation_token;
        Ok((page.contents.unwrap_or_default().into_iter().filter_map(one).collect(), next))
    }
}
