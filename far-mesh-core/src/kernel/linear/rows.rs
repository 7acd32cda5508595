//! Activations as the products want them: rows in groups of 8, 4, 2 and 1, interleaved within a group.

use super::quant::{BLOCK, Block, Tile};
use crate::kernel::simd::{Kernel, LANES, Lanes, ROUND};

/// Rows done at a time: their sums and one tile fill the 32 registers of AVX-512.
pub(super) const GROUP: usize = 8;

/// First row and size of each group of `rows` rows.
pub(super) fn groups(rows: usize) -> impl Iterator<Item = (usize, usize)> + Clone {
    let mut start = 0;
    std::iter::from_fn(move || {
        let size = GROUP.min(1 << (rows - start).checked_ilog2()?);
        start += size;
        Some((start - size, size))
    })
}

/// Below this the block's scale has no finite inverse; such a block is taken for zeros.
const LEAST: f32 = 1e-36;

/// Rounds the rows of one group to int8 per block of 32.
pub(super) struct Quantize<'a, T> {
    /// `[size, k]`.
    pub(super) x: &'a [f32],
    pub(super) size: usize,
    /// `[k / 32, size]`.
    pub(super) out: &'a mut [Block],
    pub(super) tile: std::marker::PhantomData<T>,
}

impl<T: Tile> Kernel for Quantize<'_, T> {
    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        let k = self.x.len() / self.size;
        for (row, x) in self.x.chunks_exact(k).enumerate() {
            for (b, x) in x.as_chunks::<BLOCK>().0.iter().enumerate() {
                quantize::<L, T>(l, x, &mut self.out[b * self.size + row]);
            }
        }
    }
}

#[inline(always)]
fn quantize<L: Lanes, T: Tile>(l: L, x: &[f32; BLOCK], out: &mut Block) {
    let halves = x.as_chunks::<LANES>().0;
    let (a, b) = (l.load(&halves[0]), l.load(&halves[1]));
    // As integers, magnitudes order like the numbers, with infinity and not-a-number on top.
    let magnitude = l.splat_i(0x7fff_ffff);
    let greatest = l.max_i(l.and_i(l.as_bits(a), magnitude), l.and_i(l.as_bits(b), magnitude));
    let greatest = f32::from_bits(l.greatest_i(greatest) as u32);
    if !(LEAST..=f32::MAX).contains(&greatest) {
        // Nothing to round, or nothing that can be: the scale carries the not-a-number into the result.
        let scale = if greatest < LEAST { 0.0 } else { f32::NAN };
        *out = Block { scale, correction: T::correction(l, [l.splat_i(0); 2], scale), ..Block::ZERO };
        return;
    }
    let scale = greatest / 127.0;
    let inverse = l.splat(127.0 / greatest);
    let round = l.splat(ROUND);
    let a = l.sub_i(l.as_bits(l.fma(a, inverse, round)), l.as_bits(round));
    let b = l.sub_i(l.as_bits(l.fma(b, inverse, round)), l.as_bits(round));
    let mut q = [[0; LANES]; 2];
    l.store_i(a, &mut q[0]);
    l.store_i(b, &mut q[1]);
    for j in 0..BLOCK / 4 {
        let q = &q[j / 4][j % 4 * 4..][..4];
        out.q[j] = u32::from_le_bytes([q[0] as u8, q[1] as u8, q[2] as u8, q[3] as u8]);
    }
    out.scale = scale;
    out.correction = T::correction(l, [a, b], scale);
}

/// Lays the rows of one group out column by column: `[size, k]` to `[k, size]`.
pub(super) fn interleave(x: &[f32], size: usize, out: &mut [f32]) {
    let k = x.len() / size;
    for (row, x) in x.chunks_exact(k).enumerate() {
        for (column, x) in x.iter().enumerate() {
            out[column * size + row] = *x;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_cover_all_rows_in_order() {
        for rows in 0..50 {
            let mut next = 0;
            for (start, size) in groups(rows) {
                assert!(start == next && [1, 2, 4, 8].contains(&size));
                next += size;
            }
            assert_eq!(next, rows);
        }
    }
}
