//! `POST /v1/completions`.

use std::sync::Arc;

use axum::{Extension, extract::State, response::Response};
use far_mesh_client::schema::{Region, Stop};
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
        options::{MAX_CHOICES, MAX_PROMPTS, MAX_SESSIONS_PER_REQUEST},
        params::{integer, params},
    },
    answer::{self, Plan, Shape, StreamOptions},
    chat::{choices_of, refuse_unsupported},
    logprobs::{self, Entry},
};

/// Alternatives a token, at most.
const MAX_LOGPROBS: i64 = 5;

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(in crate::http) struct CompletionRequest {
    model: Option<String>,
    prompt: Option<Prompts>,
    max_tokens: Option<i64>,
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
    best_of: Option<i64>,
    logprobs: Option<i64>,
    stream: Option<bool>,
    stream_options: Option<StreamOptions>,
    suffix: Option<Value>,
    echo: Option<Value>,
    logit_bias: Option<Value>,
}

/// `prompt`, in its four forms.
#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "expected a string, an array of strings, or one or several arrays of token ids")]
enum Prompts {
    Text(String),
    Tokens(Vec<u32>),
    Texts(Vec<String>),
    TokenLists(Vec<Vec<u32>>),
}

impl Prompts {
    fn into_vec(self) -> Vec<Prompt> {
        match self {
            Self::Text(text) => vec![Prompt::Text(text)],
            Self::Tokens(ids) => vec![Prompt::Tokens(ids)],
            Self::Texts(texts) => texts.into_iter().map(Prompt::Text).collect(),
            Self::TokenLists(lists) => lists.into_iter().map(Prompt::Tokens).collect(),
        }
    }
}

/// Goes on from one prompt or several.
pub(in crate::http) async fn completion(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    JsonBody(request): JsonBody<CompletionRequest>,
) -> Result<Response, ApiError> {
    refuse_unsupported(&[
        ("suffix", request.suffix.as_ref()),
        ("echo", request.echo.as_ref()),
        ("logit_bias", request.logit_bias.as_ref()),
    ])?;
    let prompts = request.prompt.ok_or_else(|| ApiError::field("missing_field", "prompt", "prompt is missing"))?;
    let prompts = prompts.into_vec();
    if prompts.len() > MAX_PROMPTS {
        let message = format!("there are {} prompts, must be from 1 to {MAX_PROMPTS}", prompts.len());
        return Err(ApiError::range("prompt", message));
    }
    if prompts.is_empty() || prompts.iter().any(|prompt| matches!(prompt, Prompt::Tokens(ids) if ids.is_empty())) {
        return Err(ApiError::range("prompt", "the prompt has no tokens"));
    }
    let checked = params!(request, max_tokens: request.max_tokens).check()?;
    let choices: usize = integer("n", request.n.unwrap_or(1), 1, MAX_CHOICES)?;
    if request.best_of.is_some_and(|best_of| best_of != request.n.unwrap_or(1)) {
        return Err(ApiError::field("unsupported_parameter", "best_of", "best_of is not supported: leave it out"));
    }
    if prompts.len() * choices > MAX_SESSIONS_PER_REQUEST {
        let message = format!("{} prompts times n = {choices} pass {MAX_SESSIONS_PER_REQUEST}", prompts.len());
        return Err(ApiError::range("n", message));
    }
    let logprobs = request.logprobs.map(|top| integer("logprobs", top, 0, MAX_LOGPROBS)).transpose()?;
    let model = mesh::find(&app, request.model.as_deref()).await?;
    let call = |prompt| GenerateCall {
        model: model.hash,
        prompt,
        max_tokens: checked.max_tokens,
        sampling: checked.sampling.clone(),
        stop: checked.stop.clone(),
        region: checked.region.clone(),
        logprobs,
    };
    let calls = prompts.into_iter().flat_map(|prompt| choices_of(&call(prompt), choices)).collect();
    let plan = Plan {
        caller,
        calls,
        model,
        choices,
        prompt_field: "prompt",
        stream: request.stream.unwrap_or(false),
        include_usage: request.stream_options.unwrap_or_default().include_usage,
    };
    answer::run::<Completion>(app, plan).await
}

/// The form of a completion.
#[derive(Clone, Copy, Debug)]
struct Completion;

impl Shape for Completion {
    const WHOLE: &'static str = "text_completion";
    const CHUNK: &'static str = "text_completion";
    const PREFIX: &'static str = "cmpl";

    fn opening(_index: usize) -> Option<Value> {
        None
    }

    fn delta(index: usize, text: &str, logprobs: Value) -> Value {
        json!({ "index": index, "text": text, "logprobs": logprobs, "finish_reason": null })
    }

    fn end(index: usize, reason: &str) -> Value {
        json!({ "index": index, "text": "", "logprobs": null, "finish_reason": reason })
    }

    fn whole(index: usize, text: &str, logprobs: Value, reason: &str) -> Value {
        json!({ "index": index, "text": text, "logprobs": logprobs, "finish_reason": reason })
    }

    fn logprobs(entries: &[Entry], offset: &mut usize) -> Value {
        logprobs::completion(entries, offset)
    }
}
