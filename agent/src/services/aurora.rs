//! The Aurora cluster of the platform: Dagster's run, event and schedule storage.
//!
//! Speaks to RDS, and for the load to CloudWatch; nothing here connects to the database or sees its content. Only the cluster that the
//! configuration names is touched, and what is restored from it.

mod activity;
mod capacity;
mod instance;
mod of;
mod power;
mod restore;
mod snapshots;
mod watch;

use aws_sdk_rds::{
    Client,
    types::{DbCluster, DbInstance, Filter},
};
use sfdata_common::{command, outcome::FailureCode};
use sfdata_proto::v1::{self as wire, action_result::Kind};

use self::{of::Of, power::Power};
use super::{
    Error,
    aws::{Aws, client, failure},
};
use crate::{config::Platform, execute::Job, power::observation::Database};

/// Tag of what a command made, with its id.
const TAG: &str = "sfdata:command";

/// A cluster, as plans name it.
fn resource(name: &str) -> String {
    format!("db-cluster {name}")
}

/// A status that RDS does not leave by itself ("Viewing DB cluster status", Aurora user guide).
fn is_lost(status: &str) -> bool {
    const LOST: [&str; 4] = ["deleting", "failed", "migration-failed", "storage-full"];
    LOST.contains(&status) || status.starts_with("inaccessible-") || status.starts_with("incompatible-")
}

/// The result of a change that has been waited for.
fn reached(aurora: wire::AuroraState) -> Kind {
    Kind::Aurora(wire::AuroraResult { aurora: Some(aurora) })
}

/// The platform's database.
#[derive(Debug, Clone)]
pub struct Aurora {
    client: Client,
    metrics: aws_sdk_cloudwatch::Client,
    cluster: Option<String>,
    instance: Option<String>,
}

impl Aurora {
    pub(super) fn new(aws: &Aws, platform: &Platform) -> Self {
        let metrics = client!(aws, aws_sdk_cloudwatch);
        Self {
            client: client!(aws, aws_sdk_rds),
            metrics,
            cluster: platform.aurora_cluster.clone(),
            instance: platform.database_instance.clone(),
        }
    }

    /// Do what was ordered.
    pub async fn execute(&self, action: &command::Aurora, job: &Job) -> Result<Kind, Error> {
        let of = self.of()?;
        match (action, of) {
            (command::Aurora::Status, of) => tokio::select! {
                biased;
                () = job.cancelled().cancelled() => Err(Error::cancelled("nothing was read yet")),
                status = self.status(of) => Ok(Kind::AuroraStatus(status?)),
            },
            (command::Aurora::Start { deadline }, of) => self.power(of, Power::On, *deadline, job).await,
            (command::Aurora::Stop { deadline }, of) => self.power(of, Power::Off, *deadline, job).await,
            (command::Aurora::Snapshots, of) => self.snapshots(of, job).await,
            (command::Aurora::Snapshot { name, deadline }, of) => {
                self.snapshot(of, name.as_deref(), *deadline, job).await
            }
            (command::Aurora::DeleteSnapshot { name, deadline }, of) => {
                self.delete_snapshot(of, name, *deadline, job).await
            }
            (command::Aurora::SetCapacity { capacity, deadline }, Of::Cluster(_)) => {
                self.set_capacity(*capacity, *deadline, job).await
            }
            (command::Aurora::Restore { snapshot, new_cluster, deadline }, Of::Cluster(_)) => {
                Box::pin(self.restore(snapshot, new_cluster, *deadline, job)).await
            }
            (command::Aurora::Restore { snapshot, new_cluster, deadline }, Of::Instance(live)) => {
                Box::pin(self.restore_instance(live, [snapshot, new_cluster], *deadline, job)).await
            }
            (command::Aurora::SetCapacity { .. }, Of::Instance(name)) => {
                let text = format!(
                    "{name} is a plain DB instance, whose class is its capacity; {} is for Aurora clusters alone",
                    action.name()
                );
                Err(Error::failed(FailureCode::Rejected, text))
            }
        }
    }

    /// State, engine and capacity range; empty when the platform has no Aurora cluster.
    pub async fn health(&self) -> wire::AuroraHealth {
        if self.cluster.is_none() && self.instance.is_none() {
            return wire::AuroraHealth::default();
        }
        let state = async { self.see(self.of()?).await };
        match state.await {
            Ok(state) => wire::AuroraHealth { state: Some(state), error: String::new() },
            Err(error) => wire::AuroraHealth { state: None, error: error.health() },
        }
    }

    /// Whether who connects is served; `None` where the platform has no database.
    pub async fn readiness(&self) -> Result<Option<Database>, Error> {
        if self.cluster.is_none() && self.instance.is_none() {
            return Ok(None);
        }
        let status = self.see(self.of()?).await?.status;
        Ok(Some(match &*status {
            "stopped" => Database::Stopped,
            "starting" | "stopping" | "creating" | "rebooting" => Database::Moving,
            status if is_lost(status) => Database::Moving,
            _ => Database::Ready,
        }))
    }

    /// Start it. Told twice, RDS refuses the second one.
    pub async fn start(&self) -> Result<(), Error> {
        self.order(Power::On, self.of()?).await
    }

    async fn status(&self, of: Of<'_>) -> Result<wire::AuroraStatusResult, Error> {
        let name = match of {
            Of::Cluster(name) => name,
            Of::Instance(name) => return self.status_of_instance(name).await,
        };
        let cluster = self.look(name).await?;
        let activity = self.activity(name, &cluster).await;
        Ok(wire::AuroraStatusResult { aurora: Some(state(&cluster)), activity: Some(activity) })
    }

    /// The platform's database.
    fn of(&self) -> Result<Of<'_>, Error> {
        match &self.instance {
            Some(instance) => Ok(Of::Instance(instance)),
            None => self.named().map(Of::Cluster),
        }
    }

    fn named(&self) -> Result<&str, Error> {
        self.cluster.as_deref().ok_or_else(|| {
            let text = "this agent has no database; name it as platform.aurora_cluster in its configuration";
            Error::failed(FailureCode::NotFound, text)
        })
    }

    /// The cluster, which has to exist.
    async fn look(&self, name: &str) -> Result<DbCluster, Error> {
        let answer = self.client.describe_db_clusters().db_cluster_identifier(name).send().await.map_err(|e| {
            failure(format_args!("read the state of Aurora cluster {name}"), "rds:DescribeDBClusters", e)
        })?;
        answer.db_clusters.into_iter().flatten().next().ok_or_else(|| {
            let text = format!("RDS shows no Aurora cluster {name}; correct platform.aurora_cluster");
            Error::failed(FailureCode::NotFound, text)
        })
    }

    /// The cluster's instances. A cluster has sixteen at most, so that one page holds them.
    async fn members(&self, name: &str) -> Result<Vec<DbInstance>, Error> {
        let filter = Filter::builder().name("db-cluster-id").values(name).build();
        let answer = self.client.describe_db_instances().filters(filter).send().await.map_err(|e| {
            failure(format_args!("read the instances of Aurora cluster {name}"), "rds:DescribeDBInstances", e)
        })?;
        Ok(answer.db_instances.unwrap_or_default())
    }
}

fn state(cluster: &DbCluster) -> wire::AuroraState {
    let range = cluster.serverless_v2_scaling_configuration();
    let whole = |number: i32| u32::try_from(number).unwrap_or_default();
    wire::AuroraState {
        cluster: cluster.db_cluster_identifier().unwrap_or_default().into(),
        status: cluster.status().unwrap_or_default().into(),
        engine: cluster.engine().unwrap_or_default().into(),
        engine_version: cluster.engine_version().unwrap_or_default().into(),
        min_acu: range.and_then(|range| range.min_capacity()).unwrap_or_default(),
        max_acu: range.and_then(|range| range.max_capacity()).unwrap_or_default(),
        auto_pause_seconds: range.and_then(|range| range.seconds_until_auto_pause()).map_or(0, whole),
        instances: u32::try_from(cluster.db_cluster_members().len()).unwrap_or(u32::MAX),
        instance_class: String::new(),
    }
}

#[cfg(test)]
mod tests {
    use aws_sdk_rds::types::{DbClusterMember, ServerlessV2ScalingConfigurationInfo};

    use super::*;

    #[test]
    fn a_cluster_that_never_pauses_shows_zero() {
        let range = ServerlessV2ScalingConfigurationInfo::builder().min_capacity(0.5).max_capacity(4.0);
        let cluster = DbCluster::builder()
            .db_cluster_identifier("la")
            .status("available")
            .db_cluster_members(DbClusterMember::builder().build());
        let seen = state(&cluster.clone().serverless_v2_scaling_configuration(range.clone().build()).build());
        assert_eq!((seen.min_acu, seen.max_acu, seen.auto_pause_seconds, seen.instances), (0.5, 4.0, 0, 1));
        let range = range.min_capacity(0.0).seconds_until_auto_pause(300).build();
        assert_eq!(state(&cluster.serverless_v2_scaling_configuration(range).build()).auto_pause_seconds, 300);
    }
}
