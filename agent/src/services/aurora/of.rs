//! What the platform's database is: an Aurora cluster, or a plain instance in its place.

use sfdata_proto::v1 as wire;

use super::{Aurora, instance, state};
use crate::services::Error;

/// Which database.
#[derive(Debug, Clone, Copy)]
pub(super) enum Of<'a> {
    Cluster(&'a str),
    /// A plain instance, which belongs to no cluster.
    Instance(&'a str),
}

impl<'a> Of<'a> {
    pub(super) fn name(self) -> &'a str {
        match self {
            Self::Cluster(name) | Self::Instance(name) => name,
        }
    }

    /// As plans name it.
    pub(super) fn resource(self) -> String {
        match self {
            Self::Cluster(name) => super::resource(name),
            Self::Instance(name) => instance::resource(name),
        }
    }

    /// A snapshot of it, as plans name it.
    pub(super) fn snapshot_resource(self, name: &str) -> String {
        match self {
            Self::Cluster(_) => format!("db-cluster-snapshot {name}"),
            Self::Instance(_) => format!("db-snapshot {name}"),
        }
    }

    /// RDS's name of what names it.
    pub(super) fn identifier(self) -> &'static str {
        match self {
            Self::Cluster(_) => "DBClusterIdentifier",
            Self::Instance(_) => "DBInstanceIdentifier",
        }
    }
}

impl Aurora {
    /// Its state, which has to exist.
    pub(super) async fn see(&self, of: Of<'_>) -> Result<wire::AuroraState, Error> {
        match of {
            Of::Cluster(name) => Ok(state(&self.look(name).await?)),
            Of::Instance(name) => Ok(instance::state(&self.look_at_instance(name).await?)),
        }
    }
}
