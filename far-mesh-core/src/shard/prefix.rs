//! What a page holds, named by its content.
//!
//! The keys and values of a position depend on all that went into the span up to it, and on nothing else. So a page is
//! named by a hash (SHA-256) of exactly that: the token ids of the first span, the bytes of the hidden states of any
//! other, chained page by page. Every shard hashes what it receives itself, and asks nobody what it is: a peer cannot
//! have its own pages taken for those of another's prompt.
//!
//! Hidden states are hashed as they came. They are the same bytes again for the same prompt, since a row's result does
//! not depend on what is computed beside it. At 1 GB/s a page of rows of 576 takes 74 us, 1 % of what a hop of ten layers
//! computes on it; token ids take nothing that could be measured.

use std::ops::Range;

use sha2::{Digest, Sha256};

use crate::{
    activation::Dtype,
    hop::Input,
    id::{NodeId, Span},
};

/// Name of a full page of the cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct PageKey([u8; 32]);

#[cfg(test)]
impl PageKey {
    /// A name like no other number's.
    pub(super) fn of_test(number: u8) -> Self {
        Self([number; 32])
    }
}

/// What sessions must have in common for their pages to be the same.
#[derive(Clone, Debug)]
pub(super) struct Root {
    /// Who may share them.
    pub(super) sharers: Sharers,
    /// The layers that a page holds.
    pub(super) span: Span,
    /// Type of the hidden states.
    pub(super) dtype: Dtype,
    /// Whether positions that came in steps of their own are told from those of chunks: where the device gives them other
    /// bits, a page of one is not a page of the other.
    pub(super) steps_differ: bool,
}

/// Whose sessions may read a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sharers {
    /// All.
    All,
    /// Those opened on this machine.
    ThisMachine,
    /// Those that a node opened.
    Node(NodeId),
}

/// The names of a session's pages as it grows.
#[derive(Clone, Debug)]
pub(super) struct Chain {
    page_tokens: usize,
    /// Of the page before and the rows of the page that is not full.
    page: Sha256,
    rows: usize,
    steps_differ: bool,
}

impl Chain {
    /// The chain of a session without positions.
    pub(super) fn new(root: &Root, page_tokens: usize) -> Self {
        let mut page = Sha256::new_with_prefix(b"far-mesh page 1");
        match root.sharers {
            Sharers::All => page.update([0]),
            Sharers::ThisMachine => page.update([1]),
            Sharers::Node(node) => {
                let node = node.to_bytes();
                page.update([2, node.len() as u8]);
                page.update(node);
            }
        }
        page.update(root.span.start().to_le_bytes());
        page.update(root.span.end().to_le_bytes());
        page.update([root.dtype as u8, u8::from(root.steps_differ)]);
        Self { page_tokens, page, rows: 0, steps_differ: root.steps_differ }
    }

    /// Takes in rows of a step, each once and in order; the names of the pages that they fill.
    pub(super) fn extend(&mut self, input: &Input, rows: Range<usize>) -> Vec<PageKey> {
        let mut keys = Vec::new();
        let mut at = rows.start;
        while at < rows.end {
            let end = rows.end.min(at + self.page_tokens - self.rows);
            self.take(input, at..end);
            (self.rows, at) = (self.rows + end - at, end);
            if self.rows == self.page_tokens {
                let key = self.page.finalize_reset();
                self.page.update(key);
                self.rows = 0;
                keys.push(PageKey(key.into()));
            }
        }
        keys
    }

    fn take(&mut self, input: &Input, rows: Range<usize>) {
        let of_a_chunk = u8::from(input.tokens() > 1);
        for row in rows {
            if self.steps_differ {
                self.page.update([of_a_chunk]);
            }
            match input {
                Input::Tokens(ids) => self.page.update(ids[row].to_le_bytes()),
                Input::Activation(activation) => {
                    let width = activation.hidden() * activation.dtype().bytes();
                    self.page.update(&activation.bytes()[row * width..][..width]);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::activation::Activation;

    fn root() -> Root {
        Root { sharers: Sharers::All, span: Span::new(0, 3).unwrap(), dtype: Dtype::F32, steps_differ: false }
    }

    fn keys(root: &Root, ids: &[u32], chunk: usize) -> Vec<PageKey> {
        let mut chain = Chain::new(root, 4);
        ids.chunks(chunk).flat_map(|ids| chain.extend(&Input::Tokens(ids.to_vec()), 0..ids.len())).collect()
    }

    #[test]
    fn the_same_rows_have_the_same_names_however_they_come() {
        let ids: Vec<u32> = (0..19).collect();
        let whole = keys(&root(), &ids, 19);
        assert_eq!(whole.len(), 4, "the page that is not full has none");
        for chunk in 1..19 {
            assert_eq!(keys(&root(), &ids, chunk), whole, "in chunks of {chunk}");
        }
        assert_eq!(keys(&root(), &ids[..9], 3), whole[..2]);
    }

    #[test]
    fn pages_are_apart_unless_all_before_them_and_their_root_are_equal() {
        let mut seen = HashSet::new();
        let other = |change: fn(&mut Root)| {
            let mut root = root();
            change(&mut root);
            root
        };
        for root in [
            root(),
            other(|root| root.span = Span::new(0, 2).unwrap()),
            other(|root| root.dtype = Dtype::F16),
            Root { sharers: Sharers::ThisMachine, ..root() },
            Root { sharers: Sharers::Node(NodeId::random()), ..root() },
            Root { sharers: Sharers::Node(NodeId::random()), ..root() },
        ] {
            for first in [0, 1] {
                for key in keys(&root, &[first, 5, 5, 5, 5, 5, 5, 5], 8) {
                    assert!(seen.insert(key), "{root:?} {first}");
                }
            }
        }
        assert_eq!(seen.len(), 24);
    }

    #[test]
    fn decoded_positions_are_told_from_a_prompts_where_their_bits_differ() {
        let ids: Vec<u32> = (0..8).collect();
        let differ = Root { steps_differ: true, ..root() };
        assert_eq!(keys(&differ, &ids, 8), keys(&differ, &ids, 3), "in chunks of any length");
        assert!(keys(&differ, &ids, 8).iter().zip(keys(&differ, &ids, 1)).all(|(chunk, steps)| *chunk != steps));
        assert_eq!(keys(&root(), &ids, 8), keys(&root(), &ids, 1));
    }

    #[test]
    fn hidden_states_are_named_by_every_bit() {
        let keys = |values: Vec<f32>, chunk: usize| {
            let mut chain = Chain::new(&root(), 4);
            let mut steps = values.chunks(2 * chunk);
            let mut keys = vec![];
            steps.by_ref().for_each(|rows| {
                let rows = Activation::from_f32(rows.len() / 2, 2, rows.to_vec()).unwrap();
                let count = rows.tokens();
                keys.extend(chain.extend(&Input::Activation(rows), 0..count));
            });
            keys
        };
        let values: Vec<f32> = (0..16).map(|value| value as f32).collect();
        let whole = keys(values.clone(), 8);
        assert_eq!((whole.len(), keys(values.clone(), 3)), (2, whole.clone()));
        let mut signed = values.clone();
        signed[0] = -0.0;
        assert!(keys(signed, 8).iter().zip(&whole).all(|(a, b)| a != b), "the first row is in both names");
        let mut last = values;
        last[15] = f32::from_bits(last[15].to_bits() + 1);
        let last = keys(last, 8);
        assert!(last[0] == whole[0] && last[1] != whole[1]);
    }
}
