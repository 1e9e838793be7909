//! The containers as `hubctl ecs status` shows them: what they run on, which image, what stopped, what to look at.

use std::time::Duration;

use serde_json::{Value, json};
use sfdata_proto::v1::{
    EcsCapacity, EcsCapacityResult, EcsServiceDetail, EcsServiceState, EcsStatusResult, EcsStoppedTask, EcsTaskResult,
};

use crate::{
    health::{self, none_if_empty},
    table::{Cell, Tone},
    words,
};

/// Digits of a digest that tables show, as git shows a commit's.
const DIGEST_DIGITS: usize = 12;

/// All services, whole.
pub(crate) fn status(status: &EcsStatusResult) -> Value {
    let one = |(at, service): (usize, &EcsServiceState)| {
        let mut one = health::service(service);
        one["detail"] = status.details.get(at).map_or(Value::Null, detail);
        one
    };
    json!({ "cluster": status.cluster, "services": status.services.iter().enumerate().map(one).collect::<Vec<_>>() })
}

fn detail(detail: &EcsServiceDetail) -> Value {
    json!({
        "launch_type": none_if_empty(&detail.launch_type),
        "capacity_provider_strategy": strategy(&detail.capacity_provider_strategy),
        "platform_version": none_if_empty(&detail.platform_version),
        "running_spot": detail.running_spot,
        "running_on_demand": detail.running_on_demand,
        "image_tags": detail.image_tags,
        "stopped_tasks": detail.stopped_tasks.iter().map(stopped).collect::<Vec<_>>(),
        "warnings": detail.warnings,
    })
}

/// A capacity provider strategy, whole.
pub(crate) fn strategy(strategy: &[EcsCapacity]) -> Vec<Value> {
    let one = |item: &EcsCapacity| json!({ "provider": item.provider, "base": item.base, "weight": item.weight });
    strategy.iter().map(one).collect()
}

fn stopped(task: &EcsStoppedTask) -> Value {
    json!({
        "id": task.id,
        "stopped": words::time(task.stopped_unix_ms),
        "stop_code": none_if_empty(&task.stop_code),
        "reason": none_if_empty(&task.reason),
        "exit_code": task.exit_code,
    })
}

/// Columns of [`status_rows`].
pub(crate) const STATUS_COLUMNS: [&str; 6] = ["SERVICE", "RUNNING", "ROLLOUT", "ON", "IMAGE", "DIGEST"];

/// One line a service.
pub(crate) fn status_rows(status: &EcsStatusResult) -> Vec<Vec<Cell>> {
    let row = |(at, service): (usize, &EcsServiceState)| {
        let detail = status.details.get(at).cloned().unwrap_or_default();
        let rollout = service.deployments.first().map_or("", |newest| newest.rollout_state.as_str());
        let tone = if service.running == service.desired { Tone::Good } else { Tone::Pending };
        let digits = service.image_digest.trim_start_matches("sha256:").chars().take(DIGEST_DIGITS);
        vec![
            Cell::from(&service.name),
            Cell::new(format!("{}/{}", service.running, service.desired), tone),
            Cell::from(rollout.to_ascii_lowercase().replace('_', "-")),
            Cell::from(runs_on(&detail)),
            Cell::from(image(service, &detail)),
            Cell::from(digits.collect::<String>()),
        ]
    };
    status.services.iter().enumerate().map(row).collect()
}

/// `dagster:2024.12.1`; the repository's registry is the same everywhere.
fn image(service: &EcsServiceState, detail: &EcsServiceDetail) -> String {
    let name = service.image.rsplit('/').next().unwrap_or_default();
    match (name.split_once('@'), detail.image_tags.first()) {
        (Some((name, _)), Some(tag)) => format!("{name}:{tag}"),
        (Some((name, _)), None) => name.to_owned(),
        (None, _) => name.to_owned(),
    }
}

/// What its tasks run on or, while none runs, what the next one would.
fn runs_on(detail: &EcsServiceDetail) -> String {
    match (detail.running_spot, detail.running_on_demand) {
        (0, 0) => {
            let spot = |item: &EcsCapacity| item.provider == "FARGATE_SPOT";
            let strategy = &detail.capacity_provider_strategy;
            if strategy.iter().any(spot) { "spot".into() } else { detail.launch_type.to_ascii_lowercase() }
        }
        (0, _) => "on-demand".into(),
        (_, 0) => "spot".into(),
        (spot, on_demand) => format!("{spot} spot, {on_demand} not"),
    }
}

/// Columns of [`warning_rows`].
pub(crate) const WARNING_COLUMNS: [&str; 2] = ["SERVICE", "WARNING"];

/// What somebody should look at, one line each.
pub(crate) fn warning_rows(status: &EcsStatusResult) -> Vec<Vec<Cell>> {
    let of = |detail: &EcsServiceDetail| -> Vec<Vec<Cell>> {
        let row = |text: &String| vec![Cell::from(&detail.service), Cell::new(text, Tone::Bad)];
        detail.warnings.iter().map(row).collect()
    };
    status.details.iter().flat_map(of).collect()
}

/// Columns of [`stopped_rows`].
pub(crate) const STOPPED_COLUMNS: [&str; 4] = ["SERVICE", "STOPPED", "EXIT", "REASON"];

/// The tasks that stopped last, one line each.
pub(crate) fn stopped_rows(status: &EcsStatusResult) -> Vec<Vec<Cell>> {
    let of = |detail: &EcsServiceDetail| -> Vec<Vec<Cell>> {
        let row = |task: &EcsStoppedTask| {
            vec![
                Cell::from(&detail.service),
                Cell::from(words::second(task.stopped_unix_ms)),
                Cell::from(task.exit_code.map_or_else(String::new, |code| code.to_string())),
                Cell::from(&task.reason),
            ]
        };
        detail.stopped_tasks.iter().map(row).collect()
    };
    status.details.iter().flat_map(of).collect()
}

/// Columns of [`event_rows`].
pub(crate) const EVENT_COLUMNS: [&str; 2] = ["SERVICE", "EVENT"];

/// The last event of each service.
pub(crate) fn event_rows(status: &EcsStatusResult) -> Vec<Vec<Cell>> {
    let row = |service: &EcsServiceState| {
        let event = service.events.first()?.replace(&format!("(service {}) ", service.name), "");
        Some(vec![Cell::from(&service.name), Cell::from(event)])
    };
    status.services.iter().filter_map(row).collect()
}

/// What a service's tasks run on now, whole.
pub(crate) fn capacity(result: &EcsCapacityResult) -> Value {
    json!({
        "service": result.service.as_ref().map(health::service),
        "capacity_provider_strategy": strategy(&result.capacity_provider_strategy),
        "fell_back": none_if_empty(&result.fell_back),
    })
}

/// Columns of [`capacity_row`].
pub(crate) const CAPACITY_COLUMNS: [&str; 4] = ["SERVICE", "RUNNING", "CAPACITY", "NOT ON SPOT"];

/// What a service's tasks run on now, on one line.
pub(crate) fn capacity_row(result: &EcsCapacityResult) -> Vec<Cell> {
    let service = result.service.clone().unwrap_or_default();
    let one = |item: &EcsCapacity| match item.base {
        0 => item.provider.clone(),
        base => format!("{} for {base}", item.provider),
    };
    let strategy: Vec<_> = result.capacity_provider_strategy.iter().map(one).collect();
    vec![
        Cell::from(&service.name),
        Cell::from(format!("{}/{}", service.running, service.desired)),
        Cell::from(strategy.join(", ")),
        Cell::new(&result.fell_back, Tone::Pending),
    ]
}

/// A task that was run or stopped, whole.
pub(crate) fn task(task: &EcsTaskResult) -> Value {
    json!({
        "task": task.task,
        "group": task.group,
        "task_definition": task.task_definition,
        "last_status": task.last_status,
        "stop_code": none_if_empty(&task.stop_code),
        "stopped_reason": none_if_empty(&task.stopped_reason),
        "exit_code": task.exit_code,
        "started": words::time(task.started_unix_ms),
        "stopped": words::time(task.stopped_unix_ms),
        "spot": task.spot,
        "fell_back_to_on_demand": task.fell_back_to_on_demand,
    })
}

/// Columns of [`task_row`].
pub(crate) const TASK_COLUMNS: [&str; 6] = ["TASK", "STATUS", "EXIT", "ON", "STARTED", "TOOK"];

/// A task on one line.
pub(crate) fn task_row(task: &EcsTaskResult) -> Vec<Cell> {
    let took = match (task.started_unix_ms, task.stopped_unix_ms) {
        (0, _) | (_, 0) => String::new(),
        (from, to) => words::span(Duration::from_millis((to - from).try_into().unwrap_or_default())),
    };
    let on = match (task.spot, task.fell_back_to_on_demand) {
        (true, _) => "spot",
        (false, true) => "on-demand (no spot)",
        (false, false) => "on-demand",
    };
    vec![
        Cell::from(task.task.rsplit('/').next().unwrap_or_default()),
        Cell::from(task.last_status.to_ascii_lowercase()),
        Cell::from(task.exit_code.map_or_else(String::new, |code| code.to_string())),
        Cell::from(on),
        Cell::from(words::second(task.started_unix_ms)),
        Cell::from(took),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::Table;

    fn example() -> EcsStatusResult {
        let image = "123456789012.dkr.ecr.eu-west-2.amazonaws.com/dagster";
        let services = vec![
            EcsServiceState {
                name: "dagster-webserver".into(),
                desired: 2,
                running: 2,
                image: format!("{image}@sha256:{}", "2f1c".repeat(16)),
                image_digest: format!("sha256:{}", "2f1c".repeat(16)),
                events: vec!["2026-01-01T00:00:00Z (service dagster-webserver) has reached a steady state.".into()],
                ..Default::default()
            },
            EcsServiceState { name: "daemon".into(), image: format!("{image}:latest"), ..Default::default() },
        ];
        let spot = EcsCapacity { provider: "FARGATE_SPOT".into(), base: 0, weight: 1 };
        let stopped = EcsStoppedTask {
            id: "0123".into(),
            stopped_unix_ms: 1_000,
            stop_code: "EssentialContainerExited".into(),
            reason: "Essential container in task exited".into(),
            exit_code: Some(137),
        };
        let details = vec![
            EcsServiceDetail {
                service: "dagster-webserver".into(),
                capacity_provider_strategy: vec![spot],
                running_spot: 1,
                running_on_demand: 1,
                image_tags: vec!["2024.12.1".into()],
                ..Default::default()
            },
            EcsServiceDetail {
                service: "daemon".into(),
                launch_type: "FARGATE".into(),
                image_tags: vec!["latest".into()],
                stopped_tasks: vec![stopped],
                warnings: vec!["two daemons may run side by side".into()],
                ..Default::default()
            },
        ];
        EcsStatusResult { cluster: "c".into(), services, details }
    }

    fn table(columns: &[&'static str], rows: Vec<Vec<Cell>>) -> String {
        let mut table = Table::new(columns);
        rows.into_iter().for_each(|row| table.push(row));
        table.render(false)
    }

    #[test]
    fn a_status_reads_well() {
        let status = example();
        let tables = [
            table(&STATUS_COLUMNS, status_rows(&status)),
            table(&WARNING_COLUMNS, warning_rows(&status)),
            table(&STOPPED_COLUMNS, stopped_rows(&status)),
            table(&EVENT_COLUMNS, event_rows(&status)),
        ];
        insta::assert_snapshot!(tables.join("\n"), @r#"
        SERVICE            RUNNING  ROLLOUT  ON             IMAGE              DIGEST
        dagster-webserver  2/2      -        1 spot, 1 not  dagster:2024.12.1  2f1c2f1c2f1c
        daemon             0/0      -        fargate        dagster:latest     -

        SERVICE  WARNING
        daemon   two daemons may run side by side

        SERVICE  STOPPED               EXIT  REASON
        daemon   1970-01-01T00:00:01Z  137   Essential container in task exited

        SERVICE            EVENT
        dagster-webserver  2026-01-01T00:00:00Z has reached a steady state.
        "#);
        let json = super::status(&status);
        assert_eq!(json["services"][1]["detail"]["stopped_tasks"][0]["exit_code"], 137);
        assert_eq!(json["services"][0]["detail"]["capacity_provider_strategy"][0]["provider"], "FARGATE_SPOT");
        let plain = super::status(&EcsStatusResult { details: vec![], ..status });
        assert!(plain["services"][0]["detail"].is_null(), "other actions have no details");
    }
}
