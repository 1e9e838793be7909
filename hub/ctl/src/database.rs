//! The database as `hubctl aurora` shows it: what it does, why it does not pause, its snapshots.

use std::time::Duration;

use serde_json::{Value, json};
use sfdata_proto::v1::{AuroraActivity, AuroraSnapshotState, AuroraStatusResult};

use crate::{
    health::{capacity, none_if_empty},
    table::{Cell, Tone},
    words,
};

/// What the database is doing, whole.
pub(crate) fn activity(activity: &AuroraActivity) -> Value {
    let blocker = |reason, detail: &str| json!({ "reason": words::pause_blocker(reason), "detail": detail });
    json!({
        "current_acu": activity.current_acu,
        "connections": activity.connections,
        "measured": words::time(activity.measured_unix_ms),
        "error": none_if_empty(&activity.error),
        "latest_restorable": words::time(activity.latest_restorable_unix_ms),
        "last_snapshot": activity.last_snapshot.as_ref().map(snapshot),
        "pause_blockers": activity.pause_blockers.iter().map(|one| blocker(one.reason(), &one.detail)).collect::<Vec<_>>(),
    })
}

/// Columns of [`status_row`].
pub(crate) const STATUS_COLUMNS: [&str; 9] =
    ["CLUSTER", "STATUS", "ENGINE", "CAPACITY", "NOW", "PAUSES", "CONNECTIONS", "RESTORABLE", "KEPT AWAKE BY"];

/// The database and what it does, on one line.
pub(crate) fn status_row(status: &AuroraStatusResult) -> Vec<Cell> {
    let aurora = status.aurora.clone().unwrap_or_default();
    let activity = status.activity.clone().unwrap_or_default();
    let known = |value: Option<String>| Cell::from(value.unwrap_or_else(|| "-".to_owned()));
    let pauses = match aurora.auto_pause_seconds {
        0 => "never".to_owned(),
        seconds => format!("after {}", words::span(Duration::from_secs(seconds.into()))),
    };
    let awake: Vec<String> = activity.pause_blockers.iter().map(|one| words::pause_blocker(one.reason())).collect();
    let tone = if aurora.status == "available" { Tone::Good } else { Tone::Pending };
    vec![
        Cell::from(&aurora.cluster),
        Cell::new(&aurora.status, tone),
        Cell::from(format!("{} {}", aurora.engine, aurora.engine_version)),
        Cell::from(capacity(&aurora)),
        known(activity.current_acu.map(|acu| format!("{acu} ACU"))),
        Cell::from(pauses),
        known(activity.connections.map(|count| count.to_string())),
        Cell::from(words::second(activity.latest_restorable_unix_ms)),
        Cell::from(awake.join(", ")),
    ]
}

/// One snapshot of the database, whole.
pub(crate) fn snapshot(snapshot: &AuroraSnapshotState) -> Value {
    json!({
        "name": snapshot.name,
        "type": snapshot.snapshot_type,
        "status": snapshot.status,
        "created": words::time(snapshot.created_unix_ms),
        "engine": snapshot.engine,
        "engine_version": snapshot.engine_version,
        "encrypted": snapshot.encrypted,
    })
}

/// Columns of [`snapshot_row`].
pub(crate) const SNAPSHOT_COLUMNS: [&str; 5] = ["SNAPSHOT", "TYPE", "STATUS", "CREATED", "ENGINE"];

/// One snapshot of the database on one line.
pub(crate) fn snapshot_row(snapshot: &AuroraSnapshotState) -> Vec<Cell> {
    let tone = if snapshot.status == "available" { Tone::Good } else { Tone::Pending };
    vec![
        Cell::from(&snapshot.name),
        Cell::from(&snapshot.snapshot_type),
        Cell::new(&snapshot.status, tone),
        Cell::from(words::second(snapshot.created_unix_ms)),
        Cell::from(format!("{} {}", snapshot.engine, snapshot.engine_version)),
    ]
}
