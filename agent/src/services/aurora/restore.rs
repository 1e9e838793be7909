//! A snapshot of the platform's cluster brought to life as a cluster of another name, beside the live one.
//!
//! Nothing that exists is touched: the name must be free, and the cluster that is made carries this command's id as a tag,
//! so that a resumed action, or one whose answer was lost, knows its own work from anybody else's.

use std::time::Duration;

use aws_sdk_rds::{
    operation::restore_db_cluster_from_snapshot::builders::RestoreDbClusterFromSnapshotInputBuilder as Restoration,
    types::{DbCluster, DbInstance, ServerlessV2ScalingConfiguration, Tag},
};
use sfdata_common::{ids::CommandId, outcome::FailureCode};
use sfdata_proto::v1::action_result::Kind;

use super::{
    Aurora, TAG, is_lost,
    of::Of,
    reached, resource,
    snapshots::{CALLING, Snapshot},
    state,
    watch::Watch,
};
use crate::{
    execute::Job,
    services::{Error, Plan, aws::failure},
};

const SERVERLESS: &str = "db.serverless";

impl Aurora {
    pub(super) async fn restore(&self, from: &str, to: &str, deadline: Duration, job: &Job) -> Result<Kind, Error> {
        let live = self.named()?;
        let mut watch = Watch::new(job, deadline);
        if to == live {
            let text = format!("{to} is the live database, which is never restored over; choose another name");
            return Err(Error::failed(FailureCode::Rejected, text));
        }
        let model = watch.read(|| self.look(live)).await?;
        let class = class(&model, &watch.read(|| self.members(live)).await?)?;
        if job.checkpoint().is_none() {
            watch.read(|| self.restorable(live, from)).await?;
            if let Some(other) = watch.read(|| self.find(to)).await? {
                let status = other.status().unwrap_or_default();
                let text = format!("there is a cluster {to} already ({status}), and nothing is restored over it");
                return Err(Error::failed(FailureCode::Rejected, text));
            }
            let writer = format!("{to}-1");
            if watch.read(|| self.find_instance(&writer)).await?.is_some() {
                let text = format!("there is an instance {writer} already, which the new cluster's is to be called");
                return Err(Error::failed(FailureCode::Rejected, text + "; choose another name"));
            }
            let plan = Plan::default().change(resource(to), "SnapshotIdentifier", "", from).change(
                format!("db-instance {writer}"),
                "DBInstanceClass",
                "",
                &class,
            );
            if let Some(answer) = job.agree_and_keep(plan, CALLING).await? {
                return Ok(answer);
            }
        }
        let cluster = self.cluster(live, &model, [from, to], job, &mut watch).await?;
        watch.did(format!("{from} was restored as cluster {to}, which stays"));
        self.writer(to, &class, &cluster, &mut watch).await?;
        Ok(reached(state(&watch.read(|| self.look(to)).await?)))
    }

    async fn restorable(&self, live: &str, from: &str) -> Result<Snapshot, Error> {
        let snapshot = self.own_snapshot(Of::Cluster(live), from).await?;
        match &*snapshot.state.status {
            "available" => Ok(snapshot),
            status => {
                let text = format!("snapshot {from} is {status}; restore it when it is available");
                Err(Error::failed(FailureCode::Rejected, text))
            }
        }
    }

    /// The new cluster, made if it is not there, as soon as it is available.
    async fn cluster(
        &self,
        live: &str,
        model: &DbCluster,
        [from, to]: [&str; 2],
        job: &Job,
        watch: &mut Watch<'_>,
    ) -> Result<DbCluster, Error> {
        let mut asked = false;
        loop {
            match watch.read(|| self.find(to)).await? {
                Some(made) if !is_ours(&made, job.command()) => {
                    let text = format!("somebody else made cluster {to}: it is left alone; choose another name");
                    return Err(watch.lost(FailureCode::Conflict, text));
                }
                Some(made) => match made.status().unwrap_or_default() {
                    "available" => return Ok(made),
                    status if is_lost(status) => {
                        return Err(watch.lost(FailureCode::Rejected, format!("it is {status}; look at its events")));
                    }
                    status => watch.wait(format!("{to} is {status}"), None).await?,
                },
                None if asked => watch.wait(format!("RDS does not show cluster {to} yet"), None).await?,
                None => {
                    let snapshot = watch.read(|| self.restorable(live, from)).await?;
                    job.progress(format!("telling RDS to restore {from} as {to}"), None);
                    let restoration = restoration(model, &snapshot, to, job.command());
                    let made = restoration.send_with(&self.client).await.map(|_| ()).or_else(|e| {
                        // The SDK asked twice, or somebody was faster: its tag will tell.
                        let known = e.as_service_error().is_some_and(|e| e.is_db_cluster_already_exists_fault());
                        let tried = format_args!("restore snapshot {from} as cluster {to}");
                        if known { Ok(()) } else { Err(failure(tried, "rds:RestoreDBClusterFromSnapshot", e)) }
                    });
                    match made {
                        Ok(()) => {
                            asked = true;
                            watch.did(format!("{from} is being restored as cluster {to}, which stays"));
                        }
                        Err(error) => watch.unsure(format!("cluster {to} may have been ordered"), error).await?,
                    }
                }
            }
        }
    }

    /// A cluster serves nobody without an instance.
    async fn writer(&self, to: &str, class: &str, cluster: &DbCluster, watch: &mut Watch<'_>) -> Result<(), Error> {
        let name = format!("{to}-1");
        let mut asked = false;
        loop {
            let instances = watch.read(|| self.members(to)).await?;
            match instances.first().map(|instance| instance.db_instance_status().unwrap_or_default()) {
                Some("available") => return Ok(()),
                Some(status) if is_lost(status) => {
                    let text = format!("its instance {name} is {status}; look at its events");
                    return Err(watch.lost(FailureCode::Rejected, text));
                }
                Some(status) => watch.wait(format!("instance {name} is {status}"), None).await?,
                None if asked => watch.wait(format!("instance {name} does not show yet"), None).await?,
                None => {
                    let call = self.client.create_db_instance().db_instance_identifier(&name).db_instance_class(class);
                    let call = call.set_engine(cluster.engine.clone()).db_cluster_identifier(to);
                    let made = call.publicly_accessible(false).send().await.map(|_| ()).or_else(|e| {
                        // An answer was lost: it is on its way into the cluster, or somebody else's.
                        let known = e.as_service_error().is_some_and(|e| e.is_db_instance_already_exists_fault());
                        let tried = format_args!("make instance {name} of the restored cluster {to}");
                        if known { Ok(()) } else { Err(failure(tried, "rds:CreateDBInstance", e)) }
                    });
                    if let Err(error) = made {
                        watch.unsure(format!("instance {name} may have been ordered"), error).await?;
                        continue;
                    }
                    let of = watch.read(|| self.find_instance(&name)).await?;
                    let of = of.and_then(|made| made.db_cluster_identifier);
                    if of.as_ref().is_some_and(|of| of != to) {
                        let text = format!("an instance {name} of another cluster was made meanwhile");
                        return Err(watch.lost(FailureCode::Conflict, text));
                    }
                    asked = true;
                }
            }
        }
    }

    /// A cluster that need not exist.
    async fn find(&self, name: &str) -> Result<Option<DbCluster>, Error> {
        match self.look(name).await {
            Ok(cluster) => Ok(Some(cluster)),
            Err(Error::Failed { code: FailureCode::NotFound, .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

fn is_ours(cluster: &DbCluster, command: CommandId) -> bool {
    let command = command.to_string();
    cluster.tag_list().iter().any(|tag| tag.key() == Some(TAG) && tag.value() == Some(&command))
}

/// The class of the live cluster's writer.
fn class(live: &DbCluster, instances: &[DbInstance]) -> Result<String, Error> {
    let writer = live.db_cluster_members().iter().find(|member| member.is_cluster_writer() == Some(true));
    let writer = writer.and_then(|writer| writer.db_instance_identifier());
    let found = instances.iter().find(|one| one.db_instance_identifier() == writer).or(instances.first());
    match found.and_then(|one| one.db_instance_class()) {
        Some(class) => Ok(class.into()),
        None if live.serverless_v2_scaling_configuration().is_some() => Ok(SERVERLESS.into()),
        None => {
            let text = "the live cluster has no instance, so that the class of the restored one is not known; make one";
            Err(Error::failed(FailureCode::Rejected, text))
        }
    }
}

/// What the new cluster is to be: its data and version from the snapshot, everything around it from the live one.
fn restoration(live: &DbCluster, snapshot: &Snapshot, to: &str, command: CommandId) -> Restoration {
    let scaling = live.serverless_v2_scaling_configuration().map(|range| {
        let pause = range.seconds_until_auto_pause().filter(|_| range.min_capacity() == Some(0.0));
        ServerlessV2ScalingConfiguration::builder()
            .set_min_capacity(range.min_capacity())
            .set_max_capacity(range.max_capacity())
            .set_seconds_until_auto_pause(pause)
            .build()
    });
    let groups = live.vpc_security_groups().iter();
    let groups = groups.filter_map(|group| group.vpc_security_group_id().map(str::to_owned)).collect();
    // A group of parameters fits one major version alone.
    let major = |version: Option<&str>| version.and_then(|version| version.split('.').next()).map(str::to_owned);
    let same = major(live.engine_version()) == major(Some(&snapshot.state.engine_version));
    let parameters = live.db_cluster_parameter_group.clone().filter(|_| same);
    Restoration::default()
        .snapshot_identifier(&snapshot.state.name)
        .db_cluster_identifier(to)
        .engine(&snapshot.state.engine)
        .engine_version(&snapshot.state.engine_version)
        .set_port(live.port)
        .set_db_subnet_group_name(live.db_subnet_group.clone())
        .set_vpc_security_group_ids(Some(groups))
        .set_kms_key_id(live.kms_key_id.clone().filter(|_| live.storage_encrypted() == Some(true)))
        .set_serverless_v2_scaling_configuration(scaling)
        .set_deletion_protection(live.deletion_protection)
        .set_db_cluster_parameter_group_name(parameters)
        .set_enable_iam_database_authentication(live.iam_database_authentication_enabled)
        .set_copy_tags_to_snapshot(live.copy_tags_to_snapshot)
        .set_storage_type(live.storage_type.clone())
        .tags(Tag::builder().key(TAG).value(command.to_string()).build())
}

#[cfg(test)]
mod tests {
    use aws_sdk_rds::types::{
        DbClusterMember, DbClusterSnapshot, ServerlessV2ScalingConfigurationInfo, VpcSecurityGroupMembership,
    };

    use super::*;

    fn live() -> DbCluster {
        let range = ServerlessV2ScalingConfigurationInfo::builder().min_capacity(0.5).max_capacity(4.0);
        DbCluster::builder()
            .engine_version("16.4")
            .db_subnet_group("private")
            .vpc_security_groups(VpcSecurityGroupMembership::builder().vpc_security_group_id("sg-1").build())
            .storage_encrypted(true)
            .kms_key_id("arn:key")
            .deletion_protection(true)
            .db_cluster_parameter_group("tuned-16")
            .serverless_v2_scaling_configuration(range.seconds_until_auto_pause(300).build())
            .db_cluster_members(DbClusterMember::builder().db_instance_identifier("b").is_cluster_writer(true).build())
            .build()
    }

    #[test]
    fn a_copy_has_the_data_of_the_snapshot_and_the_surroundings_of_the_live_one() {
        let command = CommandId::generate();
        let snapshot = |version: &str| DbClusterSnapshot::builder().engine_version(version).build().into();
        let copy = restoration(&live(), &snapshot("16.1"), "copy", command).build().unwrap();
        assert_eq!(copy.engine_version(), Some("16.1"));
        assert_eq!((copy.db_subnet_group_name(), copy.kms_key_id()), (Some("private"), Some("arn:key")));
        assert_eq!((copy.vpc_security_group_ids(), copy.deletion_protection()), (&["sg-1".to_owned()][..], Some(true)));
        assert_eq!(copy.db_cluster_parameter_group_name(), Some("tuned-16"));
        let range = copy.serverless_v2_scaling_configuration().unwrap();
        assert_eq!((range.min_capacity(), range.seconds_until_auto_pause()), (Some(0.5), None));
        assert_eq!(copy.tags()[0].value(), Some(&*command.to_string()));
        let older = restoration(&live(), &snapshot("15.7"), "copy", command).build().unwrap();
        assert_eq!(older.db_cluster_parameter_group_name(), None);
    }

    #[test]
    fn the_class_is_the_writers() {
        let instance = |name: &str, class: &str| {
            DbInstance::builder().db_instance_identifier(name).db_instance_class(class).build()
        };
        let all = [instance("a", "db.r6g.large"), instance("b", SERVERLESS)];
        assert_eq!(class(&live(), &all), Ok(SERVERLESS.into()));
        assert_eq!(class(&live(), &all[..1]), Ok("db.r6g.large".into()));
        assert_eq!(class(&live(), &[]), Ok(SERVERLESS.into()));
        assert!(class(&DbCluster::builder().build(), &[]).is_err());
    }
}
