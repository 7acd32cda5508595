//! Which rows of a forward are steps of one position and which are chunks: that decides how they are computed.

use std::cell::RefCell;

use crate::kernel::ops::Share;

thread_local! {
    /// The sequences of the forward that runs on this thread.
    static SHARES: RefCell<Vec<Share>> = const { RefCell::new(Vec::new()) };
}

/// Neighbouring rows that are computed alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Piece {
    pub(super) first: usize,
    pub(super) rows: usize,
    /// Whether they belong to chunks.
    pub(super) wide: bool,
}

/// Runs a forward of these sequences.
pub(super) fn with_shares<T>(shares: &[Share], run: impl FnOnce() -> T) -> T {
    struct Restore(Vec<Share>);
    impl Drop for Restore {
        fn drop(&mut self) {
            SHARES.set(std::mem::take(&mut self.0));
        }
    }
    let _restore = Restore(SHARES.replace(shares.to_vec()));
    run()
}

/// How `rows` rows are computed. Rows that are not those of the sequences are computed like steps of one position, whoever
/// they are of: what else is in the forward must not decide.
pub(super) fn pieces(rows: usize) -> Vec<Piece> {
    SHARES.with_borrow(|shares| {
        if shares.iter().map(|share| share.rows).sum::<usize>() != rows {
            return vec![Piece { first: 0, rows, wide: false }];
        }
        let mut pieces: Vec<Piece> = Vec::new();
        for &Share { rows, chunk } in shares {
            match pieces.last_mut() {
                Some(last) if last.wide == chunk => last.rows += rows,
                last => {
                    let first = last.map_or(0, |last| last.first + last.rows);
                    pieces.push(Piece { first, rows, wide: chunk });
                }
            }
        }
        pieces
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(steps: &[usize], rows: usize, expected: &[(usize, usize, bool)]) {
        check_shares(&steps.iter().map(|rows| Share::step(*rows)).collect::<Vec<_>>(), rows, expected);
    }

    fn check_shares(shares: &[Share], rows: usize, expected: &[(usize, usize, bool)]) {
        let found = with_shares(shares, || pieces(rows));
        let found: Vec<_> = found.iter().map(|piece| (piece.first, piece.rows, piece.wide)).collect();
        assert_eq!(found, expected, "{shares:?}");
    }

    #[test]
    fn neighbours_of_a_kind_are_computed_together() {
        check(&[1, 1, 1], 3, &[(0, 3, false)]);
        check(&[5, 7], 12, &[(0, 12, true)]);
        check(&[1, 1, 5, 7, 1], 15, &[(0, 2, false), (2, 12, true), (14, 1, false)]);
    }

    #[test]
    fn the_last_row_of_a_chunk_is_computed_like_the_rest() {
        let rest = Share { rows: 1, chunk: true };
        check_shares(&[rest], 1, &[(0, 1, true)]);
        check_shares(&[Share::step(1), rest, Share::step(9)], 11, &[(0, 1, false), (1, 10, true)]);
    }

    #[test]
    fn other_rows_are_steps_whatever_they_are_beside() {
        for steps in [&[][..], &[5, 7], &[5, 1]] {
            check(steps, 30, &[(0, 30, false)]);
        }
    }

    #[test]
    fn a_forward_that_panics_leaves_nothing_behind() {
        let result = std::panic::catch_unwind(|| with_shares(&[Share::step(9)], || panic!("spoiled")));
        assert!(result.is_err());
        assert_eq!(pieces(9), [Piece { first: 0, rows: 9, wide: false }]);
    }
}
