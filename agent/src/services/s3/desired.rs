//! How a bucket of a role should be, and how what was found differs from it.
//!
//! Pure, both: the desired state follows from role and configuration, the differences from desired and found. `drift`,
//! `--plan` and `ensure` all go by [`Desired::differences`], so that none can tell another story. Rules and statements
//! of ours have names of their own; what has another name is somebody else's and stays.

use aws_sdk_s3::types::{
    AbortIncompleteMultipartUpload, DeleteMarkerReplication, DeleteMarkerReplicationStatus, Destination,
    EncryptionConfiguration, ExpirationStatus, LifecycleRule, LifecycleRuleFilter, NoncurrentVersionExpiration,
    ReplicationConfiguration, ReplicationRule, ReplicationRuleFilter, ReplicationRuleStatus, SourceSelectionCriteria,
    SseKmsEncryptedObjects, SseKmsEncryptedObjectsStatus,
};
use sfdata_common::{command::Bucket, limits, outcome::FailureCode};

use super::{
    built,
    document::{self, Document},
    found::{Encryption, Found, Logging},
};
use crate::{
    config::{Buckets, Storage},
    services::Error,
};

/// Lifecycle rule that ends uploads which nobody completes.
pub(super) const ABORT_UPLOADS: &str = "sfdata-abort-incomplete-uploads";
/// Lifecycle rule that deletes what was overwritten or deleted long ago.
pub(super) const EXPIRE_VERSIONS: &str = "sfdata-expire-noncurrent-versions";
/// Replication rule to the backup.
pub(super) const REPLICATE: &str = "sfdata-backup";
/// The settings of a public access block, in S3's order.
pub(super) const PUBLIC_ACCESS: [&str; 4] =
    ["BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets"];
/// Access control lists are off: the bucket's owner owns what is in it.
pub(super) const OWNERSHIP: &str = "BucketOwnerEnforced";

/// How a bucket should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Desired<'a> {
    pub(super) role: Bucket,
    pub(super) bucket: &'a str,
    /// `None` is content with whatever default the bucket has.
    pub(super) kms_key: Option<&'a str>,
    pub(super) access_logs: Option<&'a str>,
    /// Whether new objects are told to EventBridge.
    pub(super) events: bool,
    pub(super) replica: Option<Replica<'a>>,
    /// Whom our statement may let in, where there is one: none where the LA has revoked it, nor in another bucket.
    pub(super) reader: Option<&'a str>,
}

/// Where a bucket's objects are copied to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Replica<'a> {
    pub(super) bucket: &'a str,
    pub(super) role: &'a str,
}

/// One thing that is set by one request, in the safe order: nothing is in a new bucket before it is closed and encrypted,
/// and nothing is copied before it is versioned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Step {
    Create,
    PublicAccess,
    Encryption,
    Ownership,
    Policy,
    Versioning,
    Lifecycle,
    Logging,
    Events,
    Replication,
}

/// One property that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Difference {
    pub(super) step: Step,
    pub(super) property: String,
    pub(super) before: String,
    pub(super) after: String,
}

impl<'a> Desired<'a> {
    /// For the bucket of a role.
    pub(super) fn new(
        role: Bucket,
        bucket: &'a str,
        buckets: &'a Buckets,
        storage: &'a Storage,
        revoked: bool,
    ) -> Self {
        let copied = matches!(role, Bucket::DataStore | Bucket::Shared);
        let replica = buckets.backup.as_deref().zip(storage.replication_role.as_deref());
        Self {
            role,
            bucket,
            kms_key: storage.kms_key.as_deref(),
            access_logs: buckets.access_logs.as_deref(),
            events: role == Bucket::DataStore,
            reader: storage.core_reader.as_deref().filter(|_| role == Bucket::Shared && !revoked),
            replica: replica.filter(|_| copied).map(|(bucket, role)| Replica { bucket, role }),
        }
    }

    /// What differs, in the order in which it is set right, and what could not be read: of that nothing is known.
    pub(super) fn differences(&self, region: &str, found: &Found) -> Result<(Vec<Difference>, Vec<Error>), Error> {
        let mut notes = Notes::default();
        if !found.exists {
            notes.differs(Step::Create, "Bucket", "", format!("created in {region}"));
        }
        if let Some(blocked) = notes.read(&found.public_access) {
            let on: Vec<_> = PUBLIC_ACCESS.iter().zip(blocked).filter(|(_, on)| **on).map(|(name, _)| *name).collect();
            let (before, after) = (on.join(", "), PUBLIC_ACCESS.join(", "));
            notes.unless(before == after, Step::PublicAccess, "PublicAccessBlockConfiguration", before, after);
        }
        if let Some(there) = notes.read(&found.encryption) {
            let wanted = self.encryption(there.as_ref());
            let before = there.as_ref().map(ToString::to_string).unwrap_or_default();
            let same = there.as_ref() == Some(&wanted);
            notes.unless(same, Step::Encryption, "ServerSideEncryptionConfiguration", before, wanted);
        }
        if let Some(there) = notes.read(&found.ownership) {
            notes.unless(there == OWNERSHIP, Step::Ownership, "ObjectOwnership", there, OWNERSHIP);
        }
        if let Some(policy) = notes.read(&found.policy) {
            let wanted = document::tls_only(self.bucket);
            let there = policy.statement(document::TLS_ONLY);
            let same = there.is_some_and(|there| document::same(there, &wanted));
            let property = format!("Policy {}", document::TLS_ONLY);
            let before = there.map(ToString::to_string);
            notes.unless(same, Step::Policy, property, before.unwrap_or_default(), "deny what does not come over TLS");
            self.share(&mut notes, policy);
        }
        if let Some(there) = notes.read(&found.versioning) {
            notes.unless(there == "Enabled", Step::Versioning, "VersioningConfiguration", there, "Enabled");
        }
        if let Some(rules) = notes.read(&found.lifecycle) {
            for wanted in lifecycle_rules(false)? {
                let id = wanted.id().unwrap_or_default();
                let there = rules.iter().find(|rule| rule.id() == Some(id));
                let same = there.is_some_and(|there| plain_lifecycle(there) == plain_lifecycle(&wanted));
                let before = there.map(lifecycle_said).unwrap_or_default();
                let property = format!("LifecycleConfiguration {id}");
                notes.unless(same, Step::Lifecycle, property, before, lifecycle_said(&wanted));
            }
        }
        if let (Some(bucket), Some(there)) = (self.access_logs, notes.read(&found.logging)) {
            let wanted = Logging { bucket: bucket.to_owned(), prefix: self.log_prefix() };
            let before = there.as_ref().map(ToString::to_string).unwrap_or_default();
            notes.unless(there.as_ref() == Some(&wanted), Step::Logging, "LoggingEnabled", before, wanted);
        }
        if let Some(on) = notes.read(&found.events).filter(|_| self.events) {
            notes.unless(*on, Step::Events, "EventBridgeConfiguration", "", "every event to EventBridge");
        }
        if let (Some(replica), Some(there)) = (&self.replica, notes.read(&found.replication)) {
            let (role, rules) = there.as_ref().map_or(("", &[][..]), |there| (there.role(), there.rules()));
            notes.unless(role == replica.role, Step::Replication, "ReplicationConfiguration Role", role, replica.role);
            let wanted = self.replication_rule(replica, rules)?;
            let there = rules.iter().find(|rule| rule.id() == Some(REPLICATE));
            let same = there.is_some_and(|there| plain_replication(there) == plain_replication(&wanted));
            let before = there.map(replication_said).unwrap_or_default();
            let property = format!("ReplicationConfiguration {REPLICATE}");
            notes.unless(same, Step::Replication, property, before, replication_said(&wanted));
        }
        Ok((notes.differences, notes.unread))
    }

    /// To share is a decision of its own: a statement that is not there stays away, and one that lets in anybody else goes.
    fn share(&self, notes: &mut Notes, policy: &Document) {
        let Some(there) = policy.statement(document::SHARE) else { return };
        let wanted = self.reader.map(|reader| document::share(self.bucket, reader));
        let same = wanted.as_ref().is_some_and(|wanted| document::same(there, wanted));
        let after = self.reader.map(|reader| format!("{reader} may read")).unwrap_or_default();
        notes.unless(same, Step::Policy, format!("Policy {}", document::SHARE), there.to_string(), after);
    }

    /// Our statements as they should be, in a policy as it is.
    pub(super) fn amend(&self, policy: &mut Document) {
        policy.put(document::tls_only(self.bucket));
        if policy.statement(document::SHARE).is_some() {
            match self.reader {
                Some(reader) => policy.put(document::share(self.bucket, reader)),
                None => policy.remove(document::SHARE),
            }
        }
    }

    /// Why our replication rule can't stand beside those of others: they share one role, and S3 takes no two forms of rules.
    pub(super) fn replication_obstacle(&self, found: Option<&ReplicationConfiguration>) -> Option<Error> {
        let (replica, found) = (self.replica.as_ref()?, found?);
        let others: Vec<_> = found.rules().iter().filter(|rule| rule.id() != Some(REPLICATE)).collect();
        let bucket = self.bucket;
        let text = if others.is_empty() {
            return None;
        } else if found.role() != replica.role {
            format!(
                "the replication of bucket {bucket} has rules of others with the role {}, and all rules share one role; \
                 name that role as platform.storage.replication_role, or remove these rules at S3 first",
                found.role()
            )
        } else if others.iter().any(|rule| rule.filter().is_none()) {
            format!(
                "the replication of bucket {bucket} has rules of others in S3's first form (Prefix without Filter), \
                 beside which S3 takes none of the second; rewrite these rules with a Filter first"
            )
        } else {
            return None;
        };
        Some(Error::failed(FailureCode::Rejected, text))
    }

    /// Why S3 would take no policy of ours, for what others have in it: the public is blocked before it is written.
    pub(super) fn obstacles(&self, found: &Found) -> Vec<Error> {
        let Ok(policy) = &found.policy else { return Vec::new() };
        let mut policy = policy.clone();
        self.amend(&mut policy);
        [policy.gone(self.bucket), policy.public(self.bucket)].into_iter().flatten().collect()
    }

    /// With the configured key; without one the bucket's own, as long as there is any.
    pub(super) fn encryption(&self, there: Option<&Encryption>) -> Encryption {
        match (self.kms_key, there) {
            (Some(key), _) => Encryption { algorithm: "aws:kms".into(), key: Some(key.to_owned()), bucket_key: true },
            (None, Some(there)) if !there.algorithm.is_empty() => there.clone(),
            (None, _) => Encryption { algorithm: "AES256".into(), key: None, bucket_key: false },
        }
    }

    /// Logs of all buckets lie in one: each under its name.
    pub(super) fn log_prefix(&self) -> String {
        format!("{}/", self.bucket)
    }

    /// Our rule beside those that are there: S3 wants every rule to have a priority of its own. A deletion is not copied:
    /// it may be what the backup is for.
    pub(super) fn replication_rule(
        &self,
        replica: &Replica,
        rules: &[ReplicationRule],
    ) -> Result<ReplicationRule, Error> {
        let others = || rules.iter().filter(|rule| rule.id() != Some(REPLICATE)).filter_map(ReplicationRule::priority);
        let ours = rules.iter().find(|rule| rule.id() == Some(REPLICATE)).and_then(ReplicationRule::priority);
        let free = || others().max().unwrap_or_default() + 1;
        let priority = ours.filter(|ours| !others().any(|other| other == *ours)).unwrap_or_else(free);
        let encrypted = self.kms_key.map(|key| EncryptionConfiguration::builder().replica_kms_key_id(key).build());
        let destination = Destination::builder()
            .bucket(format!("arn:aws:s3:::{}", replica.bucket))
            .set_encryption_configuration(encrypted)
            .build();
        let criteria = match self.kms_key {
            Some(_) => {
                let enabled = SseKmsEncryptedObjects::builder().status(SseKmsEncryptedObjectsStatus::Enabled).build();
                Some(SourceSelectionCriteria::builder().sse_kms_encrypted_objects(built(enabled)?).build())
            }
            None => None,
        };
        let deletions = DeleteMarkerReplication::builder().status(DeleteMarkerReplicationStatus::Disabled).build();
        let rule = ReplicationRule::builder()
            .id(REPLICATE)
            .priority(priority)
            .status(ReplicationRuleStatus::Enabled)
            .filter(ReplicationRuleFilter::builder().prefix("").build())
            .set_source_selection_criteria(criteria)
            .delete_marker_replication(deletions)
            .destination(built(destination)?);
        built(rule.build())
    }
}

#[derive(Default)]
struct Notes {
    differences: Vec<Difference>,
    unread: Vec<Error>,
}

impl Notes {
    fn read<'f, T>(&mut self, part: &'f Result<T, Error>) -> Option<&'f T> {
        part.as_ref().map_err(|error| self.unread.push(error.clone())).ok()
    }

    fn unless(
        &mut self,
        same: bool,
        step: Step,
        property: impl Into<String>,
        before: impl Into<String>,
        after: impl ToString,
    ) {
        if !same {
            self.differs(step, property, before, after.to_string());
        }
    }

    fn differs(&mut self, step: Step, property: impl Into<String>, before: impl Into<String>, after: String) {
        let (property, mut before) = (property.into(), before.into());
        if before == after {
            before.push_str(", altered"); // in something that the words for it leave out
        }
        self.differences.push(Difference { step, property, before, after });
    }
}

/// Our two lifecycle rules, for the whole bucket. `legacy` writes that as a prefix beside the rule's own fields, for S3
/// takes no filters where somebody else's rule is still written so.
pub(super) fn lifecycle_rules(legacy: bool) -> Result<[LifecycleRule; 2], Error> {
    let rule = |id: &str| {
        let rule = LifecycleRule::builder().id(id).status(ExpirationStatus::Enabled);
        if legacy {
            #[expect(deprecated, reason = "S3 does not take both forms in one configuration")]
            rule.prefix("")
        } else {
            rule.filter(LifecycleRuleFilter::builder().prefix("").build())
        }
    };
    let abort = AbortIncompleteMultipartUpload::builder().days_after_initiation(limits::INCOMPLETE_UPLOAD_DAYS).build();
    let expire = NoncurrentVersionExpiration::builder().noncurrent_days(limits::NONCURRENT_VERSION_DAYS).build();
    Ok([
        built(rule(ABORT_UPLOADS).abort_incomplete_multipart_upload(abort).build())?,
        built(rule(EXPIRE_VERSIONS).noncurrent_version_expiration(expire).build())?,
    ])
}

/// Without the ways in which S3 may write that a rule is for the whole bucket.
fn plain_lifecycle(rule: &LifecycleRule) -> LifecycleRule {
    let mut plain = rule.clone();
    let everything = |prefix: Option<&str>| prefix.is_none_or(str::is_empty);
    if plain.filter().is_some_and(|filter| {
        everything(filter.prefix())
            && *filter == LifecycleRuleFilter::builder().set_prefix(filter.prefix.clone()).build()
    }) {
        plain.filter = None;
    }
    #[expect(deprecated, reason = "others' tools still write it")]
    if everything(plain.prefix.as_deref()) {
        plain.prefix = None;
    }
    plain
}

fn lifecycle_said(rule: &LifecycleRule) -> String {
    let abort = rule.abort_incomplete_multipart_upload().and_then(|abort| abort.days_after_initiation());
    let expire = rule.noncurrent_version_expiration().and_then(|expire| expire.noncurrent_days());
    let mut said = vec![rule.status().to_string()];
    said.extend(abort.map(|days| format!("AbortIncompleteMultipartUpload after {days} days")));
    said.extend(expire.map(|days| format!("NoncurrentVersionExpiration after {days} days")));
    said.join(", ")
}

/// Without its priority, and without the ways in which S3 may write that a rule is for the whole bucket.
fn plain_replication(rule: &ReplicationRule) -> ReplicationRule {
    let mut plain = rule.clone();
    plain.priority = None;
    let everything = |filter: &ReplicationRuleFilter| {
        filter.prefix().is_none_or(str::is_empty) && filter.tag().is_none() && filter.and().is_none()
    };
    if plain.filter().is_some_and(everything) {
        plain.filter = None;
    }
    plain
}

fn replication_said(rule: &ReplicationRule) -> String {
    let bucket = rule.destination().map(Destination::bucket).unwrap_or_default();
    format!("{}, to {}", rule.status(), bucket.trim_start_matches("arn:aws:s3:::"))
}

#[cfg(test)]
mod tests;
