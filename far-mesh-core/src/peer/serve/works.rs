//! Receipts at a hop: what it says of its own work, and the word of the hop before it that it signs.
//!
//! ```text
//! hop before --- Work (its signature) ---> this hop --- Receipt (both signatures) ---> coordinator
//! this hop   --- Work ---> hop behind it, or the coordinator
//! ```
//!
//! A work goes behind the results it tells of, on the same stream, so whoever gets it has seen them. Nothing here holds up
//! a step: works and receipts take the room that steps, outputs and answers leave.

use std::collections::VecDeque;

use libp2p::identity::Keypair;

use super::intake::Outcome;
use crate::{
    hop::Step,
    id::NodeId,
    limits::MAX_RECEIPT_TOKENS,
    peer::wire::Open,
    receipt::{GapError, Receipt, Signed, Work, Worklog},
};

/// Works of one cell that are signed for a neighbour: one, and the unfinished one, with room for an honest mistake.
const WORKS_A_CELL: u32 = 4;

/// A hop's works in one session, and the receipts it owes the coordinator.
#[derive(Debug)]
pub(super) struct Works {
    key: Keypair,
    /// `None` when it cannot be kept: then nothing is signed any more, and the work goes unpaid.
    log: Option<Worklog>,
    /// Steps whose results the coordinator had when this hop took over: a cell of such steps alone was another's work.
    answered: u64,
    /// Not yet handed on, the oldest first.
    waiting: VecDeque<Work>,
    /// Handed on: who got them may be lost before it has signed them, or before the coordinator has read that.
    handed: Vec<Work>,
    receipts: VecDeque<Receipt>,
    /// How many works of the hop before are signed yet.
    left: u32,
    /// Cells that the session has room for.
    cells: u32,
}

impl Works {
    /// `key` is this node's; `coordinator` gets the results where no hop follows.
    pub(super) fn new(open: &Open, coordinator: NodeId, kernel_class: String, key: Keypair) -> Self {
        let node = key.public().to_peer_id();
        let witness = open.next.as_ref().map_or(coordinator, |next| next.node);
        let cells = open.context_tokens.div_ceil(MAX_RECEIPT_TOKENS);
        Self {
            log: Some(Worklog::new(open.session, open.model, node, witness, open.span, kernel_class)),
            key,
            answered: open.answered,
            waiting: VecDeque::new(),
            handed: Vec::new(),
            receipts: VecDeque::new(),
            left: cells.saturating_mul(WORKS_A_CELL),
            cells,
        }
    }

    /// A step came that was not there before.
    pub(super) fn took(&mut self, step: &Step) {
        if let Some(log) = &mut self.log {
            let noted = log.took(step.position, &step.input);
            self.noted(noted);
        }
    }

    /// A result is there.
    pub(super) fn gave(&mut self, Outcome { seq, position, tokens, rows, .. }: &Outcome) {
        let Some(log) = &mut self.log else { return };
        let noted = log.gave(*seq, *position, *tokens, rows.as_ref());
        while let Some(work) = log.full() {
            if work.last_seq >= self.answered {
                self.waiting.push_back(work);
            }
        }
        self.noted(noted);
    }

    /// The session ends: what is unfinished is told too.
    pub(super) fn finish(&mut self) {
        let rest = std::iter::from_fn(|| self.log.as_mut()?.rest());
        self.waiting.extend(rest.filter(|work| work.last_seq >= self.answered));
    }

    /// The next work for `witness`, which was sent all results before step `sent`.
    pub(super) fn next(&mut self, witness: NodeId, sent: u64) -> Option<Signed> {
        self.is_due(sent).then(|| self.waiting.pop_front())?.and_then(|work| {
            // The neighbour may be another than when the work was done.
            let work = Work { witness, ..work };
            self.handed.push(work.clone());
            Signed::sign(work, &self.key).inspect_err(|error| self.give_up(error)).ok()
        })
    }

    /// Whether there is a work of steps before `sent`.
    pub(super) fn is_due(&self, sent: u64) -> bool {
        self.waiting.front().is_some_and(|work| work.last_seq < sent)
    }

    /// Results go to another node from now on, which gets them from the first on and can sign all works.
    pub(super) fn renew(&mut self) {
        for work in self.handed.drain(..).rev() {
            self.waiting.push_front(work);
        }
    }

    /// Steps come from another node from now on.
    pub(super) fn renew_source(&mut self) {
        self.left = self.cells.saturating_mul(WORKS_A_CELL);
    }

    /// Signs what the hop before, `from`, says it gave, when that is what came.
    ///
    /// # Errors
    /// It hands in more than there can be.
    pub(super) fn witness(&mut self, from: NodeId, signed: Signed) -> Result<(), String> {
        self.left = self.left.checked_sub(1).ok_or("it hands in more works than the session has room for")?;
        let Some(log) = &self.log else { return Ok(()) };
        match signed.witness(&from, log.received(), &self.key) {
            Ok(receipt) => self.receipts.push_back(receipt),
            Err(error) => tracing::info!(node = %from, %error, "a neighbour's work is not signed"),
        }
        Ok(())
    }

    /// The next receipt for the coordinator.
    pub(super) fn receipt(&mut self) -> Option<Receipt> {
        self.receipts.pop_front()
    }

    /// Whether there is a receipt for the coordinator.
    pub(super) fn has_receipt(&self) -> bool {
        !self.receipts.is_empty()
    }

    /// A hole in the notes cannot be filled later.
    fn noted(&mut self, noted: Result<(), GapError>) {
        if let Err(error) = noted {
            self.give_up(&error);
        }
    }

    fn give_up(&mut self, error: &dyn std::fmt::Display) {
        tracing::warn!(%error, "this session's work goes without receipts");
        self.log = None;
        self.waiting.clear();
        self.handed.clear();
    }
}
