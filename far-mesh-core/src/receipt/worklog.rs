//! What a hop notes of a session while it runs, to make receipts of.

use std::collections::VecDeque;

use super::{Cell, Committer, GapError, Work};
use crate::{
    activation::Activation,
    hop::Input,
    id::{ModelHash, NodeId, SessionId, Span},
    limits::MAX_RECEIPT_TOKENS,
};

/// A hop's notes on one session: the rows that came, the rows that went, and the works that follow from them.
///
/// Call [`took`](Self::took) when a step comes, [`gave`](Self::gave) when its result goes, and hand on what
/// [`full`](Self::full) gives after it: a work a cell.
#[derive(Clone, Debug)]
pub struct Worklog {
    /// What all works have; its cell, steps and commitments are set when one is made.
    model: ModelHash,
    session: SessionId,
    node: NodeId,
    witness: NodeId,
    span: Span,
    kernel_class: String,
    took: Committer,
    gave: Committer,
    /// Position after the last of each step, and its number, from the oldest whose cell has no work yet.
    steps: VecDeque<(u32, u64)>,
    /// The first position that no work tells of.
    told: u32,
}

impl Worklog {
    /// Begins the notes of `node` on a session. `witness` is its downstream neighbour.
    pub fn new(
        session: SessionId,
        model: ModelHash,
        node: NodeId,
        witness: NodeId,
        span: Span,
        kernel_class: String,
    ) -> Self {
        let (took, gave) = (Committer::new(session), Committer::new(session));
        Self { model, session, node, witness, span, kernel_class, took, gave, steps: VecDeque::new(), told: 0 }
    }

    /// What came: to be compared with what the upstream neighbour says it gave.
    pub fn received(&self) -> &Committer {
        &self.took
    }

    /// A step came.
    ///
    /// # Errors
    /// [`GapError`] when positions before it are missing.
    pub fn took(&mut self, position: u32, input: &Input) -> Result<(), GapError> {
        self.took.input(position, input)
    }

    /// The result of step `seq` over `tokens` positions goes; `output` are the rows of the last of them.
    ///
    /// # Errors
    /// [`GapError`] when positions before it are missing.
    pub fn gave(
        &mut self,
        seq: u64,
        position: u32,
        tokens: usize,
        output: Option<&Activation>,
    ) -> Result<(), GapError> {
        let before = self.gave.next();
        self.gave.output(position, tokens, output)?;
        if self.gave.next() > before {
            self.steps.push_back((self.gave.next(), seq));
        }
        Ok(())
    }

    /// The next full cell that was not told of, as a work to be signed.
    pub fn full(&mut self) -> Option<Work> {
        (self.gave.next() - self.told >= MAX_RECEIPT_TOKENS).then(|| self.tell(MAX_RECEIPT_TOKENS))?
    }

    /// At the end of the session: what no work tells of yet, a cell at a time, the last of them unfinished.
    pub fn rest(&mut self) -> Option<Work> {
        match self.gave.next() - self.told {
            0 => None,
            tokens => self.tell(tokens.min(MAX_RECEIPT_TOKENS)),
        }
    }

    fn tell(&mut self, tokens: u32) -> Option<Work> {
        let (position, end) = (self.told, self.told + tokens);
        let cell = Cell::of(position);
        let (input, output) = (self.took.at(cell, tokens)?, self.gave.at(cell, tokens)?);
        let step_of = |last: u32| self.steps.iter().find(|(after, _)| *after > last).map(|(_, seq)| *seq);
        let (first_seq, last_seq) = (step_of(position)?, step_of(end - 1)?);
        self.told = end;
        while self.steps.front().is_some_and(|(after, _)| *after <= end) {
            self.steps.pop_front();
        }
        Some(Work {
            session: self.session,
            model: self.model,
            node: self.node,
            witness: self.witness,
            span: self.span,
            kernel_class: self.kernel_class.clone(),
            first_seq,
            last_seq,
            position,
            tokens,
            input,
            output,
        })
    }
}
