//! RDS's calls on snapshots: it has one set for clusters and another one for plain instances, which are told apart here
//! and nowhere else.

use aws_sdk_rds::types::{DbClusterSnapshot, DbSnapshot, Tag};
use sfdata_common::ids::CommandId;
use sfdata_proto::v1 as wire;

use super::super::{Aurora, TAG, of::Of};
use crate::services::{Error, aws::failure};

/// A snapshot of either kind.
#[derive(Debug, Clone, PartialEq)]
pub(in super::super) struct Snapshot {
    /// As it is told.
    pub(in super::super) state: wire::AuroraSnapshotState,
    /// Cluster or instance that it was taken of.
    pub(super) of: String,
    /// Another one of this name has the same ARN, and another time.
    pub(super) arn: String,
    pub(super) percent: Option<u32>,
    /// Id of the command that took it.
    by: Option<String>,
}

impl Snapshot {
    pub(super) fn is_by(&self, command: CommandId) -> bool {
        self.by.as_ref() == Some(&command.to_string())
    }
}

fn by(tags: &[Tag]) -> Option<String> {
    tags.iter().find(|tag| tag.key() == Some(TAG)).and_then(|tag| tag.value.clone())
}

impl From<DbClusterSnapshot> for Snapshot {
    fn from(told: DbClusterSnapshot) -> Self {
        let created = told.snapshot_create_time().and_then(|at| at.to_millis().ok()).unwrap_or_default();
        Self {
            by: by(told.tag_list()),
            percent: told.percent_progress().and_then(|percent| u32::try_from(percent).ok()),
            of: told.db_cluster_identifier.unwrap_or_default(),
            arn: told.db_cluster_snapshot_arn.unwrap_or_default(),
            state: wire::AuroraSnapshotState {
                name: told.db_cluster_snapshot_identifier.unwrap_or_default(),
                snapshot_type: told.snapshot_type.unwrap_or_default(),
                status: told.status.unwrap_or_default(),
                created_unix_ms: created,
                engine: told.engine.unwrap_or_default(),
                engine_version: told.engine_version.unwrap_or_default(),
                encrypted: told.storage_encrypted.unwrap_or_default(),
            },
        }
    }
}

impl From<DbSnapshot> for Snapshot {
    fn from(told: DbSnapshot) -> Self {
        let created = told.snapshot_create_time().and_then(|at| at.to_millis().ok()).unwrap_or_default();
        Self {
            by: by(told.tag_list()),
            percent: told.percent_progress().and_then(|percent| u32::try_from(percent).ok()),
            of: told.db_instance_identifier.unwrap_or_default(),
            arn: told.db_snapshot_arn.unwrap_or_default(),
            state: wire::AuroraSnapshotState {
                name: told.db_snapshot_identifier.unwrap_or_default(),
                snapshot_type: told.snapshot_type.unwrap_or_default(),
                status: told.status.unwrap_or_default(),
                created_unix_ms: created,
                engine: told.engine.unwrap_or_default(),
                engine_version: told.engine_version.unwrap_or_default(),
                encrypted: told.encrypted.unwrap_or_default(),
            },
        }
    }
}

impl Aurora {
    /// The snapshot of this name, whatever it was taken of.
    pub(super) async fn find_snapshot(&self, of: Of<'_>, name: &str) -> Result<Option<Snapshot>, Error> {
        let tried = format!("look for snapshot {name}");
        match of {
            Of::Cluster(_) => {
                match self.client.describe_db_cluster_snapshots().db_cluster_snapshot_identifier(name).send().await {
                    Ok(answer) => Ok(answer.db_cluster_snapshots.into_iter().flatten().next().map(Into::into)),
                    Err(e) if e.as_service_error().is_some_and(|e| e.is_db_cluster_snapshot_not_found_fault()) => {
                        Ok(None)
                    }
                    Err(e) => Err(failure(tried, "rds:DescribeDBClusterSnapshots", e)),
                }
            }
            Of::Instance(_) => match self.client.describe_db_snapshots().db_snapshot_identifier(name).send().await {
                Ok(answer) => Ok(answer.db_snapshots.into_iter().flatten().next().map(Into::into)),
                Err(e) if e.as_service_error().is_some_and(|e| e.is_db_snapshot_not_found_fault()) => Ok(None),
                Err(e) => Err(failure(tried, "rds:DescribeDBSnapshots", e)),
            },
        }
    }

    /// All that were taken of it, in no order.
    pub(super) async fn read_snapshots(&self, of: Of<'_>) -> Result<Vec<Snapshot>, Error> {
        let tried = format!("list the snapshots of {}", of.name());
        let mut all = Vec::new();
        match of {
            Of::Cluster(name) => {
                let call = self.client.describe_db_cluster_snapshots().db_cluster_identifier(name);
                let mut pages = call.into_paginator().items().send();
                while let Some(told) = pages.next().await {
                    all.push(told.map_err(|e| failure(&tried, "rds:DescribeDBClusterSnapshots", e))?.into());
                }
            }
            Of::Instance(name) => {
                let call = self.client.describe_db_snapshots().db_instance_identifier(name);
                let mut pages = call.into_paginator().items().send();
                while let Some(told) = pages.next().await {
                    all.push(told.map_err(|e| failure(&tried, "rds:DescribeDBSnapshots", e))?.into());
                }
            }
        }
        Ok(all)
    }

    /// Have one taken. That the name is taken is no error: the SDK may have asked twice, and the snapshot tells whose it is.
    pub(super) async fn create_snapshot(&self, of: Of<'_>, name: &str, command: CommandId) -> Result<(), Error> {
        let tag = Tag::builder().key(TAG).value(command.to_string()).build();
        let tried = format!("take snapshot {name} of {}", of.name());
        match of {
            Of::Cluster(cluster) => {
                let call = self.client.create_db_cluster_snapshot().db_cluster_identifier(cluster).tags(tag);
                match call.db_cluster_snapshot_identifier(name).send().await {
                    Err(e)
                        if !e.as_service_error().is_some_and(|e| e.is_db_cluster_snapshot_already_exists_fault()) =>
                    {
                        Err(failure(tried, "rds:CreateDBClusterSnapshot and rds:AddTagsToResource", e))
                    }
                    _ => Ok(()),
                }
            }
            Of::Instance(instance) => {
                let call = self.client.create_db_snapshot().db_instance_identifier(instance).tags(tag);
                match call.db_snapshot_identifier(name).send().await {
                    Err(e) if !e.as_service_error().is_some_and(|e| e.is_db_snapshot_already_exists_fault()) => {
                        Err(failure(tried, "rds:CreateDBSnapshot and rds:AddTagsToResource", e))
                    }
                    _ => Ok(()),
                }
            }
        }
    }

    /// Have one deleted. That it is gone is no error.
    pub(super) async fn remove_snapshot(&self, of: Of<'_>, name: &str) -> Result<(), Error> {
        let tried = format!("delete snapshot {name} of {}", of.name());
        match of {
            Of::Cluster(_) => {
                match self.client.delete_db_cluster_snapshot().db_cluster_snapshot_identifier(name).send().await {
                    Err(e) if !e.as_service_error().is_some_and(|e| e.is_db_cluster_snapshot_not_found_fault()) => {
                        Err(failure(tried, "rds:DeleteDBClusterSnapshot", e))
                    }
                    _ => Ok(()),
                }
            }
            Of::Instance(_) => match self.client.delete_db_snapshot().db_snapshot_identifier(name).send().await {
                Err(e) if !e.as_service_error().is_some_and(|e| e.is_db_snapshot_not_found_fault()) => {
                    Err(failure(tried, "rds:DeleteDBSnapshot", e))
                }
                _ => Ok(()),
            },
        }
    }
}
