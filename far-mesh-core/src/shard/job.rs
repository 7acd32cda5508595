//! Work that waits for the device.

use std::{
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

use bytes::Bytes;
use tokio::sync::oneshot;

use super::{device::Ticket, line, prefix::PageKey, seat::Seat};
use crate::{
    activation::Activation,
    hop::{Done, HopError, Input, Rows, Step},
};

/// A checked step of a session, which may be gone when its turn comes. It may be computed in several pieces.
#[derive(Debug)]
pub(super) struct StepJob {
    seat: Weak<Seat>,
    step: Step,
    /// Names of the pages that the step fills, from the first; none where the session shares no pages.
    keys: Vec<PageKey>,
    /// Rows that are done.
    done: usize,
    /// What came out so far of the rows that are wanted.
    output: Vec<Activation>,
    reply: oneshot::Sender<Result<Done, HopError>>,
    ticket: Ticket,
}

/// Some rows of a step, for the next forward.
#[derive(Debug)]
pub(super) struct Piece {
    pub(super) seat: Arc<Seat>,
    pub(super) job: StepJob,
    /// How many of the rows that are not done.
    pub(super) rows: usize,
}

/// Last hidden states somebody wants logits of.
#[derive(Debug)]
pub(super) struct LogitsJob {
    pub(super) hidden: Activation,
    pub(super) reply: oneshot::Sender<Result<Vec<f32>, HopError>>,
    #[expect(dead_code, reason = "what counts is when it is dropped")]
    pub(super) ticket: Ticket,
}

/// A result and who waits for it.
#[derive(Debug)]
pub(super) enum Reply {
    Step(oneshot::Sender<Result<Done, HopError>>, Result<Done, HopError>),
    Logits(oneshot::Sender<Result<Vec<f32>, HopError>>, Result<Vec<f32>, HopError>),
}

impl StepJob {
    pub(super) fn new(
        seat: &Arc<Seat>,
        step: Step,
        keys: Vec<PageKey>,
        reply: oneshot::Sender<Result<Done, HopError>>,
        ticket: Ticket,
    ) -> Self {
        Self { seat: Arc::downgrade(seat), step, keys, done: 0, output: vec![], reply, ticket }
    }

    /// The session, unless it is over.
    pub(super) fn seat(&self) -> Option<Arc<Seat>> {
        self.seat.upgrade().filter(|seat| !seat.has_ended())
    }

    /// Passes over rows in shared pages, where nobody wants what comes out of them or where that is known. Called before
    /// each piece, when all steps before this one are done: pages may have been shared since the last.
    pub(super) fn skip(&mut self, seat: &Seat) {
        while let Some((key, at, rows)) = self.next_page(seat) {
            let output = match self.step.output {
                Rows::All => match seat.output_of(&key).and_then(|page| slice(&page, page.tokens() - rows, rows)) {
                    None => return,
                    known => known,
                },
                Rows::None | Rows::Last => None,
            };
            if !seat.lease().attach(at, key) {
                return;
            }
            self.output.extend(output);
            self.done += rows;
            seat.book(rows, Duration::ZERO);
        }
    }

    /// The name of the page whose rows are next, its number, and how many of its rows are not done; `None` where the
    /// step does not fill it or somebody wants a row of it that only computing gives.
    fn next_page(&self, seat: &Seat) -> Option<(PageKey, usize, usize)> {
        let start = self.step.position as usize;
        let page_tokens = seat.page_tokens;
        let at = (start + self.done) / page_tokens;
        let key = *self.keys.get(at - start / page_tokens)?;
        let end = (at + 1) * page_tokens - start;
        let is_last_wanted = self.step.output == Rows::Last && end == self.step.input.tokens();
        (!is_last_wanted).then_some((key, at, end - self.done))
    }

    /// The page that may be passed over once somebody else has computed it.
    pub(super) fn could_skip(&self, seat: &Seat) -> Option<PageKey> {
        let (key, ..) = self.next_page(seat)?;
        (self.step.output != Rows::All).then_some(key)
    }

    /// How long it has waited for its first rows to run; `None` where some ran.
    pub(super) fn waited(&self, now: Instant) -> Option<Duration> {
        (self.done == 0).then(|| self.ticket.waited(now))
    }

    /// Whether all rows are done.
    pub(super) fn is_done(&self) -> bool {
        self.done == self.step.input.tokens()
    }

    /// The result of a step that is done.
    pub(super) fn finish(self) -> Reply {
        let output = match self.output.len() {
            0 | 1 => Ok(self.output.into_iter().next()),
            _ => join(&self.output).map(Some),
        };
        let done = output.map(|output| Done { seq: self.step.seq, output });
        Reply::Step(self.reply, done)
    }

    /// Ends the session with an error.
    pub(super) fn fail(self, seat: &Seat, error: HopError) -> Reply {
        seat.end();
        Reply::Step(self.reply, Err(error))
    }
}

impl line::Rows for StepJob {
    fn rows(&self) -> usize {
        self.step.input.tokens() - self.done
    }
}

impl Piece {
    /// Position of its first row.
    pub(super) fn position(&self) -> usize {
        self.job.step.position as usize + self.job.done
    }

    /// What goes in, where it is not the whole step.
    pub(super) fn part(&self) -> Option<Input> {
        let whole = &self.job.step.input;
        if self.rows == whole.tokens() {
            return None;
        }
        match whole {
            Input::Tokens(ids) => Some(Input::Tokens(ids[self.job.done..][..self.rows].to_vec())),
            Input::Activation(rows) => slice(rows, self.job.done, self.rows).map(Input::Activation),
        }
    }

    /// What goes in when it is the whole step.
    pub(super) fn whole(&self) -> &Input {
        &self.job.step.input
    }

    /// Which rows of the piece are wanted.
    pub(super) fn output(&self) -> Rows {
        match self.job.step.output {
            Rows::Last if self.job.done + self.rows < self.job.step.input.tokens() => Rows::None,
            output => output,
        }
    }

    /// Takes what came out. Pages that are full now are shared.
    pub(super) fn advance(mut self, output: Option<Activation>, compute: std::time::Duration) -> (Arc<Seat>, StepJob) {
        let Self { seat, job, rows } = &mut self;
        let before = job.done;
        job.done += *rows;
        job.output.extend(output);
        seat.book(*rows, compute);
        if !job.keys.is_empty() {
            let start = job.step.position as usize;
            let first = start / seat.page_tokens;
            let full = (start + before) / seat.page_tokens..(start + job.done) / seat.page_tokens;
            let mut lease = seat.lease();
            for at in full {
                if let Some(key) = job.keys.get(at - first) {
                    lease.publish(at, *key);
                }
            }
            drop(lease);
            if job.is_done() && job.step.output == Rows::All {
                job.keep_output(seat);
            }
        }
        (self.seat, self.job)
    }
}

impl StepJob {
    /// Keeps what came out of the whole pages of a step, for the next that asks.
    fn keep_output(&mut self, seat: &Seat) {
        let Ok(whole) = join(&self.output) else { return };
        let start = self.step.position as usize;
        let first = start / seat.page_tokens;
        for (at, key) in self.keys.iter().enumerate() {
            // A page that began in an earlier step is not whole here.
            if let Some(row) = ((first + at) * seat.page_tokens).checked_sub(start)
                && let Some(rows) = slice(&whole, row, seat.page_tokens)
            {
                seat.keep_output(*key, &rows);
            }
        }
        self.output = vec![whole];
    }
}

impl Reply {
    /// Whether somebody goes on with it: chooses a token, or asks for its logits.
    pub(super) fn is_followed(&self) -> bool {
        match self {
            Self::Step(_, Ok(done)) => done.output.is_some(),
            Self::Logits(_, Ok(_)) => true,
            Self::Step(_, Err(_)) | Self::Logits(_, Err(_)) => false,
        }
    }

    /// Answers; nobody may be waiting any more.
    pub(super) fn send(self) {
        match self {
            Self::Step(to, result) => drop(to.send(result)),
            Self::Logits(to, result) => drop(to.send(result)),
        }
    }
}

/// Rows `first..first + rows`, which share the memory of all.
fn slice(all: &Activation, first: usize, rows: usize) -> Option<Activation> {
    let width = all.hidden() * all.dtype().bytes();
    let bytes = first * width..(first + rows) * width;
    if bytes.end > all.bytes().len() {
        return None;
    }
    Activation::new(rows, all.hidden(), all.dtype(), all.bytes().slice(bytes)).ok()
}

/// Activations one above the other.
fn join(parts: &[Activation]) -> Result<Activation, HopError> {
    let [first, rest @ ..] = parts else {
        return Err(HopError::Device { reason: "a step has no result".into() });
    };
    if rest.is_empty() {
        return Ok(first.clone());
    }
    let rows = parts.iter().map(Activation::tokens).sum();
    let bytes = parts.iter().map(|part| part.bytes().as_ref()).collect::<Vec<&[u8]>>().concat();
    Activation::new(rows, first.hidden(), first.dtype(), Bytes::from(bytes))
        .map_err(|error| HopError::Device { reason: error.to_string() })
}
