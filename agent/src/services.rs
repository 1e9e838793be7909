//! What the agent can do to its LA's platform: one file a service of AWS and one for Dagster, and `aws` for what they share;
//! and what there is at all: `survey` reads an account, `presence` looks for what the configuration names.
//!
//! Stop 10 on a command's path: `execute` hands over a typed action and its `Job`, and gets a result or one
//! [`Error`]. Nothing outside this folder names an AWS crate. Every action is written as "make it so": it reads
//! the world first, so that a repetition after a crash does no more than is still to be done; and before it changes
//! anything it hands its [`Plan`] to its job, which may want no more than that.

pub mod aurora;
pub mod aws;
pub mod bill;
pub mod dagster;
pub mod ecr;
pub mod ecs;
pub mod images;
pub mod logs;
mod plan;
pub mod presence;
pub mod s3;
pub mod secrets;
pub mod metered;
pub mod sqs;
pub mod sts;
pub mod survey;

pub use plan::Plan;
use sfdata_common::{
    Timestamp,
    discovery::Proposal,
    metrics::Totals,
    outcome::{FailureCode, Outcome, failure_name},
};
use sfdata_proto::v1 as wire;

use crate::{
    config::{self, Platform},
    discover,
    policy::Sharing,
};

/// Why an action did not reach its end.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// It could not be done.
    #[error("{message}")]
    Failed {
        /// The kind of failure.
        code: FailureCode,
        /// What was tried, on what, and what to do about it. Fit for the operator's eyes: no credentials.
        message: String,
    },
    /// An operator took it back.
    #[error("cancelled: {detail}")]
    Cancelled {
        /// How far it had come, and what stays in force.
        detail: String,
    },
}

impl Error {
    /// A failure of this kind.
    pub fn failed(code: FailureCode, message: impl Into<String>) -> Self {
        Self::Failed { code, message: message.into() }
    }

    /// Taken back by an operator after so much had been done.
    pub fn cancelled(detail: impl Into<String>) -> Self {
        Self::Cancelled { detail: detail.into() }
    }

    /// Whether the same may succeed later: AWS can't be asked just now.
    pub(crate) fn is_passing(&self) -> bool {
        matches!(self, Self::Failed { code: FailureCode::Unavailable | FailureCode::Throttled, .. })
    }

    /// The same failure, with what had already been done told first.
    fn after(self, done: &str) -> Self {
        match self {
            Self::Failed { code, message } => Self::Failed { code, message: format!("{done}; then: {message}") },
            Self::Cancelled { detail } => Self::Cancelled { detail: format!("{done}; then: {detail}") },
        }
    }

    /// Both as one: a cancellation is one whatever else went wrong, otherwise the first gives the code.
    fn and(self, next: Self) -> Self {
        match (self, next) {
            (Self::Failed { code, message }, Self::Failed { message: next, .. }) => {
                Self::Failed { code, message: format!("{message}. And: {next}") }
            }
            (Self::Cancelled { detail }, Self::Cancelled { detail: next }) => {
                Self::Cancelled { detail: format!("{detail}; {next}") }
            }
            (Self::Failed { message: failed, .. }, Self::Cancelled { detail })
            | (Self::Cancelled { detail }, Self::Failed { message: failed, .. }) => {
                Self::Cancelled { detail: format!("{detail}. And: {failed}") }
            }
        }
    }

    /// As it stands in a health report: `access-denied: cannot ...`. The part before the first colon is stable.
    pub(crate) fn health(&self) -> String {
        match self {
            Self::Failed { code, message } => format!("{}: {message}", failure_name(*code)),
            Self::Cancelled { detail } => format!("cancelled: {detail}"),
        }
    }
}

impl From<Error> for Outcome {
    fn from(error: Error) -> Self {
        match error {
            Error::Failed { code, message } => Self::Failed { code, message },
            Error::Cancelled { detail } => Self::Cancelled { detail },
        }
    }
}

/// What there is, where something else was named.
fn listed(names: Result<Vec<String>, Error>) -> String {
    match names {
        Ok(names) if names.is_empty() => "there is none".into(),
        Ok(names) => format!("there is {}", names.join(", ")),
        Err(error) => format!("what there is cannot be told: {error}"),
    }
}

/// The platform's services. Cheap to clone; clones share connections.
#[derive(Debug, Clone)]
pub struct Services {
    /// The containers.
    pub ecs: ecs::Ecs,
    /// The database.
    pub aurora: aurora::Aurora,
    /// The buckets.
    pub s3: s3::S3,
    /// What the containers write.
    pub logs: logs::Logs,
    /// The queue of arrivals.
    pub sqs: sqs::Sqs,
    /// Dagster itself.
    pub dagster: dagster::Dagster,
    /// What was measured of database, buckets and log groups.
    pub metered: metered::Metered,
    /// What AWS charges.
    pub bill: bill::Bill,
    /// Images in the account's own registry.
    pub images: images::Images,
    platform: Platform,
    aws: aws::Aws,
}

impl Services {
    /// Clients for the platform; nothing is called yet, so this neither fails nor needs a network.
    pub async fn new(settings: &config::Aws, platform: &Platform, sharing: Sharing) -> Self {
        let aws = aws::Aws::new(settings).await;
        let ecs = ecs::Ecs::new(&aws, platform);
        let s3 = s3::S3::new(&aws, platform, sharing);
        Self {
            logs: logs::Logs::new(&aws, &ecs),
            dagster: dagster::Dagster::new(&ecs),
            ecs,
            aurora: aurora::Aurora::new(&aws, platform),
            sqs: sqs::Sqs::new(&aws),
            metered: metered::Metered::new(&aws, &s3, platform),
            bill: bill::Bill::new(&aws),
            images: images::Images::new(&aws),
            s3,
            platform: platform.clone(),
            aws,
        }
    }

    /// With Dagster where this configuration says.
    pub fn with_dagster(mut self, settings: &config::Dagster) -> Self {
        self.dagster = self.dagster.at(settings);
        self
    }

    /// As a task that ECS tells here what it is.
    pub fn with_task(mut self, metadata: Option<&str>) -> Self {
        self.ecs = self.ecs.in_task(metadata);
        self
    }

    /// With the repositories of images that this configuration names.
    pub fn with_images(mut self, settings: &config::Images) -> Self {
        self.images = self.images.of(settings);
        self
    }

    /// What the account has that may be a platform, beside what the configuration names. Of ECS only what is in `cluster`, if
    /// one is given.
    pub async fn discover(&self, cluster: Option<&str>) -> Result<Proposal, Error> {
        let account = survey::Survey::over(&self.aws).account(cluster).await?;
        Ok(discover::beside(discover::propose(&account), &self.platform))
    }

    /// Requests to AWS, by service, operation and result.
    pub(crate) fn requests(&self) -> Totals<3> {
        self.aws.requests().totals()
    }

    /// The 12-digit AWS account that the agent's credentials belong to, as STS tells it.
    pub async fn account(&self) -> Result<String, Error> {
        self.aws.account().await
    }

    /// A request to STS, signed with the agent's credentials, that shows who signed it; it is not sent.
    pub async fn prove_identity(&self, asked: &sts::Asked<'_>, now: Timestamp) -> Result<Vec<u8>, Error> {
        sts::prove(&self.aws, asked, now).await
    }

    /// Look at what runs, side by side. What can't be read is told in place of what it would have said.
    pub async fn health(&self) -> (wire::EcsHealth, wire::AuroraHealth) {
        tokio::join!(self.ecs.health(), self.aurora.health())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_several_errors_none_is_left_out_and_a_cancellation_stays_one() {
        let denied = Error::failed(FailureCode::AccessDenied, "cannot list a");
        let missing = Error::failed(FailureCode::NotFound, "cannot list b");
        let both = denied.clone().and(missing);
        assert_eq!(both, Error::failed(FailureCode::AccessDenied, "cannot list a. And: cannot list b"));
        let cancelled = denied.and(Error::cancelled("shared: 7 objects were counted"));
        assert_eq!(cancelled, Error::cancelled("shared: 7 objects were counted. And: cannot list a"));
    }
}
