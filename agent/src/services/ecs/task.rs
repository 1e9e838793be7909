//! One task: found, stopped, and told of.

use aws_sdk_ecs::types::{DesiredStatus, Task, TaskField};
use sfdata_common::outcome::FailureCode;
use sfdata_proto::v1::EcsTaskResult;

use super::{
    Ecs,
    tasks::{exit_code, is_spot, task_id, unix_ms},
};
use crate::services::{Error, aws::failure};

/// StopTask takes a reason of so many characters (ECS API reference).
const REASON: usize = 255;
/// Running tasks that an error names.
const NAMED: usize = 20;

impl Ecs {
    /// A task by its id or ARN, if ECS still knows it.
    pub(super) async fn task(&self, name: &str) -> Result<Option<Task>, Error> {
        let cluster = &self.platform.cluster;
        let call = self.client.describe_tasks().cluster(cluster).tasks(name).include(TaskField::Tags);
        let answer = call
            .send()
            .await
            .map_err(|e| failure(format_args!("read task {name} of cluster {cluster}"), "ecs:DescribeTasks", e))?;
        Ok(answer.tasks.unwrap_or_default().pop())
    }

    /// Tell ECS to stop a task. Repeating it is harmless.
    pub(super) async fn end_task(&self, name: &str, reason: &str) -> Result<(), Error> {
        let cluster = &self.platform.cluster;
        let reason: String = reason.chars().take(REASON).collect();
        let call = self.client.stop_task().cluster(cluster).task(name).reason(reason);
        let answer = call.send().await;
        answer.map_err(|e| failure(format_args!("stop task {name} of cluster {cluster}"), "ecs:StopTask", e))?;
        Ok(())
    }

    /// What runs in the cluster, in a few words.
    pub(super) async fn what_runs(&self) -> String {
        let mut tasks = match self.tasks(None, DesiredStatus::Running).await {
            Ok(tasks) => tasks,
            Err(error) => return format!("what runs cannot be told: {error}"),
        };
        tasks.sort_by_key(|task| std::cmp::Reverse(unix_ms(task.created_at())));
        let named = |task: &Task| format!("{} ({})", task_id(task), task.group().unwrap_or("no group"));
        let names: Vec<_> = tasks.iter().take(NAMED).map(named).collect();
        match tasks.len().saturating_sub(NAMED) {
            _ if names.is_empty() => "none runs".into(),
            0 => format!("there runs {}", names.join(", ")),
            more => format!("there runs {} and {more} older ones", names.join(", ")),
        }
    }
}

/// The wire's word for a task, with how the container of this name ended.
pub(super) fn told(task: &Task, container: &str, fell_back: bool) -> EcsTaskResult {
    let text = |text: Option<&str>| text.unwrap_or_default().to_owned();
    EcsTaskResult {
        task: text(task.task_arn()),
        group: text(task.group()),
        task_definition: text(task.task_definition_arn()),
        last_status: text(task.last_status()),
        stop_code: task.stop_code().map(|code| code.as_str().into()).unwrap_or_default(),
        stopped_reason: text(task.stopped_reason()),
        exit_code: exit_code(task, container),
        started_unix_ms: unix_ms(task.started_at()),
        stopped_unix_ms: unix_ms(task.stopped_at()),
        spot: is_spot(task),
        fell_back_to_on_demand: fell_back,
    }
}

/// What a task that does not exist, or no more, is answered with.
pub(super) fn unknown(name: &str, cluster: &str, there: &str) -> Error {
    Error::failed(
        FailureCode::NotFound,
        format!("cluster {cluster} knows no task {name}; ECS forgets a task an hour after it stopped; {there}"),
    )
}
