//! Taking a prefix out of everybody's reach: one statement of ours in the bucket's policy for each.
//!
//! It works at once, for everybody, moves nothing and can be taken back. It is bounded by the 20 KB that S3 gives to a
//! policy, and a prefix that does not fit is told before anything is changed.

use sfdata_common::{command::Bucket, outcome::FailureCode};
use sfdata_proto::v1::{self as wire, action_result::Kind};

use super::{
    S3,
    document::{self, Document},
    resource,
};
use crate::{
    execute::Job,
    services::{Error, Plan},
};

impl S3 {
    /// All that is in quarantine; an error unless every bucket's policy can be read.
    pub(super) async fn quarantines(&self) -> Result<Kind, Error> {
        let (mut quarantines, mut errors) = (Vec::new(), Vec::new());
        for (role, bucket) in self.meant(None)? {
            match self.policy(bucket).await {
                Ok(policy) => quarantines.extend(listed(role, bucket, &policy)),
                // A bucket that is yet to be made has nothing in it.
                Err(Error::Failed { code: FailureCode::NotFound, .. }) => {}
                Err(error) => errors.push(error),
            }
        }
        match errors.into_iter().reduce(Error::and) {
            Some(error) => Err(error),
            None => Ok(Kind::S3Quarantines(wire::S3QuarantinesResult { quarantines })),
        }
    }

    pub(super) async fn quarantine(&self, role: Bucket, prefix: &str, job: &Job) -> Result<Kind, Error> {
        let sid = document::quarantine_sid(job.command());
        let change = |bucket: &str, policy: &mut Document| {
            let there = policy.quarantines(bucket).into_iter().find(|(_, of)| *of == prefix);
            let sid = there.map_or_else(|| sid.clone(), |(sid, _)| sid.to_owned());
            let wanted = document::quarantine(bucket, prefix, &sid);
            if !policy.statement(&sid).is_some_and(|there| document::same(there, &wanted)) {
                policy.put(wanted);
            }
        };
        let after = format!("nobody may read, write or delete {prefix}*");
        self.bar(role, prefix, [String::new(), after], change, job).await
    }

    pub(super) async fn lift(&self, role: Bucket, prefix: &str, job: &Job) -> Result<Kind, Error> {
        let change = |bucket: &str, policy: &mut Document| {
            let barred = policy.quarantines(bucket).into_iter().filter(|(_, of)| *of == prefix);
            let sids: Vec<String> = barred.map(|(sid, _)| sid.to_owned()).collect();
            sids.iter().for_each(|sid| policy.remove(sid));
        };
        let before = format!("nobody may read, write or delete {prefix}*");
        self.bar(role, prefix, [before, String::new()], change, job).await
    }

    /// Change a policy in this way, in which `said` is before and after, and see that it stays.
    async fn bar(
        &self,
        role: Bucket,
        prefix: &str,
        [before, after]: [String; 2],
        change: impl Fn(&str, &mut Document),
        job: &Job,
    ) -> Result<Kind, Error> {
        let meant = self.meant(Some(role))?;
        let bucket = meant.first().map_or("", |(_, bucket)| bucket);
        let policy = self.policy(bucket).await?;
        let changes = |policy: &Document| {
            let mut changed = policy.clone();
            change(bucket, &mut changed);
            (changed != *policy).then_some(changed)
        };
        let mut plan = Plan::default();
        if let Some(changed) = changes(&policy) {
            changed.encode(bucket)?; // it has to fit
            changed.gone(bucket).map_or(Ok(()), Err)?;
            plan = plan.change(resource(bucket), format!("Policy quarantine {prefix}"), before, after);
        }
        if let Some(answer) = job.agree(plan).await? {
            return Ok(answer);
        }
        let mut found = policy;
        if changes(&found).is_some() {
            self.amend(bucket, |policy| change(bucket, policy)).await?;
            found = self.shows(bucket, job.cancelled(), |policy| changes(policy).is_none()).await?;
        }
        Ok(Kind::S3Quarantines(wire::S3QuarantinesResult { quarantines: listed(role, bucket, &found) }))
    }
}

fn listed(role: Bucket, bucket: &str, policy: &Document) -> Vec<wire::BucketQuarantine> {
    let one = |(sid, prefix): (&str, &str)| wire::BucketQuarantine {
        role: role.to_string(),
        bucket: bucket.to_owned(),
        prefix: prefix.to_owned(),
        command_id: document::quarantine_command(sid).unwrap_or_default(),
    };
    policy.quarantines(bucket).into_iter().map(one).collect()
}
