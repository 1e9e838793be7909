//! Commands: what was ordered, and what comes of it while it happens.

use axum::{
    extract::{Path, State},
    response::{IntoResponse, Response},
};
use futures::StreamExt as _;
use maud::{Markup, html};
use sfdata_common::words::kebab;
use sfdata_proto::v1::{
    self as wire, CommandState, CommandSummary, operator_service_server::OperatorService as _, outcome::Kind,
};

use super::{
    Problem, Shared, Viewer,
    layout::{Section, layout, scroll},
    live, moment, text,
};

/// Commands in the list.
const LIST: u32 = 200;
/// The part of the page that has them.
const ROWS: &str = "commands";

/// `GET /ui/commands`
pub(super) async fn list(State(page): Shared, viewer: Viewer) -> Result<Markup, Problem> {
    let request = wire::ListCommandsRequest { limit: LIST, agent_id: String::new(), unfinished: false };
    let commands =
        page.operators.list_commands(viewer.ask(request)).await.map_err(viewer.problem())?.into_inner().commands;
    let body = html! {
        p { "The newest " (LIST) ", the newest first." }
        (table(&commands))
    };
    Ok(layout(Some(&viewer), "Commands", Section::Commands, Some("/ui/commands/live"), &body))
}

/// `GET /ui/commands/live`: lines that are new or have changed.
pub(super) async fn follow(State(page): Shared, viewer: Viewer) -> Result<Response, Problem> {
    let watch = page.operators.watch_commands(viewer.ask(wire::WatchCommandsRequest { limit: LIST })).await;
    let lists = watch.map_err(viewer.problem())?.into_inner();
    let rows = lists.filter_map(|list| {
        // Each new one goes above those that are there: the newest goes last.
        let rows = list.map(|list| html! { @for command in list.commands.iter().rev() { (row(command)) } });
        std::future::ready(rows.ok())
    });
    Ok(live::events(rows).into_response())
}

/// A list of them, in which new ones find their place.
pub(super) fn table(commands: &[CommandSummary]) -> Markup {
    scroll(
        "Commands",
        &html! {
            table {
                thead { tr { @for name in ["Command", "Action", "Operator", "Submitted", "State", "Reason"] { th scope="col" { (name) } } } }
                tbody id=(ROWS) data-most=(LIST) { @for command in commands { (row(command)) } }
                @if commands.is_empty() { tfoot { tr { td colspan="6" { "There are none." } } } }
            }
        },
    )
}

fn row(command: &CommandSummary) -> Markup {
    html! {
        tr id={ "command-" (command.id) } data-into=(ROWS) {
            th scope="row" { a href={ "/ui/commands/" (command.id) } { (command.id) } }
            td { (text(&command.action)) }
            td { (text(&command.operator)) }
            td { (moment(command.submitted_unix_ms)) }
            td { (states(command)) }
            td { (text(&command.reason)) }
        }
    }
}

fn states(command: &CommandSummary) -> String {
    let one = |count: &wire::StateCount| format!("{} {}", count.targets, state(count.state()));
    command.states.iter().map(one).collect::<Vec<_>>().join(", ")
}

fn state(state: CommandState) -> String {
    kebab(state.as_str_name(), "COMMAND_STATE_")
}

/// `GET /ui/commands/{id}`
pub(super) async fn show(State(page): Shared, viewer: Viewer, Path(id): Path<String>) -> Result<Markup, Problem> {
    let request = viewer.ask(wire::GetCommandRequest { command_id: id.clone(), ..Default::default() });
    let command = page.operators.get_command(request).await.map_err(viewer.problem())?.into_inner();
    let summary = command.summary.unwrap_or_default();
    let rows: Vec<Target> = command.targets.into_iter().map(Target::from).collect();
    let ended = rows.iter().all(|row| is_final(row.state));
    let body = html! {
        dl {
            dt { "Command" } dd { (text(&summary.id)) }
            dt { "Operator" } dd { (text(&summary.operator)) }
            dt { "Reason" } dd { (text(&summary.reason)) }
            dt { "Submitted" } dd { (moment(summary.submitted_unix_ms)) }
            dt { "Expires" } dd { (moment(summary.expires_unix_ms)) }
        }
        (scroll("Targets", &html! {
            table {
                thead { tr { @for name in ["LA", "State", "Since", "What came of it"] { th scope="col" { (name) } } } }
                tbody { @for row in &rows { (row.show()) } }
            }
        }))
        p { "What it holds, signed, and the agents' receipts: " code { "hubctl commands show " (text(&summary.id)) } }
    };
    let live = (!ended).then(|| format!("/ui/commands/{id}/live"));
    let title = text(&summary.action);
    Ok(layout(Some(&viewer), &title, Section::Commands, live.as_deref(), &body))
}

/// `GET /ui/commands/{id}/live`: each change at each target.
pub(super) async fn live(State(page): Shared, viewer: Viewer, Path(id): Path<String>) -> Result<Response, Problem> {
    let watch = page.operators.watch_command(viewer.ask(wire::WatchCommandRequest { command_id: id })).await;
    let events = watch.map_err(viewer.problem())?.into_inner();
    let rows = events.filter_map(|event| {
        std::future::ready(event.ok().and_then(|event| event.event).map(|event| Target::from(event).show()))
    });
    Ok(live::ending(rows).into_response())
}

fn is_final(state: CommandState) -> bool {
    use CommandState as State;
    matches!(state, State::Succeeded | State::Failed | State::Refused | State::Expired | State::Cancelled)
}

/// How it is at one target.
struct Target {
    agent: String,
    state: CommandState,
    at: i64,
    came_of_it: String,
    percent: Option<u32>,
}

impl From<wire::TargetStatus> for Target {
    fn from(target: wire::TargetStatus) -> Self {
        let (state, at) = (target.state(), target.changed_unix_ms);
        Self { agent: target.agent_id, state, at, came_of_it: told(target.outcome), percent: None }
    }
}

impl From<wire::CommandEvent> for Target {
    fn from(event: wire::CommandEvent) -> Self {
        let (state, at) = (event.state(), event.at_unix_ms);
        let (step, percent) = event.progress.map_or((None, None), |progress| (Some(progress.step), progress.percent));
        let came_of_it = step.map_or_else(|| told(event.outcome), |step| text(&step));
        Self { agent: event.agent_id, state, at, came_of_it, percent }
    }
}

fn told(outcome: Option<wire::Outcome>) -> String {
    let also = |word: String, detail: &str| if detail.is_empty() { word } else { format!("{word}: {}", text(detail)) };
    match outcome.and_then(|outcome| outcome.kind) {
        Some(Kind::Failed(failed)) => also(kebab(failed.code().as_str_name(), "FAILURE_CODE_"), &failed.message),
        Some(Kind::Refused(refused)) => also(kebab(refused.reason().as_str_name(), "REFUSAL_REASON_"), &refused.detail),
        Some(Kind::Succeeded(_) | Kind::Expired(_) | Kind::Cancelled(_)) | None => String::new(),
    }
}

impl Target {
    fn show(&self) -> Markup {
        html! {
            tr id={ "at-" (self.agent) } {
                th scope="row" { a href={ "/ui/agents/" (self.agent) } { (self.agent) } }
                td { span class={ "badge " (state(self.state)) } { (state(self.state)) } }
                td { (moment(self.at)) }
                td {
                    (self.came_of_it)
                    @if let Some(percent) = self.percent {
                        " " progress max="100" value=(percent.min(100)) aria-label="How far it is" { (percent) " %" }
                    }
                }
            }
        }
    }
}
