//! One LA: how it is and why, its power, what runs there, how it was, what it costs, what was ordered.

use std::collections::BTreeMap;

use axum::{
    extract::{Path, State},
    response::{IntoResponse, Response},
};
use futures::StreamExt as _;
use jiff::Timestamp;
use maud::{Markup, html};
use sfdata_common::{
    health::sentence,
    usage::{
        Hour,
        days::{date_of, day_number},
    },
    words::span,
};
use sfdata_proto::v1::{
    self as wire, AgentState, AgentSummary, Health, UsageGroup, operator_service_server::OperatorService as _,
};
use tonic::Status;

use super::{
    Page, Problem, Shared, Viewer, age,
    charts::Columns,
    commands,
    fleet::{badge, power_text},
    layout::{Section, layout, scroll},
    live, moment, text,
    timeline::Timeline,
    usage,
};

/// Days in its charts.
const DAYS: u32 = 30;
/// How it was is shown anew so often, in seconds: it takes the hub a few milliseconds.
const REDRAWN: i64 = 20;
/// Commands that are shown.
const COMMANDS: u32 = 20;

/// `GET /ui/agents/{id}`
pub(super) async fn show(State(page): Shared, viewer: Viewer, Path(id): Path<String>) -> Result<Markup, Problem> {
    let agents = page.agents(&viewer).await?;
    let agent = agents.into_iter().find(|agent| agent.agent_id == id);
    let agent = agent.ok_or_else(|| viewer.problem()(Status::not_found(format!("there is no agent {id}"))))?;
    let now = Timestamp::now();
    let body = html! {
        (present(&agent, now))
        @if page.shows_history(&viewer) {
            (Timeline::now(&page, &viewer, &id, now).await.map_err(viewer.problem())?.section())
        }
        @if page.shows_usage(&viewer) { (past(&page, &viewer, &id, now).await?) }
        (commands_of(&page, &viewer, &id).await?)
    };
    let live = format!("/ui/agents/{id}/live");
    Ok(layout(Some(&viewer), &id, Section::Fleet, Some(&live), &body))
}

/// `GET /ui/agents/{id}/live`: how it is, when that has changed; and every now and then how it was.
pub(super) async fn live(State(page): Shared, viewer: Viewer, Path(id): Path<String>) -> Result<Response, Problem> {
    let watch = page.operators.watch_agents(viewer.ask(wire::WatchAgentsRequest {})).await;
    let lists = watch.map_err(viewer.problem())?.into_inner();
    let shows_history = page.shows_history(&viewer);
    let changes = lists.scan((None, 0), move |(known, told), list| {
        let agents = list.map(|list| list.agents).unwrap_or_default();
        let agent = agents.into_iter().find(|agent| agent.agent_id == id);
        let now = Timestamp::now();
        let lasting = agent.as_ref().map(lasting);
        let changed = agent.filter(|_| *known != lasting).map(|agent| present(&agent, now));
        *known = lasting;
        let turn = now.as_second() / REDRAWN;
        let due = shows_history && (changed.is_some() || turn != std::mem::replace(told, turn));
        let (page, viewer, id) = (page.clone(), viewer.clone(), id.clone());
        async move {
            // What can't be read stays as it was.
            let timeline = if due { Timeline::now(&page, &viewer, &id, now).await.ok() } else { None };
            let some = changed.is_some() || timeline.is_some();
            Some(some.then(|| {
                html! {
                    @if let Some(changed) = changed { (changed) }
                    @if let Some(timeline) = timeline { (timeline.parts()) }
                }
            }))
        }
    });
    Ok(live::events(changes.filter_map(std::future::ready)).into_response())
}

/// What is not just another report of the same.
fn lasting(agent: &AgentSummary) -> AgentSummary {
    let mut lasting = agent.clone();
    lasting.last_seen_unix_ms = 0;
    if let Some(health) = &mut lasting.health {
        (health.taken_unix_ms, health.uptime_seconds, health.clock_skew_ms) = (0, 0, 0);
    }
    lasting
}

fn present(agent: &AgentSummary, now: Timestamp) -> Markup {
    let connected = agent.state() == AgentState::Connected;
    let labels = agent.labels.iter().map(|(key, value)| format!("{}={}", text(key), text(value)));
    let mut labels: Vec<String> = labels.collect();
    labels.sort_unstable();
    let health = agent.health.as_ref();
    html! {
        div id="present" {
            p class="lead" {
                (badge(agent.health_word()))
                @if !connected { " last heard of " (age(agent.last_seen_unix_ms, now)) @if agent.last_seen_unix_ms != 0 { " ago" } }
            }
            @if !agent.health_reasons.is_empty() {
                h2 { "Why" }
                ul { @for reason in &agent.health_reasons { li { (text(&agent.agent_id)) " " (text(&sentence(reason, now))) } } }
            }
            @if let Some(health) = health {
                @if !connected { p { "What follows is as it was told last, " (moment(health.taken_unix_ms)) "." } }
                (power(health, now))
                (services(health))
                (runs(health, now))
            }
            h2 { "Agent" }
            dl {
                dt { "AWS account" } dd { (text(&agent.account)) }
                dt { "Version" } dd { (text(&agent.version)) }
                dt { "Groups" } dd { (agent.groups.iter().map(|group| text(group)).collect::<Vec<_>>().join(", ")) }
                dt { "Labels" } dd { (labels.join(", ")) }
                dt { "Commands that have not ended" } dd { (agent.commands) }
                @if let Some(health) = health {
                    dt { "Its clock" } dd { (health.clock_skew_ms) " ms from the hub's" }
                    dt { "Certificate ends" } dd { (moment(health.certificate_expires_unix_ms)) }
                    @if let Some(hold) = &health.hold {
                        dt { "Held by the LA" } dd { (text(&hold.reason)) ", since " (moment(hold.since_unix_ms)) }
                    }
                }
                @if !agent.note.is_empty() { dt { "Note" } dd { (text(&agent.note)) } }
            }
        }
    }
}

fn power(health: &Health, now: Timestamp) -> Markup {
    let Some(power) = &health.power else { return html! {} };
    let until = |unix_ms: i64| {
        if unix_ms > 0 {
            html! { ", until " (moment(unix_ms)) }
        } else {
            html! {}
        }
    };
    html! {
        h2 { "Power" }
        p { (power_text(power)) ", since " (age(power.since_unix_ms, now)) @if power.awake_until_unix_ms > 0 { ", asked for" (until(power.awake_until_unix_ms)) } }
        @if !power.reasons.is_empty() {
            h3 { "Awake because of" }
            ul {
                @for reason in &power.reasons {
                    li { (text(&reason.kind)) @if !reason.name.is_empty() { " " (text(&reason.name)) }
                         @if reason.count > 1 { " (" (reason.count) ")" } (until(reason.until_unix_ms)) }
                }
            }
        }
        @if !power.faults.is_empty() {
            h3 { "Faults" }
            ul { @for fault in &power.faults { li { (text(&fault.kind)) } } }
        }
        @if !power.alarms.is_empty() {
            h3 { "Wakes next" }
            ul {
                @for alarm in &power.alarms {
                    li { (moment(alarm.wakes_unix_ms)) " for " (text(&alarm.kind)) " " (text(&alarm.name)) }
                }
            }
        }
    }
}

fn services(health: &Health) -> Markup {
    let ecs = health.ecs.as_ref();
    let database = health.aurora.as_ref();
    let unreadable = |what: &str, error: &str| html! { p class="bad" { (what) " could not be read: " (text(error)) } };
    html! {
        h2 { "Services" }
        @match ecs {
            Some(ecs) if !ecs.error.is_empty() => (unreadable("The services", &ecs.error)),
            Some(ecs) => (scroll("Services", &html! {
                table {
                    thead { tr { @for name in ["Service", "Role", "Running", "Pending", "Image"] { th scope="col" { (name) } } } }
                    tbody {
                        @for service in &ecs.services {
                            tr {
                                th scope="row" { (text(&service.name)) }
                                td { (text(&service.role)) }
                                td class="number" { (service.running) "/" (service.desired) }
                                td class="number" { (service.pending) }
                                td { (text(service.image.rsplit('/').next().unwrap_or_default())) }
                            }
                        }
                    }
                }
            })),
            None => p { "Nothing is known of them." },
        }
        h2 { "Database" }
        @match database {
            Some(database) if !database.error.is_empty() => (unreadable("The database", &database.error)),
            Some(wire::AuroraHealth { state: Some(state), .. }) => dl {
                dt { "Name" } dd { (text(&state.cluster)) }
                dt { "Status" } dd { (text(&state.status)) }
                dt { "Engine" } dd { (text(&state.engine)) " " (text(&state.engine_version)) }
                dt { "Capacity" } dd {
                    @if state.instance_class.is_empty() { (state.min_acu) " to " (state.max_acu) " ACU" } @else { (text(&state.instance_class)) }
                }
                dt { "Pauses" } dd {
                    @match state.auto_pause_seconds {
                        0 => "never by itself",
                        seconds => { "after " (span(std::time::Duration::from_secs(seconds.into()))) },
                    }
                }
            },
            _ => p { "Nothing is known of it." },
        }
    }
}

fn runs(health: &Health, now: Timestamp) -> Markup {
    let arrivals = health.arrivals.as_ref();
    let none = wire::RunsHealth::default();
    let runs = health.runs.as_ref().unwrap_or(&none);
    html! {
        h2 { "Runs and deliveries" }
        @if let Some(arrivals) = arrivals {
            p { (arrivals.waiting) " arrivals waiting, " (arrivals.parked) " parked" }
        }
        @if runs.jobs.is_empty() { p { "No run has been seen." } } @else {
            (scroll("Jobs", &html! {
                table {
                    thead { tr { @for name in ["Job", "Succeeded", "Failed", "Cancelled", "Last success", "Last failure"] { th scope="col" { (name) } } } }
                    tbody {
                        @for job in &runs.jobs {
                            tr {
                                th scope="row" { (text(&job.job)) }
                                td class="number" { (job.succeeded) } td class="number" { (job.failed) } td class="number" { (job.canceled) }
                                td { (age(job.last_success_unix_ms, now)) } td { (age(job.last_failure_unix_ms, now)) }
                            }
                        }
                    }
                }
            }))
        }
        @if !runs.datasets.is_empty() {
            (scroll("Datasets", &html! {
                table {
                    thead { tr { th scope="col" { "Dataset" } th scope="col" { "Delivered last" } } }
                    tbody {
                        @for dataset in &runs.datasets {
                            tr { th scope="row" { (text(&dataset.dataset)) } td { (age(dataset.last_success_unix_ms, now)) } }
                        }
                    }
                }
            }))
        }
    }
}

/// Thirty days: awake by cause, and what they cost by part.
async fn past(page: &Page, viewer: &Viewer, id: &str, now: Timestamp) -> Result<Markup, Problem> {
    let until = Hour::of(now).day() + 1;
    let from = until - DAYS;
    let ask = async |group: UsageGroup| {
        let asked = wire::GetUsageRequest {
            from_day: from,
            until_day: until,
            group: group.into(),
            agent_ids: vec![id.to_owned()],
        };
        Ok::<_, Problem>(page.operators.get_usage(viewer.ask(asked)).await.map_err(viewer.problem())?.into_inner())
    };
    let mut causes: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    for row in ask(UsageGroup::DayAndCause).await?.rows.iter().filter(|row| row.awake_hours > 0.0) {
        let day = row.name.parse().map(day_number).unwrap_or_default();
        let cause = if row.cause.is_empty() { "no cause told".to_owned() } else { text(&row.cause) };
        let hours = causes.entry(cause).or_insert_with(|| vec![0.0; DAYS as usize]);
        if let Some(hours) = hours.get_mut(day.saturating_sub(from) as usize) {
            *hours += row.awake_hours;
        }
    }
    let parts = ask(UsageGroup::Component).await?;
    let names = (from..until).map(|day| date_of(day).strftime("%d %b").to_string()).collect();
    let awake =
        Columns { label: "Awake in the last 30 days, by cause", unit: "hours a day", names, parts: causes.clone() };
    Ok(html! {
        h2 { "The last 30 days" }
        (awake.show())
        @if !causes.is_empty() {
            (scroll("Awake by cause", &html! {
                table {
                    thead { tr { th scope="col" { "Cause" } th scope="col" { "Hours awake" } } }
                    tbody { @for (cause, hours) in &causes { tr { th scope="row" { (cause) } td class="number" { (format!("{:.1}", hours.iter().sum::<f64>())) } } } }
                }
            }))
        }
        h3 { "Parts, buckets among them" }
        (usage::table("Part", &parts, false))
    })
}

async fn commands_of(page: &Page, viewer: &Viewer, id: &str) -> Result<Markup, Problem> {
    let request = wire::ListCommandsRequest { limit: COMMANDS, agent_id: id.to_owned(), unfinished: false };
    let commands =
        page.operators.list_commands(viewer.ask(request)).await.map_err(viewer.problem())?.into_inner().commands;
    Ok(html! { h2 { "Commands" } (commands::table(&commands)) })
}
