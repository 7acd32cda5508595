//! What the attention kernels must know of a step's sequences, gathered once for all layers.

use crate::kernel::ops::{AttentionShape, Sequence};

/// Positions of the past that a cube reads for a row that decodes. Fixed: it sets the order of summation.
pub(super) const STRETCH: usize = 128;

/// Words that describe a row: its position, where its page table begins.
pub(super) const ROW_WORDS: usize = 2;

/// Words that describe a tile of queries: first row of the sequence, its rows, its first position, where its page table
/// begins, first query of the tile. The queries of a sequence are its rows times the query heads of a key-value head.
pub(super) const TILE_WORDS: usize = 5;

/// A step's sequences as one array of words: rows, tiles of single rows, tiles of chunks, page tables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) struct Plan {
    pub(super) words: Vec<u32>,
    pub(super) rows: usize,
    /// Tiles of steps of one position, and the word the first stands at.
    pub(super) singles: Tiles,
    /// Tiles of chunks.
    pub(super) chunks: Tiles,
    /// Stretches of the longest past of a single row.
    pub(super) stretches: usize,
}

/// Tiles of queries in a plan.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tiles {
    pub(super) first_word: usize,
    pub(super) count: usize,
}

impl Plan {
    /// `queries` is how many queries a tile of a chunk holds.
    pub(in super::super) fn new(sequences: &[Sequence<'_>], shape: AttentionShape, queries: usize) -> Self {
        let rows: usize = sequences.iter().map(|sequence| sequence.rows).sum();
        let group = shape.heads / shape.kv_heads;
        let tiles_of = |sequence: &Sequence<'_>| match sequence.chunk {
            false => 1,
            true => (sequence.rows * group).div_ceil(queries),
        };
        let count = |single: bool| -> usize {
            sequences.iter().filter(|sequence| sequence.chunk != single).map(tiles_of).sum()
        };
        let singles = Tiles { first_word: rows * ROW_WORDS, count: count(true) };
        let chunks = Tiles { first_word: singles.first_word + singles.count * TILE_WORDS, count: count(false) };
        let mut table = chunks.first_word + chunks.count * TILE_WORDS;
        let (mut row_words, mut single_words, mut chunk_words, mut tables) = (vec![], vec![], vec![], vec![]);
        let (mut first_row, mut stretches) = (0, 1);
        for sequence in sequences {
            let end = sequence.position + sequence.rows;
            row_words.extend((sequence.position..end).flat_map(|position| [position, table]));
            let words = if sequence.chunk { &mut chunk_words } else { &mut single_words };
            let tile = |tile: usize| [first_row, sequence.rows, sequence.position, table, tile * queries];
            words.extend((0..tiles_of(sequence)).flat_map(tile));
            if !sequence.chunk {
                stretches = stretches.max(end.div_ceil(STRETCH));
            }
            let pages = &sequence.pages[..end.div_ceil(super::PAGE_TOKENS)];
            tables.extend(pages.iter().map(|page| *page as usize));
            table += pages.len();
            first_row += sequence.rows;
        }
        let words =
            [row_words, single_words, chunk_words, tables].concat().into_iter().map(|word| word as u32).collect();
        Self { words, rows, singles, chunks, stretches }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_holds_rows_tiles_and_tables() {
        let shape = AttentionShape { heads: 6, kv_heads: 2, head_dim: 16, window: None };
        let sequences = [
            Sequence { rows: 1, position: 130, pages: &[9, 8, 7, 6, 5, 4], chunk: false },
            Sequence { rows: 5, position: 31, pages: &[3, 2, 1], chunk: true },
        ];
        let plan = Plan::new(&sequences, shape, 8);
        assert_eq!((plan.rows, plan.stretches), (6, 2));
        assert_eq!((plan.singles.count, plan.chunks.count), (1, 2), "15 queries in tiles of 8");
        let words = &plan.words;
        assert_eq!(words[..4], [130, 27, 31, 32]);
        assert_eq!(words[plan.singles.first_word..][..5], [0, 1, 130, 27, 0]);
        assert_eq!(words[plan.chunks.first_word..][..10], [1, 5, 31, 32, 0, 1, 5, 31, 32, 8]);
        assert_eq!(words[27..], [9, 8, 7, 6, 5, 3, 2], "pages of positions to come are left out");
    }
}
