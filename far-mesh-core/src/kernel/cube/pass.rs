//! Which rows of a forward are steps of one position and which are chunks: that decides how they are computed.

use std::cell::RefCell;

thread_local! {
    /// Rows of each sequence of the forward that runs on this thread.
    static ROWS: RefCell<Vec<usize>> = const { RefCell::new(Vec::new()) };
}

/// Neighbouring rows that are computed alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Piece {
    pub(super) first: usize,
    pub(super) rows: usize,
    /// Whether they belong to chunks.
    pub(super) wide: bool,
}

/// Runs a forward of sequences with so many rows each.
pub(super) fn with_rows<T>(rows: &[usize], run: impl FnOnce() -> T) -> T {
    struct Restore(Vec<usize>);
    impl Drop for Restore {
        fn drop(&mut self) {
            ROWS.set(std::mem::take(&mut self.0));
        }
    }
    let _restore = Restore(ROWS.replace(rows.to_vec()));
    run()
}

/// How `rows` rows are computed. Rows that are not those of the sequences (rows of experts, say) are wide where all
/// sequences are chunks, else thin: right for both, if slow for the chunks among them.
pub(super) fn pieces(rows: usize) -> Vec<Piece> {
    ROWS.with_borrow(|sequences| {
        if sequences.iter().sum::<usize>() != rows {
            let wide = !sequences.is_empty() && sequences.iter().all(|rows| *rows > 1);
            return vec![Piece { first: 0, rows, wide }];
        }
        let mut pieces: Vec<Piece> = Vec::new();
        for &rows in sequences {
            match pieces.last_mut() {
                Some(last) if last.wide == (rows > 1) => last.rows += rows,
                last => {
                    let first = last.map_or(0, |last| last.first + last.rows);
                    pieces.push(Piece { first, rows, wide: rows > 1 });
                }
            }
        }
        pieces
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(sequences: &[usize], rows: usize, expected: &[(usize, usize, bool)]) {
        let found = with_rows(sequences, || pieces(rows));
        let found: Vec<_> = found.iter().map(|piece| (piece.first, piece.rows, piece.wide)).collect();
        assert_eq!(found, expected, "{sequences:?}");
    }

    #[test]
    fn neighbours_of_a_kind_are_computed_together() {
        check(&[1, 1, 1], 3, &[(0, 3, false)]);
        check(&[5, 7], 12, &[(0, 12, true)]);
        check(&[1, 1, 5, 7, 1], 15, &[(0, 2, false), (2, 12, true), (14, 1, false)]);
    }

    #[test]
    fn other_rows_are_wide_among_chunks_alone() {
        check(&[], 4, &[(0, 4, false)]);
        check(&[5, 7], 30, &[(0, 30, true)]);
        check(&[5, 1], 30, &[(0, 30, false)]);
    }

    #[test]
    fn a_forward_that_panics_leaves_nothing_behind() {
        let result = std::panic::catch_unwind(|| with_rows(&[9], || panic!("spoiled")));
        assert!(result.is_err());
        assert_eq!(pieces(9), [Piece { first: 0, rows: 9, wide: false }]);
    }
}
