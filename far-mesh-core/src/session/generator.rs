//! What starts generations: a model's tokenizer and head, and what its sessions have in common.

use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use futures::{Stream, stream::BoxStream};
use tokio_util::sync::CancellationToken;

use super::{
    Event, GenerateError, Request,
    run::{Parts, Run},
};
use crate::{
    activation::Dtype,
    hop::{Head, Hop, HopError},
    id::{ModelHash, SessionId, Span},
    limits::MAX_CHUNK_TOKENS,
    token::Tokenizer,
};

/// Positions of a prompt in one step, where nothing else is said: enough to use a device well, few enough that a prompt
/// of some hundred tokens keeps every hop of a route busy at once.
pub const DEFAULT_CHUNK_TOKENS: usize = 64;

/// What a [`Generator`] knows of its model.
#[derive(Clone, Copy, Debug)]
pub struct GeneratorConfig {
    /// The model.
    pub model: ModelHash,
    /// Its decoder layers.
    pub layers: u32,
    /// Most positions of a session, prompt and output together.
    pub context_tokens: u32,
    /// Element type of activations on the route.
    pub dtype: Dtype,
    /// Positions of a prompt in one step, 1 to [`MAX_CHUNK_TOKENS`].
    pub chunk_tokens: usize,
}

/// Starts generations of one model, on any route that covers its layers.
#[derive(Clone)]
pub struct Generator {
    tokenizer: Arc<Tokenizer>,
    head: Arc<dyn Head>,
    config: GeneratorConfig,
    span: Span,
}

/// A running generation: the stream of its events.
///
/// It works while it is polled and owns all it uses, so dropping it cancels the session on every hop. At most one step
/// runs ahead of what was read: a slow reader slows its own session and no other. After an error it has ended.
pub struct Generation {
    session: SessionId,
    cancel: CancellationToken,
    events: BoxStream<'static, Result<Event, GenerateError>>,
}

impl Generator {
    /// A generator for a model.
    ///
    /// # Errors
    /// [`GenerateError::Parameter`] when the configuration is out of range.
    pub fn new(tokenizer: Arc<Tokenizer>, head: Arc<dyn Head>, config: GeneratorConfig) -> Result<Self, GenerateError> {
        let span = Span::new(0, config.layers).map_err(|_| GenerateError::Parameter {
            name: "layers",
            value: config.layers.to_string(),
            range: "at least 1",
        })?;
        if !(1..=MAX_CHUNK_TOKENS).contains(&config.chunk_tokens) {
            return Err(GenerateError::Parameter {
                name: "chunk_tokens",
                value: config.chunk_tokens.to_string(),
                range: "1 to 512",
            });
        }
        Ok(Self { tokenizer, head, config, span })
    }

    /// Starts a generation on `hop`, which covers all layers. Nothing happens until the result is polled.
    ///
    /// # Errors
    /// [`GenerateError`] when the request is out of range or `hop` does not cover the model.
    pub fn generate(&self, hop: Arc<dyn Hop>, request: Request) -> Result<Generation, GenerateError> {
        self.generate_as(SessionId::random(), hop, request)
    }

    /// As [`Generator::generate`], as the session that the caller names: one that nobody used before.
    ///
    /// # Errors
    /// As there.
    pub fn generate_as(
        &self,
        session: SessionId,
        hop: Arc<dyn Hop>,
        request: Request,
    ) -> Result<Generation, GenerateError> {
        let context_tokens = self.check(&request)?;
        if hop.span() != self.span {
            let reason = format!("it runs layers {}, the model has {}", hop.span(), self.span);
            return Err(HopError::Refused { reason }.into());
        }
        let open = crate::hop::OpenSession {
            session,
            model: self.config.model,
            span: self.span,
            dtype: self.config.dtype,
            context_tokens,
        };
        let parts = Parts {
            hop,
            head: self.head.clone(),
            tokenizer: self.tokenizer.clone(),
            open,
            chunk_tokens: self.config.chunk_tokens,
            cancel: CancellationToken::new(),
        };
        let cancel = parts.cancel.clone();
        Ok(Generation { session, cancel, events: Box::pin(Run::new(parts, request)?.into_events()) })
    }

    /// Checks a request, and gives the positions that its session may reach.
    ///
    /// # Errors
    /// [`GenerateError`] when it is out of range for the model.
    pub fn check(&self, request: &Request) -> Result<u32, GenerateError> {
        request.check(self.head.vocabulary(), self.config.context_tokens)
    }

    /// The model's tokenizer.
    pub fn tokenizer(&self) -> &Arc<Tokenizer> {
        &self.tokenizer
    }

    /// What the generator knows of its model.
    pub fn config(&self) -> &GeneratorConfig {
        &self.config
    }
}

impl Generation {
    /// The session that was opened for it.
    pub fn session(&self) -> SessionId {
        self.session
    }

    /// Ends the generation once cancelled: the step on its way is the last, and the hops account for what they did, which
    /// those of a dropped one cannot. Before the first token it changes nothing.
    pub fn canceller(&self) -> CancellationToken {
        self.cancel.clone()
    }
}

impl Stream for Generation {
    type Item = Result<Event, GenerateError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.events.as_mut().poll_next(context)
    }
}

impl fmt::Debug for Generator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Generator").field("config", &self.config).finish_non_exhaustive()
    }
}

impl fmt::Debug for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Generation").field("session", &self.session).finish_non_exhaustive()
    }
}
