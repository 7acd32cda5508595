//! A mesh that is none: its sessions say what the test wrote down.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use far_mesh_client::schema::PartHealth;
use far_mesh_core::{
    coordinator::Prompt,
    hop::{Account, HopError},
    id::{ModelHash, NodeId, SessionId, Span},
    session::{Event, Finish, FinishReason, GenerateError, Request, TokenEvent, TokenLogprob, Usage},
};
use futures::{FutureExt, StreamExt, future::BoxFuture, stream};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::http::{Engine, EngineError, GenerateCall, Generation, Offer, Prepared, ServedModel, Vocabulary};

/// Context of the mock's model.
pub(super) const CONTEXT: u32 = 64;
/// Name of the mock's model.
pub(super) const MODEL: &str = "mock-30";

/// What a session does next.
#[derive(Clone)]
pub(super) enum Step {
    /// Says a token's text.
    Say(&'static str),
    /// Waits until the test goes on.
    Wait(CancellationToken),
    /// Fails.
    Fail(GenerateError),
}

pub(super) struct MockEngine {
    pub(super) models: Vec<ServedModel>,
    pub(super) steps: Vec<Step>,
    pub(super) tail: &'static str,
    pub(super) healthy: bool,
    pub(super) calls: Mutex<Vec<GenerateCall>>,
    /// Sessions that were started.
    pub(super) started: AtomicU32,
    /// Number of sessions that are open.
    pub(super) open: watch::Sender<usize>,
}

impl std::fmt::Debug for MockEngine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("MockEngine")
    }
}

/// Three nodes of 10 layers each.
pub(super) fn model(name: &str) -> ServedModel {
    let offer = |start| Offer {
        node: NodeId::random(),
        span: Span::new(start, start + 10).unwrap(),
        tokens_per_second: Some(100.0),
        region: None,
        region_refuted: false,
    };
    ServedModel {
        name: name.to_owned(),
        hash: ModelHash([name.len() as u8; 32]),
        layers: 30,
        context_tokens: CONTEXT,
        offers: [20, 0, 10].into_iter().map(offer).collect(),
    }
}

impl MockEngine {
    pub(super) fn new(steps: Vec<Step>) -> Self {
        Self {
            models: vec![model(MODEL)],
            steps,
            tail: "",
            healthy: true,
            calls: Mutex::default(),
            started: AtomicU32::new(0),
            open: watch::Sender::new(0),
        }
    }

    /// Says these words.
    pub(super) fn saying(words: &[&'static str]) -> Self {
        Self::new(words.iter().map(|word| Step::Say(word)).collect())
    }

    /// Waits until no session is open.
    pub(super) async fn all_closed(&self) {
        super::within(self.open.subscribe().wait_for(|open| *open == 0)).await.unwrap();
    }

    pub(super) fn last_call(&self) -> GenerateCall {
        self.calls.lock().unwrap().last().unwrap().clone()
    }

    fn prompt_tokens(call: &GenerateCall) -> Result<usize, EngineError> {
        Ok(match &call.prompt {
            Prompt::Text(text) => text.split_whitespace().count(),
            Prompt::Tokens(ids) => ids.len(),
            Prompt::Chat(messages) if messages[0].content == "no template" => {
                return Err(EngineError::Template { reason: "the model has none".into() });
            }
            Prompt::Chat(messages) => messages.iter().map(|message| message.content.split_whitespace().count()).sum(),
        })
    }
}

/// Counts a session as open while it lives.
struct OpenSession(watch::Sender<usize>);

impl OpenSession {
    fn new(open: &watch::Sender<usize>) -> Self {
        open.send_modify(|open| *open += 1);
        Self(open.clone())
    }
}

impl Drop for OpenSession {
    fn drop(&mut self) {
        self.0.send_modify(|open| *open -= 1);
    }
}

struct Words;

impl Vocabulary for Words {
    fn token_bytes(&self, id: u32) -> Vec<u8> {
        format!("<{id}>").into_bytes()
    }
}

impl Engine for MockEngine {
    fn health(&self) -> BoxFuture<'_, PartHealth> {
        async { PartHealth { ok: self.healthy, detail: "mock".into() } }.boxed()
    }

    fn models(&self) -> BoxFuture<'_, Vec<ServedModel>> {
        async { self.models.clone() }.boxed()
    }

    fn prepare(&self, call: GenerateCall) -> BoxFuture<'_, Result<Prepared, EngineError>> {
        async move {
            self.calls.lock().unwrap().push(call.clone());
            assert!(self.models.iter().any(|model| model.hash == call.model));
            let prompt_tokens = Self::prompt_tokens(&call)?;
            let max_tokens = call.max_tokens.unwrap_or(crate::http::DEFAULT_MAX_TOKENS.min(CONTEXT));
            if prompt_tokens == 0 {
                return Err(GenerateError::EmptyPrompt.into());
            }
            if call.max_tokens.is_some() && prompt_tokens + max_tokens as usize > CONTEXT as usize {
                return Err(GenerateError::TooLong { prompt_tokens, max_tokens, context_tokens: CONTEXT }.into());
            }
            let GenerateCall { sampling, stop, logprobs, region, .. } = call;
            let request = Request { prompt: vec![0; prompt_tokens], max_tokens, sampling, stop, logprobs };
            Ok(Prepared { session: SessionId::random(), request, region, vocabulary: Arc::new(Words) })
        }
        .boxed()
    }

    fn start(&self, prepared: Prepared) -> BoxFuture<'_, Result<Generation, EngineError>> {
        async move {
            self.started.fetch_add(1, Ordering::SeqCst);
            let Prepared { session, request: Request { prompt, max_tokens, logprobs, .. }, .. } = prepared;
            let prompt_tokens = prompt.len();
            let mut route = self.models[0].offers.clone();
            route.sort_by_key(|offer| offer.span);
            let usage = |tokens| Usage { prompt_tokens: prompt_tokens as u32, completion_tokens: tokens };
            let account = |hop: &Offer, tokens: u32| Account {
                node: Some(hop.node),
                span: hop.span,
                tokens: u64::from(tokens) + prompt_tokens as u64 - 1,
                counted: u64::from(tokens) + prompt_tokens as u64 - 1,
                compute: Duration::from_millis(7),
                exact: true,
                receipts: Vec::new(),
            };
            let finish = |tokens: u32, reason| Finish {
                session,
                reason,
                tail: self.tail.to_owned(),
                usage: usage(tokens),
                accounts: route.iter().map(|hop| account(hop, tokens)).collect(),
                time_to_first_token: Duration::from_millis(1),
                decode_time: Duration::from_millis(1),
            };
            let (mut script, mut index) = (Vec::new(), 0);
            let mut reason = FinishReason::Stop;
            for step in &self.steps {
                if index == max_tokens {
                    reason = FinishReason::Length;
                    break;
                }
                script.push(match step {
                    Step::Wait(go) => Err(go.clone()),
                    Step::Fail(error) => Ok(Err(error.clone())),
                    Step::Say(text) => {
                        let logprobs = logprobs.map(|top| {
                            (-0.5, (0..top).map(|id| TokenLogprob { id: id.into(), logprob: -1.0 }).collect())
                        });
                        index += 1;
                        let token =
                            TokenEvent { id: 100 + index, text: (*text).to_owned(), index: index - 1, logprobs };
                        Ok(Ok(Event::Token(token)))
                    }
                });
            }
            script.push(Ok(Ok(Event::Done(finish(index, reason)))));
            let open = Arc::new(OpenSession::new(&self.open));
            let cancel = CancellationToken::new();
            let said = Arc::new(AtomicU32::new(0));
            let count = said.clone();
            let (mut done, prompt) = (finish(0, FinishReason::Cancelled), prompt_tokens as u64);
            // What a cancelled session ends with: the hops account for the tokens so far.
            let left = stream::once(async move {
                done.usage.completion_tokens = said.load(Ordering::SeqCst);
                let ran = u64::from(done.usage.completion_tokens) + prompt - 1;
                for account in &mut done.accounts {
                    (account.tokens, account.counted) = (ran, ran);
                }
                Ok(Event::Done(done))
            });
            let events = stream::iter(script).filter_map(move |step| {
                let open = open.clone();
                if let Ok(Ok(Event::Token(_))) = &step {
                    count.fetch_add(1, Ordering::SeqCst);
                }
                async move {
                    let _open = open;
                    match step {
                        Ok(event) => Some(event),
                        Err(go) => {
                            go.cancelled().await;
                            None
                        }
                    }
                }
            });
            Ok(Generation { events: events.take_until(cancel.clone().cancelled_owned()).chain(left).boxed(), cancel })
        }
        .boxed()
    }
}

/// A node that is lost on the way.
pub(super) fn lost() -> GenerateError {
    let span = "10..20".parse().unwrap();
    HopError::PeerLost { node: NodeId::random(), span, reason: "silent for 250 ms".into() }.into()
}
