//! Stopping one task of the cluster. Needs no note: a task that has stopped, or is about to, is left alone.

use std::time::Duration;

use aws_sdk_ecs::types::Task;
use sfdata_common::outcome::FailureCode;
use sfdata_proto::v1::action_result::Kind;
use tokio::time::{Instant, sleep};

use super::{
    Ecs, resource,
    task::{told, unknown},
    tasks::{service_of, task_id},
};
use crate::{
    execute::Job,
    services::{Error, Plan},
};

/// The tag by which Dagster's EcsRunLauncher names the run that a task executes.
const RUN: &str = "dagster/run_id";
/// Longest pause between two looks.
const LOOK: Duration = Duration::from_secs(5);

impl Ecs {
    pub(super) async fn stop_task(
        &self,
        name: &str,
        reason: &str,
        deadline: Duration,
        job: &Job,
    ) -> Result<Kind, Error> {
        let ends = Instant::now() + deadline;
        let cluster = &self.platform.cluster;
        let found = if is_elsewhere(name, cluster) { None } else { self.task(name).await? };
        let Some(mut task) = found else { return Err(unknown(name, cluster, &self.what_runs().await)) };
        if let Some(answer) = job.agree(plan(&task)).await? {
            return Ok(answer);
        }
        let what = described(&task);
        if !is_ending(&task) {
            job.progress(format!("telling ECS to stop {what}"), None);
            self.end_task(name, &format!("sfdata: command {}: {reason}", job.command())).await?;
        }
        let done = format!("{what} was told to stop");
        let mut pause = Duration::from_millis(500);
        while task.last_status() != Some("STOPPED") {
            job.progress(format!("{what} is {}", task.last_status().unwrap_or("not known")), None);
            if Instant::now() >= ends {
                let text = format!("{done}; the deadline came first; ECS goes on stopping it");
                return Err(Error::failed(FailureCode::Deadline, text));
            }
            tokio::select! {
                biased;
                () = job.cancelled().cancelled() => {
                    return Err(Error::cancelled(format!("{done}, and will; only the waiting was stopped")));
                }
                () = sleep(pause) => pause = (pause * 2).min(LOOK),
            }
            match self.task(name).await {
                Ok(Some(now)) => task = now,
                // ECS has forgotten it, so that it has stopped.
                Ok(None) => break,
                Err(error) if error.is_passing() => {}
                Err(error) => return Err(error.after(&done)),
            }
        }
        Ok(Kind::EcsTask(told(&task, service_of(&task).unwrap_or_default(), false)))
    }
}

/// Whether an ARN names another cluster.
fn is_elsewhere(name: &str, cluster: &str) -> bool {
    name.split_once(":task/").is_some_and(|(_, path)| path.rsplit_once('/').is_some_and(|(of, _)| of != cluster))
}

fn is_ending(task: &Task) -> bool {
    task.desired_status() == Some("STOPPED") || task.last_status() == Some("STOPPED")
}

fn run_of(task: &Task) -> Option<&str> {
    task.tags().iter().find(|tag| tag.key() == Some(RUN))?.value()
}

/// As messages name it.
fn described(task: &Task) -> String {
    match (run_of(task), service_of(task)) {
        (Some(run), _) => format!("task {} of Dagster run {run}", task_id(task)),
        (None, Some(service)) => format!("task {} of service {service}", task_id(task)),
        (None, None) => format!("task {}", task_id(task)),
    }
}

fn plan(task: &Task) -> Plan {
    let plan = Plan::default();
    if is_ending(task) {
        return plan;
    }
    let named = match run_of(task) {
        Some(run) => format!("ecs-task {} (Dagster run {run})", task_id(task)),
        None => format!("ecs-task {}", task_id(task)),
    };
    let plan = plan.change(named, "desiredStatus", task.desired_status().unwrap_or("RUNNING"), "STOPPED");
    match service_of(task) {
        Some(service) => plan.change(resource(service), "task", task_id(task), "(another one: ECS replaces it)"),
        None => plan,
    }
}

#[cfg(test)]
mod tests {
    use aws_sdk_ecs::types::Tag;

    use super::*;

    #[test]
    fn a_plan_names_the_run_and_tells_that_a_services_task_is_replaced() {
        let task = || Task::builder().task_arn("arn:aws:ecs:eu-west-2:1:task/c/0123").desired_status("RUNNING");
        let changes = |task: &Task| -> Vec<String> {
            plan(task).into_wire().changes.iter().map(|c| format!("{} {}", c.resource, c.after)).collect()
        };
        let run = task().group("family:run").tags(Tag::builder().key(RUN).value("r1").build()).build();
        assert_eq!(changes(&run), ["ecs-task 0123 (Dagster run r1) STOPPED"]);
        let of_service = changes(&task().group("service:code").build());
        assert_eq!(of_service, ["ecs-task 0123 STOPPED", "ecs-service code (another one: ECS replaces it)"]);
        assert!(changes(&task().desired_status("STOPPED").build()).is_empty());
    }

    #[test]
    fn an_arn_of_another_cluster_is_not_ours() {
        assert!(!is_elsewhere("0123", "c"));
        assert!(!is_elsewhere("arn:aws:ecs:eu-west-2:1:task/c/0123", "c"));
        assert!(is_elsewhere("arn:aws:ecs:eu-west-2:1:task/d/0123", "c"));
    }
}
