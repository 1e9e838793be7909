//! What a run has told so far. Messages may quote an LA's data: they go into a sealed answer or nowhere.

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::json;
use sfdata_common::limits;

use super::{
    Dagster,
    seen::{Event, Events},
};
use crate::services::Error;

const EVENTS: &str = "query Events($id: ID!, $after: String, $limit: Int) {
  events: logsForRun(runId: $id, afterCursor: $after, limit: $limit) {
    __typename
    ... on PythonError { className }
    ... on EventConnection {
      cursor
      hasMore
      events {
        __typename
        ... on MessageEvent { timestamp eventType stepKey message }
        ... on ExecutionStepFailureEvent { error { message cause { message } } } # ? errors of steps
        ... on RunFailureEvent { error { message cause { message } } } # ? errors of runs
      }
    }
  }
}";

/// What its own code logged, which has no type of event.
const LOGGED: &str = "LOG_MESSAGE";

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct FoundEvents {
    cursor: Option<String>,
    #[serde(default)]
    has_more: Option<bool>,
    events: Vec<FoundEvent>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct FoundEvent {
    /// Milliseconds since 1970, in a string.
    timestamp: Option<String>,
    event_type: Option<String>,
    step_key: Option<String>,
    message: Option<String>,
    error: Option<FoundError>,
}

#[derive(Deserialize)]
struct FoundError {
    message: Option<String>,
    /// What the pipeline's own code raised; Dagster wraps it.
    cause: Option<Box<FoundError>>,
}

impl Dagster {
    /// What a run has told after this cursor, from the beginning without one.
    pub async fn events(&self, id: &str, after: Option<&str>) -> Result<Events, Error> {
        let tried = format!("read the events of run {id}");
        let variables = json!({ "id": id, "after": after, "limit": limits::DAGSTER_PAGE });
        let found: FoundEvents =
            self.ask(&tried, EVENTS, variables).await?.part(&tried, "events", "EventConnection")?;
        let cursor = found.cursor.or_else(|| after.map(str::to_owned));
        let events = found.events.into_iter().filter_map(FoundEvent::seen).collect();
        Ok(Events { events, cursor, more: found.has_more.unwrap_or_default() })
    }
}

impl FoundEvent {
    fn seen(self) -> Option<Event> {
        let (error, cause) = self.error.map_or((None, None), |error| (error.message, error.cause));
        let message = [self.message, error, cause.and_then(|cause| cause.message)];
        let message: Vec<String> = message.into_iter().flatten().filter(|text| !text.is_empty()).collect();
        Some(Event {
            at: Timestamp::from_millisecond(self.timestamp?.parse::<f64>().ok()? as i64).ok()?,
            kind: self.event_type.unwrap_or_else(|| LOGGED.into()),
            step: self.step_key,
            message: message.join("\n").trim_end().to_owned(),
        })
    }
}
