//! Server-sent events: elements that take the place of those with the same id. One that is new and names the list that it
//! belongs to (`data-into`) goes first there; what is too much for the list (`data-most`) leaves it at its end.

use std::convert::Infallible;

use axum::response::{
    IntoResponse,
    sse::{Event, KeepAlive, Sse},
};
use futures::{Stream, StreamExt as _, stream};
use maud::Markup;

/// One event for each group of changed elements, until the stream ends.
pub(super) fn events(changes: impl Stream<Item = Markup> + Send + 'static) -> impl IntoResponse {
    Sse::new(replacing(changes).map(Ok::<_, Infallible>)).keep_alive(KeepAlive::default())
}

/// The same, and a word at the end that nothing more will come.
pub(super) fn ending(changes: impl Stream<Item = Markup> + Send + 'static) -> impl IntoResponse {
    let end = stream::once(async { Event::default().event("end").data("") });
    Sse::new(replacing(changes).chain(end).map(Ok::<_, Infallible>)).keep_alive(KeepAlive::default())
}

fn replacing(changes: impl Stream<Item = Markup> + Send + 'static) -> impl Stream<Item = Event> + Send + 'static {
    changes.map(|markup| Event::default().event("replace").data(markup.into_string()))
}
