//! Who is served next. Pure: no device, no thread.

use std::{
    collections::{HashSet, VecDeque},
    ops::Range,
};

use super::{
    job::{LogitsJob, Piece, Reply, StepJob},
    line::{Line, Review},
    prefix::PageKey,
};

/// Most rows in one product with the output matrix: beyond it the weights are used often enough for each time they are
/// read, and a longer batch would only delay the next.
pub(super) const MAX_LOGITS_ROWS: usize = 64;

/// What the device does next.
#[derive(Debug)]
pub(super) enum Work {
    /// Logits of several activations in one product.
    Logits(Vec<LogitsJob>),
    /// Rows of different sessions over the same layers in one forward.
    Steps(Vec<Piece>),
}

/// Jobs that wait. Logits and steps take turns; within each, sessions do.
#[derive(Debug)]
pub(super) struct Queue {
    logits: VecDeque<LogitsJob>,
    steps: Line<StepJob>,
    step_tokens: usize,
    turn: Turn,
}

#[derive(Clone, Copy, Debug)]
enum Turn {
    Logits,
    Steps,
}

impl Queue {
    /// A queue whose forwards have at most `step_tokens` rows.
    pub(super) fn new(step_tokens: usize) -> Self {
        Self { logits: VecDeque::new(), steps: Line::default(), step_tokens, turn: Turn::Logits }
    }

    /// Jobs that wait, those of ended sessions included until their turn.
    pub(super) fn waiting(&self) -> usize {
        self.logits.len() + self.steps.waiting()
    }

    pub(super) fn push_step(&mut self, session: u64, job: StepJob) {
        self.steps.push(session, job);
    }

    /// Puts a step back that was computed in part.
    pub(super) fn put_back(&mut self, session: u64, job: StepJob) {
        self.steps.put_back(session, job);
    }

    pub(super) fn push_logits(&mut self, job: LogitsJob) {
        self.logits.push_back(job);
    }

    /// Passes over what is in shared pages; the steps that need nothing more. Steps of ended sessions are dropped.
    pub(super) fn skip(&mut self) -> Vec<Reply> {
        let mut done = vec![];
        self.steps.review(|mut job| {
            let Some(seat) = job.seat() else { return Review::Gone };
            job.skip(&seat);
            if job.is_done() {
                done.push(job.finish());
                return Review::Done;
            }
            Review::Keep(job)
        });
        done
    }

    /// Takes the work whose turn it is.
    pub(super) fn next(&mut self) -> Option<Work> {
        for _ in 0..2 {
            let (work, turn) = match self.turn {
                Turn::Logits => (self.take_logits(), Turn::Steps),
                Turn::Steps => (self.take_steps(), Turn::Logits),
            };
            self.turn = turn;
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
        while let Some(job) = self.logits.pop_front_if(|job| rows + job.hidden.tokens() <= MAX_LOGITS_ROWS) {
            rows += job.hidden.tokens();
            batch.push(job);
        }
        Some(Work::Logits(batch))
    }

    /// Rows over the layers of the first who is asked. Of sessions with the same prompt one computes a page and the
    /// others wait for it: it takes them no longer.
    fn take_steps(&mut self) -> Option<Work> {
        let mut layers: Option<Range<usize>> = None;
        let mut computed: HashSet<PageKey> = HashSet::new();
        let taken = self.steps.take(self.step_tokens, |job| {
            let Some(seat) = job.seat() else { return false };
            if layers.as_ref().is_some_and(|layers| *layers != seat.layers) {
                return false;
            }
            if let Some(key) = job.could_skip(&seat)
                && !computed.insert(key)
            {
                return false;
            }
            layers.get_or_insert_with(|| seat.layers.clone());
            true
        });
        let pieces: Vec<Piece> = taken
            .into_iter()
            .filter_map(|(job, rows)| {
                // Gone since it was asked, it is dropped here, which closes it.
                let seat = job.seat()?;
                Some(Piece { seat, job, rows })
            })
            .collect();
        (!pieces.is_empty()).then_some(Work::Steps(pieces))
    }
}
