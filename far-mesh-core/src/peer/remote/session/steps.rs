//! Steps on their way: what is sent of them, and what comes back.

use std::task::{Context, Poll};

use tokio::time::{Instant, sleep_until};

use super::{RemoteSession, pace};
use crate::{
    hop::{Done, HopError, Input, Rows, Step},
    limits::{MAX_CHUNK_TOKENS, MAX_HIDDEN, MAX_STEPS_IN_FLIGHT},
    peer::{
        remote::history::History,
        wire::{Frame, Link, LinkError},
    },
};

/// How often a session that can judge nobody looks whether it can now.
const PACE_STEPS: u64 = 16;

/// A step on its way.
#[derive(Debug)]
pub(super) struct Flight {
    pub(super) seq: u64,
    pub(super) tokens: usize,
    pub(super) output: Rows,
    pub(super) submitted: Instant,
}

impl Flight {
    /// Rows of its result.
    fn rows(&self) -> usize {
        match self.output {
            Rows::None => 0,
            Rows::Last => 1,
            Rows::All => self.tokens,
        }
    }
}

impl RemoteSession {
    /// Takes a step if it follows the one before. Nothing is sent yet.
    pub(super) fn queue(&mut self, step: Step) -> Result<(), HopError> {
        let bad = |reason| HopError::BadStep { reason };
        let tokens = step.input.tokens();
        if self.in_flight.len() + self.arrived.len() >= MAX_STEPS_IN_FLIGHT {
            return Err(bad(format!("{MAX_STEPS_IN_FLIGHT} steps are on their way: take one before the next")));
        }
        let (seq, position) = (self.history.len(), self.history.positions());
        if (step.seq, step.position as usize) != (seq, position) {
            return Err(bad(format!(
                "step {} at position {}, step {seq} at position {position} is due",
                step.seq, step.position
            )));
        }
        let (embeds, dtype) = (self.request.span.start() == 0, self.request.dtype);
        match &step.input {
            Input::Tokens(_) if !embeds => return Err(bad("token ids into a route that starts later".to_owned())),
            Input::Activation(_) if embeds => return Err(bad("hidden states into layer 0".to_owned())),
            Input::Activation(activation) if activation.dtype() != dtype => {
                return Err(bad(format!("activation of {:?} in a session of {dtype:?}", activation.dtype())));
            }
            _ => {}
        }
        if !(1..=MAX_CHUNK_TOKENS).contains(&tokens) {
            return Err(bad(format!("step of {tokens} tokens, must be 1 to {MAX_CHUNK_TOKENS}")));
        }
        let room = self.request.context_tokens;
        if position + tokens > room as usize {
            return Err(bad(format!("{tokens} tokens at position {position} pass the session's {room}")));
        }
        let flight = Flight { seq, tokens, output: step.output, submitted: Instant::now() };
        // The last hop alone sends activations, and not before it has a step.
        if flight.rows() > self.most_rows {
            self.most_rows = flight.rows();
            self.bound_results();
        }
        if self.in_flight.is_empty()
            && tokens == 1
            && let Some(after) = self.pace.begin()
        {
            self.sample = Some(Box::pin(sleep_until(flight.submitted + after)));
        }
        self.in_flight.push_back(flight);
        self.receipts.sent(&step);
        self.history.push(step);
        Ok(())
    }

    /// Says how long the frames of the last hop may be.
    pub(super) fn bound_results(&mut self) {
        let bytes = self.most_rows * MAX_HIDDEN * self.request.dtype.bytes();
        if let Some(link) = self.places.last_mut().and_then(|last| last.link.as_mut()) {
            link.limit_payload(bytes);
        }
    }

    /// Checks an output against the step it belongs to; says what is wrong with it.
    pub(super) fn on_output(&mut self, done: Done) -> Result<(), String> {
        let Some(flight) = self.in_flight.front() else {
            return Err(format!("it sent step {}, which nobody asked for", done.seq));
        };
        let due = flight.rows();
        let rows = done.output.as_ref().map_or(0, |activation| activation.tokens());
        if done.seq != flight.seq || rows != due {
            let seq = flight.seq;
            return Err(format!("it sent {rows} rows of step {} where {due} of step {seq} were due", done.seq));
        }
        if let Some(activation) = &done.output {
            let (dtype, hidden) = (self.request.dtype, self.hidden.unwrap_or(activation.hidden()));
            if (activation.dtype(), activation.hidden()) != (dtype, hidden) {
                let (got, width) = (activation.dtype(), activation.hidden());
                return Err(format!("it sent {got:?} of width {width}, the session has {dtype:?} of width {hidden}"));
            }
            if !activation.is_finite() {
                return Err(format!("the result of step {} has values that are infinite or no numbers", done.seq));
            }
            self.hidden = Some(hidden);
        }
        self.receipts.received(self.done_tokens as u32, flight.tokens, done.output.as_ref());
        self.done_tokens += flight.tokens as u64;
        self.answered += 1;
        let (tokens, took) = (flight.tokens, flight.submitted.elapsed());
        self.in_flight.pop_front();
        self.sample = None;
        // With others on their way, or after a repair, its time is not its own.
        if tokens == 1 && self.in_flight.is_empty() && !self.mending.is_catching_up() {
            // The way to a node that was met for this session is measured while it runs.
            if self.pace.is_blind() && self.answered.is_multiple_of(PACE_STEPS) {
                self.pace = pace(&self.route, &self.places, &self.request);
            }
            let slow = self.pace.end(took);
            self.suspect(slow);
        }
        self.arrived.push_back(done);
        self.watch.progress(Instant::now());
        self.mending.progress();
        Ok(())
    }

    /// Sends the first hop what it was not sent yet. True when it was lost.
    pub(super) fn poll_steps(&mut self, cx: &mut Context<'_>) -> Result<bool, HopError> {
        if self.is_switching() {
            return Ok(false);
        }
        let sent = match self.places.first_mut().and_then(|first| first.link.as_mut()) {
            Some(link) => send_steps(link, &self.history, &mut self.unsent, cx),
            None => Ok(()),
        };
        match sent {
            Ok(()) => Ok(false),
            Err(error) => self.lose(0, self.places[0].hop.lost(error.to_string())).map(|()| true),
        }
    }

    /// Whether every step is with the first hop, as far as there is one.
    pub(super) fn poll_sent(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match self.places.first_mut().and_then(|first| first.link.as_mut()) {
            // An error is found at the next look at the links.
            Some(link) => link.poll_drain(cx).map(drop),
            None => Poll::Ready(()),
        }
    }
}

/// Queues and sends steps until all are on their way or the stream takes no more for now.
fn send_steps(link: &mut Link, history: &History, unsent: &mut u64, cx: &mut Context<'_>) -> Result<(), LinkError> {
    while *unsent < history.len() {
        while link.has_room()
            && let Some(step) = history.step(*unsent)
        {
            link.queue(Frame::Step(step))?;
            *unsent += 1;
        }
        match link.poll_drain(cx) {
            Poll::Ready(sent) => sent?,
            Poll::Pending => return Ok(()),
        }
    }
    match link.poll_drain(cx) {
        Poll::Ready(Err(error)) => Err(error),
        _ => Ok(()),
    }
}
