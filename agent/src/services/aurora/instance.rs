//! A plain RDS instance in the place of an Aurora cluster: what exists for both is done, the rest is refused by name.

use std::time::Duration;

use aws_sdk_rds::types::{DbInstance, DbSnapshot};
use sfdata_common::{command, limits, outcome::FailureCode};
use sfdata_proto::v1::{self as wire, action_result::Kind};

use super::{
    Aurora,
    power::{Of, Power},
    snapshots::{CALLING, result},
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
    pub(super) async fn on_instance(&self, name: &str, action: &command::Aurora, job: &Job) -> Result<Kind, Error> {
        match action {
            command::Aurora::Status => tokio::select! {
                biased;
                () = job.cancelled().cancelled() => Err(Error::cancelled("nothing was read yet")),
                status = self.status_of_instance(name) => Ok(Kind::AuroraStatus(status?)),
            },
            command::Aurora::Start { deadline } => self.power(Of::Instance(name), Power::On, *deadline, job).await,
            command::Aurora::Stop { deadline } => self.power(Of::Instance(name), Power::Off, *deadline, job).await,
            command::Aurora::Snapshot { name: asked, deadline } => {
                self.snapshot_instance(name, asked.as_deref(), *deadline, job).await
            }
            command::Aurora::Snapshots
            | command::Aurora::SetCapacity { .. }
            | command::Aurora::DeleteSnapshot { .. }
            | command::Aurora::Restore { .. } => {
                let text = format!(
                    "{name} is a plain DB instance, which can be seen, started, stopped and snapshotted; {} is for \
                     Aurora clusters alone",
                    action.name()
                );
                Err(Error::failed(FailureCode::Rejected, text))
            }
        }
    }

    async fn status_of_instance(&self, name: &str) -> Result<wire::AuroraStatusResult, Error> {
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

    async fn snapshot_instance(
        &self,
        of: &str,
        asked: Option<&str>,
        deadline: Duration,
        job: &Job,
    ) -> Result<Kind, Error> {
        let name = asked.map_or_else(|| format!("sfdata-{}", job.command()), str::to_owned);
        let mut watch = Watch::new(job, deadline);
        if job.checkpoint().is_none() {
            watch.read(self.look_at_instance(of)).await?;
            if let Some(other) = watch.read(self.find_instance_snapshot(&name)).await? {
                let of = other.db_instance_identifier().unwrap_or_default();
                let text = format!("there is a snapshot {name} already, of instance {of}; choose another name");
                return Err(Error::failed(FailureCode::Rejected, text));
            }
            // Without a name it is called after this very command, which no other one can agree to.
            let planned = format!("db-snapshot {}", asked.unwrap_or("sfdata-COMMAND"));
            if let Some(answer) = job.agree(Plan::default().change(planned, "DBInstanceIdentifier", "", of)).await? {
                return Ok(answer);
            }
            job.keep(CALLING).await?;
        }
        let mut refusals = 0;
        loop {
            match watch.read(self.find_instance_snapshot(&name)).await? {
                Some(seen) => match seen.status().unwrap_or_default() {
                    "available" => return Ok(result(of, vec![snapshot_state(&seen)])),
                    "failed" => {
                        let text = format!("snapshot {name} has failed; delete it and take another one");
                        return Err(watch.lost(FailureCode::Rejected, text));
                    }
                    status => {
                        let percent = seen.percent_progress().and_then(|percent| u32::try_from(percent).ok());
                        watch.wait(format!("snapshot {name} is {status}"), percent).await?;
                    }
                },
                None => match self.take_of_instance(of, &name).await {
                    Ok(()) => watch.did(format!("snapshot {name} was ordered")),
                    Err(Error::Failed { code: FailureCode::Conflict, .. }) if refusals < limits::AWS_TRIES => {
                        refusals += 1;
                        watch.wait(format!("RDS takes no snapshot of {of} yet"), None).await?;
                    }
                    Err(error) => return Err(error),
                },
            }
        }
    }

    async fn take_of_instance(&self, of: &str, name: &str) -> Result<(), Error> {
        let call = self.client.create_db_snapshot().db_instance_identifier(of).db_snapshot_identifier(name);
        match call.send().await {
            Ok(_) => Ok(()),
            Err(e) if e.as_service_error().is_some_and(|e| e.is_db_snapshot_already_exists_fault()) => Ok(()),
            Err(e) => Err(failure(format_args!("take snapshot {name} of DB instance {of}"), "rds:CreateDBSnapshot", e)),
        }
    }

    async fn find_instance_snapshot(&self, name: &str) -> Result<Option<DbSnapshot>, Error> {
        match self.client.describe_db_snapshots().db_snapshot_identifier(name).send().await {
            Ok(answer) => Ok(answer.db_snapshots.into_iter().flatten().next()),
            Err(e) if e.as_service_error().is_some_and(|e| e.is_db_snapshot_not_found_fault()) => Ok(None),
            Err(e) => Err(failure(format_args!("look for snapshot {name}"), "rds:DescribeDBSnapshots", e)),
        }
    }
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

fn snapshot_state(snapshot: &DbSnapshot) -> wire::AuroraSnapshotState {
    let created = snapshot.snapshot_create_time().and_then(|at| at.to_millis().ok());
    wire::AuroraSnapshotState {
        name: snapshot.db_snapshot_identifier().unwrap_or_default().into(),
        snapshot_type: snapshot.snapshot_type().unwrap_or_default().into(),
        status: snapshot.status().unwrap_or_default().into(),
        created_unix_ms: created.unwrap_or_default(),
        engine: snapshot.engine().unwrap_or_default().into(),
        engine_version: snapshot.engine_version().unwrap_or_default().into(),
        encrypted: snapshot.encrypted().unwrap_or_default(),
    }
}
