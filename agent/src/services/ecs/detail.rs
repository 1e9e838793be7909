//! What `ecs status` tells besides a service's state: what its tasks run on, which tags its image has, which tasks
//! stopped last and why, and what somebody should look at. Health reports make none of these calls.

use std::collections::BTreeSet;

use aws_sdk_ecs::types::{CapacityProviderStrategyItem, DesiredStatus, Service, Task};
use sfdata_common::{image::Repository, limits};
use sfdata_proto::v1::{
    EcsCapacity, EcsServiceDetail, EcsServiceState, EcsStatusResult, EcsStoppedTask, action_result::Kind,
};
use tracing::debug;

use super::{
    Ecs,
    alone::percents,
    state::{count, primary},
    tasks::{ended, exit_code, is_of, is_spot, task_id, unix_ms},
};
use crate::{config::Role, services::Error};

impl Ecs {
    /// All services, with what only an operator who asks is told.
    pub(super) async fn status(&self) -> Result<Kind, Error> {
        let found = self.found().await?;
        let mut services = self.states(&found);
        let running = self.tasks(None, DesiredStatus::Running).await?;
        self.images_of(&mut services, &running).await?;
        let mut details = Vec::with_capacity(services.len());
        for state in &services {
            let service = found.iter().find(|service| service.service_name() == Some(&state.name));
            details.push(match service {
                Some(service) => self.detail(service, state, &running).await?,
                None => missing(state),
            });
        }
        Ok(Kind::EcsStatus(EcsStatusResult { cluster: self.platform.cluster.clone(), services, details }))
    }

    async fn detail(
        &self,
        service: &Service,
        state: &EcsServiceState,
        running: &[Task],
    ) -> Result<EcsServiceDetail, Error> {
        let run: Vec<&Task> = running.iter().filter(|task| is_of(task, &state.name)).collect();
        let run = |spot| run.iter().filter(|task| runs(task) && is_spot(task) == spot).count();
        let mut stopped = self.tasks(Some(&state.name), DesiredStatus::Stopped).await?;
        stopped.retain(ended);
        stopped.sort_by_key(|task| std::cmp::Reverse(unix_ms(task.stopped_at())));
        let stopped: Vec<_> = stopped.iter().take(limits::STOPPED_TASKS).map(|task| stop(task, &state.name)).collect();
        let role = self.platform.service(&state.name).map_or(Role::Other, |(_, role)| role);
        let mut warnings = warnings(service, role, state, &stopped);
        match self.definition(&state.task_definition).await {
            Ok(definition) => warnings.extend(definition.plain_secrets().into_iter().map(|(container, variable)| {
                format!("{variable} of container {container} looks like a secret, and is in the clear: use-secret")
            })),
            Err(error) => warnings.push(format!("its task definition cannot be read: {error}")),
        }
        Ok(EcsServiceDetail {
            service: state.name.clone(),
            launch_type: service.launch_type().map(|kind| kind.as_str().into()).unwrap_or_default(),
            capacity_provider_strategy: service.capacity_provider_strategy().iter().map(capacity).collect(),
            platform_version: service.platform_version().unwrap_or_default().into(),
            running_spot: whole(run(true)),
            running_on_demand: whole(run(false)),
            image_tags: self.tags(state).await,
            warnings,
            stopped_tasks: stopped,
        })
    }

    /// The tags of the image that runs. ECR need not tell: then only the one by which it is named is known.
    async fn tags(&self, state: &EcsServiceState) -> Vec<String> {
        let (named, digest) = match state.image.split_once('@') {
            Some((named, digest)) => (named, digest),
            None => (state.image.as_str(), state.image_digest.as_str()),
        };
        let (repository, tag) = match named.rsplit_once(':') {
            Some((repository, tag)) if !tag.contains('/') => (repository, Some(tag)),
            _ => (named, None),
        };
        let mut tags: BTreeSet<String> = tag.into_iter().map(Into::into).collect();
        if let Ok(repository) = repository.parse::<Repository>()
            && !digest.is_empty()
        {
            match self.ecr.tags(&repository, digest).await {
                Ok(told) => tags.extend(told.into_iter().take(limits::IMAGE_TAGS)),
                Err(error) => debug!(service = state.name, %error, "the tags of an image are not known"),
            }
        }
        tags.into_iter().collect()
    }
}

fn whole(number: usize) -> u32 {
    number.try_into().unwrap_or(u32::MAX)
}

fn missing(state: &EcsServiceState) -> EcsServiceDetail {
    let warnings = vec!["the configuration names it and the cluster has no such service".into()];
    EcsServiceDetail { service: state.name.clone(), warnings, ..Default::default() }
}

/// Whether it is at work, and not on its way up or down.
fn runs(task: &Task) -> bool {
    task.last_status() == Some("RUNNING")
}

pub(super) fn capacity(item: &CapacityProviderStrategyItem) -> EcsCapacity {
    EcsCapacity { provider: item.capacity_provider().into(), base: count(item.base()), weight: count(item.weight()) }
}

fn stop(task: &Task, container: &str) -> EcsStoppedTask {
    EcsStoppedTask {
        id: task_id(task).into(),
        stopped_unix_ms: unix_ms(task.stopped_at()),
        stop_code: task.stop_code().map(|code| code.as_str().into()).unwrap_or_default(),
        reason: why(task, container),
        exit_code: exit_code(task, container),
    }
}

/// Why it stopped: ECS's reason, and the container's own where it has one.
fn why(task: &Task, container: &str) -> String {
    let of_task = task.stopped_reason().unwrap_or_default().trim_end_matches('.');
    let named = task.containers().iter().find(|one| one.name() == Some(container)).or(task.containers().first());
    let text = match named.and_then(|one| one.reason()).filter(|reason| !reason.is_empty()) {
        Some(reason) => format!("{of_task}: {}", reason.trim_end_matches('.')),
        None => of_task.into(),
    };
    text.chars().take(limits::STOP_REASON_CHARACTERS).collect()
}

/// What somebody should look at.
fn warnings(service: &Service, role: Role, state: &EcsServiceState, stopped: &[EcsStoppedTask]) -> Vec<String> {
    let mut warnings = Vec::new();
    if state.status != "ACTIVE" {
        warnings.push(format!("ECS has it as {}", state.status));
    }
    let (_, most) = percents(service);
    if role == Role::Daemon && most > 100 {
        warnings.push(format!("two daemons may run side by side during a deployment: maximumPercent is {most}"));
    }
    if role == Role::Daemon && state.desired > 1 {
        warnings.push(format!("{} daemons are wanted, and each schedule is launched by all of them", state.desired));
    }
    if let Some(failed) = primary(state).filter(|deployment| deployment.rollout_state == "FAILED") {
        warnings.push(format!("its deployment has failed: {}", failed.rollout_reason.trim_end_matches('.')));
    } else if state.running < state.desired {
        warnings.push(format!("{} of {} wanted tasks run", state.running, state.desired));
    }
    let interrupted = stopped.iter().filter(|task| task.stop_code == "SpotInterruption").count();
    if interrupted > 0 {
        warnings.push(format!("Spot took back {interrupted} of the last {} tasks that stopped", stopped.len()));
    }
    warnings
}

#[cfg(test)]
mod tests {
    use aws_sdk_ecs::types::{Container, DeploymentConfiguration};

    use super::*;

    #[test]
    fn a_daemon_that_may_run_twice_and_tasks_that_spot_took_are_warned_of() {
        let service = |most| {
            let configuration = DeploymentConfiguration::builder().maximum_percent(most).build();
            Service::builder().deployment_configuration(configuration).build()
        };
        let state = EcsServiceState { status: "ACTIVE".into(), desired: 1, running: 1, ..Default::default() };
        assert!(warnings(&service(100), Role::Daemon, &state, &[]).is_empty());
        assert!(warnings(&service(200), Role::Webserver, &state, &[]).is_empty());
        assert!(warnings(&service(200), Role::Daemon, &state, &[])[0].contains("maximumPercent is 200"));
        let spot = EcsStoppedTask { stop_code: "SpotInterruption".into(), ..Default::default() };
        let warned = warnings(&service(100), Role::Daemon, &state, &[spot, EcsStoppedTask::default()]);
        assert_eq!(warned, ["Spot took back 1 of the last 2 tasks that stopped"]);
    }

    #[test]
    fn a_stop_is_told_with_the_reason_of_its_container() {
        let task = Task::builder()
            .task_arn("arn:aws:ecs:eu-west-2:1:task/c/0123")
            .stopped_reason("Task failed to start")
            .containers(Container::builder().name("side").exit_code(0).build())
            .containers(Container::builder().name("code").reason("CannotPullContainerError: not found.").build())
            .build();
        let told = stop(&task, "code");
        assert_eq!((told.id.as_str(), told.exit_code), ("0123", None));
        assert_eq!(told.reason, "Task failed to start: CannotPullContainerError: not found");
        assert_eq!(stop(&task, "side").exit_code, Some(0));
    }
}
