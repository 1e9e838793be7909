//! The tasks of the cluster as they are billed: those that run, and those that ECS still knows to have stopped.

use aws_sdk_ecs::{
    primitives::DateTime,
    types::{DesiredStatus, Task},
};
use sfdata_common::usage::Component;

use super::{
    Ecs,
    estate::is_run,
    tasks::{is_spot, service_of},
};
use crate::{config::Role, services::Error, usage::ledger::Span};

/// The tag that Dagster's launcher gives to the task of a run.
const JOB_TAG: &str = "dagster/job_name";

impl Ecs {
    /// Every task that ECS tells of, by its ARN. ECS knows a stopped one for about an hour.
    pub async fn spans(&self, now: i64) -> Result<Vec<(String, Span)>, Error> {
        // In this order: who moves from one list to the other meanwhile is in both, and not in none.
        let mut tasks = self.tasks(None, DesiredStatus::Running).await?;
        tasks.extend(self.tasks(None, DesiredStatus::Stopped).await?);
        let spans = tasks.iter().filter_map(|task| Some((task.task_arn()?.to_owned(), self.span(task, now)?)));
        Ok(spans.collect())
    }

    fn span(&self, task: &Task, now: i64) -> Option<Span> {
        // Fargate bills from when the image begins to be pulled.
        let from = task.pull_started_at().or(task.started_at()).map(DateTime::secs)?;
        Some(Span {
            cpu: task.cpu()?.parse().ok()?,
            memory: task.memory()?.parse().ok()?,
            component: self.component(task).into(),
            spot: is_spot(task),
            job: tag(task, JOB_TAG).filter(|_| is_run(task)),
            from,
            until: task.stopped_at().map(DateTime::secs),
            seen: now,
        })
    }

    fn component(&self, task: &Task) -> Component {
        let role = service_of(task).and_then(|name| self.dagster().into_iter().find(|(known, _)| *known == name));
        match role {
            Some((_, Role::Webserver)) => Component::Webserver,
            Some((_, Role::Daemon)) => Component::Daemon,
            Some((_, Role::CodeServer)) => Component::CodeServer,
            None if is_run(task) => Component::Run,
            Some((_, Role::Other)) | None => Component::Other,
        }
    }
}

fn tag(task: &Task, key: &str) -> Option<String> {
    task.tags().iter().find(|tag| tag.key() == Some(key))?.value().map(str::to_owned)
}
