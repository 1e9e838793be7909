//! The gate of what an agent tells without being asked: numbers, enumerations and identifiers pass, nothing else, and no more of
//! them than a platform has.
//!
//! It stands at both ends: the agent lets nothing else out of its account, and the hub, which may hear an agent in the wrong
//! hands, lets nothing else in. Each message is taken apart whole, so that a new field does not compile before somebody has
//! decided about it here.

use sfdata_proto::v1 as wire;

use crate::{
    limits,
    outcome::{FailureCode, failure_name, failure_names},
};

/// The longest identifier: an image with its registry and digest.
const IDENTIFIER_BYTES: usize = 512;
/// What is told in place of a failure's code where there is no room for further arrivals.
pub const FULL: &str = "full";
/// In place of what is none.
const NONE: &str = "?";

/// The report without anything that is not for the region. What passed once passes again as it is.
pub fn closed(health: wire::Health) -> wire::Health {
    let wire::Health {
        taken_unix_ms,
        agent_version,
        uptime_seconds,
        clock_skew_ms,
        ecs,
        aurora,
        journal,
        hold,
        power,
        arrivals,
        runs,
        certificate_expires_unix_ms,
    } = health;
    wire::Health {
        taken_unix_ms,
        agent_version: identifier(agent_version),
        uptime_seconds,
        clock_skew_ms,
        ecs: ecs.map(ecs_health),
        aurora: aurora.map(aurora_health),
        journal,
        hold: hold.map(hold_state),
        power: power.map(power_state),
        arrivals: arrivals.map(arrivals_health),
        runs: runs.map(runs_health),
        certificate_expires_unix_ms,
    }
}

fn ecs_health(ecs: wire::EcsHealth) -> wire::EcsHealth {
    let wire::EcsHealth { cluster, services, error } = ecs;
    let services = each(services, service);
    wire::EcsHealth { cluster: identifier(cluster), services, error: code(error) }
}

fn service(service: wire::EcsServiceState) -> wire::EcsServiceState {
    let wire::EcsServiceState {
        name,
        role,
        status,
        desired,
        running,
        pending,
        image,
        image_digest,
        task_definition,
        deployments,
        events: _,
    } = service;
    wire::EcsServiceState {
        name: identifier(name),
        role: identifier(role),
        status: identifier(status),
        desired,
        running,
        pending,
        image: identifier(image),
        image_digest: identifier(image_digest),
        task_definition: identifier(task_definition),
        deployments: each(deployments, deployment),
        events: Vec::new(),
    }
}

fn deployment(deployment: wire::EcsDeployment) -> wire::EcsDeployment {
    let wire::EcsDeployment { id, status, rollout_state, rollout_reason: _, desired, running, pending, failed_tasks } =
        deployment;
    wire::EcsDeployment {
        id: identifier(id),
        status: identifier(status),
        rollout_state: identifier(rollout_state),
        rollout_reason: String::new(),
        desired,
        running,
        pending,
        failed_tasks,
    }
}

fn aurora_health(aurora: wire::AuroraHealth) -> wire::AuroraHealth {
    let wire::AuroraHealth { state, error } = aurora;
    wire::AuroraHealth { state: state.map(aurora_state), error: code(error) }
}

fn aurora_state(aurora: wire::AuroraState) -> wire::AuroraState {
    let wire::AuroraState {
        cluster,
        status,
        engine,
        engine_version,
        min_acu,
        max_acu,
        auto_pause_seconds,
        instances,
        instance_class,
    } = aurora;
    wire::AuroraState {
        cluster: identifier(cluster),
        status: identifier(status),
        engine: identifier(engine),
        engine_version: identifier(engine_version),
        min_acu,
        max_acu,
        auto_pause_seconds,
        instances,
        instance_class: identifier(instance_class),
    }
}

/// The one text, which the LA writes for the region to read.
fn hold_state(hold: wire::Hold) -> wire::Hold {
    let wire::Hold { mut reason, since_unix_ms } = hold;
    reason.truncate(reason.floor_char_boundary(limits::REASON_BYTES));
    wire::Hold { reason, since_unix_ms }
}

fn power_state(power: wire::PowerState) -> wire::PowerState {
    let wire::PowerState {
        mode,
        phase,
        generation,
        since_unix_ms,
        cause,
        reasons,
        alarms,
        faults,
        awake_until_unix_ms,
        wake_seconds,
        quiet_since_unix_ms,
    } = power;
    let reason = |reason| {
        let wire::PowerReason { kind, name, count, until_unix_ms } = reason;
        wire::PowerReason { kind: identifier(kind), name: identifier(name), count, until_unix_ms }
    };
    let alarm = |alarm| {
        let wire::PowerAlarm { at_unix_ms, kind, name, wakes_unix_ms } = alarm;
        wire::PowerAlarm { at_unix_ms, kind: identifier(kind), name: identifier(name), wakes_unix_ms }
    };
    let fault = |fault| {
        let wire::PowerFault { kind, detail: _ } = fault;
        wire::PowerFault { kind: identifier(kind), detail: String::new() }
    };
    wire::PowerState {
        mode,
        phase,
        generation,
        since_unix_ms,
        cause: identifier(cause),
        reasons: each(reasons, reason),
        alarms: each(alarms, alarm),
        faults: each(faults, fault),
        awake_until_unix_ms,
        wake_seconds,
        quiet_since_unix_ms,
    }
}

fn arrivals_health(arrivals: wire::ArrivalsHealth) -> wire::ArrivalsHealth {
    let wire::ArrivalsHealth { waiting, parked, oldest_unix_ms, last_unix_ms, source, error } = arrivals;
    let (source, error) = (identifier(source), code(error));
    wire::ArrivalsHealth { waiting, parked, oldest_unix_ms, last_unix_ms, source, error }
}

fn runs_health(runs: wire::RunsHealth) -> wire::RunsHealth {
    let wire::RunsHealth { jobs, datasets } = runs;
    let job = |health| {
        let wire::JobHealth { job, succeeded, failed, canceled, failing, last_success_unix_ms, last_failure_unix_ms } =
            health;
        let job = identifier(job);
        wire::JobHealth { job, succeeded, failed, canceled, failing, last_success_unix_ms, last_failure_unix_ms }
    };
    let dataset = |health| {
        let wire::DatasetHealth { dataset, last_success_unix_ms } = health;
        wire::DatasetHealth { dataset: identifier(dataset), last_success_unix_ms }
    };
    wire::RunsHealth { jobs: each(jobs, job), datasets: each(datasets, dataset) }
}

fn each<T>(all: Vec<T>, one: impl Fn(T) -> T) -> Vec<T> {
    all.into_iter().take(limits::REPORT_LIST).map(one).collect()
}

/// Of `access-denied: cannot list ...` the code, where it is one of ours.
fn code(error: String) -> String {
    let code = error.split(':').next().unwrap_or_default();
    let known = code.is_empty() || code == FULL || failure_names().any(|name| name == code);
    if known { code.to_owned() } else { failure_name(FailureCode::Unavailable) }
}

/// Names as AWS and Dagster have them: no blanks, nothing that a terminal or a page would take for an order.
fn identifier(text: String) -> String {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"_-./:@+=,".contains(&byte);
    if text.len() <= IDENTIFIER_BYTES && text.bytes().all(fits) { text } else { NONE.to_owned() }
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::*;

    /// What people write into names of files, errors and logs.
    const CHILD: &str = "Amy Pond (b. 2014-05-01)";

    #[test]
    fn no_text_of_people_passes() {
        let text = || format!("cannot read {CHILD}.csv");
        let service = wire::EcsServiceState {
            name: CHILD.into(),
            role: CHILD.into(),
            status: CHILD.into(),
            image: CHILD.into(),
            image_digest: CHILD.into(),
            task_definition: CHILD.into(),
            deployments: vec![wire::EcsDeployment {
                id: CHILD.into(),
                status: CHILD.into(),
                rollout_state: CHILD.into(),
                rollout_reason: text(),
                ..Default::default()
            }],
            events: vec![text()],
            ..Default::default()
        };
        let database = wire::AuroraState {
            cluster: CHILD.into(),
            status: CHILD.into(),
            engine: CHILD.into(),
            engine_version: CHILD.into(),
            instance_class: CHILD.into(),
            ..Default::default()
        };
        let power = wire::PowerState {
            cause: CHILD.into(),
            reasons: vec![wire::PowerReason { kind: CHILD.into(), name: CHILD.into(), ..Default::default() }],
            alarms: vec![wire::PowerAlarm { kind: CHILD.into(), name: CHILD.into(), ..Default::default() }],
            faults: vec![wire::PowerFault { kind: CHILD.into(), detail: text() }],
            ..Default::default()
        };
        let runs = wire::RunsHealth {
            jobs: vec![wire::JobHealth { job: CHILD.into(), ..Default::default() }],
            datasets: vec![wire::DatasetHealth { dataset: CHILD.into(), ..Default::default() }],
        };
        let health = wire::Health {
            agent_version: CHILD.into(),
            ecs: Some(wire::EcsHealth { cluster: CHILD.into(), services: vec![service], error: text() }),
            aurora: Some(wire::AuroraHealth { state: Some(database), error: format!("throttled: {}", text()) }),
            power: Some(power),
            arrivals: Some(wire::ArrivalsHealth { source: CHILD.into(), error: text(), ..Default::default() }),
            runs: Some(runs),
            ..Default::default()
        };
        let bytes = closed(health).encode_to_vec();
        for part in ["Amy", "Pond", "2014", "csv"] {
            let found = bytes.windows(part.len()).any(|window| window == part.as_bytes());
            assert!(!found, "{part} left in {}", String::from_utf8_lossy(&bytes));
        }
    }

    #[test]
    fn no_more_passes_than_a_platform_has_and_what_passed_passes_again() {
        let job = |number| wire::JobHealth { job: format!("job{number}"), ..Default::default() };
        let runs = wire::RunsHealth { jobs: (0..50_000).map(job).collect(), ..Default::default() };
        let hold = wire::Hold { reason: "é".repeat(limits::REASON_BYTES), ..Default::default() };
        let once = closed(wire::Health { runs: Some(runs), hold: Some(hold), ..Default::default() });
        assert_eq!(once.runs.as_ref().unwrap().jobs.len(), limits::REPORT_LIST);
        assert_eq!(once.hold.as_ref().unwrap().reason.len(), limits::REASON_BYTES);
        assert_eq!(closed(once.clone()), once);
    }

    #[test]
    fn what_is_an_identifier_passes_as_it_is() {
        let image = "222222222222.dkr.ecr.eu-west-2.amazonaws.com/code@sha256:0a1b";
        for text in ["", "code-server", image, "main/clean_after", "arn:aws:ecs:eu-west-2:1:task-definition/a:3"] {
            assert_eq!(identifier(text.to_owned()), text);
        }
        for text in ["a b", "<script>", "\u{1b}[2J", "é", "a\u{202e}b"] {
            assert_eq!(identifier(text.to_owned()), NONE);
        }
        assert_eq!(identifier("a".repeat(IDENTIFIER_BYTES + 1)), NONE);
        let told =
            ["access-denied: cannot list x", "full: 3 are parked", "", "it broke: x", "amy-pond", &"a".repeat(999)];
        let codes = ["access-denied", "full", "", "unavailable", "unavailable", "unavailable"];
        assert_eq!(told.map(|error| code(error.to_owned())), codes);
    }
}
