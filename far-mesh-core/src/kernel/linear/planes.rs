//! Quants of 5 and 6 bits for a block of 16 rows: four bits an element as in Q4_0's tiles, the others in planes of their
//! own, so placed that one shift and one mask bring them above a whole word of 4 elements a lane.

use super::quant::{BLOCK, interleave, nibbles, split};
use crate::kernel::simd::Lanes;

/// Quants 0 to 31.
#[derive(Clone, Copy)]
#[repr(C)]
pub(super) struct Five {
    low: [[u8; 64]; 4],
    /// A word a row: bit `j` of byte `i` is the fifth of element `4 * j + i`.
    high: [u8; 64],
}

/// Quants 0 to 63.
#[derive(Clone, Copy)]
#[repr(C)]
pub(super) struct Six {
    low: [[u8; 64]; 4],
    /// For each half of the block a word a row: bits `2 * j` and `2 * j + 1` of byte `i` are the highest of the half's
    /// element `4 * j + i`.
    high: [[u8; 64]; 2],
}

/// The low four bits in the order of [`nibbles`].
fn fill_low(low: &mut [[u8; 64]; 4], row: usize, q: &[u8; BLOCK]) {
    let bytes: [u8; 16] = std::array::from_fn(|i| q[i] & 15 | q[i + 16] << 4);
    interleave(low, row, &bytes);
}

/// Eight words, elements 0 to 3 of each row, then 4 to 7, and so on: four low bits and what is above them.
#[inline(always)]
fn join<L: Lanes>(l: L, low: &[[u8; 64]; 4], high: &[[L::I; 4]; 2]) -> [[L::I; 4]; 2] {
    let (mut a, mut b) = split(l, low);
    for j in 0..4 {
        a[j] = l.or_i(a[j], high[0][j]);
        b[j] = l.or_i(b[j], high[1][j]);
    }
    [a, b]
}

impl Five {
    pub(super) const ZERO: Self = Self { low: [[0; 64]; 4], high: [0; 64] };

    pub(super) fn fill(&mut self, row: usize, q: &[u8; BLOCK]) {
        fill_low(&mut self.low, row, q);
        for i in 0..4 {
            self.high[row * 4 + i] = (0..8).fold(0, |byte, j| byte | (q[4 * j + i] >> 4 & 1) << j);
        }
    }

    pub(super) fn row(&self, row: usize) -> [u8; BLOCK] {
        let low = nibbles(&self.low, row);
        std::array::from_fn(|i| low[i] | (self.high[row * 4 + i % 4] >> (i / 4) & 1) << 4)
    }

    #[inline(always)]
    pub(super) fn load<L: Lanes>(&self, l: L) -> [[L::I; 4]; 2] {
        let (plane, mask) = (l.load_bytes(&self.high), l.splat_i(0x1010_1010));
        let mut high = [
            [l.shl(plane, 4), l.shl(plane, 3), l.shl(plane, 2), l.shl(plane, 1)],
            [plane, l.shr(plane, 1), l.shr(plane, 2), l.shr(plane, 3)],
        ];
        for word in high.as_flattened_mut() {
            *word = l.and_i(*word, mask);
        }
        join(l, &self.low, &high)
    }
}

impl Six {
    pub(super) const ZERO: Self = Self { low: [[0; 64]; 4], high: [[0; 64]; 2] };

    pub(super) fn fill(&mut self, row: usize, q: &[u8; BLOCK]) {
        fill_low(&mut self.low, row, q);
        for (high, q) in self.high.iter_mut().zip(q.chunks_exact(16)) {
            for i in 0..4 {
                high[row * 4 + i] = (0..4).fold(0, |byte, j| byte | (q[4 * j + i] >> 4 & 3) << (2 * j));
            }
        }
    }

    pub(super) fn row(&self, row: usize) -> [u8; BLOCK] {
        let low = nibbles(&self.low, row);
        std::array::from_fn(|i| low[i] | (self.high[i / 16][row * 4 + i % 4] >> (i % 16 / 4 * 2) & 3) << 4)
    }

    #[inline(always)]
    pub(super) fn load<L: Lanes>(&self, l: L) -> [[L::I; 4]; 2] {
        let mask = l.splat_i(0x3030_3030);
        let mut high = [[mask; 4]; 2];
        for (high, plane) in high.iter_mut().zip(&self.high) {
            let plane = l.load_bytes(plane);
            *high = [l.shl(plane, 4), l.shl(plane, 2), plane, l.shr(plane, 2)];
            for word in high {
                *word = l.and_i(*word, mask);
            }
        }
        join(l, &self.low, &high)
    }
}
