//! The services as the power controller sees and moves them. It does without a journal: each of its orders is made anew from
//! what is seen, and sets what may be set twice.

use aws_sdk_ecs::{
    operation::update_service::builders::UpdateServiceFluentBuilder,
    types::{CapacityProviderStrategyItem, Container, DeploymentRolloutState, DesiredStatus, Service, Task},
};
use sfdata_common::{limits, outcome::FailureCode};
use tokio::time::timeout;

use super::{
    Ecs, NO_CAPACITY, alone,
    state::{count, state, time},
    tasks::{is_of, service_of},
};
use crate::{
    config::Role,
    power::observation::{self, Estate, Trouble},
    services::{Error, aws::failure},
};

/// How closely the services are looked at: each step costs calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Closely {
    /// What runs.
    Rest,
    /// Tasks that are on their way down, as well.
    Moving,
    /// And why others do not come up.
    Stuck,
}

impl Ecs {
    /// Webserver, daemon and code servers, and how many tasks of runs there are.
    pub async fn estate(&self, closely: Closely) -> Result<Estate, Error> {
        let late = || {
            let text = format!("AWS did not tell the state of cluster {} in time", self.platform.cluster);
            Error::failed(FailureCode::Unavailable, text)
        };
        timeout(limits::AWS_CALL, Box::pin(self.see_estate(closely))).await.unwrap_or_else(|_| Err(late()))
    }

    async fn see_estate(&self, closely: Closely) -> Result<Estate, Error> {
        let tasks = async {
            // In this order: who moves from one list to the other meanwhile is in both, and not in none.
            let mut tasks = self.tasks(None, DesiredStatus::Running).await?;
            if closely >= Closely::Moving {
                let ending = self.tasks(None, DesiredStatus::Stopped).await?;
                let is_new = |task: &Task| tasks.iter().all(|one| one.task_arn() != task.task_arn());
                let ending: Vec<Task> = ending.into_iter().filter(is_new).collect();
                tasks.extend(ending);
            }
            Ok(tasks)
        };
        let (found, tasks) = tokio::try_join!(self.found(), tasks)?;
        let tasks: Vec<&Task> = tasks.iter().filter(|task| task.last_status() != Some("STOPPED")).collect();
        let (mut services, mut missing) = (Vec::new(), Vec::new());
        for (name, role) in self.dagster() {
            let Some(service) = found.iter().find(|service| service.service_name() == Some(name)) else {
                missing.push(name.to_owned());
                continue;
            };
            let tasks = tasks.iter().filter(|task| is_of(task, name)).count();
            let mut seen = seen(service, role, whole(tasks));
            if closely == Closely::Stuck && seen.desired > 0 && seen.running == 0 && seen.trouble.is_none() {
                seen.trouble = self.last_stop(name).await.unwrap_or_default().map(Trouble::Other);
            }
            services.push(seen);
        }
        let run_tasks = whole(tasks.iter().filter(|task| is_run(task)).count());
        Ok(Estate { services, run_tasks, missing })
    }

    /// Set how many tasks a service of Dagster has.
    pub async fn set_count(&self, name: &str, to: u32) -> Result<(), Error> {
        let tried = format!("set the desired count of service {name} to {to}");
        let count = i32::try_from(to).unwrap_or(i32::MAX);
        self.update(name, tried, |call, service| {
            // A deployment that ECS gave up places no more tasks.
            let given_up = service.deployments().iter().any(|one| {
                one.status() == Some("PRIMARY") && one.rollout_state() == Some(&DeploymentRolloutState::Failed)
            });
            let call = call.desired_count(count);
            if to > 0 && given_up { call.force_new_deployment(true) } else { call }
        })
        .await
    }

    /// Let ECS try anew to bring up a service's tasks: it pauses longer after each failure, and forgets that with a deployment.
    pub async fn renew(&self, name: &str) -> Result<(), Error> {
        self.update(name, format!("deploy service {name} anew"), |call, _| call.force_new_deployment(true)).await
    }

    /// Set a service's capacity provider strategy, in the words of [`Estate`].
    pub async fn set_strategy(&self, name: &str, to: &str) -> Result<(), Error> {
        let items: Option<Vec<CapacityProviderStrategyItem>> = to.split(',').map(item).collect();
        let Some(items) = items else {
            let text = format!("{to:?} is no capacity provider strategy; set it with hubctl ecs capacity");
            return Err(Error::failed(FailureCode::Internal, text));
        };
        let tried = format!("set the capacity of service {name} to {to}");
        self.update(name, tried, |call, _| call.set_capacity_provider_strategy(Some(items)).force_new_deployment(true))
            .await
    }

    /// Change a service of Dagster that no command is at work on. The daemon is made so with it that it can't run twice.
    async fn update(
        &self,
        name: &str,
        tried: String,
        change: impl FnOnce(UpdateServiceFluentBuilder, &Service) -> UpdateServiceFluentBuilder,
    ) -> Result<(), Error> {
        let (name, role) = self.named(name)?;
        let _turn = self.free(name)?;
        let service = self.look(name).await?;
        let call = self.client.update_service().cluster(&self.platform.cluster).service(name);
        let call = change(call, &service)
            .set_deployment_configuration(alone::configuration(&service, role))
            .set_availability_zone_rebalancing(alone::unbalanced(&service, role));
        call.send().await.map(|_| ()).map_err(|e| failure(tried, "ecs:UpdateService", e))
    }

    /// Nobody else's turn: a command that is at work on a service knows what it wants of it.
    fn free(&self, name: &str) -> Result<Option<tokio::sync::MutexGuard<'_, ()>>, Error> {
        let Some(turn) = self.turns.get(name) else { return Ok(None) };
        turn.try_lock().map(Some).map_err(|_| {
            Error::failed(FailureCode::Conflict, format!("a command is at work on {name}; it is left alone meanwhile"))
        })
    }
}

fn seen(service: &Service, role: Role, tasks: u32) -> observation::Service {
    let told = state(service, role);
    let capacity: Vec<String> = service.capacity_provider_strategy().iter().map(words).collect();
    let capacity = capacity.join(",");
    observation::Service {
        name: told.name,
        role,
        desired: told.desired,
        running: told.running,
        tasks,
        definition: told.task_definition,
        trouble: (told.desired > 0 && told.running == 0).then(|| starved(service, &capacity)).flatten(),
        capacity,
    }
}

/// Whether it is the task of a run, as Dagster's `EcsRunLauncher` makes it: of a family that begins with `run`, or with a
/// container of that name. Others may share the cluster.
pub(super) fn is_run(task: &Task) -> bool {
    let family = task.group().and_then(|group| group.strip_prefix("family:"));
    let mut names = task.containers().iter().filter_map(Container::name);
    service_of(task).is_none()
        && (family.is_some_and(|family| family.starts_with("run")) || names.any(|name| name == "run"))
}

/// Whether ECS says, since the service's primary deployment was changed last, that there is no room for its tasks.
fn starved(service: &Service, capacity: &str) -> Option<Trouble> {
    let primary = service.deployments().iter().find(|one| one.status() == Some("PRIMARY"));
    let since = primary.and_then(|one| one.updated_at().or(one.created_at())).and_then(time);
    let newest = service.events().first()?;
    let said = newest.message().unwrap_or_default();
    if newest.created_at().and_then(time) < since || !said.contains(NO_CAPACITY) {
        return None;
    }
    Some(if capacity.contains("FARGATE_SPOT") { Trouble::NoSpot } else { Trouble::Other(said.into()) })
}

/// `FARGATE_SPOT:1`, with a base `FARGATE:1:2`.
fn words(item: &CapacityProviderStrategyItem) -> String {
    let (provider, weight) = (item.capacity_provider(), count(item.weight()));
    match count(item.base()) {
        0 => format!("{provider}:{weight}"),
        base => format!("{provider}:{weight}:{base}"),
    }
}

fn item(words: &str) -> Option<CapacityProviderStrategyItem> {
    let mut parts = words.split(':');
    let item =
        CapacityProviderStrategyItem::builder().capacity_provider(parts.next()?).weight(parts.next()?.parse().ok()?);
    let base = parts.next().map_or(Some(0), |base| base.parse().ok())?;
    item.base(base).build().ok()
}

fn whole(number: usize) -> u32 {
    number.try_into().unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_strategy_survives_its_words() {
        for text in ["FARGATE:1", "FARGATE_SPOT:1,FARGATE:0:1"] {
            let items: Vec<_> = text.split(',').map(|words| item(words).unwrap()).collect();
            assert_eq!(items.iter().map(words).collect::<Vec<_>>().join(","), text);
        }
        assert!(item("").is_none() && item("FARGATE:x").is_none());
    }
}
