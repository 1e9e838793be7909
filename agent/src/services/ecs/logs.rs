//! Where ECS tasks write their logs: the awslogs settings of their containers (ECS developer guide, "Send Amazon ECS logs
//! to CloudWatch"): a stream is called `prefix/container/task`.

use std::collections::BTreeSet;

use aws_sdk_ecs::types::{ContainerDefinition, LogDriver, TaskDefinition};
use sfdata_common::outcome::FailureCode;

use super::Ecs;
use crate::services::{Error, aws::failure};

/// What Dagster's EcsRunLauncher calls the container of a run (dagster-aws, EcsRunLauncher).
const RUN_CONTAINER: &str = "run";

/// A container's log group, and what its streams' names begin with.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct LogPlace {
    /// Name of the log group.
    pub group: String,
    /// `prefix/container/`; the task's id follows.
    pub prefix: String,
}

impl Ecs {
    /// Where all tasks of a service write.
    pub async fn logs_of_service(&self, service: &str) -> Result<Vec<LogPlace>, Error> {
        let (name, _) = self.named(service)?;
        let definition = self.look(name).await?.task_definition.unwrap_or_default();
        let definition = self.log_settings(&definition).await?;
        let places = places(&definition);
        if places.is_empty() {
            return Err(not_in_cloudwatch(&format!("service {name}"), &definition));
        }
        Ok(places)
    }

    /// Where a task writes, where ECS still knows it: it forgets a stopped one after about an hour.
    pub async fn logs_of_task(&self, task: &str) -> Result<Option<Vec<LogPlace>>, Error> {
        let cluster = &self.platform.cluster;
        let call = self.client.describe_tasks().cluster(cluster).tasks(task);
        let answer = call
            .send()
            .await
            .map_err(|e| failure(format_args!("read task {task} of cluster {cluster}"), "ecs:DescribeTasks", e))?;
        let Some(found) = answer.tasks().first() else { return Ok(None) };
        let definition = self.log_settings(found.task_definition_arn().unwrap_or_default()).await?;
        let places = places(&definition);
        if places.is_empty() {
            return Err(not_in_cloudwatch(&format!("task {task}"), &definition));
        }
        Ok(Some(places))
    }

    /// Where any task of the platform may write, a run's too: runs have the definitions of their code server.
    pub async fn logs_of_platform(&self) -> Result<Vec<LogPlace>, Error> {
        let mut all = Vec::new();
        for service in self.found().await? {
            let definition = self.log_settings(service.task_definition().unwrap_or_default()).await?;
            for place in places(&definition) {
                if let Some((prefix, _)) = place.prefix.trim_end_matches('/').rsplit_once('/') {
                    let prefix = format!("{prefix}/{RUN_CONTAINER}/");
                    all.push(LogPlace { group: place.group.clone(), prefix });
                }
                all.push(place);
            }
        }
        all.sort();
        all.dedup();
        Ok(all)
    }

    /// The log groups that any task of the platform writes to now, whatever its streams are called.
    pub async fn log_groups(&self) -> Result<BTreeSet<String>, Error> {
        let mut groups = BTreeSet::new();
        for service in self.found().await? {
            let definition = self.log_settings(service.task_definition().unwrap_or_default()).await?;
            groups.extend(definition.container_definitions().iter().filter_map(group).map(str::to_owned));
        }
        Ok(groups)
    }

    async fn log_settings(&self, definition: &str) -> Result<TaskDefinition, Error> {
        let call = self.client.describe_task_definition().task_definition(definition);
        let answer = call
            .send()
            .await
            .map_err(|e| failure(format_args!("read task definition {definition}"), "ecs:DescribeTaskDefinition", e))?;
        answer.task_definition.ok_or_else(|| {
            let text = format!("ECS answered without task definition {definition}; try again");
            Error::failed(FailureCode::Unavailable, text)
        })
    }
}

fn places(definition: &TaskDefinition) -> Vec<LogPlace> {
    definition.container_definitions().iter().filter_map(place).collect()
}

/// None where it writes elsewhere, or where its streams are named after something else than the task.
fn place(container: &ContainerDefinition) -> Option<LogPlace> {
    let prefix = container.log_configuration()?.options()?.get("awslogs-stream-prefix")?;
    Some(LogPlace {
        group: group(container)?.to_owned(),
        prefix: format!("{prefix}/{}/", container.name().unwrap_or_default()),
    })
}

/// None where it writes elsewhere.
fn group(container: &ContainerDefinition) -> Option<&str> {
    let settings = container.log_configuration().filter(|settings| *settings.log_driver() == LogDriver::Awslogs)?;
    Some(settings.options()?.get("awslogs-group")?)
}

fn not_in_cloudwatch(whose: &str, definition: &TaskDefinition) -> Error {
    let driver = |container: &ContainerDefinition| {
        let driver = container.log_configuration().map_or("none", |settings| settings.log_driver().as_str());
        format!("{} ({driver})", container.name().unwrap_or_default())
    };
    let drivers: Vec<_> = definition.container_definitions().iter().map(driver).collect();
    Error::failed(
        FailureCode::Rejected,
        format!(
            "{whose} does not write to CloudWatch Logs by the awslogs driver with a stream prefix; its containers' log \
             drivers: {}; look where these write, or have the task definition changed",
            drivers.join(", ")
        ),
    )
}

#[cfg(test)]
mod tests {
    use aws_sdk_ecs::types::LogConfiguration;

    use super::*;

    fn container(name: &str, driver: LogDriver, options: &[(&str, &str)]) -> ContainerDefinition {
        let settings = options
            .iter()
            .fold(LogConfiguration::builder().log_driver(driver), |all, (key, value)| all.options(*key, *value));
        ContainerDefinition::builder().name(name).log_configuration(settings.build().unwrap()).build()
    }

    #[test]
    fn streams_are_found_where_they_are_named_after_the_task() {
        let (group, prefix) = (("awslogs-group", "/la"), ("awslogs-stream-prefix", "dagster"));
        let definition = TaskDefinition::builder()
            .container_definitions(container("daemon", LogDriver::Awslogs, &[group, prefix]))
            .container_definitions(container("unnamed", LogDriver::Awslogs, &[group]))
            .container_definitions(container("router", LogDriver::Awsfirelens, &[group, prefix]))
            .container_definitions(ContainerDefinition::builder().name("silent").build())
            .build();
        assert_eq!(places(&definition), [LogPlace { group: "/la".into(), prefix: "dagster/daemon/".into() }]);
        let groups: Vec<_> = definition.container_definitions().iter().map(super::group).collect();
        assert_eq!(groups, [Some("/la"), Some("/la"), None, None], "bytes count whatever the stream is called");
        let error = not_in_cloudwatch("task 1", &definition).to_string();
        assert!(error.contains("router (awsfirelens), silent (none)"), "{error}");
    }
}
