//! What is wrong, what is kept silent, and whether it can be told.

use axum::extract::State;
use jiff::Timestamp;
use maud::{Markup, html};
use sfdata_common::words::kebab;
use sfdata_proto::v1::{ListAlertsRequest, operator_service_server::OperatorService as _};

use super::{
    Problem, Shared, Viewer, age,
    layout::{Section, layout, scroll},
    moment, text,
};

/// `GET /ui/alerts`
pub(super) async fn show(State(page): Shared, viewer: Viewer) -> Result<Markup, Problem> {
    let answer =
        page.operators.list_alerts(viewer.ask(ListAlertsRequest {})).await.map_err(viewer.problem())?.into_inner();
    let now = Timestamp::now();
    let any = |of: &str| if of.is_empty() { "any".to_owned() } else { text(of) };
    let body = html! {
        @if answer.alerts.is_empty() { p { "Nothing is wrong." } } @else {
            (scroll("Alerts", &html! {
                table {
                    thead { tr { @for name in ["LA", "Rule", "State", "Since", "What"] { th scope="col" { (name) } } } }
                    tbody {
                        @for alert in &answer.alerts {
                            tr {
                                th scope="row" {
                                    @if alert.agent_id.is_empty() { "the hub" }
                                    @else { a href={ "/ui/agents/" (alert.agent_id) } { (alert.agent_id) } }
                                }
                                td { (text(&alert.rule)) }
                                td { span class={ "badge " (kebab(alert.state().as_str_name(), "ALERT_STATE_")) } {
                                    (kebab(alert.state().as_str_name(), "ALERT_STATE_")) }
                                    @if alert.silenced { " silenced" } }
                                td { (age(alert.since_unix_ms, now)) }
                                td { (text(&alert.summary)) }
                            }
                        }
                    }
                }
            }))
        }
        h2 { "Silences" }
        @if answer.silences.is_empty() { p { "Nothing is kept silent." } } @else {
            (scroll("Silences", &html! {
                table {
                    thead { tr { @for name in ["LA", "Rule", "Name", "Until", "By", "Reason"] { th scope="col" { (name) } } } }
                    tbody {
                        @for silence in &answer.silences {
                            tr {
                                th scope="row" { (any(&silence.agent_id)) } td { (any(&silence.rule)) } td { (any(&silence.name)) }
                                td { (moment(silence.until_unix_ms)) } td { (text(&silence.operator)) } td { (text(&silence.reason)) }
                            }
                        }
                    }
                }
            }))
        }
        h2 { "Channels" }
        @if answer.channels.is_empty() {
            p { "None is configured, so that nobody is told: see " code { "[alerts]" } " in the hub's configuration." }
        } @else {
            ul {
                @for channel in &answer.channels {
                    li {
                        (text(&channel.name)) ": " (channel.waiting) " waiting"
                        @if !channel.error.is_empty() { ", the last try failed: " (text(&channel.error)) }
                    }
                }
            }
        }
    };
    Ok(layout(Some(&viewer), "Alerts", Section::Alerts, None, &body))
}
