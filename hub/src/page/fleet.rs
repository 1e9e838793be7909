//! The fleet: every LA on a line, the worst first.

use std::{collections::HashMap, sync::Arc};

use axum::{
    extract::{Query, State},
    response::{IntoResponse, Response},
};
use form_urlencoded::byte_serialize;
use futures::{StreamExt as _, stream};
use jiff::Timestamp;
use maud::{Markup, html};
use serde::Deserialize;
use sfdata_common::{
    health::{rank, sentence, word},
    history,
};
use sfdata_proto::v1::{
    self as wire, AgentState, AgentSummary, HealthWord, operator_service_server::OperatorService as _,
};

use super::{
    Problem, Shared, Viewer, age,
    charts::{Brief, Briefs},
    layout::{Section, layout, scroll},
    live, text,
};

/// Reasons on one line; the LA's own page has all.
const REASONS: usize = 2;

/// How the list is asked for.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Asked {
    q: String,
    sort: Sort,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Sort {
    #[default]
    Health,
    Agent,
    Queue,
    Awake,
    Cost,
}

impl Sort {
    fn name(self) -> &'static str {
        match self {
            Self::Health => "health",
            Self::Agent => "agent",
            Self::Queue => "queue",
            Self::Awake => "awake",
            Self::Cost => "cost",
        }
    }
}

/// What a line says, but for charts. A new one is sent when it differs from the last.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Row {
    agent: String,
    word: HealthWord,
    reasons: Vec<String>,
    more: usize,
    power: String,
    since: i64,
    services: Vec<String>,
    commands: u32,
    seen: i64,
}

impl Row {
    fn new(agent: &AgentSummary, now: Timestamp) -> Self {
        let health = agent.health.as_ref();
        let power = health.and_then(|health| health.power.as_ref());
        let services = health.and_then(|health| health.ecs.as_ref()).map_or(&[][..], |ecs| &ecs.services);
        let label = |service: &wire::EcsServiceState| match service.role.as_str() {
            "" | "other" => text(&service.name),
            role => text(role),
        };
        let connected = agent.state() == AgentState::Connected;
        Self {
            agent: agent.agent_id.clone(),
            word: agent.health_word(),
            reasons: agent.health_reasons.iter().take(REASONS).map(|reason| text(&sentence(reason, now))).collect(),
            more: agent.health_reasons.len().saturating_sub(REASONS),
            power: power.filter(|_| connected).map_or_else(String::new, power_text),
            since: power.filter(|_| connected).map_or(0, |power| power.since_unix_ms),
            services: services
                .iter()
                .filter(|_| connected)
                .map(|service| format!("{} {}/{}", label(service), service.running, service.desired))
                .collect(),
            commands: agent.commands,
            seen: if connected { 0 } else { agent.last_seen_unix_ms },
        }
    }

    fn show(&self, brief: Option<&Brief>, now: Timestamp) -> Markup {
        html! {
            tr id={ "la-" (self.agent) } {
                th scope="row" { a href={ "/ui/agents/" (self.agent) } { (self.agent) } }
                td { (badge(self.word)) }
                td class="why" {
                    (self.reasons.join("; "))
                    @if self.more > 0 { " and " (self.more) " more" }
                }
                td {
                    (self.power)
                    @if self.since > 0 { " " (age(self.since, now)) }
                }
                td class="services" { (self.services.join(", ")) }
                td class="number" { (self.commands) }
                td { @if self.seen == 0 && self.word != HealthWord::Away { "now" } @else { (age(self.seen, now)) } }
                @if let Some(brief) = brief {
                    td class="spark" { (brief.awake_chart) " " (format!("{:.0} h", brief.awake_hours)) }
                    td class="spark" { (brief.cost_chart) " " (format!("{:.2}", brief.cost)) }
                } @else {
                    td {} td {}
                }
            }
        }
    }
}

/// `awake for runs`.
pub(super) fn power_text(power: &wire::PowerState) -> String {
    text(&history::power(power.phase(), &power.cause))
}

/// The word in its colour, which only repeats what it says.
pub(super) fn badge(health: HealthWord) -> Markup {
    let word = word(health);
    html! { span class={ "badge " (word) } { (word) } }
}

fn matches(agent: &AgentSummary, asked: &str) -> bool {
    let asked = asked.to_lowercase();
    let has = |text: &str| text.to_lowercase().contains(&asked);
    has(&agent.agent_id)
        || has(&agent.account)
        || has(&word(agent.health_word()))
        || agent.groups.iter().any(|group| has(group))
        || agent.labels.iter().any(|(key, value)| has(key) || has(value))
}

fn sorted(agents: &mut [AgentSummary], by: Sort, briefs: &Briefs) {
    let brief = |agent: &AgentSummary| briefs.agents.get(&agent.agent_id);
    match by {
        Sort::Agent => {}
        Sort::Health => agents.sort_by_key(|agent| rank(agent.health_word())),
        Sort::Queue => agents.sort_by_key(|agent| std::cmp::Reverse(agent.commands)),
        Sort::Awake => agents.sort_by(|a, b| {
            let hours = |agent| brief(agent).map_or(0.0, |brief| brief.awake_hours);
            hours(b).total_cmp(&hours(a))
        }),
        Sort::Cost => agents.sort_by(|a, b| {
            let cost = |agent| brief(agent).map_or(0.0, |brief| brief.cost);
            cost(b).total_cmp(&cost(a))
        }),
    }
}

/// `GET /ui/`
pub(super) async fn show(State(page): Shared, viewer: Viewer, Query(asked): Query<Asked>) -> Result<Markup, Problem> {
    let mut agents = page.agents(&viewer).await?;
    let briefs = page.briefs(&viewer).await?;
    let now = Timestamp::now();
    let total = agents.len();
    agents.retain(|agent| asked.q.is_empty() || matches(agent, &asked.q));
    sorted(&mut agents, asked.sort, &briefs);
    let head = |by: Sort, name: &str| {
        let query = html! { "/ui/?sort=" (by.name()) "&q=" (byte_serialize(asked.q.as_bytes()).collect::<String>()) };
        html! {
            th scope="col" aria-sort=[(asked.sort == by).then_some(if by == Sort::Agent { "ascending" } else { "descending" })] {
                a href=(maud::PreEscaped(query.into_string())) { (name) }
            }
        }
    };
    let table = html! {
        table {
            caption { (agents.len()) " of " (total) " local authorities" }
            thead {
                tr {
                    (head(Sort::Agent, "LA")) (head(Sort::Health, "Health"))
                    th scope="col" { "Why" } th scope="col" { "Power" } th scope="col" { "Services" }
                    (head(Sort::Queue, "Queue")) th scope="col" { "Seen" }
                    (head(Sort::Awake, "Awake, 30 days"))
                    (head(Sort::Cost, &format!("Cost, 30 days{}", briefs.unit())))
                }
            }
            tbody {
                @for agent in &agents {
                    (Row::new(agent, now).show(briefs.agents.get(&agent.agent_id), now))
                }
            }
        }
    };
    let body = html! {
        form method="get" action="/ui/" role="search" {
            label for="q" { "Show only what has" }
            input id="q" name="q" type="search" value=(asked.q) maxlength="100";
            input type="hidden" name="sort" value=(asked.sort.name());
            button type="submit" { "Show" }
        }
        (summary(&agents))
        @if total == 0 {
            p { "No local authority is registered yet. An admin invites one with " code { "hubctl agents invite" } "." }
        } @else {
            (scroll("Local authorities", &table))
        }
    };
    Ok(layout(Some(&viewer), "Fleet", Section::Fleet, Some("/ui/live"), &body))
}

/// How many are how.
fn summary(agents: &[AgentSummary]) -> Markup {
    let mut counts: HashMap<HealthWord, usize> = HashMap::new();
    agents.iter().for_each(|agent| *counts.entry(agent.health_word()).or_default() += 1);
    let mut counts: Vec<_> = counts.into_iter().collect();
    counts.sort_by_key(|(word, _)| rank(*word));
    html! { ul class="counts" { @for (word, count) in counts { li { (badge(word)) " " (count) } } } }
}

/// `GET /ui/live`: lines that changed since the last event.
pub(super) async fn live(State(page): Shared, viewer: Viewer) -> Result<Response, Problem> {
    let watch = page.operators.watch_agents(viewer.ask(wire::WatchAgentsRequest {})).await;
    let lists = watch.map_err(viewer.problem())?.into_inner();
    let may = page.shows_usage(&viewer);
    let changes = lists.scan(HashMap::<String, Row>::new(), move |known, list| {
        let agents = list.map(|list| list.agents).unwrap_or_default();
        let now = Timestamp::now();
        let rows: Vec<Row> = agents.iter().map(|agent| Row::new(agent, now)).collect();
        let first = known.is_empty();
        let changed: Vec<Row> = rows.into_iter().filter(|row| known.get(&row.agent) != Some(row)).collect();
        known.extend(changed.iter().map(|row| (row.agent.clone(), row.clone())));
        let briefs = if may { page.overview.known() } else { Arc::default() };
        let markup = html! { @for row in &changed { (row.show(briefs.agents.get(&row.agent), now)) } };
        // What the page was loaded with may be older than the first list.
        std::future::ready(Some((!changed.is_empty() || first).then_some(markup)))
    });
    Ok(live::events(changes.flat_map(stream::iter)).into_response())
}
