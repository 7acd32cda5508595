//! `/inference/generate` and `/api/inference/chat`.

use std::sync::Arc;

use axum::{
    Extension, Json,
    extract::State,
    response::{IntoResponse, Response},
};
use far_mesh_client::schema::{
    Contribution, Done, FinishReason, GenerateRequest, Generated, Message, Payload, Token, Usage,
};
use far_mesh_core::{coordinator::Prompt, session};
use futures::{StreamExt, TryStreamExt};

use super::{
    access::Caller,
    app::App,
    body::JsonBody,
    engine::GenerateCall,
    error::ApiError,
    live::{self, Live, Priced, Settled},
    mesh,
    open::{self, Asked},
    params::{conversation, params},
    sse,
};

/// Goes on from a raw text.
pub(super) async fn generate(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    JsonBody(mut request): JsonBody<GenerateRequest>,
) -> Result<Response, ApiError> {
    if request.messages.is_some() {
        let message = "this route takes a raw prompt: send messages to /api/inference/chat";
        return Err(ApiError::field("unexpected_field", "messages", message));
    }
    let prompt =
        request.prompt.take().ok_or_else(|| ApiError::field("missing_field", "prompt", "prompt is missing"))?;
    run(app, caller, request, Prompt::Text(prompt), "prompt").await
}

/// Answers a conversation, or one message of the user.
pub(super) async fn chat(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    JsonBody(mut request): JsonBody<GenerateRequest>,
) -> Result<Response, ApiError> {
    let (messages, field) = match (request.prompt.take(), request.messages.take()) {
        (None, Some(messages)) => (messages, "messages"),
        (Some(prompt), None) => (vec![Message::user(prompt)], "prompt"),
        (None, None) => {
            return Err(ApiError::field("missing_field", "messages", "messages is missing, or a prompt instead"));
        }
        (Some(_), Some(_)) => {
            return Err(ApiError::field("unexpected_field", "prompt", "send messages or a prompt, not both"));
        }
    };
    let prompt = Prompt::Chat(conversation(messages)?);
    run(app, caller, request, prompt, field).await
}

async fn run(
    app: Arc<App>,
    caller: Caller,
    request: GenerateRequest,
    prompt: Prompt,
    prompt_field: &'static str,
) -> Result<Response, ApiError> {
    let checked = params!(request, max_tokens: request.max_tokens).check()?;
    let model = mesh::find(&app, request.model.as_deref()).await?;
    let call = GenerateCall {
        model: model.hash,
        prompt,
        max_tokens: checked.max_tokens,
        sampling: checked.sampling,
        stop: checked.stop,
        region: checked.region,
        logprobs: None,
    };
    let asked = Asked { model: &model.name, caller, calls: vec![call], prompt_field };
    let mut live = open::start(&app, asked).await?.pop().ok_or_else(|| live::internal("there is no session"))?;
    let session = live.session;
    let mut response = if request.stream.unwrap_or(true) {
        live.ready(app.options.keep_alive).await?;
        sse::respond(live.map(move |item| lines(&model.name, item)), app.options.keep_alive)
    } else {
        Json(whole(&model.name, live).await?).into_response()
    };
    sse::name_sessions(&mut response, &[session]);
    Ok(response)
}

/// The events of a stream that one event of the session makes.
fn lines(model: &str, item: Result<Priced, ApiError>) -> Vec<String> {
    match item {
        Ok(Priced::Token { event, cost }) => {
            let token = Token { token: event.text, index: event.index, cost_far: cost.to_string() };
            vec![sse::line(&Payload::Token(token))]
        }
        Ok(Priced::Done(settled)) => {
            let done = done(model, &settled);
            let mut lines = Vec::with_capacity(3);
            if !settled.finish.tail.is_empty() {
                let index = done.usage.completion_tokens.saturating_sub(1);
                let tail = Token { token: settled.finish.tail, index, cost_far: done.cost_far.clone() };
                lines.push(sse::line(&Payload::Token(tail)));
            }
            lines.extend([sse::line(&Payload::Done(done)), sse::DONE.to_owned()]);
            lines
        }
        Err(error) => vec![sse::line(&Payload::Error(error.body()))],
    }
}

async fn whole(model: &str, mut live: Live) -> Result<Generated, ApiError> {
    let mut text = String::new();
    while let Some(item) = live.try_next().await? {
        match item {
            Priced::Token { event, .. } => text.push_str(&event.text),
            Priced::Done(settled) => {
                let Done { session_id, model, finish_reason, usage, cost_far, contributions, .. } =
                    done(model, &settled);
                text.push_str(&settled.finish.tail);
                return Ok(Generated { text, session_id, model, finish_reason, usage, cost_far, contributions });
            }
        }
    }
    // `Live` ends with `Done` or an error.
    Err(ApiError::new(axum::http::StatusCode::INTERNAL_SERVER_ERROR, "internal_error", "the session has no end"))
}

fn done(model: &str, settled: &Settled) -> Done {
    let usage = settled.finish.usage;
    Done {
        done: true,
        session_id: settled.finish.session.to_string(),
        model: model.to_owned(),
        finish_reason: match settled.finish.reason {
            session::FinishReason::Stop | session::FinishReason::Cancelled => FinishReason::Stop,
            session::FinishReason::Length => FinishReason::Length,
        },
        usage: Usage {
            prompt_tokens: usage.prompt_tokens,
            completion_tokens: usage.completion_tokens,
            total_tokens: usage.prompt_tokens.saturating_add(usage.completion_tokens),
        },
        cost_far: settled.outcome.total_cost().to_string(),
        contributions: settled.outcome.contributions().iter().map(contribution).collect(),
    }
}

/// A contribution as clients see it: layers with the last included.
pub(super) fn contribution(part: &far_ledger::Contribution) -> Contribution {
    Contribution {
        node_id: part.node_id.clone(),
        layers: [part.layers_start, part.layers_end.saturating_sub(1)],
        tokens: part.tokens,
        payment_far: part.payment.to_string(),
        compute_ms: part.compute_ms,
        exact: part.exact,
    }
}
