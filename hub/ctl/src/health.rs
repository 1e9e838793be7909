//! A platform's parts as people and programs read them: services, database, an agent's health.

use serde_json::{Value, json};
use sfdata_proto::v1::{
    AuroraHealth, AuroraState, EcsDeployment, EcsHealth, EcsServiceState, Health, HealthReason, HealthWord, RunsHealth,
};

use crate::{
    arrivals, power,
    table::{Cell, Tone},
    words,
};

/// Shown where the agent could not look.
const UNREADABLE: &str = "unreadable";

/// `healthy`, `degraded` ...
pub(crate) fn word(word: HealthWord) -> Cell {
    let tone = match word {
        HealthWord::Healthy => Tone::Good,
        HealthWord::Asleep => Tone::Plain,
        HealthWord::Degraded | HealthWord::Held | HealthWord::Unspecified => Tone::Pending,
        HealthWord::Failing | HealthWord::Away => Tone::Bad,
    };
    Cell::new(sfdata_common::health::word(word), tone)
}

/// What makes an LA so, whole.
pub(crate) fn reason(reason: &HealthReason) -> Value {
    json!({
        "kind": sfdata_common::health::kind(reason.kind()),
        "name": none_if_empty(&reason.name),
        "count": Some(reason.count).filter(|count| *count > 0),
        "at": words::time(reason.at_unix_ms),
    })
}

/// One ECS service, whole.
pub(crate) fn service(service: &EcsServiceState) -> Value {
    json!({
        "name": service.name,
        "role": service.role,
        "status": service.status,
        "desired": service.desired,
        "running": service.running,
        "pending": service.pending,
        "image": service.image,
        "image_digest": service.image_digest,
        "task_definition": service.task_definition,
        "deployments": service.deployments.iter().map(deployment).collect::<Vec<_>>(),
        "events": service.events,
    })
}

fn deployment(deployment: &EcsDeployment) -> Value {
    json!({
        "id": deployment.id,
        "status": deployment.status,
        "rollout_state": deployment.rollout_state,
        "rollout_reason": deployment.rollout_reason,
        "desired": deployment.desired,
        "running": deployment.running,
        "pending": deployment.pending,
        "failed_tasks": deployment.failed_tasks,
    })
}

/// Columns of [`service_row`].
pub(crate) const SERVICE_COLUMNS: [&str; 7] = ["SERVICE", "ROLE", "RUNNING", "PENDING", "ROLLOUT", "FAILED", "IMAGE"];

/// One ECS service on one line.
pub(crate) fn service_row(service: &EcsServiceState) -> Vec<Cell> {
    let newest = service.deployments.first();
    let tone = if service.running == service.desired { Tone::Good } else { Tone::Pending };
    vec![
        Cell::from(&service.name),
        Cell::from(&service.role),
        Cell::new(format!("{}/{}", service.running, service.desired), tone),
        Cell::from(service.pending),
        Cell::from(
            newest.map_or_else(String::new, |newest| newest.rollout_state.to_ascii_lowercase().replace('_', "-")),
        ),
        Cell::from(newest.map_or(0, |newest| newest.failed_tasks)),
        // The repository is the same everywhere; the tag is what differs.
        Cell::from(service.image.rsplit('/').next().unwrap_or_default()),
    ]
}

/// `webserver 0/0  daemon 1/1  code-server 1/1`.
pub(crate) fn services_line(ecs: Option<&EcsHealth>) -> Cell {
    let Some(ecs) = ecs else { return Cell::from("") };
    if !ecs.error.is_empty() {
        return Cell::new(UNREADABLE, Tone::Bad);
    }
    let name = |service: &EcsServiceState| match service.role.as_str() {
        "" | "other" => service.name.clone(),
        role => role.to_owned(),
    };
    let one = |service: &EcsServiceState| format!("{} {}/{}", name(service), service.running, service.desired);
    let settled = ecs.services.iter().all(|service| service.running == service.desired);
    let tone = if settled { Tone::Plain } else { Tone::Pending };
    Cell::new(ecs.services.iter().map(one).collect::<Vec<_>>().join("  "), tone)
}

/// The database, whole.
pub(crate) fn aurora(aurora: &AuroraState) -> Value {
    json!({
        "cluster": aurora.cluster,
        "status": aurora.status,
        "engine": aurora.engine,
        "engine_version": aurora.engine_version,
        "min_acu": aurora.min_acu,
        "max_acu": aurora.max_acu,
        "auto_pause_seconds": Some(aurora.auto_pause_seconds).filter(|seconds| *seconds > 0),
        "instances": aurora.instances,
        "instance_class": none_if_empty(&aurora.instance_class),
    })
}

/// Columns of [`aurora_row`].
pub(crate) const AURORA_COLUMNS: [&str; 6] = ["CLUSTER", "STATUS", "ENGINE", "CAPACITY", "PAUSES", "INSTANCES"];

/// The database on one line.
pub(crate) fn aurora_row(aurora: &AuroraState) -> Vec<Cell> {
    let tone = if aurora.status == "available" { Tone::Good } else { Tone::Pending };
    let pauses = match aurora.auto_pause_seconds {
        0 => "never".to_owned(),
        seconds => format!("after {}", words::span(std::time::Duration::from_secs(seconds.into()))),
    };
    vec![
        Cell::from(&aurora.cluster),
        Cell::new(&aurora.status, tone),
        Cell::from(format!("{} {}", aurora.engine, aurora.engine_version)),
        Cell::from(capacity(aurora)),
        Cell::from(pauses),
        Cell::from(aurora.instances),
    ]
}

/// `0.5 to 4 ACU`, or the class of a plain instance.
pub(crate) fn capacity(aurora: &AuroraState) -> String {
    match aurora.instance_class.as_str() {
        "" => format!("{} to {} ACU", aurora.min_acu, aurora.max_acu),
        class => class.to_owned(),
    }
}

/// The database's state alone.
pub(crate) fn database_word(aurora: Option<&AuroraHealth>) -> Cell {
    match aurora {
        Some(health) if !health.error.is_empty() => Cell::new(UNREADABLE, Tone::Bad),
        Some(AuroraHealth { state: Some(state), .. }) => Cell::from(&state.status),
        _ => Cell::from(""),
    }
}

/// What an agent reported, whole.
pub(crate) fn health(health: &Health) -> Value {
    json!({
        "taken": words::time(health.taken_unix_ms),
        "agent_version": health.agent_version,
        "uptime_seconds": health.uptime_seconds,
        "clock_skew_ms": health.clock_skew_ms,
        "ecs": health.ecs.as_ref().map(|ecs| json!({
            "cluster": ecs.cluster,
            "error": none_if_empty(&ecs.error),
            "services": ecs.services.iter().map(service).collect::<Vec<_>>(),
        })),
        "aurora": health.aurora.as_ref().map(|database| json!({
            "error": none_if_empty(&database.error),
            "state": database.state.as_ref().map(aurora),
        })),
        "arrivals": health.arrivals.as_ref().map(arrivals::health),
        "journal": health.journal.as_ref().map(|journal| json!({
            "running": journal.running,
            "queued": journal.queued,
            "unacknowledged": journal.unacknowledged,
        })),
        "power": health.power.as_ref().map(power::power),
        "runs": health.runs.as_ref().map(runs),
        "certificate_expires": words::time(health.certificate_expires_unix_ms),
        "hold": health.hold.as_ref().map(|hold| json!({
            "reason": hold.reason,
            "since": words::time(hold.since_unix_ms),
        })),
    })
}

fn runs(runs: &RunsHealth) -> Value {
    json!({
        "jobs": runs.jobs.iter().map(|job| json!({
            "job": job.job,
            "succeeded": job.succeeded,
            "failed": job.failed,
            "canceled": job.canceled,
            "failing": job.failing,
            "last_success": words::time(job.last_success_unix_ms),
            "last_failure": words::time(job.last_failure_unix_ms),
        })).collect::<Vec<_>>(),
        "datasets": runs.datasets.iter().map(|dataset| json!({
            "dataset": dataset.dataset,
            "last_success": words::time(dataset.last_success_unix_ms),
        })).collect::<Vec<_>>(),
    })
}

/// Absent in JSON where the wire has an empty text.
pub(crate) fn none_if_empty(text: &str) -> Option<&str> {
    Some(text).filter(|text| !text.is_empty())
}
