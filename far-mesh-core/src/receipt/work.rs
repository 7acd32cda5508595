//! What a receipt tells of.

use std::ops::Range;

use super::{Cell, Commitment};
use crate::{
    id::{ModelHash, NodeId, SessionId, Span},
    limits::{MAX_LAYERS, MAX_RECEIPT_TOKENS},
};

/// Longest name of a kernel class in bytes, as in adverts.
pub const MAX_CLASS_BYTES: usize = 96;

/// One hop's work on one cell of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Work {
    /// The session.
    pub session: SessionId,
    /// The model.
    pub model: ModelHash,
    /// Who computed.
    pub node: NodeId,
    /// Who received the results: the next hop, or the coordinator behind the last.
    pub witness: NodeId,
    /// The layers.
    pub span: Span,
    /// Device family, element type and version of the kernels that computed.
    pub kernel_class: String,
    /// Number of the step that brought the first position.
    pub first_seq: u64,
    /// Number of the step that brought the last.
    pub last_seq: u64,
    /// First position: the start of a cell.
    pub position: u32,
    /// Positions, at most [`MAX_RECEIPT_TOKENS`].
    pub tokens: u32,
    /// What went in.
    pub input: Commitment,
    /// What came out.
    pub output: Commitment,
}

impl Work {
    /// The positions.
    pub fn positions(&self) -> Range<u32> {
        self.position..self.position.saturating_add(self.tokens)
    }

    /// The cell they are in.
    pub fn cell(&self) -> Cell {
        Cell::of(self.position)
    }

    /// The first field that no honest work has, with its value.
    pub(super) fn fault(&self) -> Option<(&'static str, u64)> {
        let steps = self.last_seq.checked_sub(self.first_seq);
        let faults = [
            (!(1..=MAX_RECEIPT_TOKENS).contains(&self.tokens), "number of tokens", u64::from(self.tokens)),
            (!self.position.is_multiple_of(MAX_RECEIPT_TOKENS), "first position", u64::from(self.position)),
            (self.position.checked_add(self.tokens).is_none(), "first position", u64::from(self.position)),
            // A step brings at least one position.
            (steps.is_none_or(|steps| steps >= u64::from(self.tokens)), "last step", self.last_seq),
            (self.span.end() > MAX_LAYERS, "last layer", u64::from(self.span.end())),
            (self.kernel_class.len() > MAX_CLASS_BYTES, "length of the kernel class", self.kernel_class.len() as u64),
        ];
        faults.into_iter().find(|(wrong, ..)| *wrong).map(|(_, field, value)| (field, value))
    }
}
