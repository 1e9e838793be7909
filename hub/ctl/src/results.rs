//! What came of a command: one table of what succeeded, one of what did not; or all of it as JSON.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use sfdata_common::{
    Timestamp,
    discovery::{Choice, Line, Proposal},
    outcome::{self, Outcome},
};
use sfdata_proto::v1::{ActionResult, CommandState, EcsStatusResult, action_result::Kind};

use crate::{
    arrivals, buckets, containers, database,
    follow::{Board, Target},
    health, images, pipelines, power,
    table::{Cell, Table, Tone, row},
    words,
};

/// What stands for a result that was sealed to another process, or does not open.
const SEALED: &str = "sealed to who asked";

/// The whole command as JSON, and as tables.
pub(crate) fn report(board: &Board, now: Timestamp) -> (Value, Vec<Table>) {
    let json = json!({
        "command_id": board.command_id,
        "action": board.action,
        "targets": board.targets.iter().map(|(agent, target)| self::target(agent, target)).collect::<Vec<_>>(),
    });
    let mut tables: Vec<Table> = succeeded(board).into_iter().collect();
    tables.extend(more(board));
    tables.extend(others(board, now));
    (json, tables)
}

/// What there is to tell of services beside their state: warnings wherever they are, what stopped and happened last
/// where just one target was asked.
fn more(board: &Board) -> Vec<Table> {
    type Rows = fn(&EcsStatusResult) -> Vec<Vec<Cell>>;
    let all: [(&[&'static str], Rows); 3] = [
        (&containers::WARNING_COLUMNS, containers::warning_rows),
        (&containers::STOPPED_COLUMNS, containers::stopped_rows),
        (&containers::EVENT_COLUMNS, containers::event_rows),
    ];
    let shown = if board.targets.len() == 1 { &all[..] } else { &all[..1] };
    let table = |(columns, rows): &(&[&'static str], Rows)| {
        let names: Vec<&'static str> = ["AGENT"].into_iter().chain(columns.iter().copied()).collect();
        let (mut table, mut any) = (Table::new(&names), false);
        for (agent, target) in &board.targets {
            let Some(Outcome::Succeeded(result)) = outcome_of(target) else { continue };
            let Some(Kind::EcsStatus(status)) = result.kind.filter(detailed) else { continue };
            for cells in rows(&status) {
                table.push([Cell::from(agent)].into_iter().chain(cells).collect());
                any = true;
            }
        }
        any.then_some(table)
    };
    shown.iter().filter_map(table).collect()
}

/// Whether it is the answer of `ecs status`, and not that of a deploy of several services.
fn detailed(kind: &Kind) -> bool {
    matches!(kind, Kind::EcsStatus(status) if !status.details.is_empty())
}

/// One target as JSON.
pub(crate) fn target(agent: &str, target: &Target) -> Value {
    json!({
        "agent_id": agent,
        "state": words::command_state(target.state),
        "changed": words::time(target.changed_unix_ms),
        "outcome": outcome_of(target).as_ref().map(outcome_json),
    })
}

fn outcome_of(target: &Target) -> Option<Outcome> {
    target.outcome.clone().and_then(|outcome| Outcome::try_from(outcome).ok())
}

fn outcome_json(outcome: &Outcome) -> Value {
    match outcome {
        Outcome::Succeeded(result) => json!({ "kind": outcome.name(), "result": result_json(result) }),
        Outcome::Failed { code, message } => {
            json!({ "kind": outcome.name(), "code": outcome::failure_name(*code), "message": message })
        }
        Outcome::Refused { reason, detail } => {
            json!({ "kind": outcome.name(), "reason": outcome::refusal_name(*reason), "detail": detail })
        }
        Outcome::Expired => json!({ "kind": outcome.name() }),
        Outcome::Cancelled { detail } => json!({ "kind": outcome.name(), "detail": detail }),
    }
}

fn result_json(result: &ActionResult) -> Option<Value> {
    Some(match result.kind.as_ref()? {
        Kind::EcsStatus(status) => containers::status(status),
        Kind::EcsService(service) => json!({ "service": service.service.as_ref().map(health::service) }),
        Kind::EcsImage(found) => json!({ "service": found.service, "tag": found.tag, "image": found.image }),
        Kind::EcsTask(task) => containers::task(task),
        Kind::EcsSecret(result) => json!({
            "service": result.service.as_ref().map(health::service),
            "variable": result.variable,
            "secret": result.secret,
        }),
        Kind::EcsCapacity(result) => containers::capacity(result),
        Kind::AuroraStatus(status) => json!({
            "aurora": status.aurora.as_ref().map(health::aurora),
            "activity": status.activity.as_ref().map(database::activity),
        }),
        Kind::Aurora(result) => json!({ "aurora": result.aurora.as_ref().map(health::aurora) }),
        Kind::AuroraSnapshots(result) => json!({
            "cluster": result.cluster,
            "snapshots": result.snapshots.iter().map(database::snapshot).collect::<Vec<_>>(),
        }),
        Kind::S3Usage(usage) => json!({ "buckets": usage.buckets.iter().map(buckets::usage).collect::<Vec<_>>() }),
        Kind::S3Drift(drift) => json!({ "buckets": drift.buckets.iter().map(buckets::drift).collect::<Vec<_>>() }),
        Kind::S3Share(share) => json!({ "share": buckets::share(share) }),
        Kind::S3Url(url) => buckets::url(url),
        Kind::S3Quarantines(found) => json!({
            "quarantines": found.quarantines.iter().map(buckets::quarantine).collect::<Vec<_>>(),
        }),
        Kind::S3Ensure(done) => json!({ "buckets": done.buckets.iter().map(buckets::ensured).collect::<Vec<_>>() }),
        Kind::AgentRefresh(refresh) => json!({ "health": refresh.health.as_ref().map(health::health) }),
        Kind::AgentUpgrade(done) => json!({
            "service": done.service,
            "task_definition": done.task_definition,
            "previous": done.previous,
            "image": done.image,
            "version": done.version,
        }),
        Kind::AgentDiscover(found) => json!({ "proposal": Proposal::from(found.clone()) }),
        Kind::AgentCancel(cancel) => json!({ "disposition": words::disposition(cancel.disposition()) }),
        Kind::ArrivalsList(list) => arrivals::list(list),
        Kind::Arrival(arrival) => json!({ "id": arrival.id, "state": words::arrival_state(arrival.state()) }),
        Kind::Logs(read) => json!({ "lines": read.lines, "end": words::logs_end(read.end()) }),
        Kind::Power(result) => power::result(result),
        Kind::DagsterStatus(status) => pipelines::status(status),
        Kind::DagsterRuns(runs) => pipelines::runs(runs),
        Kind::DagsterRun(detail) => pipelines::detail(detail),
        Kind::DagsterReload(reload) => pipelines::reload(reload),
        Kind::DagsterSchedules(all) => pipelines::schedules(all),
        Kind::DagsterSensors(all) => pipelines::sensors(all),
        Kind::ImagesList(list) => images::list(list),
        Kind::ImagesPromote(done) => json!({ "image": done.image, "tag": done.tag }),
        Kind::Sealed(_) => json!({ "sealed": SEALED }),
        Kind::Plan(plan) => json!({ "plan": {
            "digest": hex::encode(&plan.digest),
            "changes": plan.changes.iter().map(|change| json!({
                "resource": change.resource,
                "property": change.property,
                "before": change.before,
                "after": change.after,
            })).collect::<Vec<_>>(),
        } }),
    })
}

/// What every target found, or which one did not, and why.
pub(crate) fn answers(board: &Board) -> Result<Vec<(String, Kind)>, String> {
    let answer = |(agent, target): (&String, &Target)| match outcome_of(target) {
        Some(Outcome::Succeeded(result)) if result.kind.is_some() => Ok(result.kind.map(|kind| (agent.clone(), kind))),
        Some(Outcome::Failed { message, .. }) => Err(format!("{agent}: {message}")),
        Some(Outcome::Refused { detail, .. }) => Err(format!("{agent} refused it: {detail}")),
        Some(other) => Err(format!("{agent}: {}", other.name())),
        None => Err(format!("{agent} did not answer")),
    };
    board.targets.iter().filter_map(|target| answer(target).transpose()).collect()
}

/// One table of what the targets that succeeded found or reached.
pub(crate) fn succeeded(board: &Board) -> Option<Table> {
    let mut table = None;
    for (agent, target) in &board.targets {
        let Some(Outcome::Succeeded(result)) = outcome_of(target) else { continue };
        let Some(kind) = &result.kind else { continue };
        // One command has one action, so that every result has the same columns.
        let table = table.get_or_insert_with(|| {
            let names: Vec<&'static str> = ["AGENT"].into_iter().chain(columns(kind).iter().copied()).collect();
            Table::new(&names)
        });
        for cells in rows(kind) {
            table.push([Cell::from(agent)].into_iter().chain(cells).collect());
        }
    }
    table
}

fn columns(kind: &Kind) -> &'static [&'static str] {
    match kind {
        Kind::EcsStatus(_) if detailed(kind) => &containers::STATUS_COLUMNS,
        Kind::EcsStatus(_) | Kind::EcsService(_) => &health::SERVICE_COLUMNS,
        Kind::EcsImage(_) => &["SERVICE", "TAG", "IMAGE"],
        Kind::EcsTask(_) => &containers::TASK_COLUMNS,
        Kind::EcsSecret(_) => &["SERVICE", "VARIABLE", "SECRET"],
        Kind::EcsCapacity(_) => &containers::CAPACITY_COLUMNS,
        Kind::AuroraStatus(_) => &database::STATUS_COLUMNS,
        Kind::Aurora(_) => &health::AURORA_COLUMNS,
        Kind::AuroraSnapshots(_) => &database::SNAPSHOT_COLUMNS,
        Kind::S3Usage(usage) => buckets::usage_columns(usage),
        Kind::S3Share(_) => &buckets::SHARE_COLUMNS,
        Kind::S3Quarantines(_) => &buckets::QUARANTINE_COLUMNS,
        Kind::S3Url(_) => &buckets::URL_COLUMNS,
        Kind::S3Drift(_) | Kind::S3Ensure(_) => &buckets::CHANGE_COLUMNS,
        Kind::AgentRefresh(_) => &["SERVICES", "DATABASE"],
        Kind::AgentUpgrade(_) => &["VERSION", "TASK DEFINITION", "BEFORE", "IMAGE"],
        Kind::AgentDiscover(_) => &["SETTING", "FOUND", "CONFIGURED", "NOTE"],
        Kind::AgentCancel(_) => &["CANCEL"],
        Kind::ArrivalsList(_) => &arrivals::LIST_COLUMNS,
        Kind::Arrival(_) => &["ARRIVAL", "STATE"],
        Kind::Logs(_) => &["LINES", "END"],
        Kind::Power(_) => &power::COLUMNS,
        Kind::DagsterStatus(_) => &pipelines::STATUS_COLUMNS,
        Kind::DagsterRuns(_) => &pipelines::RUN_COLUMNS,
        Kind::DagsterRun(_) => &pipelines::DETAIL_COLUMNS,
        Kind::DagsterReload(_) => &pipelines::RELOAD_COLUMNS,
        Kind::DagsterSchedules(_) => &pipelines::SCHEDULE_COLUMNS,
        Kind::DagsterSensors(_) => &pipelines::SENSOR_COLUMNS,
        Kind::ImagesList(_) => &images::COLUMNS,
        Kind::ImagesPromote(_) => &["IMAGE", "TAG"],
        Kind::Sealed(_) => &["RESULT"],
        Kind::Plan(_) => &["RESOURCE", "PROPERTY", "BEFORE", "AFTER"],
    }
}

fn rows(kind: &Kind) -> Vec<Vec<Cell>> {
    match kind {
        Kind::EcsStatus(status) if detailed(kind) => containers::status_rows(status),
        Kind::EcsStatus(status) => status.services.iter().map(health::service_row).collect(),
        Kind::EcsService(service) => service.service.iter().map(health::service_row).collect(),
        Kind::EcsImage(found) => vec![row![&found.service, &found.tag, &found.image]],
        Kind::EcsTask(task) => vec![containers::task_row(task)],
        Kind::EcsSecret(result) => {
            let service = result.service.as_ref().map_or("", |service| service.name.as_str());
            vec![row![service, &result.variable, &result.secret]]
        }
        Kind::EcsCapacity(result) => vec![containers::capacity_row(result)],
        Kind::AuroraStatus(status) => vec![database::status_row(status)],
        Kind::Aurora(result) => result.aurora.iter().map(health::aurora_row).collect(),
        Kind::AuroraSnapshots(result) => result.snapshots.iter().map(database::snapshot_row).collect(),
        Kind::S3Usage(usage) => buckets::usage_rows(usage),
        Kind::S3Share(share) => vec![buckets::share_row(share)],
        Kind::S3Quarantines(found) => buckets::quarantine_rows(&found.quarantines),
        Kind::S3Url(url) => vec![buckets::url_row(url)],
        Kind::S3Drift(drift) => drift.buckets.iter().flat_map(buckets::drift_rows).collect(),
        Kind::S3Ensure(done) => done.buckets.iter().flat_map(buckets::ensured_rows).collect(),
        Kind::AgentRefresh(refresh) => {
            let health = refresh.health.clone().unwrap_or_default();
            vec![vec![health::services_line(health.ecs.as_ref()), health::database_word(health.aurora.as_ref())]]
        }
        Kind::AgentUpgrade(done) => {
            vec![row![&done.version, &done.task_definition, &done.previous, &done.image]]
        }
        Kind::AgentDiscover(found) => Proposal::from(found.clone()).lines.iter().map(discovered).collect(),
        Kind::AgentCancel(cancel) => vec![row![words::disposition(cancel.disposition())]],
        Kind::ArrivalsList(list) => arrivals::list_rows(list),
        Kind::Arrival(arrival) => vec![row![&arrival.id, words::arrival_state(arrival.state())]],
        Kind::Logs(read) => vec![row![read.lines.to_string(), words::logs_end(read.end())]],
        Kind::Power(result) => vec![power::row(result.power.as_ref(), Timestamp::now())],
        Kind::DagsterStatus(status) => pipelines::status_rows(status),
        Kind::DagsterRuns(runs) => pipelines::run_rows(runs),
        Kind::DagsterRun(detail) => pipelines::detail_rows(detail),
        Kind::DagsterReload(reload) => pipelines::reload_rows(reload),
        Kind::DagsterSchedules(all) => pipelines::schedule_rows(all),
        Kind::DagsterSensors(all) => pipelines::sensor_rows(all),
        Kind::ImagesList(list) => images::rows(list),
        Kind::ImagesPromote(done) => vec![row![&done.image, &done.tag]],
        Kind::Sealed(_) => vec![row![SEALED]],
        Kind::Plan(plan) if plan.changes.is_empty() => vec![row!["", "", "", "nothing to do"]],
        Kind::Plan(plan) => plan
            .changes
            .iter()
            .map(|change| row![&change.resource, &change.property, &change.before, &change.after])
            .collect(),
    }
}

/// One setting of an agent's configuration, as it was found.
pub(crate) fn discovered(line: &Line) -> Vec<Cell> {
    let tone = if line.differs() { Tone::Pending } else { Tone::Plain };
    let candidates: Vec<_> = line.candidates.iter().map(|one| one.name.as_str()).collect();
    let found = match line.value {
        Choice::Left if candidates.is_empty() => String::new(),
        Choice::Left => format!("one of {}", candidates.join(", ")),
        _ => line.value.names().join(", "),
    };
    let note = line.unsure.first().or(line.because.first()).cloned().unwrap_or_default();
    vec![Cell::from(&line.key), Cell::new(found, tone), Cell::from(&line.configured.join(", ")), Cell::from(&note)]
}

/// What is still to do: after a plan, how to have exactly that; after a secret, what it does not mend by itself; after a list
/// that was cut, how to see the rest.
pub(crate) fn hints(board: &Board) -> Vec<String> {
    let mut by_digest: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    let mut hints = Vec::new();
    for (agent, target) in &board.targets {
        if let Some(Outcome::Succeeded(result)) = outcome_of(target) {
            match &result.kind {
                Some(Kind::Plan(plan)) => by_digest.entry(hex::encode(&plan.digest)).or_default().push(agent),
                Some(Kind::EcsSecret(moved)) => hints.push(format!(
                    "{agent}: older revisions of the task definition still hold {} in the clear: give it another value",
                    moved.variable
                )),
                Some(Kind::ImagesList(list)) => hints.extend(images::left_out(list)),
                _ => {}
            }
        }
    }
    let hint =
        |(digest, agents): (String, Vec<&str>)| format!("to have this at {}: --if-plan {digest}", agents.join(", "));
    hints.extend(by_digest.into_iter().map(hint));
    hints
}

/// One table of the targets that did not succeed, or not yet.
pub(crate) fn others(board: &Board, now: Timestamp) -> Option<Table> {
    let mut table = Table::new(&["AGENT", "STATE", "CODE", "DETAIL"]);
    let mut any = false;
    for (agent, target) in board.targets.iter().filter(|(_, target)| target.state != CommandState::Succeeded) {
        let (code, detail) = reason(target, now);
        table.push(vec![Cell::from(agent), state(target), Cell::from(code), Cell::from(detail)]);
        any = true;
    }
    any.then_some(table)
}

/// Stable name of what went wrong, and its facts.
pub(crate) fn reason(target: &Target, now: Timestamp) -> (String, String) {
    match outcome_of(target) {
        Some(Outcome::Failed { code, message }) => (outcome::failure_name(code), message),
        Some(Outcome::Refused { reason, detail }) => (outcome::refusal_name(reason), detail),
        Some(Outcome::Cancelled { detail }) => (String::new(), detail),
        Some(Outcome::Expired) => (String::new(), "no agent began it in time".to_owned()),
        Some(Outcome::Succeeded(_)) => (String::new(), String::new()),
        None => {
            let since =
                (target.changed_unix_ms != 0).then(|| format!("since {}", words::age(target.changed_unix_ms, now)));
            let step = target.progress.as_ref().map(|progress| progress.step.clone());
            (String::new(), since.into_iter().chain(step).collect::<Vec<_>>().join(", "))
        }
    }
}

/// A state in its colour.
pub(crate) fn state(target: &Target) -> Cell {
    use CommandState::{Failed, Refused, Succeeded};
    let tone = match target.state {
        Succeeded => Tone::Good,
        Failed | Refused => Tone::Bad,
        _ => Tone::Pending,
    };
    Cell::new(words::command_state(target.state), tone)
}

/// One target in a few words: `running: waiting for tasks 40 %`, `failed: throttled: ...`.
pub(crate) fn describe(target: &Target) -> String {
    let state = words::command_state(target.state);
    match (outcome_of(target), &target.progress) {
        (Some(Outcome::Failed { code, message }), _) => format!("{state}: {}: {message}", outcome::failure_name(code)),
        (Some(Outcome::Refused { reason, detail }), _) => {
            format!("{state}: {}: {detail}", outcome::refusal_name(reason))
        }
        (None, Some(progress)) => match progress.percent {
            Some(percent) => format!("{state}: {} {percent} %", progress.step),
            None => format!("{state}: {}", progress.step),
        },
        _ => state,
    }
}

#[cfg(test)]
mod tests {
    use sfdata_common::outcome::{FailureCode, RefusalReason};
    use sfdata_proto::v1::{self as wire, CommandProgress};

    use super::*;

    fn ended(state: CommandState, outcome: Outcome) -> Target {
        Target { state, changed_unix_ms: 1_000, outcome: Some(outcome.to_wire()), progress: None }
    }

    fn mixed() -> Board {
        let service = |name: &str, running| wire::EcsServiceState {
            name: format!("dagster-{name}"),
            role: name.into(),
            status: "ACTIVE".into(),
            desired: 1,
            running,
            image: "123456789012.dkr.ecr.eu-west-2.amazonaws.com/dagster:v7".into(),
            deployments: vec![wire::EcsDeployment { rollout_state: "IN_PROGRESS".into(), ..Default::default() }],
            ..Default::default()
        };
        let status = wire::EcsStatusResult {
            cluster: "c".into(),
            services: vec![service("daemon", 1), service("webserver", 0)],
            ..Default::default()
        };
        let mut board = Board::new("0198", "ecs.status", &["ely", "northshire", "bath", "york"]);
        let mut set = |agent: &str, target| board.targets.insert(agent.into(), target);
        set("northshire", ended(CommandState::Succeeded, Outcome::success(Kind::EcsStatus(status))));
        set(
            "ely",
            ended(
                CommandState::Failed,
                Outcome::Failed { code: FailureCode::AccessDenied, message: "the role may not list services".into() },
            ),
        );
        set(
            "bath",
            ended(
                CommandState::Refused,
                Outcome::Refused { reason: RefusalReason::LocalPolicy, detail: "forbidden by no-mondays".into() },
            ),
        );
        board
    }

    #[test]
    fn successes_and_the_rest_each_have_their_table() {
        let (_, tables) = report(&mixed(), Timestamp::from_second(61).unwrap());
        let text: Vec<String> = tables.iter().map(|table| table.render(false)).collect();
        insta::assert_snapshot!(text.join("\n"), @r#"
        AGENT       SERVICE            ROLE       RUNNING  PENDING  ROLLOUT      FAILED  IMAGE
        northshire  dagster-daemon     daemon     1/1      0        in-progress  0       dagster:v7
        northshire  dagster-webserver  webserver  0/1      0        in-progress  0       dagster:v7

        AGENT  STATE    CODE           DETAIL
        bath   refused  local-policy   forbidden by no-mondays
        ely    failed   access-denied  the role may not list services
        york   waiting  -              -
        "#);
    }

    #[test]
    fn json_is_one_document_with_stable_words() {
        let mut board = mixed();
        board.targets.remove("northshire");
        let (json, _) = report(&board, Timestamp::UNIX_EPOCH);
        insta::assert_snapshot!(format!("{json:#}"), @r#"
        {
          "command_id": "0198",
          "action": "ecs.status",
          "targets": [
            {
              "agent_id": "bath",
              "state": "refused",
              "changed": "1970-01-01T00:00:01Z",
              "outcome": {
                "kind": "refused",
                "reason": "local-policy",
                "detail": "forbidden by no-mondays"
              }
            },
            {
              "agent_id": "ely",
              "state": "failed",
              "changed": "1970-01-01T00:00:01Z",
              "outcome": {
                "kind": "failed",
                "code": "access-denied",
                "message": "the role may not list services"
              }
            },
            {
              "agent_id": "york",
              "state": "waiting",
              "changed": null,
              "outcome": null
            }
          ]
        }
        "#);
    }

    #[test]
    fn every_result_has_rows_as_wide_as_its_columns() {
        for kind in [
            Kind::EcsStatus(wire::EcsStatusResult { services: vec![Default::default()], ..Default::default() }),
            Kind::EcsStatus(wire::EcsStatusResult {
                services: vec![Default::default()],
                details: vec![Default::default()],
                ..Default::default()
            }),
            Kind::EcsService(wire::EcsServiceResult { service: Some(Default::default()) }),
            Kind::AuroraStatus(wire::AuroraStatusResult { aurora: Some(Default::default()), activity: None }),
            Kind::Aurora(wire::AuroraResult { aurora: Some(Default::default()) }),
            Kind::AuroraSnapshots(wire::AuroraSnapshotsResult {
                snapshots: vec![Default::default()],
                ..Default::default()
            }),
            Kind::EcsTask(Default::default()),
            Kind::EcsSecret(Default::default()),
            Kind::EcsCapacity(Default::default()),
            Kind::S3Usage(wire::S3UsageResult { buckets: vec![Default::default()], by_prefix: false }),
            Kind::S3Usage(wire::S3UsageResult { buckets: vec![Default::default()], by_prefix: true }),
            Kind::S3Share(Default::default()),
            Kind::S3Quarantines(Default::default()),
            Kind::S3Url(Default::default()),
            Kind::S3Quarantines(wire::S3QuarantinesResult { quarantines: vec![Default::default()] }),
            Kind::S3Drift(wire::S3DriftResult { buckets: vec![Default::default()] }),
            Kind::S3Ensure(wire::S3EnsureResult { buckets: vec![Default::default()] }),
            Kind::ArrivalsList(Default::default()),
            Kind::ArrivalsList(wire::ArrivalsListResult { parked: vec![Default::default()], ..Default::default() }),
            Kind::Arrival(Default::default()),
            Kind::DagsterStatus(Default::default()),
            Kind::DagsterRuns(wire::DagsterRunsResult { runs: vec![Default::default()] }),
            Kind::DagsterRun(Default::default()),
            Kind::DagsterReload(wire::DagsterReloadResult { locations: vec![Default::default()] }),
            Kind::DagsterSchedules(wire::DagsterSchedulesResult {
                schedules: vec![Default::default()],
                ..Default::default()
            }),
            Kind::DagsterSensors(wire::DagsterSensorsResult {
                sensors: vec![Default::default()],
                ..Default::default()
            }),
            Kind::AgentRefresh(Default::default()),
            Kind::AgentCancel(Default::default()),
            Kind::Plan(Default::default()),
            Kind::Plan(wire::Plan { changes: vec![Default::default()], ..Default::default() }),
        ] {
            assert_eq!(rows(&kind).len(), 1, "{kind:?}");
            assert_eq!(rows(&kind)[0].len(), columns(&kind).len(), "{kind:?}");
        }
    }

    #[test]
    fn progress_is_told_in_a_few_words() {
        let progress = CommandProgress { step: "waiting for tasks".into(), percent: Some(40), sealed: None };
        let running = Target { state: CommandState::Running, progress: Some(progress), ..Default::default() };
        assert_eq!(describe(&running), "running: waiting for tasks 40 %");
    }
}
