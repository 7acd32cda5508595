//! Opens the sessions of a request: checked, and where somebody is charged held for, before anything is computed.
//!
//! ```text
//! permits -> Engine::prepare -> (a payer: Meter::begin of all at once) -> the task of each session, see `live`
//! ```
//!
//! Where somebody is charged, a task of the request begins all its sessions at once and waits until what they may cost is
//! held; only then they start. Where nobody is, a session's beginning is written while its prompt is computed.

use std::{sync::Arc, time::Duration};

use axum::http::StatusCode;
use far_ledger::{NewSession, store::BeginError};
use far_mesh_core::{coordinator::Prompt, token::Message};
use futures::future::try_join_all;
use serde_json::json;
use tokio::sync::oneshot;

use super::{
    access::{Caller, Denied},
    app::App,
    engine::GenerateCall,
    error::ApiError,
    live::{self, Live, Task},
};
use crate::metering::{self, MeterError};

/// When to come back where all sessions are taken.
const SESSIONS_RETRY: Duration = Duration::from_secs(1);

/// The sessions of a request.
pub(super) struct Asked<'a> {
    /// Name of their model.
    pub(super) model: &'a str,
    /// Who is charged.
    pub(super) caller: Caller,
    /// One session each.
    pub(super) calls: Vec<GenerateCall>,
    /// The field to blame for a prompt that does not fit.
    pub(super) prompt_field: &'static str,
}

/// Opens the sessions of a request and their tasks, all or none.
///
/// # Errors
/// 429 when too many sessions are taken, 402 when the caller cannot pay for all of them, or what the engine says.
pub(super) async fn start(app: &Arc<App>, asked: Asked<'_>) -> Result<Vec<Live>, ApiError> {
    let Asked { model, caller: Caller(holder), calls, prompt_field } = asked;
    let count = u32::try_from(calls.len()).unwrap_or(u32::MAX);
    let mut permits = app.permits.clone().try_acquire_many_owned(count).map_err(|_| {
        let message = format!("all {} sessions are taken: come back soon", app.options.max_sessions);
        ApiError::new(StatusCode::TOO_MANY_REQUESTS, "too_many_sessions", message).retry_after(SESSIONS_RETRY)
    })?;
    let stored = |call: &GenerateCall| app.meter.stores_prompts().then(|| text(&call.prompt)).flatten();
    let prompts: Vec<_> = calls.iter().map(stored).collect();
    let prepared = try_join_all(calls.into_iter().map(|call| app.engine.prepare(call))).await;
    let prepared = prepared.map_err(|error| ApiError::from_engine(error, prompt_field))?;
    let (mut lives, mut tasks, mut openings) = (Vec::new(), Vec::new(), Vec::new());
    for (prepared, prompt_text) in prepared.into_iter().zip(prompts) {
        let (session, most) = (prepared.session, prepared.request.max_tokens);
        let opening = app.meter.opening(session, model, holder.as_ref(), most);
        let opening = opening.map_err(|error| ApiError::range("max_tokens", error.to_string()))?;
        openings.push(NewSession { prompt_text, ..opening });
        let (task, live) = live::session(app, prepared, prompt_field, permits.split(1));
        tasks.push(task);
        lives.push(live);
    }
    if holder.is_none() {
        for (task, opening) in tasks.into_iter().zip(openings) {
            app.tasks.spawn_graceful(task.run(Some(opening)));
        }
        return Ok(lives);
    }
    // A task of its own: a client that goes away cannot leave something held that nobody releases.
    let (answer, held) = oneshot::channel();
    app.tasks.spawn_graceful(hold(app.clone(), openings, tasks, answer));
    held.await.map_err(|_| live::internal("the sessions were not begun"))??;
    Ok(lives)
}

/// Begins all sessions of a request at once, holding what they may cost, then lets them run.
async fn hold(
    app: Arc<App>,
    openings: Vec<NewSession>,
    tasks: Vec<Task>,
    answer: oneshot::Sender<Result<(), ApiError>>,
) {
    match app.meter.begin(&openings).await {
        Ok(()) => {
            // Who is gone by now is noticed by each task.
            drop(answer.send(Ok(())));
            for task in tasks {
                app.tasks.spawn_graceful(task.run(None));
            }
        }
        Err(error) => {
            drop(answer.send(Err(refusal(&error))));
            for task in tasks {
                task.undo(&error).await;
            }
        }
    }
}

/// A prompt as the ledger keeps it.
fn text(prompt: &Prompt) -> Option<String> {
    let text = match prompt {
        Prompt::Text(text) => text.clone(),
        Prompt::Tokens(ids) => serde_json::to_string(ids).ok()?,
        Prompt::Chat(messages) => {
            let message = |message: &Message| json!({ "role": message.role, "content": message.content });
            serde_json::Value::from(messages.iter().map(message).collect::<Vec<_>>()).to_string()
        }
    };
    Some(metering::storable(&text))
}

/// What a session that was not begun means to the client.
fn refusal(error: &MeterError) -> ApiError {
    match error {
        MeterError::Begin(BeginError::Insufficient { available, needed, .. }) => {
            Denied::NoBalance { available: *available, needed: *needed }.into()
        }
        MeterError::Begin(BeginError::UnknownKey { .. } | BeginError::UnknownAccount { .. }) => {
            Denied::UnknownKey.into()
        }
        _ => ApiError::ledger_failed(error.to_string()),
    }
}
