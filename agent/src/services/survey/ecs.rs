//! Clusters, their services, and what those run.

use std::collections::BTreeMap;

use aws_sdk_ecs::types::{ContainerDefinition, Service as Told, ServiceField, Tag};
use sfdata_common::{limits, outcome::FailureCode};

use super::{Survey, bounded, not_read};
use crate::{
    discover::{Cluster, Container, Service},
    services::{Error, aws::failure, ecs::SERVICES_PER_CALL, listed},
};

/// DescribeClusters takes so many (ECS API reference).
const CLUSTERS_PER_CALL: usize = 100;
/// ListServices gives so many at once when asked to (ECS API reference).
const SERVICES_PER_PAGE: i32 = 100;

impl Survey {
    /// All clusters, or the one that is named.
    pub(super) async fn clusters_with_services(
        &self,
        named: Option<&str>,
        unread: &mut Vec<String>,
    ) -> Result<Vec<Cluster>, Error> {
        let names = match named {
            Some(name) => self.one_cluster(name).await?,
            None => self.clusters().await?,
        };
        let (mut clusters, mut left) = (Vec::new(), limits::DISCOVER_MOST);
        for name in bounded(names, "ECS clusters", unread) {
            let all = self.services(&name).await?;
            if all.len() > left {
                unread.push(format!("cluster {name} has more services than the {left} that were read; use --cluster"));
            }
            let names: Vec<_> = all.into_iter().take(left).collect();
            left -= names.len();
            let services = self.described(&name, &names, unread).await?;
            clusters.push(Cluster { name, services });
        }
        Ok(clusters)
    }

    async fn one_cluster(&self, name: &str) -> Result<Vec<String>, Error> {
        let found = self.active(&[name.to_owned()]).await?;
        if found.is_empty() {
            let there = listed(self.clusters().await);
            let text = format!("there is no ECS cluster {name} in {}; {there}; name one of these", self.region());
            return Err(Error::failed(FailureCode::NotFound, text));
        }
        Ok(found)
    }

    /// Names of the clusters that exist.
    pub(in crate::services) async fn clusters(&self) -> Result<Vec<String>, Error> {
        let mut pages = self.ecs.list_clusters().into_paginator().items().send();
        let mut names = Vec::new();
        while let Some(arn) = pages.next().await {
            names.push(last(&arn.map_err(|e| failure("list the ECS clusters", "ecs:ListClusters", e))?));
            if names.len() > limits::DISCOVER_MOST {
                break;
            }
        }
        let mut active = Vec::with_capacity(names.len());
        for some in names.chunks(CLUSTERS_PER_CALL) {
            active.extend(self.active(some).await?);
        }
        active.sort();
        Ok(active)
    }

    /// Those of these clusters that are not deleted.
    async fn active(&self, names: &[String]) -> Result<Vec<String>, Error> {
        let call = self.ecs.describe_clusters().set_clusters(Some(names.to_vec()));
        let answer = call
            .send()
            .await
            .map_err(|e| failure(format_args!("read ECS clusters {}", names.join(", ")), "ecs:DescribeClusters", e))?;
        let active = answer.clusters().iter().filter(|cluster| cluster.status() == Some("ACTIVE"));
        Ok(active.filter_map(|cluster| cluster.cluster_name().map(Into::into)).collect())
    }

    /// Names of the services of a cluster.
    pub(in crate::services) async fn services(&self, cluster: &str) -> Result<Vec<String>, Error> {
        let call = self.ecs.list_services().cluster(cluster).max_results(SERVICES_PER_PAGE);
        let mut pages = call.into_paginator().items().send();
        let mut names = Vec::new();
        while let Some(arn) = pages.next().await {
            let tried = format_args!("list the services of ECS cluster {cluster}");
            names.push(last(&arn.map_err(|e| failure(tried, "ecs:ListServices", e))?));
            if names.len() > limits::DISCOVER_MOST {
                break;
            }
        }
        names.sort();
        Ok(names)
    }

    /// Those of these services that exist, as ECS tells them; a deleted one is shown for some time, as INACTIVE.
    pub(in crate::services) async fn existing(
        &self,
        cluster: &str,
        names: &[String],
        and: Option<ServiceField>,
    ) -> Result<Vec<Told>, Error> {
        let mut found = Vec::with_capacity(names.len());
        for some in names.chunks(SERVICES_PER_CALL) {
            let call = self.ecs.describe_services().cluster(cluster).set_services(Some(some.to_vec()));
            let answer = call.set_include(and.clone().map(|field| vec![field])).send().await.map_err(|e| {
                let tried = format_args!("read services {} of ECS cluster {cluster}", some.join(", "));
                failure(tried, "ecs:DescribeServices", e)
            })?;
            found.extend(answer.services.unwrap_or_default());
        }
        found.retain(|service| service.status() != Some("INACTIVE"));
        Ok(found)
    }

    async fn described(
        &self,
        cluster: &str,
        names: &[String],
        unread: &mut Vec<String>,
    ) -> Result<Vec<Service>, Error> {
        let mut found = self.existing(cluster, names, Some(ServiceField::Tags)).await?;
        found.retain(|service| service.status() == Some("ACTIVE")); // DRAINING is being deleted
        let (mut services, mut denied) = (Vec::with_capacity(found.len()), 0_usize);
        for told in found {
            let containers = match self.containers(told.task_definition().unwrap_or_default()).await {
                Ok(containers) => containers,
                // Often none may be read: one is told as it is, the others are counted.
                Err(error) => {
                    denied += 1;
                    if denied == 1 { not_read(unread, &error) } else { Vec::new() }
                }
            };
            services.push(service(&told, containers));
        }
        if denied > 1 {
            unread.push(format!("{} more task definitions of cluster {cluster} could not be read either", denied - 1));
        }
        Ok(services)
    }

    async fn containers(&self, definition: &str) -> Result<Vec<Container>, Error> {
        let call = self.ecs.describe_task_definition().task_definition(definition).send();
        let answer = call.await.map_err(|e| {
            failure(format_args!("read task definition {}", last(definition)), "ecs:DescribeTaskDefinition", e)
        })?;
        let containers = answer.task_definition.and_then(|found| found.container_definitions).unwrap_or_default();
        Ok(containers.into_iter().map(container).collect())
    }
}

fn service(told: &Told, containers: Vec<Container>) -> Service {
    Service {
        name: told.service_name().unwrap_or_default().into(),
        arn: told.service_arn().unwrap_or_default().into(),
        desired: told.desired_count(),
        tags: tags(told.tags()),
        controller: told.deployment_controller().map(|by| by.r#type().as_str().into()).unwrap_or_default(),
        containers,
    }
}

fn container(told: ContainerDefinition) -> Container {
    let ports = told.port_mappings().iter().filter_map(|mapping| mapping.container_port());
    let environment = told.environment().iter().filter_map(|pair| Some((pair.name()?.into(), pair.value()?.into())));
    Container {
        ports: ports.filter_map(|port| u16::try_from(port).ok()).collect(),
        environment: environment.collect(),
        secrets: told.secrets().iter().map(|secret| (secret.name().into(), secret.value_from().into())).collect(),
        health_check: told.health_check().map(|check| check.command().to_vec()).unwrap_or_default(),
        name: told.name.unwrap_or_default(),
        image: told.image.unwrap_or_default(),
        entry_point: told.entry_point.unwrap_or_default(),
        command: told.command.unwrap_or_default(),
    }
}

fn tags(told: &[Tag]) -> BTreeMap<String, String> {
    told.iter().filter_map(|tag| Some((tag.key()?.into(), tag.value().unwrap_or_default().into()))).collect()
}

/// A name out of its ARN.
fn last(arn: &str) -> String {
    arn.rsplit('/').next().unwrap_or(arn).into()
}
