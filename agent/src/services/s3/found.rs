//! How a bucket is: everything that `desired` has a word on, each read by itself.
//!
//! What S3 does not let the agent read is an error in its place. That there is none of something is an answer of S3, and
//! is never concluded from a refusal.

use std::{error::Error as StdError, fmt};

use aws_sdk_s3::{
    error::{ProvideErrorMetadata, SdkError},
    operation::{
        get_bucket_lifecycle_configuration::GetBucketLifecycleConfigurationOutput,
        get_bucket_notification_configuration::GetBucketNotificationConfigurationOutput,
    },
    types::{LifecycleRule, LoggingEnabled, ReplicationConfiguration, ServerSideEncryptionRule},
};
use sfdata_common::{command::Bucket, outcome::FailureCode};

use super::{S3, document::Document};
use crate::services::{Error, aws::failure};

/// A bucket and its settings.
#[derive(Debug, Clone)]
pub(super) struct Found {
    pub(super) exists: bool,
    /// In the order of `desired::PUBLIC_ACCESS`.
    pub(super) public_access: Result<[bool; 4], Error>,
    pub(super) encryption: Result<Option<Encryption>, Error>,
    /// Empty where there is none.
    pub(super) ownership: Result<String, Error>,
    pub(super) policy: Result<Document, Error>,
    /// Empty where it never had any.
    pub(super) versioning: Result<String, Error>,
    pub(super) lifecycle: Result<Vec<LifecycleRule>, Error>,
    pub(super) logging: Result<Option<Logging>, Error>,
    /// Whether EventBridge is told.
    pub(super) events: Result<bool, Error>,
    pub(super) replication: Result<Option<ReplicationConfiguration>, Error>,
}

impl Found {
    /// Of a bucket that is not there.
    pub(super) fn nothing() -> Self {
        Self {
            exists: false,
            public_access: Ok([false; 4]),
            encryption: Ok(None),
            ownership: Ok(String::new()),
            policy: Ok(Document::empty()),
            versioning: Ok(String::new()),
            lifecycle: Ok(Vec::new()),
            logging: Ok(None),
            events: Ok(false),
            replication: Ok(None),
        }
    }
}

/// What new objects are encrypted with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Encryption {
    /// `AES256`, `aws:kms` or `aws:kms:dsse`.
    pub(super) algorithm: String,
    pub(super) key: Option<String>,
    /// Whether a bucket key saves most calls to KMS.
    pub(super) bucket_key: bool,
}

impl fmt::Display for Encryption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.algorithm)?;
        self.key.as_ref().map_or(Ok(()), |key| write!(f, " {key}"))?;
        if self.bucket_key { f.write_str(", bucket key") } else { Ok(()) }
    }
}

impl From<&ServerSideEncryptionRule> for Encryption {
    fn from(rule: &ServerSideEncryptionRule) -> Self {
        let default = rule.apply_server_side_encryption_by_default();
        Self {
            algorithm: default.map(|default| default.sse_algorithm().to_string()).unwrap_or_default(),
            key: default.and_then(|default| default.kms_master_key_id()).map(str::to_owned),
            bucket_key: rule.bucket_key_enabled().unwrap_or_default(),
        }
    }
}

/// Where S3 writes who asked for which object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Logging {
    pub(super) bucket: String,
    pub(super) prefix: String,
}

impl fmt::Display for Logging {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.bucket, self.prefix)
    }
}

impl S3 {
    /// Look at everything, side by side. An error means that not even the bucket itself could be looked at.
    pub(super) async fn look(&self, role: Bucket, bucket: &str) -> Result<Found, Error> {
        if !self.exists(role, bucket).await? {
            return Ok(Found::nothing());
        }
        let (public_access, encryption, ownership, policy, versioning, lifecycle, logging, events, replication) = tokio::join!(
            Box::pin(self.public_access(bucket)),
            Box::pin(self.encryption_rule(bucket)),
            Box::pin(self.ownership(bucket)),
            Box::pin(self.policy(bucket)),
            Box::pin(self.versioning(bucket)),
            Box::pin(self.lifecycle(bucket)),
            Box::pin(self.logging(bucket)),
            Box::pin(self.notifications(bucket)),
            Box::pin(self.replication(bucket)),
        );
        Ok(Found {
            exists: true,
            public_access,
            encryption: encryption.map(|rule| rule.as_ref().map(Encryption::from)),
            ownership,
            policy,
            versioning,
            lifecycle: lifecycle.map(|found| found.rules.unwrap_or_default()),
            logging: logging.map(|on| on.map(|on| Logging { bucket: on.target_bucket, prefix: on.target_prefix })),
            events: events.map(|found| found.event_bridge_configuration.is_some()),
            replication,
        })
    }

    /// Whether the bucket is there; an error if it is not this account's, or of another region.
    pub(super) async fn exists(&self, role: Bucket, bucket: &str) -> Result<bool, Error> {
        let call = self.client.head_bucket().bucket(bucket).expected_bucket_owner(self.owner().await?);
        let tried = format!("look at bucket {bucket} ({role}; it may belong to another account)");
        let region = match call.send().await.map_err(|error| failure(tried, "s3:ListBucket", error)) {
            Ok(there) => there.bucket_region,
            Err(Error::Failed { code: FailureCode::NotFound, .. }) => return Ok(false),
            Err(error) => return Err(error),
        };
        match region.filter(|region| *region != self.region()) {
            None => Ok(true),
            Some(region) => {
                let text = format!(
                    "bucket {bucket} ({role}) is in {region} and not in {}; name one of this region under \
                     [platform.buckets]",
                    self.region()
                );
                Err(Error::failed(FailureCode::Rejected, text))
            }
        }
    }

    async fn public_access(&self, bucket: &str) -> Result<[bool; 4], Error> {
        let call = self.client.get_public_access_block().bucket(bucket).expected_bucket_owner(self.owner().await?);
        let tried = format!("read the public access block of bucket {bucket}");
        let none = "NoSuchPublicAccessBlockConfiguration";
        let found = unless_none(call.send().await, none, tried, "s3:GetBucketPublicAccessBlock")?;
        let found = found.and_then(|found| found.public_access_block_configuration);
        Ok(found.map_or([false; 4], |on| {
            [on.block_public_acls, on.ignore_public_acls, on.block_public_policy, on.restrict_public_buckets]
                .map(Option::unwrap_or_default)
        }))
    }

    /// What new objects are encrypted with, and what else stands there.
    pub(super) async fn encryption_rule(&self, bucket: &str) -> Result<Option<ServerSideEncryptionRule>, Error> {
        let call = self.client.get_bucket_encryption().bucket(bucket).expected_bucket_owner(self.owner().await?);
        let tried = format!("read the default encryption of bucket {bucket}");
        let none = "ServerSideEncryptionConfigurationNotFoundError";
        let found = unless_none(call.send().await, none, tried, "s3:GetEncryptionConfiguration")?;
        let found = found.and_then(|found| found.server_side_encryption_configuration);
        Ok(found.and_then(|found| found.rules.into_iter().next()))
    }

    async fn ownership(&self, bucket: &str) -> Result<String, Error> {
        let owner = self.owner().await?;
        let call = self.client.get_bucket_ownership_controls().bucket(bucket).expected_bucket_owner(owner);
        let tried = format!("read the object ownership of bucket {bucket}");
        let none = "OwnershipControlsNotFoundError";
        let found = unless_none(call.send().await, none, tried, "s3:GetBucketOwnershipControls")?;
        let found = found.and_then(|found| found.ownership_controls);
        let rule = found.as_ref().and_then(|found| found.rules.first());
        Ok(rule.map(|rule| rule.object_ownership().to_string()).unwrap_or_default())
    }

    /// The bucket's policy, an empty one where it has none.
    pub(super) async fn policy(&self, bucket: &str) -> Result<Document, Error> {
        let call = self.client.get_bucket_policy().bucket(bucket).expected_bucket_owner(self.owner().await?);
        let tried = format!("read the policy of bucket {bucket}");
        let found = unless_none(call.send().await, "NoSuchBucketPolicy", tried, "s3:GetBucketPolicy")?;
        match found.and_then(|found| found.policy) {
            Some(text) => Document::parse(bucket, &text),
            None => Ok(Document::empty()),
        }
    }

    async fn versioning(&self, bucket: &str) -> Result<String, Error> {
        let call = self.client.get_bucket_versioning().bucket(bucket).expected_bucket_owner(self.owner().await?);
        let tried = format!("read the versioning of bucket {bucket}");
        let found = call.send().await.map_err(|error| failure(tried, "s3:GetBucketVersioning", error))?;
        Ok(found.status.map(|status| status.to_string()).unwrap_or_default())
    }

    /// Whose rules there are, and what they share.
    pub(super) async fn lifecycle(&self, bucket: &str) -> Result<GetBucketLifecycleConfigurationOutput, Error> {
        let owner = self.owner().await?;
        let call = self.client.get_bucket_lifecycle_configuration().bucket(bucket).expected_bucket_owner(owner);
        let tried = format!("read the lifecycle of bucket {bucket}");
        let none = "NoSuchLifecycleConfiguration";
        let found = unless_none(call.send().await, none, tried, "s3:GetLifecycleConfiguration")?;
        Ok(found.unwrap_or_else(|| GetBucketLifecycleConfigurationOutput::builder().build()))
    }

    /// Where and how accesses are logged.
    pub(super) async fn logging(&self, bucket: &str) -> Result<Option<LoggingEnabled>, Error> {
        let call = self.client.get_bucket_logging().bucket(bucket).expected_bucket_owner(self.owner().await?);
        let tried = format!("read the access logging of bucket {bucket}");
        let found = call.send().await.map_err(|error| failure(tried, "s3:GetBucketLogging", error))?;
        Ok(found.logging_enabled)
    }

    /// Who is told of what happens in the bucket.
    pub(super) async fn notifications(&self, bucket: &str) -> Result<GetBucketNotificationConfigurationOutput, Error> {
        let owner = self.owner().await?;
        let call = self.client.get_bucket_notification_configuration().bucket(bucket).expected_bucket_owner(owner);
        let tried = format!("read the notifications of bucket {bucket}");
        call.send().await.map_err(|error| failure(tried, "s3:GetBucketNotification", error))
    }

    /// What is copied where.
    pub(super) async fn replication(&self, bucket: &str) -> Result<Option<ReplicationConfiguration>, Error> {
        let call = self.client.get_bucket_replication().bucket(bucket).expected_bucket_owner(self.owner().await?);
        let tried = format!("read the replication of bucket {bucket}");
        let none = "ReplicationConfigurationNotFoundError";
        let found = unless_none(call.send().await, none, tried, "s3:GetReplicationConfiguration")?;
        Ok(found.and_then(|found| found.replication_configuration))
    }
}

/// An answer, or `None` where S3 says by this code that there is none.
fn unless_none<T, E>(
    answer: Result<T, SdkError<E>>,
    none: &str,
    tried: String,
    permission: &str,
) -> Result<Option<T>, Error>
where
    E: ProvideErrorMetadata + StdError + 'static,
{
    match answer {
        Ok(found) => Ok(Some(found)),
        Err(SdkError::ServiceError(error)) if error.err().code() == Some(none) => Ok(None),
        Err(error) => Err(failure(tried, permission, error)),
    }
}
