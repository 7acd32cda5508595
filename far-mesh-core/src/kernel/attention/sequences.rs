//! The sequences of a call: what they must be, and which of them a task works on.

use super::cache::{PAGE_TOKENS, PagedCache};
use crate::kernel::ops::{RopeTable, Sequence};

/// Holds the caller to its contract: what follows relies on it.
pub(super) fn check(cache: &PagedCache, rope: &RopeTable, sequences: &[Sequence<'_>]) {
    let mut written: Vec<u32> = Vec::new();
    for sequence in sequences.iter().filter(|sequence| sequence.rows > 0) {
        let end = sequence.position + sequence.rows;
        assert!(sequence.pages.len() >= end.div_ceil(PAGE_TOKENS), "a sequence lacks pages for {end} positions");
        let pages = &sequence.pages[..end.div_ceil(PAGE_TOKENS)];
        assert!(pages.iter().all(|page| (*page as usize) < cache.pages()), "a page lies outside of the cache");
        let rotations = rope.cos.len().min(rope.sin.len());
        assert!(end * cache.shape().head_dim / 2 <= rotations, "the rotary table is too short for {end} positions");
        written.extend(&pages[sequence.position / PAGE_TOKENS..]);
    }
    written.sort_unstable();
    assert!(written.is_sorted_by(|a, b| a < b), "two places in a call write to the same page");
}

/// The sequences of a call, for finding the one that a task belongs to.
pub(super) struct Spans<'a> {
    sequences: &'a [Sequence<'a>],
}

impl<'a> Spans<'a> {
    pub(super) fn new(sequences: &'a [Sequence<'a>]) -> Self {
        Self { sequences }
    }

    /// Tasks (or whatever else is counted) of all sequences.
    pub(super) fn count(&self, tasks: impl Fn(&Sequence<'_>) -> usize) -> usize {
        self.sequences.iter().map(tasks).sum()
    }

    /// First row and sequence of a task, and the task's number within the sequence.
    pub(super) fn find(&self, mut task: usize, tasks: impl Fn(&Sequence<'_>) -> usize) -> (usize, Sequence<'a>, usize) {
        let mut row = 0;
        for sequence in self.sequences {
            let own = tasks(sequence);
            if task < own {
                return (row, *sequence, task);
            }
            task -= own;
            row += sequence.rows;
        }
        (row, Sequence { rows: 0, position: 0, pages: &[], chunk: false }, 0)
    }
}

/// Pages that the rows of a call are written to.
pub(super) fn touched(sequence: &Sequence<'_>) -> usize {
    if sequence.rows == 0 {
        return 0;
    }
    (sequence.position + sequence.rows).div_ceil(PAGE_TOKENS) - sequence.position / PAGE_TOKENS
}
