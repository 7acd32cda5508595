//! How fast a span runs on this machine: what routes are planned with.

use std::{sync::Arc, time::Instant};

use crate::{
    activation::Activation,
    hop::{Hop, HopError, Input, OpenSession, Rows, Step},
    id::SessionId,
    shard::Info,
};

/// Positions of the trial's prompt: one chunk as coordinators send it.
const PROMPT_TOKENS: usize = 64;
/// Decode steps; the quickest counts, since others share the machine.
const DECODE_STEPS: usize = 8;

/// Measured time of a layer for one position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Speed {
    /// Nanoseconds when decoding.
    pub layer_time_ns: u32,
    /// Nanoseconds for a position of a prompt.
    pub prefill_layer_time_ns: u32,
}

/// Runs a short session through `hop`. It also warms caches and worker threads.
///
/// # Errors
/// What the hop says, [`HopError::Full`] when the arena is smaller than the trial.
pub async fn trial(hop: Arc<dyn Hop>, info: &Info) -> Result<Speed, HopError> {
    let open = OpenSession {
        session: SessionId::random(),
        model: info.hash,
        span: hop.span(),
        dtype: info.dtype,
        context_tokens: (PROMPT_TOKENS + DECODE_STEPS) as u32,
    };
    let layers = u64::from(hop.span().len());
    let mut session = hop.open(open).await?;
    let mut position = 0;
    let mut times = Vec::with_capacity(1 + DECODE_STEPS);
    for seq in 0..=DECODE_STEPS as u64 {
        let tokens = if seq == 0 { PROMPT_TOKENS } else { 1 };
        let started = Instant::now();
        let step = Step { seq, position, input: input(hop.as_ref(), info, tokens)?, output: Rows::Last };
        session.submit(step).await?;
        session.next().await?;
        times.push(started.elapsed());
        position += tokens as u32;
    }
    session.close().await?;
    let of = |time: std::time::Duration, tokens: usize| {
        let ns = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX) / layers / tokens as u64;
        u32::try_from(ns.max(1)).unwrap_or(u32::MAX)
    };
    let decode = times.iter().skip(1).min().copied().unwrap_or_default();
    Ok(Speed { layer_time_ns: of(decode, 1), prefill_layer_time_ns: of(times[0], PROMPT_TOKENS) })
}

fn input(hop: &dyn Hop, info: &Info, tokens: usize) -> Result<Input, HopError> {
    if hop.span().start() == 0 {
        return Ok(Input::Tokens(vec![0; tokens]));
    }
    // Values of the size that hidden states have; their time does not depend on them.
    let values = (0..tokens * info.hidden).map(|at| (at % 17) as f32 / 16.0 - 0.5).collect();
    let activation = Activation::from_f32(tokens, info.hidden, values)
        .map_err(|error| HopError::BadStep { reason: error.to_string() })?;
    Ok(Input::Activation(activation))
}
