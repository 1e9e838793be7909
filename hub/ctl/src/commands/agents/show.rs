//! `hubctl agents show`: one LA with all that its agent reported last.

use std::collections::BTreeMap;

use anyhow::Context as _;
use clap::Args;
use serde_json::{Value, json};
use sfdata_common::{
    Timestamp,
    health::{kind, sentence, word},
    ids::AgentId,
};
use sfdata_proto::v1::{AgentSummary, Health, ListAgentsRequest};

use super::list::{note, state};
use crate::{
    arrivals,
    cli::Context,
    client::Hub,
    exit::Exit,
    health::{self, none_if_empty},
    table::{Cell, Table, Tone, row},
    words,
};

/// Show one agent with all that it reported last
#[derive(Debug, Args)]
pub(crate) struct Show {
    /// Agent's id
    id: AgentId,
}

impl Show {
    pub(super) async fn run(self, context: &Context) -> anyhow::Result<Exit> {
        let hub = Hub::connect(context).await?;
        let answer = hub.ask(format_args!("show {}", self.id), hub.fleet().list_agents(ListAgentsRequest {})).await?;
        let agent = answer.agents.iter().find(|agent| agent.agent_id == self.id.as_str());
        let agent = agent.with_context(|| format!("there is no agent {}; see: hubctl agents list", self.id))?;
        context.output.data(&to_json(agent), &tables(agent, Timestamp::now()))?;
        Ok(Exit::Done)
    }
}

/// One agent, whole.
pub(in crate::commands) fn to_json(agent: &AgentSummary) -> Value {
    json!({
        "agent_id": agent.agent_id,
        "account": agent.account,
        "aws": agent.aws.as_ref().map(|aws| json!({ "role": aws.role, "role_id": none_if_empty(&aws.role_id) })),
        "joins": agent.joins,
        "state": words::agent_state(agent.state()),
        "last_seen": words::time(agent.last_seen_unix_ms),
        "since": words::time(agent.since_unix_ms),
        "version": none_if_empty(&agent.version),
        "labels": agent.labels.iter().collect::<BTreeMap<_, _>>(),
        "groups": agent.groups,
        "commands": agent.commands,
        "note": none_if_empty(&agent.note),
        "health_word": word(agent.health_word()),
        "health_reasons": agent.health_reasons.iter().map(health::reason).collect::<Vec<_>>(),
        "health": agent.health.as_ref().map(health::health),
    })
}

/// One agent as tables.
pub(crate) fn tables(agent: &AgentSummary, now: Timestamp) -> Vec<Table> {
    let labels: BTreeMap<_, _> = agent.labels.iter().collect();
    let labels: Vec<String> = labels.into_iter().map(|(key, value)| format!("{key}={value}")).collect();
    let mut facts = Table::card();
    facts.push(row!["agent", agent.agent_id]);
    facts.push(row!["account", agent.account]);
    facts.push(row!["joins", joins(agent)]);
    facts.push(vec![Cell::from("state"), state(agent, now)]);
    facts.push(row!["last seen", words::age(agent.last_seen_unix_ms, now)]);
    facts.push(row!["version", agent.version]);
    facts.push(row!["groups", agent.groups.join(" ")]);
    facts.push(row!["labels", labels.join(" ")]);
    facts.push(row!["commands", agent.commands]);
    facts.push(vec![Cell::from("note"), note(agent, now)]);
    facts.push(vec![Cell::from("health"), health::word(agent.health_word())]);
    let mut tables = vec![facts];
    if !agent.health_reasons.is_empty() {
        let mut reasons = Table::new(&["REASON", "THIS LA"]);
        for reason in &agent.health_reasons {
            reasons.push(row![kind(reason.kind()), sentence(reason, now)]);
        }
        tables.push(reasons);
    }
    if let Some(health) = &agent.health {
        health_tables(&agent.agent_id, health, now, &mut tables);
    }
    tables
}

/// How often it has joined, and how it may.
fn joins(agent: &AgentSummary) -> String {
    let how = match &agent.aws {
        None => "by token".to_owned(),
        Some(aws) if aws.role_id.is_empty() => format!("by token, or as role {}, not pinned yet", aws.role),
        Some(aws) => format!("by token, or as role {} ({})", aws.role, aws.role_id),
    };
    format!("{} so far; {how}", agent.joins)
}

fn health_tables(agent: &str, health: &Health, now: Timestamp, tables: &mut Vec<Table>) {
    let mut facts = Table::card();
    facts.push(row!["reported", words::age(health.taken_unix_ms, now)]);
    facts.push(row!["uptime", words::span(std::time::Duration::from_secs(health.uptime_seconds))]);
    facts.push(row!["clock", format!("{:+} ms", health.clock_skew_ms)]);
    if let Some(journal) = &health.journal {
        let text = format!(
            "{} running, {} queued, {} unacknowledged",
            journal.running, journal.queued, journal.unacknowledged
        );
        facts.push(row!["journal", text]);
    }
    if let Some(arrivals) = health.arrivals.as_ref().filter(|arrivals| arrivals.source != "off") {
        facts.push(row!["arrivals", arrivals::line(arrivals, now)]);
    }
    // A report has the kind of error alone; its text is for who asks.
    let errors = [
        ("services", "ecs status", health.ecs.as_ref().map(|ecs| &ecs.error)),
        ("database", "aurora status", health.aurora.as_ref().map(|aurora| &aurora.error)),
        ("arrivals", "arrivals list", health.arrivals.as_ref().map(|arrivals| &arrivals.error)),
    ];
    for (name, ask, error) in errors {
        if let Some(error) = error.filter(|error| !error.is_empty()) {
            let text = format!("{error} (hubctl {ask} --agent {agent} tells more)");
            facts.push(vec![Cell::from(name), Cell::new(text, Tone::Bad)]);
        }
    }
    tables.push(facts);
    if let Some(runs) = &health.runs {
        let mut jobs = Table::new(&["JOB", "SUCCEEDED", "FAILED", "LAST SUCCESS", "LAST FAILURE"]);
        for job in &runs.jobs {
            let tone = if job.failing > 0 { Tone::Bad } else { Tone::Plain };
            let age = |unix_ms| words::age(unix_ms, now);
            jobs.push(vec![
                Cell::new(&job.job, tone),
                Cell::from(job.succeeded),
                Cell::from(job.failed),
                Cell::from(age(job.last_success_unix_ms)),
                Cell::new(age(job.last_failure_unix_ms), tone),
            ]);
        }
        tables.push(jobs);
        let mut datasets = Table::new(&["DATASET", "LAST DELIVERED"]);
        for one in &runs.datasets {
            datasets.push(row![one.dataset, words::age(one.last_success_unix_ms, now)]);
        }
        tables.push(datasets);
    }
    if let Some(ecs) = health.ecs.as_ref().filter(|ecs| !ecs.services.is_empty()) {
        let mut services = Table::new(&health::SERVICE_COLUMNS);
        ecs.services.iter().for_each(|service| services.push(health::service_row(service)));
        tables.push(services);
    }
    if let Some(database) = health.aurora.as_ref().and_then(|aurora| aurora.state.as_ref()) {
        let mut table = Table::new(&health::AURORA_COLUMNS);
        table.push(health::aurora_row(database));
        tables.push(table);
    }
}
