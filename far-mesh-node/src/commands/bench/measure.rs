//! Tokens a second of a hop over all layers, wherever its layers are.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use far_mesh_core::{
    hop::{Done, Head, Hop, HopError, HopSession, Input, OpenSession, Rows, Step},
    id::{ModelHash, SessionId},
    session::DEFAULT_CHUNK_TOKENS,
    shard::Info,
};
use tokio::sync::Barrier;

/// Positions of the prompt that prefill is measured with.
pub(super) const PREFILL_TOKENS: usize = 512;
/// Positions before the first decoded token of a measurement.
const PROMPT_TOKENS: usize = 16;
/// Decoded tokens of a measurement.
const DECODE_TOKENS: usize = 96;
/// Chunks of a prompt on their way at once.
const CHUNKS_AHEAD: usize = 4;

/// A route to measure.
#[derive(Clone)]
pub(super) struct Subject {
    pub(super) hop: Arc<dyn Hop>,
    pub(super) head: Arc<dyn Head>,
    pub(super) model: ModelHash,
    pub(super) info: Info,
    /// Prompts so far: no two are alike, so none finds its keys and values computed for another.
    pub(super) prompts: Arc<AtomicU32>,
}

/// One measurement of each kind.
#[derive(Clone, Copy, Debug)]
pub(super) struct Speed {
    /// Tokens a second.
    pub(super) decode: f64,
    /// Time to the first token of a prompt of [`PREFILL_TOKENS`] never seen before.
    pub(super) first_token: Duration,
    /// The same prompt again in another session.
    pub(super) first_token_repeated: Duration,
}

impl Speed {
    /// Tokens of the prompt a second.
    pub(super) fn prefill(&self) -> f64 {
        PREFILL_TOKENS as f64 / self.first_token.as_secs_f64()
    }
}

impl Subject {
    /// One measurement of decoding and one of prefill.
    pub(super) async fn measure(&self) -> Result<Speed, HopError> {
        let (session, first) = self.begin().await?;
        let decode = self.decode(session, first).await?;
        let ids = self.made_up(PREFILL_TOKENS);
        let (first_token, first_token_repeated) = (self.first_token(&ids).await?, self.first_token(&ids).await?);
        Ok(Speed { decode, first_token, first_token_repeated })
    }

    /// `count` sessions that decode at once, from when the last has its prompt: tokens a second of all together.
    pub(super) async fn together(&self, count: usize) -> Result<f64, HopError> {
        let ready = Arc::new(Barrier::new(count + 1));
        let sessions: Vec<_> = (0..count)
            .map(|_| {
                let (subject, ready) = (self.clone(), Arc::clone(&ready));
                tokio::spawn(async move {
                    let begun = subject.begin().await;
                    ready.wait().await;
                    let (session, first) = begun?;
                    subject.decode(session, first).await
                })
            })
            .collect();
        ready.wait().await;
        let started = Instant::now();
        for session in futures::future::join_all(sessions).await {
            session.map_err(|_| HopError::Closed)??;
        }
        Ok((count * DECODE_TOKENS) as f64 / started.elapsed().as_secs_f64())
    }

    /// A session that has read its prompt, and the token after it.
    async fn begin(&self) -> Result<(Box<dyn HopSession>, u32), HopError> {
        let mut session = self.open(PROMPT_TOKENS + DECODE_TOKENS).await?;
        let (_, first) = self.prompt(session.as_mut(), &self.made_up(PROMPT_TOKENS)).await?;
        Ok((session, first))
    }

    async fn decode(&self, mut session: Box<dyn HopSession>, first: u32) -> Result<f64, HopError> {
        let (started, mut next) = (Instant::now(), first);
        for at in 0..DECODE_TOKENS {
            let step = Step {
                seq: 1 + at as u64,
                position: (PROMPT_TOKENS + at) as u32,
                input: Input::Tokens(vec![next]),
                output: Rows::Last,
            };
            session.submit(step).await?;
            next = self.likeliest(session.next().await?).await?;
        }
        let rate = DECODE_TOKENS as f64 / started.elapsed().as_secs_f64();
        session.close().await?;
        Ok(rate)
    }

    async fn first_token(&self, ids: &[u32]) -> Result<Duration, HopError> {
        let mut session = self.open(ids.len()).await?;
        let (time, _) = self.prompt(session.as_mut(), ids).await?;
        session.close().await?;
        Ok(time)
    }

    async fn open(&self, context: usize) -> Result<Box<dyn HopSession>, HopError> {
        let request = OpenSession {
            session: SessionId::random(),
            model: self.model,
            span: self.hop.span(),
            dtype: self.info.dtype,
            context_tokens: context as u32,
        };
        self.hop.open(request).await
    }

    /// A prompt like no other.
    fn made_up(&self, tokens: usize) -> Vec<u32> {
        let vocabulary = self.info.vocab as u32;
        let salt = self.prompts.fetch_add(1, Ordering::Relaxed).wrapping_mul(31).wrapping_add(13);
        (0..tokens as u32).map(|at| at.wrapping_mul(7919).wrapping_add(salt) % vocabulary).collect()
    }

    /// Runs a prompt in chunks; the time it took and the token after it.
    async fn prompt(&self, session: &mut dyn HopSession, ids: &[u32]) -> Result<(Duration, u32), HopError> {
        let chunks: Vec<&[u32]> = ids.chunks(DEFAULT_CHUNK_TOKENS).collect();
        let started = Instant::now();
        let (mut position, mut last) = (0, None);
        for (at, chunk) in chunks.iter().enumerate() {
            let output = if at + 1 == chunks.len() { Rows::Last } else { Rows::None };
            session.submit(Step { seq: at as u64, position, input: Input::Tokens(chunk.to_vec()), output }).await?;
            position += chunk.len() as u32;
            if at >= CHUNKS_AHEAD {
                session.next().await?;
            }
        }
        for _ in 0..chunks.len().min(CHUNKS_AHEAD) {
            last = Some(session.next().await?);
        }
        let next = self.likeliest(last.ok_or(HopError::Closed)?).await?;
        Ok((started.elapsed(), next))
    }

    async fn likeliest(&self, done: Done) -> Result<u32, HopError> {
        let logits = self.head.logits(done.output.ok_or(HopError::Closed)?).await?;
        let best = logits.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1));
        Ok(best.map_or(0, |(id, _)| id as u32))
    }
}

/// The middle one; of an even number the lower.
pub(super) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len().saturating_sub(1) / 2).copied().unwrap_or(0.0)
}
