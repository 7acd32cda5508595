//! Who is served next. Pure: no device, no thread.

use std::{
    collections::VecDeque,
    sync::{Arc, Weak},
};

use tokio::sync::oneshot;

use super::{device::Ticket, seat::Seat};
use crate::{
    activation::Activation,
    hop::{Done, HopError, Step},
};

/// Most sessions in one forward, and most rows in one product with the output matrix: beyond it the weights are used
/// often enough for each time they are read, and a longer batch would only delay the next.
pub(super) const MAX_BATCH_ROWS: usize = 64;

/// A checked step of a session, which may be gone when its turn comes.
#[derive(Debug)]
pub(super) struct StepJob {
    pub(super) number: u64,
    pub(super) seat: Weak<Seat>,
    pub(super) step: Step,
    pub(super) reply: oneshot::Sender<Result<Done, HopError>>,
    #[expect(dead_code, reason = "what counts is when it is dropped")]
    pub(super) ticket: Ticket,
}

/// Last hidden states somebody wants logits of.
#[derive(Debug)]
pub(super) struct LogitsJob {
    pub(super) hidden: Activation,
    pub(super) reply: oneshot::Sender<Result<Vec<f32>, HopError>>,
    #[expect(dead_code, reason = "what counts is when it is dropped")]
    pub(super) ticket: Ticket,
}

/// What the device does next.
#[derive(Debug)]
pub(super) enum Work {
    /// Logits of several activations in one product.
    Logits(Vec<LogitsJob>),
    /// Steps of different sessions over the same layers in one forward.
    Steps(Vec<(Arc<Seat>, StepJob)>),
}

/// Jobs that wait. Logits, steps of one position and longer steps take turns; within each, sessions do.
#[derive(Debug, Default)]
pub(super) struct Queue {
    logits: VecDeque<LogitsJob>,
    /// Steps of each session in order; the session whose turn it is comes first. Invariant: none is without a step.
    sessions: VecDeque<(u64, VecDeque<StepJob>)>,
    waiting: usize,
    turn: Turn,
}

#[derive(Clone, Copy, Debug, Default)]
enum Turn {
    #[default]
    Logits,
    OnePosition,
    Chunk,
}

impl Queue {
    /// Jobs that wait, those of ended sessions included until their turn.
    pub(super) fn waiting(&self) -> usize {
        self.waiting
    }

    pub(super) fn push_step(&mut self, job: StepJob) {
        self.waiting += 1;
        match self.sessions.iter_mut().find(|(number, _)| *number == job.number) {
            Some((_, jobs)) => jobs.push_back(job),
            None => self.sessions.push_back((job.number, VecDeque::from([job]))),
        }
    }

    pub(super) fn push_logits(&mut self, job: LogitsJob) {
        self.waiting += 1;
        self.logits.push_back(job);
    }

    /// Takes the work whose turn it is. Steps of ended sessions are dropped on the way.
    pub(super) fn next(&mut self) -> Option<Work> {
        for _ in 0..3 {
            let work = match self.turn {
                Turn::Logits => self.take_logits(),
                Turn::OnePosition => self.take_steps(MAX_BATCH_ROWS, |rows| rows == 1),
                Turn::Chunk => self.take_steps(1, |rows| rows > 1),
            };
            self.turn = match self.turn {
                Turn::Logits => Turn::OnePosition,
                Turn::OnePosition => Turn::Chunk,
                Turn::Chunk => Turn::Logits,
            };
            if work.is_some() {
                return work;
            }
        }
        None
    }

    /// The oldest job, and those after it while all fit one product.
    fn take_logits(&mut self) -> Option<Work> {
        let mut batch = vec![self.logits.pop_front()?];
        let mut rows = batch[0].hidden.tokens();
        while let Some(job) = self.logits.pop_front_if(|job| rows + job.hidden.tokens() <= MAX_BATCH_ROWS) {
            rows += job.hidden.tokens();
            batch.push(job);
        }
        self.waiting -= batch.len();
        Some(Work::Logits(batch))
    }

    /// The first step of each of at most `most` sessions in turn, where its rows are `wanted` and its layers are those
    /// of the first; who is served goes to the end of the line.
    fn take_steps(&mut self, most: usize, wanted: impl Fn(usize) -> bool) -> Option<Work> {
        let mut batch: Vec<(Arc<Seat>, StepJob)> = Vec::new();
        let mut served = Vec::new();
        for (number, mut jobs) in std::mem::take(&mut self.sessions) {
            let seat = jobs.front().and_then(|job| job.seat.upgrade()).filter(|seat| !seat.has_ended());
            let Some(seat) = seat else {
                self.waiting -= jobs.len();
                continue;
            };
            let same_layers = batch.first().is_none_or(|(first, _)| first.layers == seat.layers);
            let free = batch.len() < most && same_layers;
            match jobs.pop_front_if(|job| free && wanted(job.step.input.tokens())) {
                Some(job) => {
                    batch.push((seat, job));
                    served.extend((!jobs.is_empty()).then_some((number, jobs)));
                }
                None => self.sessions.push_back((number, jobs)),
            }
        }
        self.waiting -= batch.len();
        self.sessions.extend(served);
        (!batch.is_empty()).then_some(Work::Steps(batch))
    }
}
