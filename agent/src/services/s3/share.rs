//! What the core account may read: one statement of ours in the shared bucket's policy, and the LA's word against it.
//!
//! Whom to let in stands in the agent's configuration and in no command, so that whoever has the hub, and every operator's
//! key, can at most let in that one role. The LA's word is a file that no command writes: it is read at every writing of
//! a policy, before and after, so that a grant which crosses it on its way takes itself back.

use aws_sdk_s3::error::ProvideErrorMetadata as _;
use sfdata_common::{Timestamp, command::Bucket, limits, outcome::FailureCode, retry::jittered};
use sfdata_proto::v1::{self as wire, action_result::Kind};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{
    S3,
    document::{self, Document},
    ensure::PAUSE,
    resource,
};
use crate::{
    execute::Job,
    services::{Error, Plan, aws::failure},
};

impl S3 {
    /// How it stands with the shared bucket.
    pub async fn show_share(&self) -> Result<wire::S3ShareResult, Error> {
        let bucket = self.shared()?;
        Ok(self.shown(bucket, &self.policy(bucket).await?))
    }

    /// Take our statement out of the shared bucket's policy, and see that it is gone.
    pub async fn take_back(&self, stop: &CancellationToken) -> Result<wire::S3ShareResult, Error> {
        let bucket = self.shared()?;
        self.unshare().await?;
        let policy = self.shows(bucket, stop, |policy| policy.statement(document::SHARE).is_none()).await?;
        Ok(self.shown(bucket, &policy))
    }

    /// Take our statement out of the shared bucket's policy, if it is there; tells whether it was.
    async fn unshare(&self) -> Result<bool, Error> {
        self.amend(self.shared()?, |policy| policy.remove(document::SHARE)).await
    }

    /// While the LA has revoked sharing, look each minute and take out what is shared all the same: by a revocation that
    /// did not reach AWS, or by whoever put it back.
    pub async fn keep_unshared(self, stop: CancellationToken) {
        loop {
            if self.sharing.revoked().is_some() && self.buckets.shared.is_some() {
                match Box::pin(self.unshare()).await {
                    Ok(true) => info!("the core account was let in although the LA has revoked it: taken out"),
                    Ok(false) => {}
                    Err(error) => warn!(%error, "it is not known whether the core account is still let in"),
                }
            }
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = sleep(jittered(limits::HEALTH_LOOK_REST, 0.1)) => {}
            }
        }
    }

    pub(super) async fn grant(&self, job: &Job) -> Result<Kind, Error> {
        let bucket = self.shared()?;
        let Some(reader) = self.storage.core_reader.as_deref() else {
            let text = "the agent's configuration names nobody to share with; the LA sets platform.storage.core_reader";
            return Err(Error::failed(FailureCode::NotFound, text));
        };
        if let Some(refusal) = self.refusal() {
            if !job.only_plans() {
                self.unshare().await?; // an earlier try, killed, may have got as far as letting it in
            }
            return Err(refusal);
        }
        let wanted = document::share(bucket, reader);
        let granted =
            |policy: &Document| policy.statement(document::SHARE).is_some_and(|there| document::same(there, &wanted));
        let policy = self.policy(bucket).await?;
        let mut plan = Plan::default();
        if !granted(&policy) {
            let before = policy.statement(document::SHARE).map(ToString::to_string).unwrap_or_default();
            let property = format!("Policy {}", document::SHARE);
            plan = plan.change(resource(bucket), property, before, format!("{reader} may read"));
            let mut changed = policy.clone();
            changed.put(wanted.clone());
            changed.gone(bucket).map_or(Ok(()), Err)?;
        }
        if let Some(answer) = job.agree(plan).await? {
            return Ok(answer);
        }
        if granted(&policy) {
            return Ok(Kind::S3Share(self.shown(bucket, &policy)));
        }
        self.amend(bucket, |policy| policy.put(wanted.clone())).await?;
        let settled = self.shows(bucket, job.cancelled(), |policy| granted(policy) || self.refusal().is_some()).await;
        match self.refusal() {
            Some(refusal) => Err(refusal),
            None => Ok(Kind::S3Share(self.shown(bucket, &settled?))),
        }
    }

    pub(super) async fn revoke(&self, job: &Job) -> Result<Kind, Error> {
        let bucket = self.shared()?;
        let policy = self.policy(bucket).await?;
        let mut plan = Plan::default();
        if let Some(there) = policy.statement(document::SHARE) {
            plan = plan.change(resource(bucket), format!("Policy {}", document::SHARE), there.to_string(), "");
            let mut changed = policy.clone();
            changed.remove(document::SHARE);
            changed.gone(bucket).map_or(Ok(()), Err)?;
        }
        if let Some(answer) = job.agree(plan).await? {
            return Ok(answer);
        }
        self.take_back(job.cancelled()).await.map(Kind::S3Share)
    }

    /// Look at a policy that was just written until it is so: S3 shows it after some seconds at most.
    pub(super) async fn shows(
        &self,
        bucket: &str,
        stop: &CancellationToken,
        so: impl Fn(&Document) -> bool,
    ) -> Result<Document, Error> {
        for _ in 1..limits::BUCKET_LOOKS {
            let policy = self.policy(bucket).await?;
            if so(&policy) {
                return Ok(policy);
            }
            tokio::select! {
                biased;
                () = stop.cancelled() => {
                    let text = format!("the policy of bucket {bucket} was written, and is not seen to be in force yet");
                    return Err(Error::cancelled(text));
                }
                () = sleep(jittered(PAUSE, 0.2)) => {}
            }
        }
        let policy = self.policy(bucket).await?;
        if so(&policy) { Ok(policy) } else { Err(self.crossed(bucket)) }
    }

    /// Change a bucket's policy as it is now; tells whether that changed it. Whatever the change is, nothing is shared that
    /// the LA has revoked, also while this writes.
    pub(super) async fn amend(&self, bucket: &str, change: impl Fn(&mut Document)) -> Result<bool, Error> {
        let _alone = self.policies.lock().await;
        let _across = self.sharing.alone().await;
        let before = self.policy(bucket).await?;
        let mut policy = before.clone();
        change(&mut policy);
        if self.sharing.revoked().is_some() {
            policy.remove(document::SHARE);
        }
        if policy == before {
            return Ok(false);
        }
        self.write(bucket, &policy).await?;
        if policy.statement(document::SHARE).is_some() && self.sharing.revoked().is_some() {
            policy.remove(document::SHARE);
            self.write(bucket, &policy).await?;
        }
        Ok(true)
    }

    async fn write(&self, bucket: &str, policy: &Document) -> Result<(), Error> {
        let owner = self.owner().await?;
        let tried = format!("write the policy of bucket {bucket}");
        match policy.encode(bucket)? {
            Some(text) => {
                let call = self.client.put_bucket_policy().bucket(bucket).expected_bucket_owner(owner).policy(text);
                match call.send().await {
                    Ok(_) => Ok(()),
                    Err(error) => {
                        let malformed = error.code() == Some("MalformedPolicy");
                        Err(self.untaken(bucket, policy, malformed, failure(tried, "s3:PutBucketPolicy", error)))
                    }
                }
            }
            None => {
                let call = self.client.delete_bucket_policy().bucket(bucket).expected_bucket_owner(owner);
                call.send().await.map(|_| ()).map_err(|error| failure(tried, "s3:DeleteBucketPolicy", error))
            }
        }
    }

    /// Why S3 did not take a policy: by its own words, and by what others have in it.
    fn untaken(&self, bucket: &str, policy: &Document, malformed: bool, error: Error) -> Error {
        let told = match &error {
            Error::Failed { .. } if malformed => {
                return policy.gone(bucket).map_or(error.clone(), |gone| gone.and(error));
            }
            Error::Failed { code: FailureCode::AccessDenied, message } => {
                let all = policy.that_let_in_everybody(true);
                (!all.is_empty()).then(|| {
                    let all = all.join(", ");
                    format!(
                        "{message}. Or it is that {all} lets in everybody, which the public access block forbids; \
                         remove these at S3 first"
                    )
                })
            }
            _ => None,
        };
        told.map_or(error, |told| Error::failed(FailureCode::AccessDenied, told))
    }

    fn shared(&self) -> Result<&str, Error> {
        let meant = self.meant(Some(Bucket::Shared))?;
        Ok(meant.first().map_or("", |(_, bucket)| bucket))
    }

    fn refusal(&self) -> Option<Error> {
        let revoked = self.sharing.revoked()?;
        let since = Timestamp::from_millisecond(revoked.since_unix_ms).unwrap_or_default();
        let text = format!(
            "the LA has revoked sharing since {since}: {}; nothing is shared until the LA allows it again with \
             sfdata-agent share allow",
            revoked.reason
        );
        Some(Error::failed(FailureCode::Rejected, text))
    }

    fn crossed(&self, bucket: &str) -> Error {
        let text = format!(
            "the policy of bucket {bucket} was changed by somebody else at the same time, and this change is gone; find \
             out who, then order it again"
        );
        Error::failed(FailureCode::Conflict, text)
    }

    fn shown(&self, bucket: &str, policy: &Document) -> wire::S3ShareResult {
        let reader = self.storage.core_reader.as_deref().unwrap_or_default();
        let state = match policy.statement(document::SHARE) {
            None => wire::S3ShareState::NotGranted,
            Some(there) if document::same(there, &document::share(bucket, reader)) => wire::S3ShareState::Granted,
            Some(_) => wire::S3ShareState::Altered,
        };
        wire::S3ShareResult {
            bucket: bucket.to_owned(),
            core_reader: reader.to_owned(),
            state: state.into(),
            revoked: self.sharing.revoked(),
            other_grants: policy.others_that_let_in(reader),
        }
    }
}
