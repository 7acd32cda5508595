//! Answers as server-sent events.

use std::{convert::Infallible, time::Duration};

use axum::{
    http::{HeaderName, HeaderValue},
    response::{
        IntoResponse, Response,
        sse::{Event, KeepAlive, Sse},
    },
};
use far_mesh_core::id::SessionId;
use futures::{Stream, StreamExt, stream};
use serde::Serialize;

/// Names the sessions of an answer, separated by commas.
pub(super) const SESSION_HEADER: HeaderName = HeaderName::from_static("x-far-session");
/// Asks nginx not to hold a stream back.
const NO_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

/// The data of the event that ends a stream that went well.
pub(super) const DONE: &str = "[DONE]";

/// A stream; each item is the data of the events that happen at once.
pub(super) fn respond(lines: impl Stream<Item = Vec<String>> + Send + 'static, keep_alive: Duration) -> Response {
    let events = lines.flat_map(stream::iter).map(|line| Ok::<_, Infallible>(Event::default().data(line)));
    let sse = Sse::new(events).keep_alive(KeepAlive::new().interval(keep_alive).text("keep-alive"));
    ([(NO_BUFFERING, HeaderValue::from_static("no"))], sse).into_response()
}

/// Names the sessions in the answer's head.
pub(super) fn name_sessions(response: &mut Response, sessions: &[SessionId]) {
    let names = sessions.iter().map(SessionId::to_string).collect::<Vec<_>>().join(",");
    if let Ok(value) = HeaderValue::from_str(&names) {
        response.headers_mut().insert(SESSION_HEADER, value);
    }
}

/// The data of an event.
pub(super) fn line(value: &impl Serialize) -> String {
    // Our types hold no map with other keys than texts, the one thing that JSON cannot say.
    serde_json::to_string(value).unwrap_or_else(|error| format!("{{\"error\":{{\"message\":\"{error}\"}}}}"))
}
