//! One generation, from opening its session to closing it.
//!
//! ```text
//! Start -- open, prefill --> token --> Decode -- next step's hidden state --> token --> Decode ...
//!                              \-- the last --> Finish -- close --> Ended
//! ```
//!
//! Each call of `event` makes one event. A token's event is given out when the step after it is on its way but not yet
//! done, so the reader has it while the hops compute. The step after the last token is never run.

use std::{mem, sync::Arc, time::Duration};

use futures::{Stream, stream};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{
    Event, Finish, FinishReason, GenerateError, LogitsError, Request, Sampler, StopSplitter, TokenEvent, Usage,
    logprob::logprobs,
};
use crate::{
    activation::Activation,
    hop::{Done, Head, Hop, HopError, HopSession, Input, OpenSession, Rows, Step},
    limits::MAX_STEPS_IN_FLIGHT,
    token::{Detokenizer, Tokenizer},
};

/// What a run works with.
pub(super) struct Parts {
    pub(super) hop: Arc<dyn Hop>,
    pub(super) head: Arc<dyn Head>,
    pub(super) tokenizer: Arc<Tokenizer>,
    pub(super) open: OpenSession,
    pub(super) chunk_tokens: usize,
    /// No token is wanted any more.
    pub(super) cancel: CancellationToken,
}

/// A generation between two events.
pub(super) struct Run {
    parts: Parts,
    request: Request,
    phase: Phase,
    pipe: Option<Pipe>,
    sampler: Sampler,
    detokenizer: Detokenizer,
    stops: StopSplitter,
    generated: u32,
    times: Times,
}

/// What the next event comes from.
enum Phase {
    /// Opening and prefill.
    Start,
    /// A step of one token is on its way.
    Decode,
    /// The last token was given out.
    Finish(FinishReason),
    /// The last token could still be given out, then this happened.
    Fail(GenerateError),
    /// There is nothing more.
    Ended,
}

/// The open session and where it stands.
struct Pipe {
    session: Box<dyn HopSession>,
    /// Steps sent.
    sent: u64,
    /// Steps received.
    received: u64,
    /// Positions sent.
    position: u32,
}

struct Times {
    started: Instant,
    first: Option<Instant>,
    last: Instant,
}

impl Run {
    pub(super) fn new(parts: Parts, request: Request) -> Result<Self, GenerateError> {
        let now = Instant::now();
        Ok(Self {
            sampler: Sampler::new(request.sampling.clone(), &request.prompt)?,
            stops: StopSplitter::new(&request.stop)?,
            detokenizer: Detokenizer::new(parts.tokenizer.clone()),
            phase: Phase::Start,
            pipe: None,
            generated: 0,
            times: Times { started: now, first: None, last: now },
            parts,
            request,
        })
    }

    /// The events in order; nothing after an error.
    pub(super) fn into_events(self) -> impl Stream<Item = Result<Event, GenerateError>> + Send {
        // Dropping the stream drops the run wherever it waits, and with it the session: the hops cancel it.
        stream::unfold(Box::new(self), |mut run| async move {
            match run.event().await {
                Ok(event) => event.map(|event| (Ok(event), run)),
                Err(error) => {
                    (run.phase, run.pipe) = (Phase::Ended, None);
                    Some((Err(error), run))
                }
            }
        })
    }

    /// The next event. Not cancel-safe: a dropped call leaves the run ended, with its session still to be dropped.
    async fn event(&mut self) -> Result<Option<Event>, GenerateError> {
        match mem::replace(&mut self.phase, Phase::Ended) {
            Phase::Start => {
                self.open().await?;
                let hidden = self.prefill().await?;
                self.token(hidden).await.map(Some)
            }
            Phase::Decode => {
                let done = self.pipe()?.next().await?;
                if self.parts.cancel.is_cancelled() {
                    return self.finish(FinishReason::Cancelled).await.map(Some);
                }
                self.token(last_row(done)?).await.map(Some)
            }
            Phase::Finish(reason) => self.finish(reason).await.map(Some),
            Phase::Fail(error) => Err(error),
            Phase::Ended => Ok(None),
        }
    }

    /// A cancel here drops the opening: the hop frees what it had reserved.
    async fn open(&mut self) -> Result<(), GenerateError> {
        let session = self.parts.hop.open(self.parts.open.clone()).await?;
        self.pipe = Some(Pipe { session, sent: 0, received: 0, position: 0 });
        Ok(())
    }

    /// Sends the prompt in chunks, several at once so that no hop of a route waits for another, and gives the hidden
    /// state of its last position. A cancel here drops the session with the steps on their way.
    async fn prefill(&mut self) -> Result<Activation, GenerateError> {
        // Not needed after this.
        let prompt = mem::take(&mut self.request.prompt);
        let mut chunks = prompt.chunks(self.parts.chunk_tokens).peekable();
        let pipe = self.pipe()?;
        loop {
            while pipe.in_flight() < MAX_STEPS_IN_FLIGHT as u64
                && let Some(chunk) = chunks.next()
            {
                let rows = if chunks.peek().is_none() { Rows::Last } else { Rows::None };
                pipe.submit(chunk.to_vec(), rows).await?;
            }
            let done = pipe.next().await?;
            if pipe.in_flight() == 0 {
                return Ok(last_row(done)?);
            }
        }
    }

    /// Chooses a token, sends the step that follows it unless it is the last, and tells of it. A cancel here drops the
    /// session.
    async fn token(&mut self, hidden: Activation) -> Result<Event, GenerateError> {
        let mut logits = self.logits(hidden).await?;
        let index = self.generated;
        let raw = self.request.logprobs.map(|best| (best, logits.clone()));
        let id = self.sampler.sample(&mut logits).map_err(|source| GenerateError::Logits { index, source })?;
        let logprobs = raw.map(|(best, raw)| logprobs(&raw, id, best));
        self.generated += 1;
        self.times.last = Instant::now();
        self.times.first.get_or_insert(self.times.last);

        let mut text = String::new();
        self.phase = match self.end_of(id, &mut text) {
            Some(reason) => Phase::Finish(reason),
            // The token is certain whatever becomes of the next step, so an error waits until it was given out.
            None => match self.pipe()?.submit(vec![id], Rows::Last).await {
                Ok(()) => Phase::Decode,
                Err(error) => Phase::Fail(error.into()),
            },
        };
        Ok(Event::Token(TokenEvent { id, text, index, logprobs }))
    }

    /// A cancel here drops the head's work.
    async fn logits(&mut self, hidden: Activation) -> Result<Vec<f32>, GenerateError> {
        let (index, want) = (self.generated, self.parts.head.vocabulary());
        let logits = self.parts.head.logits(hidden).await?;
        if logits.len() != want {
            let source = LogitsError::Count { got: logits.len(), want };
            return Err(GenerateError::Logits { index, source });
        }
        Ok(logits)
    }

    /// Appends the text that is certain after `id`, and says whether and why the output ends with it.
    fn end_of(&mut self, id: u32, text: &mut String) -> Option<FinishReason> {
        if self.parts.tokenizer.is_end(id) {
            return Some(FinishReason::Stop);
        }
        let mut piece = String::new();
        self.detokenizer.push(id, &mut piece);
        if self.stops.push(&piece, text) {
            return Some(FinishReason::Stop);
        }
        (self.generated >= self.request.max_tokens).then_some(FinishReason::Length)
    }

    /// Closes the session. A cancel here drops it: the accounts are lost, the text is not.
    async fn finish(&mut self, reason: FinishReason) -> Result<Event, GenerateError> {
        let (mut rest, mut tail) = (String::new(), String::new());
        self.detokenizer.finish(&mut rest);
        let stopped = self.stops.push(&rest, &mut tail);
        self.stops.finish(&mut tail);
        let pipe = self.pipe.take().ok_or(HopError::Closed)?;
        let accounts = pipe.session.close().await?;
        let Times { started, first, last } = self.times;
        Ok(Event::Done(Finish {
            session: self.parts.open.session,
            reason: if stopped { FinishReason::Stop } else { reason },
            tail,
            usage: Usage {
                prompt_tokens: self.parts.open.context_tokens - self.request.max_tokens,
                completion_tokens: self.generated,
            },
            accounts,
            time_to_first_token: first.map_or(Duration::ZERO, |first| first - started),
            decode_time: first.map_or(Duration::ZERO, |first| last - first),
        }))
    }

    fn pipe(&mut self) -> Result<&mut Pipe, HopError> {
        self.pipe.as_mut().ok_or(HopError::Closed)
    }
}

impl Pipe {
    fn in_flight(&self) -> u64 {
        self.sent - self.received
    }

    async fn submit(&mut self, tokens: Vec<u32>, output: Rows) -> Result<(), HopError> {
        let step = Step { seq: self.sent, position: self.position, input: Input::Tokens(tokens), output };
        let positions = step.input.tokens() as u32;
        self.session.submit(step).await?;
        self.sent += 1;
        self.position += positions;
        Ok(())
    }

    async fn next(&mut self) -> Result<Done, HopError> {
        let done = self.session.next().await?;
        if done.seq != self.received {
            let reason = format!("result of step {} came where that of step {} was due", done.seq, self.received);
            return Err(HopError::BadStep { reason });
        }
        self.received += 1;
        Ok(done)
    }
}

/// The one row that was asked for.
fn last_row(done: Done) -> Result<Activation, HopError> {
    match done.output {
        Some(row) if row.tokens() == 1 => Ok(row),
        other => {
            let rows = other.map_or(0, |activation| activation.tokens());
            Err(HopError::BadStep { reason: format!("result of step {} has {rows} rows, asked for 1", done.seq) })
        }
    }
}
