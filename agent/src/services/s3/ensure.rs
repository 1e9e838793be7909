//! Making the buckets as they should be, and saying how they are not.
//!
//! Resumable by reading: what an earlier try has set is no difference any more. What other people own beside our rules and
//! statements is read again straight before it is written, because S3 has no compare-and-set: whoever writes within that
//! one round trip loses. When all is done it is looked at again: what did not stay was changed by somebody else meanwhile,
//! and the command fails as a conflict that names it.

use std::time::Duration;

use aws_sdk_s3::{
    operation::create_bucket::CreateBucketError,
    types::{
        BucketLifecycleConfiguration, BucketLocationConstraint, BucketLoggingStatus, BucketVersioningStatus,
        CreateBucketConfiguration, EventBridgeConfiguration, LifecycleRule, LoggingEnabled, NotificationConfiguration,
        ObjectOwnership, OwnershipControls, OwnershipControlsRule, PublicAccessBlockConfiguration,
        ReplicationConfiguration, ServerSideEncryption, ServerSideEncryptionByDefault,
        ServerSideEncryptionConfiguration, ServerSideEncryptionRule, TransitionDefaultMinimumObjectSize,
        VersioningConfiguration,
    },
};
use sfdata_common::{command::Bucket, limits, outcome::FailureCode, retry::jittered};
use sfdata_proto::v1::{self as wire, action_result::Kind};
use tokio::time::{Instant, sleep};

use super::{
    S3, built,
    desired::{self, Desired, Difference, Step},
    found::Encryption,
    resource,
};
use crate::{
    execute::Job,
    services::{Error, Plan, aws::failure},
};

/// The region that is named by naming none.
const FIRST_REGION: &str = "us-east-1";
/// Between two looks for whether a change has shown.
pub(super) const PAUSE: Duration = Duration::from_secs(1);

/// A bucket that is to be changed.
struct Work<'a> {
    desired: Desired<'a>,
    differences: Vec<Difference>,
}

/// How a bucket was found.
#[derive(Default)]
struct Seen {
    differences: Vec<Difference>,
    unread: Vec<Error>,
    /// Why S3 takes no policy of ours.
    obstacles: Vec<Error>,
    /// Why our replication rule can't be set.
    unreplicated: Option<Error>,
}

impl Seen {
    fn nothing(error: Error) -> Self {
        Self { unread: vec![error], ..Self::default() }
    }
}

impl S3 {
    /// What [`S3::ensure`] would change, and what could not be read.
    pub(super) async fn drift(&self, only: Option<Bucket>) -> Result<Kind, Error> {
        let mut buckets = Vec::new();
        for desired in self.desired(only)? {
            let Seen { differences, unread, obstacles, unreplicated } =
                self.see(&desired).await.unwrap_or_else(Seen::nothing);
            buckets.push(wire::BucketDrift {
                role: desired.role.to_string(),
                bucket: desired.bucket.to_owned(),
                changes: differences.into_iter().map(Into::into).collect(),
                unread: unread.iter().map(Error::health).collect(),
                obstacles: obstacles.iter().chain(&unreplicated).map(ToString::to_string).collect(),
            });
        }
        Ok(Kind::S3Drift(wire::S3DriftResult { buckets }))
    }

    /// Set right what differs. Nothing is changed unless everything could be read and S3 takes every policy.
    pub(super) async fn ensure(&self, only: Option<Bucket>, deadline: Duration, job: &Job) -> Result<Kind, Error> {
        let ends = Instant::now() + deadline;
        let (mut work, mut unread, mut blocked) = (Vec::new(), Vec::new(), Vec::new());
        for desired in self.desired(only)? {
            let seen = self.see(&desired).await.unwrap_or_else(Seen::nothing);
            if seen.differences.iter().any(|difference| difference.step == Step::Policy) {
                blocked.extend(seen.obstacles);
            }
            if seen.differences.iter().any(|difference| difference.step == Step::Replication) {
                blocked.extend(seen.unreplicated);
            }
            work.push(Work { desired, differences: seen.differences });
            unread.extend(seen.unread);
        }
        if let Some(error) = unread.into_iter().reduce(Error::and) {
            return Err(error.after("nothing was changed, as not everything could be read"));
        }
        if let Some(error) = blocked.into_iter().reduce(Error::and) {
            return Err(error.after("nothing was changed, as S3 would refuse a part of it"));
        }
        if let Some(answer) = job.agree(plan(&work)).await? {
            return Ok(answer);
        }
        let all: usize = work.iter().map(|work| work.differences.len()).sum();
        let mut done = 0;
        for Work { desired, differences } in &work {
            let so_far = |done| format!("{done} of {all} changes were made");
            for changes in differences.chunk_by(|one, other| one.step == other.step) {
                if job.cancelled().is_cancelled() {
                    return Err(Error::cancelled(so_far(done)));
                }
                if Instant::now() >= ends {
                    let text = format!("{}, then the time was up; order it again, it goes on from there", so_far(done));
                    return Err(Error::failed(FailureCode::Deadline, text));
                }
                if let Some(first) = changes.first() {
                    let (bucket, property) = (desired.bucket, &first.property);
                    job.progress(format!("{bucket}: {property}"), Some((done * 100 / all) as u32));
                    let made = differences.first().is_some_and(|first| first.step == Step::Create);
                    let set = self.set_patiently(desired, first.step, made, ends, job).await;
                    set.map_err(|error| error.after(&so_far(done)))?;
                }
                done += changes.len();
            }
            if !differences.is_empty() {
                self.stays(desired, ends, job).await.map_err(|error| error.after(&so_far(done)))?;
            }
        }
        let ensured = |work: Work| wire::BucketEnsured {
            role: work.desired.role.to_string(),
            bucket: work.desired.bucket.to_owned(),
            changes: work.differences.into_iter().map(Into::into).collect(),
        };
        Ok(Kind::S3Ensure(wire::S3EnsureResult { buckets: work.into_iter().map(ensured).collect() }))
    }

    /// The buckets that are meant: the backup first, as nothing can be copied to it before it is there.
    fn desired(&self, only: Option<Bucket>) -> Result<Vec<Desired<'_>>, Error> {
        let mut meant = self.meant(only)?;
        meant.sort_by_key(|(role, _)| *role != Bucket::Backup);
        let revoked = self.sharing.revoked().is_some();
        let desired = |(role, name)| Desired::new(role, name, &self.buckets, &self.storage, revoked);
        Ok(meant.into_iter().map(desired).collect())
    }

    async fn see(&self, desired: &Desired<'_>) -> Result<Seen, Error> {
        let found = self.look(desired.role, desired.bucket).await?;
        let (differences, unread) = desired.differences(self.region(), &found)?;
        let replication = found.replication.as_ref().ok().and_then(Option::as_ref);
        let unreplicated = desired.replication_obstacle(replication);
        Ok(Seen { differences, unread, obstacles: desired.obstacles(&found), unreplicated })
    }

    /// Look until nothing differs any more; what still does was changed by somebody else.
    async fn stays(&self, desired: &Desired<'_>, ends: Instant, job: &Job) -> Result<(), Error> {
        for look in 1.. {
            let Seen { differences, unread, .. } = self.see(desired).await?;
            let last = look == limits::BUCKET_LOOKS || Instant::now() >= ends;
            // A bucket that was just made may be unknown to some of S3 for a moment.
            let not_yet = !last && unread.iter().all(|error| is(error, FailureCode::NotFound));
            if let Some(error) = unread.into_iter().reduce(Error::and) {
                if !not_yet {
                    return Err(error);
                }
            } else if differences.is_empty() {
                return Ok(());
            }
            if last {
                let left: Vec<_> = differences.into_iter().map(|left| left.property).collect();
                let text = format!(
                    "of bucket {} these are not as they were just set: {}; somebody else changes them at the same \
                     time. Find out who, then order it again",
                    desired.bucket,
                    left.join(", ")
                );
                return Err(Error::failed(FailureCode::Conflict, text));
            }
            tokio::select! {
                biased;
                () = job.cancelled().cancelled() => return Err(Error::cancelled("all was set, and not looked at again")),
                () = sleep(jittered(PAUSE, 0.2)) => {}
            }
        }
        Ok(())
    }

    /// Set it, again and again where S3 says that another change is under way, or does not know a bucket that was made here.
    async fn set_patiently(
        &self,
        desired: &Desired<'_>,
        step: Step,
        made: bool,
        ends: Instant,
        job: &Job,
    ) -> Result<(), Error> {
        loop {
            let error = match self.set(desired, step).await {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
            let passes = is(&error, FailureCode::Conflict) || (made && is(&error, FailureCode::NotFound));
            if !passes || Instant::now() >= ends {
                return Err(error);
            }
            tokio::select! {
                biased;
                () = job.cancelled().cancelled() => return Err(Error::cancelled(error.to_string())),
                () = sleep(jittered(PAUSE, 0.2)) => {}
            }
        }
    }

    async fn set(&self, desired: &Desired<'_>, step: Step) -> Result<(), Error> {
        match step {
            Step::Create => self.create(desired).await,
            Step::PublicAccess => self.block_public_access(desired.bucket).await,
            Step::Encryption => self.encrypt(desired).await,
            Step::Ownership => self.own_objects(desired.bucket).await,
            Step::Policy => self.amend(desired.bucket, |policy| desired.amend(policy)).await.map(|_| ()),
            Step::Versioning => self.version(desired.bucket).await,
            Step::Lifecycle => self.set_lifecycle(desired.bucket).await,
            Step::Logging => self.log_access(desired).await,
            Step::Events => self.tell_event_bridge(desired.bucket).await,
            Step::Replication => self.replicate(desired).await,
        }
    }

    async fn create(&self, desired: &Desired<'_>) -> Result<(), Error> {
        let Desired { role, bucket, .. } = desired;
        let here = (self.region() != FIRST_REGION).then(|| {
            let place = BucketLocationConstraint::from(self.region());
            CreateBucketConfiguration::builder().location_constraint(place).build()
        });
        let call = self.client.create_bucket().bucket(*bucket).set_create_bucket_configuration(here);
        match call.send().await {
            Ok(_) => Ok(()),
            Err(error) => match error.as_service_error() {
                Some(CreateBucketError::BucketAlreadyOwnedByYou(_)) => Ok(()),
                Some(CreateBucketError::BucketAlreadyExists(_)) => {
                    let text = format!(
                        "cannot create bucket {bucket} ({role}): another account has that name, and names are unique \
                         in all of AWS; choose another one under [platform.buckets]"
                    );
                    Err(Error::failed(FailureCode::Rejected, text))
                }
                _ => Err(failure(format_args!("create bucket {bucket} ({role})"), "s3:CreateBucket", error)),
            },
        }
    }

    async fn block_public_access(&self, bucket: &str) -> Result<(), Error> {
        let all = PublicAccessBlockConfiguration::builder()
            .block_public_acls(true)
            .ignore_public_acls(true)
            .block_public_policy(true)
            .restrict_public_buckets(true)
            .build();
        let call = self.client.put_public_access_block().bucket(bucket).expected_bucket_owner(self.owner().await?);
        let tried = format!("block public access to bucket {bucket}");
        let answer = call.public_access_block_configuration(all).send().await;
        answer.map(|_| ()).map_err(|error| failure(tried, "s3:PutBucketPublicAccessBlock", error))
    }

    async fn encrypt(&self, desired: &Desired<'_>) -> Result<(), Error> {
        let bucket = desired.bucket;
        let found = self.encryption_rule(bucket).await?;
        let wanted = desired.encryption(found.as_ref().map(Encryption::from).as_ref());
        let default = ServerSideEncryptionByDefault::builder()
            .sse_algorithm(ServerSideEncryption::from(wanted.algorithm.as_str()))
            .set_kms_master_key_id(wanted.key)
            .build();
        let mut rule = found.unwrap_or_else(|| ServerSideEncryptionRule::builder().build());
        rule.apply_server_side_encryption_by_default = Some(built(default)?);
        rule.bucket_key_enabled = Some(wanted.bucket_key);
        let rules = built(ServerSideEncryptionConfiguration::builder().rules(rule).build())?;
        let call = self.client.put_bucket_encryption().bucket(bucket).expected_bucket_owner(self.owner().await?);
        let tried = format!("set the default encryption of bucket {bucket}");
        let answer = call.server_side_encryption_configuration(rules).send().await;
        answer.map(|_| ()).map_err(|error| failure(tried, "s3:PutEncryptionConfiguration", error))
    }

    async fn own_objects(&self, bucket: &str) -> Result<(), Error> {
        let rule = OwnershipControlsRule::builder().object_ownership(ObjectOwnership::from(desired::OWNERSHIP)).build();
        let controls = built(OwnershipControls::builder().rules(built(rule)?).build())?;
        let owner = self.owner().await?;
        let call = self.client.put_bucket_ownership_controls().bucket(bucket).expected_bucket_owner(owner);
        let tried = format!("have bucket {bucket} own its objects");
        let answer = call.ownership_controls(controls).send().await;
        answer.map(|_| ()).map_err(|error| failure(tried, "s3:PutBucketOwnershipControls", error))
    }

    async fn version(&self, bucket: &str) -> Result<(), Error> {
        let on = VersioningConfiguration::builder().status(BucketVersioningStatus::Enabled).build();
        let call = self.client.put_bucket_versioning().bucket(bucket).expected_bucket_owner(self.owner().await?);
        let tried = format!("have bucket {bucket} keep versions");
        let answer = call.versioning_configuration(on).send().await;
        answer.map(|_| ()).map_err(|error| failure(tried, "s3:PutBucketVersioning", error))
    }

    async fn set_lifecycle(&self, bucket: &str) -> Result<(), Error> {
        let found = self.lifecycle(bucket).await?;
        let ours = |rule: &LifecycleRule| {
            [desired::ABORT_UPLOADS, desired::EXPIRE_VERSIONS].contains(&rule.id().unwrap_or_default())
        };
        let mut rules: Vec<_> = found.rules.unwrap_or_default().into_iter().filter(|rule| !ours(rule)).collect();
        let legacy = rules.iter().any(|rule| rule.filter().is_none());
        rules.extend(desired::lifecycle_rules(legacy)?);
        let rules = built(BucketLifecycleConfiguration::builder().set_rules(Some(rules)).build())?;
        let smallest = found.transition_default_minimum_object_size;
        let smallest = smallest.map(|size| TransitionDefaultMinimumObjectSize::from(size.as_str()));
        let owner = self.owner().await?;
        let call = self.client.put_bucket_lifecycle_configuration().bucket(bucket).expected_bucket_owner(owner);
        let tried = format!("write the lifecycle of bucket {bucket}");
        let call = call.lifecycle_configuration(rules).set_transition_default_minimum_object_size(smallest);
        let answer = call.send().await;
        answer.map(|_| ()).map_err(|error| failure(tried, "s3:PutLifecycleConfiguration", error))
    }

    async fn log_access(&self, desired: &Desired<'_>) -> Result<(), Error> {
        let Desired { bucket, access_logs: Some(logs), .. } = desired else { return Ok(()) };
        let found = self.logging(bucket).await?;
        let (format, grants) =
            found.map(|found| (found.target_object_key_format, found.target_grants)).unwrap_or_default();
        let to = LoggingEnabled::builder()
            .target_bucket(*logs)
            .target_prefix(desired.log_prefix())
            .set_target_object_key_format(format)
            .set_target_grants(grants);
        let on = BucketLoggingStatus::builder().logging_enabled(built(to.build())?).build();
        let call = self.client.put_bucket_logging().bucket(*bucket).expected_bucket_owner(self.owner().await?);
        let tried = format!("have the accesses to bucket {bucket} logged in bucket {logs}");
        let answer = call.bucket_logging_status(on).send().await;
        answer.map(|_| ()).map_err(|error| failure(tried, "s3:PutBucketLogging", error))
    }

    async fn tell_event_bridge(&self, bucket: &str) -> Result<(), Error> {
        let found = self.notifications(bucket).await?;
        let all = NotificationConfiguration::builder()
            .set_topic_configurations(found.topic_configurations)
            .set_queue_configurations(found.queue_configurations)
            .set_lambda_function_configurations(found.lambda_function_configurations)
            .event_bridge_configuration(EventBridgeConfiguration::builder().build())
            .build();
        let owner = self.owner().await?;
        let call = self.client.put_bucket_notification_configuration().bucket(bucket).expected_bucket_owner(owner);
        let tried = format!("have bucket {bucket} tell EventBridge");
        // Whether somebody else's queue still takes what it is told is not ours to judge.
        let answer = call.notification_configuration(all).skip_destination_validation(true).send().await;
        answer.map(|_| ()).map_err(|error| failure(tried, "s3:PutBucketNotification", error))
    }

    async fn replicate(&self, desired: &Desired<'_>) -> Result<(), Error> {
        let Desired { bucket, replica: Some(replica), .. } = desired else { return Ok(()) };
        let found = self.replication(bucket).await?;
        if let Some(obstacle) = desired.replication_obstacle(found.as_ref()) {
            return Err(obstacle);
        }
        let mut rules = found.map(|found| found.rules).unwrap_or_default();
        let ours = desired.replication_rule(replica, &rules)?;
        rules.retain(|rule| rule.id() != Some(desired::REPLICATE));
        rules.push(ours);
        let all = ReplicationConfiguration::builder().role(replica.role).set_rules(Some(rules)).build();
        let call = self.client.put_bucket_replication().bucket(*bucket).expected_bucket_owner(self.owner().await?);
        let tried = format!("have bucket {bucket} copied to bucket {}", replica.bucket);
        let answer = call.replication_configuration(built(all)?).send().await;
        let permissions = "s3:PutReplicationConfiguration, and iam:PassRole on the replication role,";
        answer.map(|_| ()).map_err(|error| failure(tried, permissions, error))
    }
}

fn is(error: &Error, kind: FailureCode) -> bool {
    matches!(error, Error::Failed { code, .. } if *code == kind)
}

fn plan(work: &[Work]) -> Plan {
    let mut plan = Plan::default();
    for Work { desired, differences } in work {
        for Difference { property, before, after, .. } in differences {
            plan = plan.change(resource(desired.bucket), property, before, after);
        }
    }
    plan
}

impl From<Difference> for wire::BucketChange {
    fn from(difference: Difference) -> Self {
        let Difference { property, before, after, .. } = difference;
        Self { property, before, after }
    }
}
