//! `POST /v1/chat/completions`.

use std::sync::Arc;

use axum::{Extension, extract::State, response::Response};
use far_mesh_client::schema::{Message, Region, Stop};
use far_mesh_core::coordinator::Prompt;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    super::{
        access::Caller,
        app::App,
        body::JsonBody,
        engine::GenerateCall,
        error::ApiError,
        mesh,
        options::MAX_CHOICES,
        params::{conversation, integer, params},
    },
    answer::{self, Plan, Shape, StreamOptions},
    logprobs::{self, Entry},
};

/// Alternatives a token, at most.
const MAX_TOP_LOGPROBS: i64 = 20;

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(in crate::http) struct ChatRequest {
    model: Option<String>,
    messages: Option<Vec<Message>>,
    max_tokens: Option<i64>,
    max_completion_tokens: Option<i64>,
    temperature: Option<f64>,
    top_p: Option<f64>,
    top_k: Option<i64>,
    min_p: Option<f64>,
    repetition_penalty: Option<f64>,
    frequency_penalty: Option<f64>,
    presence_penalty: Option<f64>,
    seed: Option<i64>,
    stop: Option<Stop>,
    region: Option<Region>,
    n: Option<i64>,
    logprobs: Option<bool>,
    top_logprobs: Option<i64>,
    stream: Option<bool>,
    stream_options: Option<StreamOptions>,
    tools: Option<Value>,
    functions: Option<Value>,
    response_format: Option<Value>,
    logit_bias: Option<Value>,
    audio: Option<Value>,
}

/// Answers a conversation.
pub(in crate::http) async fn chat(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    JsonBody(request): JsonBody<ChatRequest>,
) -> Result<Response, ApiError> {
    let text_format = request.response_format.as_ref().is_some_and(|format| format["type"] == "text");
    refuse_unsupported(&[
        ("tools", request.tools.as_ref()),
        ("functions", request.functions.as_ref()),
        ("response_format", request.response_format.as_ref().filter(|_| !text_format)),
        ("logit_bias", request.logit_bias.as_ref()),
        ("audio", request.audio.as_ref()),
    ])?;
    let messages =
        request.messages.ok_or_else(|| ApiError::field("missing_field", "messages", "messages is missing"))?;
    let prompt = Prompt::Chat(conversation(messages)?);
    let checked = params!(request, max_tokens: request.max_completion_tokens.or(request.max_tokens)).check()?;
    let choices: usize = integer("n", request.n.unwrap_or(1), 1, MAX_CHOICES)?;
    let top: Option<u8> =
        request.top_logprobs.map(|top| integer("top_logprobs", top, 0, MAX_TOP_LOGPROBS)).transpose()?;
    let logprobs = match (request.logprobs.unwrap_or(false), top) {
        (true, top) => Some(top.unwrap_or(0)),
        (false, None) => None,
        (false, Some(_)) => {
            return Err(ApiError::range("top_logprobs", "top_logprobs needs logprobs to be true"));
        }
    };
    let model = mesh::find(&app, request.model.as_deref()).await?;
    let call = GenerateCall {
        model: model.hash,
        prompt,
        max_tokens: checked.max_tokens,
        sampling: checked.sampling,
        stop: checked.stop,
        region: checked.region,
        logprobs,
    };
    let plan = Plan {
        caller,
        model,
        calls: choices_of(&call, choices),
        choices,
        prompt_field: "messages",
        stream: request.stream.unwrap_or(false),
        include_usage: request.stream_options.unwrap_or_default().include_usage,
    };
    answer::run::<Chat>(app, plan).await
}

/// The sessions of `n` choices. Equal seeds would give equal texts, so each choice after the first has the next seed.
pub(super) fn choices_of(call: &GenerateCall, n: usize) -> Vec<GenerateCall> {
    (0..n as u64)
        .map(|choice| {
            let mut call = call.clone();
            call.sampling.seed = call.sampling.seed.map(|seed| seed.wrapping_add(choice));
            call
        })
        .collect()
}

/// Refuses fields that would change the answer and that we do not know; empty ones would not.
///
/// # Errors
/// 400 with the first that is there.
pub(super) fn refuse_unsupported(fields: &[(&str, Option<&Value>)]) -> Result<(), ApiError> {
    let empty = |value: &Value| match value {
        Value::Null | Value::Bool(false) => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        Value::String(text) => text.is_empty(),
        _ => false,
    };
    match fields.iter().find(|(_, value)| value.is_some_and(|value| !empty(value))) {
        None => Ok(()),
        Some((name, _)) => {
            Err(ApiError::field("unsupported_parameter", *name, format!("{name} is not supported: leave it out")))
        }
    }
}

/// The form of a chat completion.
#[derive(Clone, Copy, Debug)]
struct Chat;

impl Shape for Chat {
    const WHOLE: &'static str = "chat.completion";
    const CHUNK: &'static str = "chat.completion.chunk";
    const PREFIX: &'static str = "chatcmpl";

    fn opening(index: usize) -> Option<Value> {
        let delta = json!({ "role": "assistant", "content": "", "refusal": null });
        Some(json!({ "index": index, "delta": delta, "logprobs": null, "finish_reason": null }))
    }

    fn delta(index: usize, text: &str, logprobs: Value) -> Value {
        json!({ "index": index, "delta": { "content": text }, "logprobs": logprobs, "finish_reason": null })
    }

    fn end(index: usize, reason: &str) -> Value {
        json!({ "index": index, "delta": {}, "logprobs": null, "finish_reason": reason })
    }

    fn whole(index: usize, text: &str, logprobs: Value, reason: &str) -> Value {
        let message = json!({ "role": "assistant", "content": text, "refusal": null });
        json!({ "index": index, "message": message, "logprobs": logprobs, "finish_reason": reason })
    }

    fn logprobs(entries: &[Entry], _offset: &mut usize) -> Value {
        logprobs::chat(entries)
    }
}
