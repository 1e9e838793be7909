//! Snapshots of the platform's cluster: list, take, delete. Snapshots of other clusters are never touched.
//!
//! A snapshot's name makes taking it once: the journal keeps that the name was free, and from then on a snapshot of that
//! name is the one that was ordered, whether or not the answer was ever read. The same holds the other way for deleting.

use std::{cmp::Reverse, time::Duration};

use aws_sdk_rds::types::DbClusterSnapshot;
use bytes::Bytes;
use sfdata_common::{limits, outcome::FailureCode};
use sfdata_proto::v1::{self as wire, action_result::Kind};

use super::{Aurora, is_lost, watch::Watch};
use crate::{
    execute::Job,
    services::{Error, Plan, aws::failure, listed},
};

const MANUAL: &str = "manual";
/// The note that everything was looked at, and the call is next.
pub(super) const CALLING: Bytes = Bytes::from_static(b"calling");

fn resource(name: &str) -> String {
    format!("db-cluster-snapshot {name}")
}

pub(super) fn result(cluster: &str, snapshots: Vec<wire::AuroraSnapshotState>) -> Kind {
    Kind::AuroraSnapshots(wire::AuroraSnapshotsResult { cluster: cluster.into(), snapshots })
}

impl Aurora {
    /// Manual and automated ones, newest first.
    pub(super) async fn snapshots(&self, job: &Job) -> Result<Kind, Error> {
        let name = self.named()?;
        tokio::select! {
            biased;
            () = job.cancelled().cancelled() => Err(Error::cancelled("nothing was read yet")),
            all = self.all_snapshots(name) => Ok(result(name, all?.iter().map(state).collect())),
        }
    }

    pub(super) async fn snapshot(&self, asked: Option<&str>, deadline: Duration, job: &Job) -> Result<Kind, Error> {
        let cluster = self.named()?;
        let name = asked.map_or_else(|| format!("sfdata-{}", job.command()), str::to_owned);
        let mut watch = Watch::new(job, deadline);
        if job.checkpoint().is_none() {
            self.may_take(cluster, &name, &mut watch).await?;
            // Without a name it is called after this very command, which no other one can agree to.
            let planned = asked.unwrap_or("sfdata-COMMAND");
            let plan = Plan::default().change(resource(planned), "DBClusterIdentifier", "", cluster);
            if let Some(answer) = job.agree(plan).await? {
                return Ok(answer);
            }
            job.keep(CALLING).await?;
        }
        let mut refusals = 0;
        loop {
            match watch.read(self.find_snapshot(&name)).await? {
                Some(seen) => match seen.status().unwrap_or_default() {
                    "available" => return Ok(result(cluster, vec![state(&seen)])),
                    status if is_lost(status) => {
                        let text = format!("snapshot {name} is {status}; delete it and take another one");
                        return Err(watch.lost(FailureCode::Rejected, text));
                    }
                    status => {
                        let percent = seen.percent_progress().and_then(|percent| u32::try_from(percent).ok());
                        watch.wait(format!("snapshot {name} is {status}"), percent).await?;
                    }
                },
                None => match self.take(cluster, &name).await {
                    Ok(()) => watch.did(format!("snapshot {name} was ordered")),
                    Err(Error::Failed { code: FailureCode::Conflict, .. }) if refusals < limits::AWS_TRIES => {
                        refusals += 1;
                        watch.wait(format!("RDS takes no snapshot of {cluster} yet"), None).await?;
                    }
                    Err(error) => return Err(error),
                },
            }
        }
    }

    /// The cluster runs and the name is free.
    async fn may_take(&self, cluster: &str, name: &str, watch: &mut Watch<'_>) -> Result<(), Error> {
        let rejected = |text: String| Err(Error::failed(FailureCode::Rejected, text));
        if let Some(other) = watch.read(self.find_snapshot(name)).await? {
            let of = other.db_cluster_identifier().unwrap_or_default();
            return rejected(format!("there is a snapshot {name} already, of cluster {of}; choose another name"));
        }
        let seen = watch.read(self.look(cluster)).await?;
        match seen.status().unwrap_or_default() {
            status @ ("stopped" | "stopping") => {
                rejected(format!("{cluster} is {status}, and RDS takes snapshots only of what runs; start it first"))
            }
            status if is_lost(status) => rejected(format!("{cluster} is {status}: RDS takes no snapshot of it")),
            _ => Ok(()),
        }
    }

    async fn take(&self, cluster: &str, name: &str) -> Result<(), Error> {
        let call = self.client.create_db_cluster_snapshot().db_cluster_identifier(cluster);
        match call.db_cluster_snapshot_identifier(name).send().await {
            Ok(_) => Ok(()),
            Err(e) if e.as_service_error().is_some_and(|e| e.is_db_cluster_snapshot_already_exists_fault()) => Ok(()),
            Err(e) => {
                let tried = format_args!("take snapshot {name} of Aurora cluster {cluster}");
                Err(failure(tried, "rds:CreateDBClusterSnapshot", e))
            }
        }
    }

    pub(super) async fn delete_snapshot(&self, name: &str, deadline: Duration, job: &Job) -> Result<Kind, Error> {
        let cluster = self.named()?;
        let mut watch = Watch::new(job, deadline);
        let resumed = job.checkpoint().is_some();
        let mut gone = wire::AuroraSnapshotState { name: name.into(), ..Default::default() };
        if !resumed {
            let seen = watch.read(self.own_snapshot(cluster, name)).await?;
            gone = state(&seen);
            if seen.snapshot_type() != Some(MANUAL) {
                let kind = seen.snapshot_type().unwrap_or_default();
                let text =
                    format!("{name} is {kind}: what RDS or AWS Backup took, they delete; name a manual snapshot");
                return Err(Error::failed(FailureCode::Rejected, text));
            }
            let plan = Plan::default().change(resource(name), "status", &gone.status, "");
            if let Some(answer) = job.agree(plan).await? {
                return Ok(answer);
            }
            job.keep(CALLING).await?;
        }
        let call = self.client.delete_db_cluster_snapshot().db_cluster_snapshot_identifier(name).send().await;
        match call {
            Ok(_) => {}
            Err(e) if e.as_service_error().is_some_and(|e| e.is_db_cluster_snapshot_not_found_fault()) => {}
            Err(e) => {
                let tried = format_args!("delete snapshot {name} of Aurora cluster {cluster}");
                return Err(failure(tried, "rds:DeleteDBClusterSnapshot", e));
            }
        }
        watch.did(format!("RDS was told to delete snapshot {name}"));
        while let Some(seen) = watch.read(self.find_snapshot(name)).await? {
            watch.wait(format!("snapshot {name} is {}", seen.status().unwrap_or_default()), None).await?;
        }
        gone.status = "deleted".into();
        Ok(result(cluster, vec![gone]))
    }

    /// A snapshot of the platform's own cluster, or what there is instead.
    pub(super) async fn own_snapshot(&self, cluster: &str, name: &str) -> Result<DbClusterSnapshot, Error> {
        match self.find_snapshot(name).await? {
            Some(seen) if seen.db_cluster_identifier() == Some(cluster) => Ok(seen),
            Some(seen) => {
                let of = seen.db_cluster_identifier().unwrap_or_default();
                let text = format!("{name} is a snapshot of cluster {of}, not of {cluster}: it is left alone");
                Err(Error::failed(FailureCode::Rejected, text))
            }
            None => {
                let all = self.all_snapshots(cluster).await;
                let names =
                    all.map(|all| all.into_iter().filter_map(|one| one.db_cluster_snapshot_identifier).collect());
                let there = listed(names);
                let text = format!("Aurora cluster {cluster} has no snapshot {name}; {there}");
                Err(Error::failed(FailureCode::NotFound, text))
            }
        }
    }

    async fn find_snapshot(&self, name: &str) -> Result<Option<DbClusterSnapshot>, Error> {
        match self.client.describe_db_cluster_snapshots().db_cluster_snapshot_identifier(name).send().await {
            Ok(answer) => Ok(answer.db_cluster_snapshots.into_iter().flatten().next()),
            Err(e) if e.as_service_error().is_some_and(|e| e.is_db_cluster_snapshot_not_found_fault()) => Ok(None),
            Err(e) => Err(failure(format_args!("look for snapshot {name}"), "rds:DescribeDBClusterSnapshots", e)),
        }
    }

    pub(super) async fn all_snapshots(&self, cluster: &str) -> Result<Vec<DbClusterSnapshot>, Error> {
        let call = self.client.describe_db_cluster_snapshots().db_cluster_identifier(cluster);
        let mut pages = call.into_paginator().items().send();
        let mut all = Vec::new();
        while let Some(told) = pages.next().await {
            all.push(told.map_err(|e| {
                let tried = format_args!("list the snapshots of Aurora cluster {cluster}");
                failure(tried, "rds:DescribeDBClusterSnapshots", e)
            })?);
        }
        newest_first(&mut all);
        all.truncate(limits::DATABASE_SNAPSHOTS);
        Ok(all)
    }
}

/// Those in the making have no time yet and are the newest.
fn newest_first(snapshots: &mut [DbClusterSnapshot]) {
    snapshots.sort_by_key(|one| Reverse(one.snapshot_create_time().map_or(i128::MAX, |at| at.as_nanos())));
}

pub(super) fn state(snapshot: &DbClusterSnapshot) -> wire::AuroraSnapshotState {
    let created = snapshot.snapshot_create_time().and_then(|at| at.to_millis().ok());
    wire::AuroraSnapshotState {
        name: snapshot.db_cluster_snapshot_identifier().unwrap_or_default().into(),
        snapshot_type: snapshot.snapshot_type().unwrap_or_default().into(),
        status: snapshot.status().unwrap_or_default().into(),
        created_unix_ms: created.unwrap_or_default(),
        engine: snapshot.engine().unwrap_or_default().into(),
        engine_version: snapshot.engine_version().unwrap_or_default().into(),
        encrypted: snapshot.storage_encrypted().unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use aws_sdk_rds::primitives::DateTime;

    use super::*;

    #[test]
    fn what_is_in_the_making_is_the_newest() {
        let one = |name: &str, at: Option<i64>| {
            let made = DbClusterSnapshot::builder().db_cluster_snapshot_identifier(name);
            made.set_snapshot_create_time(at.map(DateTime::from_secs)).build()
        };
        let mut all = [one("old", Some(1)), one("making", None), one("new", Some(2))];
        newest_first(&mut all);
        assert_eq!(all.map(|one| state(&one).name), ["making", "new", "old"]);
    }
}
