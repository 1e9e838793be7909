//! DB clusters: Aurora's, and what else RDS calls so.

use aws_sdk_rds::types::DbCluster;
use sfdata_common::limits;

use super::Survey;
use crate::{
    discover::Database,
    services::{Error, aws::failure},
};

impl Survey {
    /// All DB clusters, or the one of that identifier; not found is an error then.
    pub(in crate::services) async fn databases(&self, named: Option<&str>) -> Result<Vec<Database>, Error> {
        let call = self.rds.describe_db_clusters().set_db_cluster_identifier(named.map(Into::into));
        let mut pages = call.into_paginator().items().send();
        let mut found = Vec::new();
        while let Some(told) = pages.next().await {
            let told = told.map_err(|e| match named {
                Some(name) => failure(format_args!("read Aurora cluster {name}"), "rds:DescribeDBClusters", e),
                None => failure("list the Aurora clusters", "rds:DescribeDBClusters", e),
            })?;
            found.push(database(told));
            if found.len() == limits::DISCOVER_MOST {
                break;
            }
        }
        Ok(found)
    }
}

fn database(told: DbCluster) -> Database {
    let endpoints = [told.endpoint, told.reader_endpoint].into_iter().flatten();
    let tags = told.tag_list.unwrap_or_default().into_iter();
    Database {
        name: told.db_cluster_identifier.unwrap_or_default(),
        engine: told.engine.unwrap_or_default(),
        endpoints: endpoints.chain(told.custom_endpoints.unwrap_or_default()).collect(),
        secret: told.master_user_secret.and_then(|secret| secret.secret_arn),
        tags: tags.filter_map(|tag| Some((tag.key?, tag.value.unwrap_or_default()))).collect(),
    }
}
