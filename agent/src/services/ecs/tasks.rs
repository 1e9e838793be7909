//! What only a service's tasks and task definitions tell: the image with its digest, and why a task stopped.

use aws_sdk_ecs::{
    operation::list_tasks::builders::ListTasksFluentBuilder,
    primitives::DateTime,
    types::{Container, DesiredStatus, Task, TaskField},
};
use sfdata_proto::v1::EcsServiceState;

use super::{
    Ecs,
    state::{primary, time},
};
use crate::services::{Error, aws::failure};

/// DescribeTasks takes so many (ECS API reference).
const TASKS_PER_CALL: usize = 100;

impl Ecs {
    /// Fill in image and digest: from a running task where there is one, else from the task definition.
    pub(super) async fn add_images(&self, states: &mut [EcsServiceState]) -> Result<(), Error> {
        let running = match &*states {
            _ if states.iter().all(|state| state.running == 0) => Vec::new(),
            [one] => self.tasks(Some(&one.name), DesiredStatus::Running).await?,
            _ => self.tasks(None, DesiredStatus::Running).await?,
        };
        self.images_of(states, &running).await
    }

    /// [`Self::add_images`] of tasks that are known.
    pub(super) async fn images_of(&self, states: &mut [EcsServiceState], running: &[Task]) -> Result<(), Error> {
        for state in &mut *states {
            if let Some(container) = newest(state, running).and_then(|task| main_container(state, task)) {
                state.image = container.image().unwrap_or_default().into();
                state.image_digest = container.image_digest().unwrap_or_default().into();
            }
            if state.image.is_empty() && !state.task_definition.is_empty() {
                state.image = self.defined_image(&state.name, &state.task_definition).await?;
            }
        }
        // Older revisions are not asked for again.
        let mut known = self.definitions.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if states.len() > 1 {
            known.retain(|definition, _| states.iter().any(|state| state.task_definition == *definition));
        }
        Ok(())
    }

    async fn defined_image(&self, service: &str, definition: &str) -> Result<String, Error> {
        let known = || self.definitions.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(image) = known().get(definition) {
            return Ok(image.clone());
        }
        let call = self.client.describe_task_definition().task_definition(definition);
        let answer = call
            .send()
            .await
            .map_err(|e| failure(format_args!("read task definition {definition}"), "ecs:DescribeTaskDefinition", e))?;
        let containers = answer.task_definition().map(|found| found.container_definitions()).unwrap_or_default();
        let main = containers.iter().find(|container| container.name() == Some(service)).or(containers.first());
        let image = main.and_then(|container| container.image()).unwrap_or_default().to_owned();
        known().insert(definition.into(), image.clone());
        Ok(image)
    }

    /// Why the task of `service` that stopped last did so, if ECS still knows: it forgets after about an hour.
    /// Tasks that the service itself took away tell nothing.
    pub(super) async fn last_stop(&self, service: &str) -> Result<Option<String>, Error> {
        let stopped = self.tasks(Some(service), DesiredStatus::Stopped).await?;
        let telling = stopped.iter().filter(|task| ended(task));
        Ok(telling.max_by_key(|task| task.stopped_at().map(|at| (at.secs(), at.subsec_nanos()))).map(why_stopped))
    }

    /// How many tasks of a service's deployment ended otherwise than by the service's or somebody's will.
    pub(super) async fn ended_tasks(&self, service: &str, deployment: &str) -> Result<u32, Error> {
        let stopped = self.tasks(Some(service), DesiredStatus::Stopped).await?;
        let failed = stopped.iter().filter(|task| {
            let asked = task.stop_code().is_some_and(|code| code.as_str() == "UserInitiated");
            task.started_by() == Some(deployment) && ended(task) && !asked
        });
        Ok(failed.count().try_into().unwrap_or(u32::MAX))
    }

    /// Tasks of one service, or of the whole cluster.
    pub(super) async fn tasks(&self, service: Option<&str>, status: DesiredStatus) -> Result<Vec<Task>, Error> {
        let call = self.client.list_tasks().desired_status(status).set_service_name(service.map(Into::into));
        self.listed(call).await
    }

    /// Tasks of one family of task definitions.
    pub(super) async fn tasks_of_family(&self, family: &str, status: DesiredStatus) -> Result<Vec<Task>, Error> {
        self.listed(self.client.list_tasks().desired_status(status).family(family)).await
    }

    async fn listed(&self, call: ListTasksFluentBuilder) -> Result<Vec<Task>, Error> {
        let cluster = &self.platform.cluster;
        let mut names = call.cluster(cluster).into_paginator().items().send();
        let mut found = Vec::new();
        while let Some(name) = names.next().await {
            found.push(
                name.map_err(|e| failure(format_args!("list the tasks of cluster {cluster}"), "ecs:ListTasks", e))?,
            );
        }
        let mut tasks = Vec::with_capacity(found.len());
        for some in found.chunks(TASKS_PER_CALL) {
            let call =
                self.client.describe_tasks().cluster(cluster).include(TaskField::Tags).set_tasks(Some(some.to_vec()));
            let answer = call
                .send()
                .await
                .map_err(|e| failure(format_args!("read the tasks of cluster {cluster}"), "ecs:DescribeTasks", e))?;
            tasks.extend(answer.tasks.unwrap_or_default());
        }
        Ok(tasks)
    }
}

/// The running task that shows best what a service runs: of its primary deployment, and the youngest.
fn newest<'a>(state: &EcsServiceState, tasks: &'a [Task]) -> Option<&'a Task> {
    let group = format!("service:{}", state.name);
    let wanted = primary(state).map(|deployment| deployment.id.as_str());
    tasks
        .iter()
        .filter(|task| task.group() == Some(&group) && task.last_status() == Some("RUNNING"))
        .max_by_key(|task| (task.started_by() == wanted, task.started_at().map(|at| (at.secs(), at.subsec_nanos()))))
}

/// The container that is named like the service, or the first: the others stand beside it.
fn main_container<'a>(state: &EcsServiceState, task: &'a Task) -> Option<&'a Container> {
    task.containers().iter().find(|container| container.name() == Some(&state.name)).or(task.containers().first())
}

/// The service that it belongs to.
pub(super) fn service_of(task: &Task) -> Option<&str> {
    task.group()?.strip_prefix("service:")
}

/// Whether it belongs to this service.
pub(super) fn is_of(task: &Task, service: &str) -> bool {
    service_of(task) == Some(service)
}

/// Whether it runs on capacity that AWS may take back.
pub(super) fn is_spot(task: &Task) -> bool {
    task.capacity_provider_name() == Some("FARGATE_SPOT")
}

/// The last part of its ARN.
pub(super) fn task_id(task: &Task) -> &str {
    task.task_arn().and_then(|arn| arn.rsplit('/').next()).unwrap_or_default()
}

/// Zero is never.
pub(super) fn unix_ms(at: Option<&DateTime>) -> i64 {
    at.and_then(|at| at.to_millis().ok()).unwrap_or_default()
}

/// How the container of this name ended, or the only one.
pub(super) fn exit_code(task: &Task, container: &str) -> Option<i32> {
    let named = task.containers().iter().find(|one| one.name() == Some(container));
    let only = || task.containers().first().filter(|_| task.containers().len() == 1);
    named.or_else(only).and_then(Container::exit_code)
}

/// Whether it ended otherwise than by the service's own will.
pub(super) fn ended(task: &Task) -> bool {
    task.stop_code().is_none_or(|code| code.as_str() != "ServiceSchedulerInitiated")
}

fn why_stopped(task: &Task) -> String {
    let mut text = task.stopped_reason().unwrap_or("no reason given").trim_end_matches('.').to_owned();
    if let Some(at) = task.stopped_at().and_then(time) {
        text = format!("{at} {text}");
    }
    for container in task.containers() {
        let exit = container.exit_code().map(|code| format!("exit code {code}"));
        let facts: Vec<_> = exit.into_iter().chain(container.reason().map(Into::into)).collect();
        if !facts.is_empty() {
            text += &format!(", container {}: {}", container.name().unwrap_or_default(), facts.join(", "));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use sfdata_proto::v1::EcsDeployment;

    use super::*;

    #[test]
    fn the_digest_is_that_of_the_new_deployment_and_of_the_main_container() {
        let task = |by: &str, started, digest: &str| {
            let container = |name: &str, digest: &str| Container::builder().name(name).image_digest(digest).build();
            Task::builder()
                .group("service:code")
                .last_status("RUNNING")
                .started_by(by)
                .started_at(DateTime::from_secs(started))
                .containers(container("sidecar", "sha256:side"))
                .containers(container("code", digest))
                .build()
        };
        let deployment = EcsDeployment { id: "new".into(), status: "PRIMARY".into(), ..Default::default() };
        let state = EcsServiceState { name: "code".into(), deployments: vec![deployment], ..Default::default() };
        let tasks = [task("old", 9, "sha256:old"), task("new", 1, "sha256:first"), task("new", 2, "sha256:second")];
        let shown = |tasks: &[Task]| {
            let task = newest(&state, tasks).unwrap();
            main_container(&state, task).unwrap().image_digest().unwrap().to_owned()
        };
        assert_eq!(shown(&tasks), "sha256:second");
        assert_eq!(shown(&tasks[..1]), "sha256:old");
        let other = EcsServiceState { name: "daemon".into(), ..state.clone() };
        assert!(newest(&other, &tasks).is_none());
    }

    #[test]
    fn a_stopped_task_says_why_with_its_exit_code() {
        let task = Task::builder()
            .stopped_reason("Essential container in task exited.")
            .stopped_at(DateTime::from_secs(0))
            .containers(Container::builder().name("daemon").exit_code(137).reason("OutOfMemoryError").build())
            .build();
        assert_eq!(
            why_stopped(&task),
            "1970-01-01T00:00:00Z Essential container in task exited, container daemon: exit code 137, OutOfMemoryError"
        );
    }
}
