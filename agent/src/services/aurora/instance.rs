//! A plain RDS instance in the place of an Aurora cluster: what exists for both is done, the rest is refused by name.

use std::time::Duration;

use aws_sdk_rds::{
    operation::restore_db_instance_from_db_snapshot::builders::RestoreDbInstanceFromDbSnapshotInputBuilder as Restoration,
    types::{DbInstance, Tag},
};
use sfdata_common::{ids::CommandId, limits, outcome::FailureCode};
use sfdata_proto::v1::{self as wire, action_result::Kind};

use super::{
    Aurora, TAG, is_lost,
    of::Of,
    reached,
    snapshots::{CALLING, Snapshot},
    watch::Watch,
};
use crate::{
    execute::Job,
    services::{Error, Plan, aws::failure},
};

/// An instance, as plans name it.
pub(super) fn resource(name: &str) -> String {
    format!("db-instance {name}")
}

impl Aurora {
    pub(super) async fn status_of_instance(&self, name: &str) -> Result<wire::AuroraStatusResult, Error> {
        let instance = self.look_at_instance(name).await?;
        let activity = self.activity_of_instance(name, &instance).await;
        Ok(wire::AuroraStatusResult { aurora: Some(state(&instance)), activity: Some(activity) })
    }

    /// The instance, which has to exist and belong to no cluster: that one starts and stops as a whole.
    pub(in crate::services) async fn look_at_instance(&self, name: &str) -> Result<DbInstance, Error> {
        let answer =
            self.client.describe_db_instances().db_instance_identifier(name).send().await.map_err(|e| {
                failure(format_args!("read the state of DB instance {name}"), "rds:DescribeDBInstances", e)
            })?;
        let instance = answer.db_instances.into_iter().flatten().next().ok_or_else(|| {
            let text = format!("RDS shows no DB instance {name}; correct platform.database_instance");
            Error::failed(FailureCode::NotFound, text)
        })?;
        match instance.db_cluster_identifier().filter(|cluster| !cluster.is_empty()) {
            None => Ok(instance),
            Some(cluster) => {
                let text = format!("{name} belongs to cluster {cluster}; name that as platform.aurora_cluster instead");
                Err(Error::failed(FailureCode::Rejected, text))
            }
        }
    }

    /// All instances of the account that belong to no cluster.
    pub(in crate::services) async fn instances(&self) -> Result<Vec<String>, Error> {
        let mut pages = self.client.describe_db_instances().into_paginator().items().send();
        let mut names = Vec::new();
        while let Some(told) = pages.next().await {
            let told = told.map_err(|e| failure("list the DB instances", "rds:DescribeDBInstances", e))?;
            if told.db_cluster_identifier.is_none() && names.len() < limits::DISCOVER_MOST {
                names.extend(told.db_instance_identifier);
            }
        }
        Ok(names)
    }

    /// A snapshot brought to life as an instance of another name, beside the live one.
    pub(super) async fn restore_instance(
        &self,
        live: &str,
        [from, to]: [&str; 2],
        deadline: Duration,
        job: &Job,
    ) -> Result<Kind, Error> {
        let mut watch = Watch::new(job, deadline);
        let rejected = |text: String| Err(Error::failed(FailureCode::Rejected, text));
        if to == live {
            return rejected(format!("{to} is the live database, which is never restored over; choose another name"));
        }
        if job.checkpoint().is_none() {
            watch.read(|| self.own_snapshot(Of::Instance(live), from)).await?;
            if let Some(other) = watch.read(|| self.find_instance(to)).await? {
                let status = other.db_instance_status().unwrap_or_default();
                return rejected(format!("there is an instance {to} already ({status}); nothing is restored over it"));
            }
            let plan = Plan::default().change(resource(to), "DBSnapshotIdentifier", "", from);
            if let Some(answer) = job.agree_and_keep(plan, CALLING).await? {
                return Ok(answer);
            }
        }
        let mut asked = false;
        loop {
            match watch.read(|| self.find_instance(to)).await? {
                Some(made) if !is_ours(&made, job.command()) => {
                    let text = format!("somebody else made instance {to} meanwhile; choose another name");
                    return Err(watch.lost(FailureCode::Conflict, text));
                }
                Some(made) => match made.db_instance_status().unwrap_or_default() {
                    "available" => return Ok(reached(state(&made))),
                    status if is_lost(status) => {
                        return Err(watch.lost(FailureCode::Rejected, format!("it is {status}; look at its events")));
                    }
                    status => watch.wait(format!("{to} is {status}"), None).await?,
                },
                None if asked => watch.wait(format!("RDS does not show instance {to} yet"), None).await?,
                None => {
                    let model = watch.read(|| self.look_at_instance(live)).await?;
                    let snapshot = watch.read(|| self.own_snapshot(Of::Instance(live), from)).await?;
                    let restoration = restoration(&model, &snapshot, to, job.command());
                    let made = restoration.send_with(&self.client).await.map(|_| ()).or_else(|e| {
                        // The SDK asked twice, or somebody was faster: its tag will tell.
                        let known = e.as_service_error().is_some_and(|e| e.is_db_instance_already_exists_fault());
                        let tried = format_args!("restore snapshot {from} as instance {to}");
                        if known { Ok(()) } else { Err(failure(tried, "rds:RestoreDBInstanceFromDBSnapshot", e)) }
                    });
                    match made {
                        Ok(()) => {
                            asked = true;
                            watch.did(format!("{from} is being restored as instance {to}, which stays"));
                        }
                        Err(error) => watch.unsure(format!("instance {to} may have been ordered"), error).await?,
                    }
                }
            }
        }
    }

    /// An instance that need not exist.
    pub(super) async fn find_instance(&self, name: &str) -> Result<Option<DbInstance>, Error> {
        match self.client.describe_db_instances().db_instance_identifier(name).send().await {
            Ok(answer) => Ok(answer.db_instances.into_iter().flatten().next()),
            Err(e) if e.as_service_error().is_some_and(|e| e.is_db_instance_not_found_fault()) => Ok(None),
            Err(e) => Err(failure(format_args!("look for DB instance {name}"), "rds:DescribeDBInstances", e)),
        }
    }
}

fn is_ours(instance: &DbInstance, command: CommandId) -> bool {
    let command = command.to_string();
    instance.tag_list().iter().any(|tag| tag.key() == Some(TAG) && tag.value() == Some(&command))
}

/// What the new instance is to be: its data and version from the snapshot, everything around it from the live one.
fn restoration(live: &DbInstance, snapshot: &Snapshot, to: &str, command: CommandId) -> Restoration {
    let groups = live.vpc_security_groups().iter();
    let groups = groups.filter_map(|group| group.vpc_security_group_id().map(str::to_owned)).collect();
    let subnets = live.db_subnet_group().and_then(|group| group.db_subnet_group_name());
    // A group of parameters fits one major version alone.
    let major = |version: &str| version.split('.').next().map(str::to_owned);
    let same = major(live.engine_version().unwrap_or_default()) == major(&snapshot.state.engine_version);
    let parameters = live.db_parameter_groups().first().and_then(|group| group.db_parameter_group_name());
    Restoration::default()
        .db_snapshot_identifier(&snapshot.state.name)
        .db_instance_identifier(to)
        .set_db_instance_class(live.db_instance_class.clone())
        .set_port(live.endpoint().and_then(|endpoint| endpoint.port()))
        .set_db_subnet_group_name(subnets.map(str::to_owned))
        .set_vpc_security_group_ids(Some(groups))
        .set_db_parameter_group_name(parameters.filter(|_| same).map(str::to_owned))
        .set_multi_az(live.multi_az)
        .set_storage_type(live.storage_type.clone())
        .set_deletion_protection(live.deletion_protection)
        .set_enable_iam_database_authentication(live.iam_database_authentication_enabled)
        .set_copy_tags_to_snapshot(live.copy_tags_to_snapshot)
        .publicly_accessible(false)
        .tags(Tag::builder().key(TAG).value(command.to_string()).build())
}

pub(super) fn state(instance: &DbInstance) -> wire::AuroraState {
    wire::AuroraState {
        cluster: instance.db_instance_identifier().unwrap_or_default().into(),
        status: instance.db_instance_status().unwrap_or_default().into(),
        engine: instance.engine().unwrap_or_default().into(),
        engine_version: instance.engine_version().unwrap_or_default().into(),
        instances: 1,
        instance_class: instance.db_instance_class().unwrap_or_default().into(),
        ..Default::default()
    }
}
