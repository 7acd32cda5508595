//! Runs the sessions of a request and gives their events OpenAI's form, streamed or whole.
//!
//! Several choices are several sessions, side by side; a stream carries their events as they come.

use std::{collections::VecDeque, sync::Arc};

use axum::{
    Json,
    response::{IntoResponse, Response},
};
use far_ledger::Amount;
use far_mesh_core::session::FinishReason;
use futures::{FutureExt, StreamExt, future::try_join_all, stream, stream::BoxStream};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{
    super::{
        access::Caller,
        app::{App, unix_seconds},
        engine::{GenerateCall, ServedModel, Vocabulary},
        error::ApiError,
        live::{Live, Priced, Settled},
        open::{self, Asked},
        sse,
    },
    logprobs::Entry,
};

/// What differs between a chat completion and a completion.
pub(super) trait Shape: Copy + Send + Sync + 'static {
    /// `object` of a whole answer.
    const WHOLE: &'static str;
    /// `object` of a piece of a stream.
    const CHUNK: &'static str;
    /// Prefix of `id`.
    const PREFIX: &'static str;

    /// What a choice's stream begins with.
    fn opening(index: usize) -> Option<Value>;
    /// More text of a choice.
    fn delta(index: usize, text: &str, logprobs: Value) -> Value;
    /// The end of a choice's stream.
    fn end(index: usize, reason: &str) -> Value;
    /// A whole choice.
    fn whole(index: usize, text: &str, logprobs: Value, reason: &str) -> Value;
    /// Log-probabilities of some tokens of a choice, `offset` characters into its text.
    fn logprobs(entries: &[Entry], offset: &mut usize) -> Value;
}

/// A request, checked.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) caller: Caller,
    pub(super) model: ServedModel,
    /// One session each: all choices of the first prompt, then of the second...
    pub(super) calls: Vec<GenerateCall>,
    /// Choices a prompt.
    pub(super) choices: usize,
    pub(super) prompt_field: &'static str,
    pub(super) stream: bool,
    pub(super) include_usage: bool,
}

/// `stream_options`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct StreamOptions {
    pub(super) include_usage: bool,
}

/// Tokens and cost of all sessions of a request.
#[derive(Debug, Default)]
struct Total {
    prompt: u64,
    completion: u64,
    cost: Amount,
}

/// A choice on its way.
struct Choice {
    vocabulary: Arc<dyn Vocabulary>,
    /// Whether its prompt counts: once a prompt, not once a choice.
    counts_prompt: bool,
    offset: usize,
}

/// Runs a request.
pub(super) async fn run<S: Shape>(app: Arc<App>, plan: Plan) -> Result<Response, ApiError> {
    let Plan { caller, model, calls, choices, prompt_field, stream, include_usage } = plan;
    let mut lives = open::start(&app, Asked { model: &model.name, caller, calls, prompt_field }).await?;
    let sessions: Vec<_> = lives.iter().map(|live| live.session).collect();
    let head = Head::new::<S>(&model, &lives);
    let counts_prompt = |index: usize| index.is_multiple_of(choices.max(1));
    let mut response = if stream {
        try_join_all(lives.iter_mut().map(|live| live.ready(app.options.keep_alive))).await?;
        let chunks = Chunks::<S>::new(head, lives, counts_prompt, include_usage);
        sse::respond(stream::unfold(chunks, Chunks::next), app.options.keep_alive)
    } else {
        let mut total = Total::default();
        let wholes = lives.into_iter().enumerate().map(|(index, live)| whole::<S>(index, live).boxed());
        let mut answers = Vec::new();
        for (index, (choice, settled)) in try_join_all(wholes).await?.into_iter().enumerate() {
            total.add(&settled, counts_prompt(index));
            answers.push(choice);
        }
        let mut body = head.object(S::WHOLE, answers);
        body.insert("usage".to_owned(), total.usage());
        Json(body).into_response()
    };
    sse::name_sessions(&mut response, &sessions);
    Ok(response)
}

async fn whole<S: Shape>(index: usize, mut live: Live) -> Result<(Value, Box<Settled>), ApiError> {
    let (mut text, mut entries) = (String::new(), Vec::new());
    while let Some(item) = live.next().await {
        match item? {
            Priced::Token { event, .. } => {
                entries.extend(Entry::new(&event, &*live.vocabulary));
                text.push_str(&event.text);
            }
            Priced::Done(settled) => {
                text.push_str(&settled.finish.tail);
                let logprobs = if entries.is_empty() { Value::Null } else { S::logprobs(&entries, &mut 0) };
                return Ok((S::whole(index, &text, logprobs, reason(&settled)), settled));
            }
        }
    }
    // `Live` ends with `Done` or an error.
    Err(ApiError::new(axum::http::StatusCode::INTERNAL_SERVER_ERROR, "internal_error", "the session has no end"))
}

fn reason(settled: &Settled) -> &'static str {
    match settled.finish.reason {
        FinishReason::Stop | FinishReason::Cancelled => "stop",
        FinishReason::Length => "length",
    }
}

/// What all pieces of an answer say.
#[derive(Clone, Debug)]
struct Head {
    id: String,
    created: u64,
    model: String,
    fingerprint: String,
}

impl Head {
    fn new<S: Shape>(model: &ServedModel, lives: &[Live]) -> Self {
        let session = lives.first().map(|live| live.session.to_string()).unwrap_or_default();
        let hash = model.hash.to_string();
        Self {
            id: format!("{}-{session}", S::PREFIX),
            created: unix_seconds(),
            model: model.name.clone(),
            fingerprint: format!("fp_{}", hash.get(..10).unwrap_or(&hash)),
        }
    }

    fn object(&self, object: &str, choices: Vec<Value>) -> Map<String, Value> {
        let mut map = Map::new();
        map.insert("id".to_owned(), self.id.clone().into());
        map.insert("object".to_owned(), object.into());
        map.insert("created".to_owned(), self.created.into());
        map.insert("model".to_owned(), self.model.clone().into());
        map.insert("system_fingerprint".to_owned(), self.fingerprint.clone().into());
        map.insert("choices".to_owned(), choices.into());
        map
    }
}

impl Total {
    fn add(&mut self, settled: &Settled, counts_prompt: bool) {
        let usage = settled.finish.usage;
        if counts_prompt {
            self.prompt += u64::from(usage.prompt_tokens);
        }
        self.completion += u64::from(usage.completion_tokens);
        self.cost = self.cost.checked_add(settled.outcome.total_cost()).unwrap_or(Amount::MAX);
    }

    fn usage(&self) -> Value {
        json!({
            "prompt_tokens": self.prompt,
            "completion_tokens": self.completion,
            "total_tokens": self.prompt + self.completion,
            "cost_far": self.cost.to_string(),
        })
    }
}

/// The pieces of a stream.
struct Chunks<S> {
    head: Head,
    choices: Vec<Choice>,
    events: BoxStream<'static, (usize, Result<Priced, ApiError>)>,
    include_usage: bool,
    total: Total,
    open: usize,
    /// Pieces that come before the next event.
    ahead: VecDeque<String>,
    over: bool,
    shape: std::marker::PhantomData<S>,
}

impl<S: Shape> Chunks<S> {
    fn new(head: Head, lives: Vec<Live>, counts_prompt: impl Fn(usize) -> bool, include_usage: bool) -> Self {
        let choice = |(index, live): (usize, &Live)| Choice {
            vocabulary: live.vocabulary.clone(),
            counts_prompt: counts_prompt(index),
            offset: 0,
        };
        let choices: Vec<_> = lives.iter().enumerate().map(choice).collect();
        let tagged = lives.into_iter().enumerate().map(|(index, live)| live.map(move |item| (index, item)));
        let mut chunks = Self {
            head,
            open: choices.len(),
            choices,
            events: stream::select_all(tagged).boxed(),
            include_usage,
            total: Total::default(),
            ahead: VecDeque::new(),
            over: false,
            shape: std::marker::PhantomData,
        };
        for index in 0..chunks.open {
            if let Some(opening) = S::opening(index) {
                let line = chunks.chunk(vec![opening]);
                chunks.ahead.push_back(line);
            }
        }
        chunks
    }

    /// The pieces that come next, together; for [`stream::unfold`].
    async fn next(mut self) -> Option<(Vec<String>, Self)> {
        if !self.ahead.is_empty() {
            return Some((self.ahead.drain(..).collect(), self));
        }
        if self.over {
            return None;
        }
        loop {
            let (index, item) = self.events.next().await?;
            let lines = self.lines(index, item);
            if !lines.is_empty() {
                return Some((lines, self));
            }
        }
    }

    fn lines(&mut self, index: usize, item: Result<Priced, ApiError>) -> Vec<String> {
        match item {
            Ok(Priced::Token { event, .. }) => {
                let choice = &mut self.choices[index];
                let entry = Entry::new(&event, &*choice.vocabulary);
                if event.text.is_empty() && entry.is_none() {
                    return Vec::new();
                }
                let logprobs = entry.map_or(Value::Null, |entry| S::logprobs(&[entry], &mut choice.offset));
                vec![self.chunk(vec![S::delta(index, &event.text, logprobs)])]
            }
            Ok(Priced::Done(settled)) => {
                self.open -= 1;
                self.total.add(&settled, self.choices[index].counts_prompt);
                let mut lines = Vec::with_capacity(4);
                if !settled.finish.tail.is_empty() {
                    lines.push(self.chunk(vec![S::delta(index, &settled.finish.tail, Value::Null)]));
                }
                lines.push(self.chunk(vec![S::end(index, reason(&settled))]));
                if self.open == 0 {
                    self.over = true;
                    if self.include_usage {
                        let mut object = self.head.object(S::CHUNK, Vec::new());
                        object.insert("usage".to_owned(), self.total.usage());
                        lines.push(sse::line(&object));
                    }
                    lines.push(sse::DONE.to_owned());
                }
                lines
            }
            // The other choices' sessions are cancelled with the stream.
            Err(error) => {
                self.over = true;
                vec![sse::line(&error.body())]
            }
        }
    }

    fn chunk(&self, choices: Vec<Value>) -> String {
        let mut object = self.head.object(S::CHUNK, choices);
        if self.include_usage {
            object.insert("usage".to_owned(), Value::Null);
        }
        sse::line(&object)
    }
}
