//! The range in which Aurora Serverless v2 scales, and whether it pauses.
//!
//! Setting the same range twice changes nothing, so that the call may be repeated. RDS takes it only while the cluster
//! is available; what moves is waited for.

use std::time::Duration;

use aws_sdk_rds::types::{ClusterPendingModifiedValues, DbCluster, ServerlessV2ScalingConfiguration};
use sfdata_common::{
    command::{Acu, Capacity},
    limits,
    outcome::FailureCode,
};
use sfdata_proto::v1::action_result::Kind;

use super::{Aurora, is_lost, reached, resource, state, watch::Watch};
use crate::{
    execute::Job,
    services::{Error, Plan, aws::failure},
};

impl Aurora {
    pub(super) async fn set_capacity(&self, wanted: Capacity, deadline: Duration, job: &Job) -> Result<Kind, Error> {
        let name = self.named()?;
        let mut watch = Watch::new(job, deadline);
        let mut seen = watch.read(|| self.look(name)).await?;
        let plan = change(name, may_set(&seen, name)?, wanted);
        if let Some(answer) = job.agree(plan).await? {
            return Ok(answer);
        }
        let (mut ordered, mut refusals) = (false, 0);
        loop {
            let before = may_set(&seen, name).map_err(|error| watch.after(error))?;
            let status = seen.status().unwrap_or_default();
            match status {
                "available" if before == Some(wanted) => return Ok(reached(state(&seen))),
                "available" if !ordered => match self.modify(name, wanted).await {
                    Ok(()) => {
                        ordered = true;
                        watch.did(format!("the capacity of {name} was set to {wanted}"));
                    }
                    Err(Error::Failed { code: FailureCode::Conflict, .. }) if refusals < limits::AWS_TRIES => {
                        refusals += 1;
                        watch.wait(format!("RDS does not modify {name} yet"), None).await?;
                    }
                    Err(error) => {
                        watch.unsure(format!("the capacity of {name} may have been set to {wanted}"), error).await?;
                    }
                },
                _ => watch.wait(format!("{name} is {status}"), None).await?,
            }
            seen = watch.read(|| self.look(name)).await?;
        }
    }

    async fn modify(&self, name: &str, wanted: Capacity) -> Result<(), Error> {
        let range = ServerlessV2ScalingConfiguration::builder()
            .min_capacity(wanted.min.units())
            .max_capacity(wanted.max.units())
            .set_seconds_until_auto_pause(wanted.pause_after.map(seconds));
        let call = self.client.modify_db_cluster().db_cluster_identifier(name).apply_immediately(true);
        let call = call.serverless_v2_scaling_configuration(range.build()).send().await;
        call.map(|_| ()).map_err(|e| {
            let tried = format_args!("set the capacity of Aurora cluster {name} to {wanted}");
            failure(tried, "rds:ModifyDBCluster", e)
        })
    }
}

fn seconds(duration: Duration) -> i32 {
    duration.as_secs().try_into().unwrap_or(i32::MAX)
}

/// The range as it is, or why it must not be set.
fn may_set(cluster: &DbCluster, name: &str) -> Result<Option<Capacity>, Error> {
    let rejected = |text: String| Err(Error::failed(FailureCode::Rejected, text));
    let status = cluster.status().unwrap_or_default();
    let engine = cluster.engine().unwrap_or_default();
    let Some(range) = cluster.serverless_v2_scaling_configuration() else {
        return rejected(format!(
            "{name} is a cluster of {engine} without Serverless v2: its capacity is the class of its instances"
        ));
    };
    if is_lost(status) {
        return rejected(format!("{name} is {status}, which RDS does not leave by itself; look at its events"));
    }
    if matches!(status, "stopped" | "stopping") {
        return rejected(format!("{name} is {status}, and RDS changes only what runs; start it first"));
    }
    let none = ClusterPendingModifiedValues::builder().build();
    if cluster.pending_modified_values().is_some_and(|pending| *pending != none) {
        return rejected(format!(
            "{name} has other changes that wait for its maintenance window, and RDS would make them now as well; \
             apply or withdraw them first"
        ));
    }
    let (min, max) = (range.min_capacity().and_then(Acu::new), range.max_capacity().and_then(Acu::new));
    let pause = range.seconds_until_auto_pause().and_then(|seconds| u64::try_from(seconds).ok());
    let pause_after = pause.filter(|_| min.is_some_and(Acu::is_zero)).map(Duration::from_secs);
    Ok(min.zip(max).map(|(min, max)| Capacity { min, max, pause_after }))
}

fn change(name: &str, before: Option<Capacity>, wanted: Capacity) -> Plan {
    let pause = |capacity: Capacity| capacity.pause_after.map(|pause| pause.as_secs().to_string()).unwrap_or_default();
    let of = |property: fn(Capacity) -> Acu| before.map(|before| property(before).to_string()).unwrap_or_default();
    Plan::default()
        .change(resource(name), "MinCapacity", of(|capacity| capacity.min), wanted.min.to_string())
        .change(resource(name), "MaxCapacity", of(|capacity| capacity.max), wanted.max.to_string())
        .change(resource(name), "SecondsUntilAutoPause", before.map(pause).unwrap_or_default(), pause(wanted))
}

#[cfg(test)]
mod tests {
    use aws_sdk_rds::types::ServerlessV2ScalingConfigurationInfo;

    use super::*;

    fn cluster(status: &str, min: f64, pause: Option<i32>) -> DbCluster {
        let range = ServerlessV2ScalingConfigurationInfo::builder().min_capacity(min).max_capacity(4.0);
        let range = range.set_seconds_until_auto_pause(pause).build();
        DbCluster::builder()
            .status(status)
            .engine("aurora-postgresql")
            .serverless_v2_scaling_configuration(range)
            .build()
    }

    #[test]
    fn only_what_runs_and_scales_by_itself_is_set() {
        let capacity = |min, pause: Option<u64>| {
            let [min, max] = [min, 4.0].map(|units| Acu::new(units).unwrap());
            Some(Capacity { min, max, pause_after: pause.map(Duration::from_secs) })
        };
        assert_eq!(may_set(&cluster("available", 0.5, Some(300)), "la"), Ok(capacity(0.5, None)), "it never pauses");
        assert_eq!(may_set(&cluster("modifying", 0.0, Some(300)), "la"), Ok(capacity(0.0, Some(300))));
        let pending = ClusterPendingModifiedValues::builder().engine_version("17.1").build();
        let mut waits = cluster("available", 0.5, None);
        waits.pending_modified_values = Some(pending);
        let provisioned = DbCluster::builder().status("available").engine("aurora-mysql").build();
        for (cluster, told) in [
            (waits, "maintenance window"),
            (cluster("stopped", 0.5, None), "start it first"),
            (cluster("storage-full", 0.5, None), "storage-full"),
            (provisioned, "aurora-mysql without Serverless v2"),
        ] {
            match may_set(&cluster, "la") {
                Err(Error::Failed { code: FailureCode::Rejected, message }) => {
                    assert!(message.contains(told), "{message}")
                }
                other => panic!("{told}: {other:?}"),
            }
        }
    }
}
