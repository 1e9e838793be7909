//! The audit record, a hundred entries at a time.

use axum::extract::{Query, State};
use futures::TryStreamExt as _;
use maud::{Markup, html};
use serde::Deserialize;
use sfdata_proto::v1::{AuditEntry, ListAuditRequest, operator_service_server::OperatorService as _};

use super::{
    Problem, Shared, Viewer,
    layout::{Section, layout, scroll},
    moment, text,
};

/// Entries on one page.
const ENTRIES: u64 = 100;

/// Which.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Asked {
    /// First index; not given: the newest.
    from: Option<u64>,
}

/// `GET /ui/audit`
pub(super) async fn show(State(page): Shared, viewer: Viewer, Query(asked): Query<Asked>) -> Result<Markup, Problem> {
    let next = page.operators.store.audit_next().map_err(|error| viewer.problem()(crate::api::fail(error)))?;
    let from = asked.from.unwrap_or_else(|| next.saturating_sub(ENTRIES));
    let request = viewer.ask(ListAuditRequest { from, limit: ENTRIES });
    let answers = page.operators.list_audit(request).await.map_err(viewer.problem())?.into_inner();
    let entries = answers.map_ok(|answer| answer.entry).try_collect::<Vec<_>>().await.map_err(viewer.problem())?;
    let mut entries: Vec<AuditEntry> = entries.into_iter().flatten().collect();
    entries.reverse();
    let after = from.saturating_add(ENTRIES);
    let body = html! {
        p { "Each entry carries the digest of the one before it. " code { "hubctl audit verify" } " checks the chain." }
        nav aria-label="Entries" {
            ul {
                @if from > 0 { li { a href={ "/ui/audit?from=" (from.saturating_sub(ENTRIES)) } { "Older" } } }
                @if after < next { li { a href={ "/ui/audit?from=" (after) } { "Newer" } } li { a href="/ui/audit" { "Newest" } } }
            }
        }
        @if entries.is_empty() { p { "There are none there." } } @else {
            (scroll("Audit record", &html! {
                table {
                    caption { "Entries " (from) " to " (from + entries.len() as u64 - 1) " of " (next) }
                    thead { tr { @for name in ["Number", "Time", "What", "Who", "About", "Detail"] { th scope="col" { (name) } } } }
                    tbody {
                        @for entry in &entries {
                            tr {
                                th scope="row" class="number" { (entry.index) }
                                td { (moment(entry.at_unix_ms)) }
                                td { (text(&entry.kind)) } td { (text(&entry.actor)) } td { (text(&entry.subject)) } td { (text(&entry.detail)) }
                            }
                        }
                    }
                }
            }))
        }
    };
    Ok(layout(Some(&viewer), "Audit", Section::Audit, None, &body))
}
