//! The buckets of the platform: made and kept secure, and how much is in them.
//!
//! Names of objects never leave this folder: they may name a child's record. `desired` says how a bucket of a role should
//! be, `found` how it is, and the difference of the two is what `drift` and `--plan` show and what `ensure` does.
//! Every call names the account that the bucket has to belong to: a name that somebody else took is denied by S3.

mod arrivals;
mod desired;
mod document;
mod ensure;
mod found;
mod metrics;
mod presign;
mod quarantine;
mod share;
mod tally;
mod usage;

pub use self::arrivals::Listed;

use std::sync::Arc;

use aws_sdk_s3::{Client, error::BuildError};
use sfdata_common::{
    command::{self, Bucket},
    error::chain,
    outcome::FailureCode,
};
use sfdata_proto::v1::action_result::Kind;
use tokio::sync::{Mutex, OnceCell};

use super::{
    Error,
    aws::{self, Aws},
};
use crate::{
    config::{Buckets, Platform, Storage},
    execute::Job,
    policy::Sharing,
};

/// The platform's buckets.
#[derive(Debug, Clone)]
pub struct S3 {
    client: Client,
    aws: Aws,
    buckets: Buckets,
    storage: Storage,
    /// The LA's word that nothing is shared.
    sharing: Sharing,
    /// The account that all buckets belong to, once it was asked for.
    owner: Arc<OnceCell<String>>,
    /// Held from reading a policy to having written it: S3 has no compare-and-set.
    policies: Arc<Mutex<()>>,
}

impl S3 {
    pub(super) fn new(aws: &Aws, platform: &Platform, sharing: Sharing) -> Self {
        Self {
            client: client(aws),
            aws: aws.clone(),
            buckets: platform.buckets.clone(),
            storage: platform.storage.clone(),
            sharing,
            owner: Arc::default(),
            policies: Arc::default(),
        }
    }

    /// Do what was ordered.
    pub async fn execute(&self, action: &command::S3, job: &Job) -> Result<Kind, Error> {
        match action {
            command::S3::Usage { by_prefix } => self.usage(*by_prefix, job).await,
            command::S3::Ensure { bucket, deadline } => self.ensure(*bucket, *deadline, job).await,
            command::S3::Drift { bucket } => self.drift(*bucket).await,
            command::S3::ShareShow => self.show_share().await.map(Kind::S3Share),
            command::S3::ShareGrant => self.grant(job).await,
            command::S3::ShareRevoke => self.revoke(job).await,
            command::S3::Quarantine { bucket, prefix } => self.quarantine(*bucket, prefix, job).await,
            command::S3::LiftQuarantine { bucket, prefix } => self.lift(*bucket, prefix, job).await,
            command::S3::Quarantines => self.quarantines().await,
            command::S3::UploadUrl(object) => self.upload_url(object, job).await,
            command::S3::DownloadUrl(object) => self.download_url(object, job).await,
        }
    }

    fn region(&self) -> &str {
        self.client.config().region().map_or("", |region| region.as_ref())
    }

    async fn owner(&self) -> Result<&str, Error> {
        self.owner.get_or_try_init(|| self.aws.account()).await.map(String::as_str)
    }

    /// The buckets that are meant, by role; an error if there is none.
    fn meant(&self, only: Option<Bucket>) -> Result<Vec<(Bucket, &str)>, Error> {
        let meant = Bucket::ALL.into_iter().filter(|role| only.is_none_or(|only| only == *role));
        let meant: Vec<_> = meant.filter_map(|role| Some((role, self.buckets.of(role)?))).collect();
        if !meant.is_empty() {
            return Ok(meant);
        }
        let text = match only {
            Some(role) => {
                let key = role.as_str().replace('-', "_");
                format!("this agent has no {role} bucket; name it under platform.buckets.{key} in its configuration")
            }
            None => "this agent has no buckets; name them under [platform.buckets] in its configuration".to_owned(),
        };
        Err(Error::failed(FailureCode::NotFound, text))
    }
}

pub(super) fn client(aws: &Aws) -> Client {
    aws::client!(aws, aws_sdk_s3, force_path_style(aws.is_stand_in()))
}

/// As a plan names it.
fn resource(bucket: &str) -> String {
    format!("s3-bucket {bucket}")
}

/// A request's part that lacks nothing, unless the agent is at fault.
fn built<T>(part: Result<T, BuildError>) -> Result<T, Error> {
    part.map_err(|error| Error::failed(FailureCode::Internal, format!("a request to S3: {}", chain(&error))))
}

/// A bucket's policy as it goes back to S3 when nothing is changed in it; `None` where it holds no statement.
pub fn policy_again(text: &str) -> Result<Option<String>, Error> {
    document::Document::parse("bucket", text)?.encode("bucket")
}
