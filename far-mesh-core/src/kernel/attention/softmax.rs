//! Softmax over a sequence in stretches (online softmax, Milakov & Gimelshein 2018).

use std::ops::Range;

use crate::kernel::simd::{LANES, Lanes, exp};

/// What a query has seen so far: its weights are relative to `greatest` and add up to `total`.
#[derive(Clone, Copy)]
pub(super) struct Running {
    pub(super) greatest: f32,
    pub(super) total: f32,
}

impl Running {
    pub(super) const NOTHING: Self = Self { greatest: f32::NEG_INFINITY, total: 0.0 };

    /// Turns those of `scores` that are `seen` (at least 1) into weights and gives what the weighted sum of the values so
    /// far has to be multiplied with.
    #[inline(always)]
    pub(super) fn take<L: Lanes>(&mut self, l: L, scores: &mut [f32], seen: Range<usize>) -> f32 {
        // Whole vectors, counted from the first that has something to see.
        let first = seen.start / LANES * LANES;
        let scores = &mut scores[first..seen.end.next_multiple_of(LANES)];
        let seen = seen.start - first..seen.end - first;
        scores[..seen.start].fill(f32::NEG_INFINITY);
        scores[seen.end..].fill(f32::NEG_INFINITY);
        let chunks = scores.as_chunks_mut::<LANES>().0;
        let mut greatest = l.splat(self.greatest);
        for chunk in chunks.iter() {
            greatest = l.max(l.load(chunk), greatest);
        }
        let greatest = l.greatest(greatest);
        let mut total = l.splat(0.0);
        let last = chunks.len() - 1;
        for (i, chunk) in chunks.iter_mut().enumerate() {
            let weights = exp(l, l.sub(l.load(chunk), l.splat(greatest)));
            l.store(weights, chunk);
            // `exp` of minus infinity is small, not zero.
            if i == 0 {
                chunk[..seen.start].fill(0.0);
            }
            if i == last {
                chunk[seen.end - i * LANES..].fill(0.0);
            }
            total = l.add(total, l.load(chunk));
        }
        let shrink = if self.total == 0.0 { 0.0 } else { first_lane(l, exp(l, l.splat(self.greatest - greatest))) };
        self.greatest = greatest;
        self.total = self.total * shrink + l.sum(total);
        shrink
    }
}

#[inline(always)]
fn first_lane<L: Lanes>(l: L, value: L::F) -> f32 {
    let mut lanes = [0.0; LANES];
    l.store(value, &mut lanes);
    lanes[0]
}
