//! What an account has that may be a platform, read for `discover` and to say what exists beside a name that does not.
//!
//! Reads alone, one call after the other, since it shares the account's quotas with everything that runs there.
//! ECS has to answer; what else can't be read is told as such. At most [`limits::DISCOVER_MOST`] of a kind are read.

mod cloudformation;
mod ecs;
mod rds;
mod s3;

use sfdata_common::limits;

use super::{
    Error,
    aws::{Aws, client},
};
use crate::{config, discover::Account};

/// Reads an account.
#[derive(Debug, Clone)]
pub struct Survey {
    aws: Aws,
    ecs: aws_sdk_ecs::Client,
    rds: aws_sdk_rds::Client,
    s3: aws_sdk_s3::Client,
}

impl Survey {
    /// Calls nobody yet.
    pub async fn new(settings: &config::Aws) -> Self {
        Self::over(&Aws::new(settings).await)
    }

    pub(super) fn over(aws: &Aws) -> Self {
        Self {
            ecs: client!(aws, aws_sdk_ecs),
            rds: client!(aws, aws_sdk_rds),
            s3: super::s3::client(aws),
            aws: aws.clone(),
        }
    }

    /// Everything, or of ECS only what is in `cluster`.
    pub async fn account(&self, cluster: Option<&str>) -> Result<Account, Error> {
        let mut unread = Vec::new();
        let id = self.aws.account().await?;
        let clusters = self.clusters_with_services(cluster, &mut unread).await?;
        let databases = self.databases(None).await.unwrap_or_else(|error| not_read(&mut unread, &error));
        let buckets = self.buckets_with_tags(&mut unread).await;
        let stacks = self.stacks(&mut unread).await.unwrap_or_else(|error| not_read(&mut unread, &error));
        Ok(Account { id, region: self.region(), clusters, databases, buckets, stacks, unread })
    }

    fn region(&self) -> String {
        self.aws.config().region().map(ToString::to_string).unwrap_or_default()
    }
}

/// Nothing in place of what could not be read, and a note of it.
fn not_read<T: Default>(unread: &mut Vec<String>, error: &Error) -> T {
    unread.push(error.to_string());
    T::default()
}

/// As many as are read of a kind, and a note where there are more.
fn bounded<T>(mut found: Vec<T>, what: &str, unread: &mut Vec<String>) -> Vec<T> {
    if found.len() > limits::DISCOVER_MOST {
        let most = limits::DISCOVER_MOST;
        unread.push(format!("there are more than {most} {what}: the others were not read"));
        found.truncate(most);
    }
    found
}
