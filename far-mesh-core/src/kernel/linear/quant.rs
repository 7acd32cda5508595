//! Tiles of quantized weights: a block of 32 columns (or a superblock of several) for 16 rows, the same numbers as in
//! GGUF in another order. Here those with 4 and 8 bits.

use half::f16;

use crate::kernel::simd::{LANES, Lanes};

/// Columns of a block, in weights and activations alike.
pub(super) const BLOCK: usize = 32;

/// A block of one row of activations.
#[derive(Clone, Copy)]
#[repr(C)]
pub(super) struct Block {
    /// 32 int8 in words of 4, none of them -128.
    pub(super) q: [u32; BLOCK / 4],
    /// What an int8 stands for.
    pub(super) scale: f32,
    /// [`Tile::correction`].
    pub(super) correction: u32,
}

impl Block {
    pub(super) const ZERO: Self = Self { q: [0; BLOCK / 4], scale: 0.0, correction: 0 };

    /// The words of elements 0 to 15 and of 16 to 31.
    #[inline(always)]
    pub(super) fn halves(&self) -> [&[u32; 4]; 2] {
        let halves = self.q.as_chunks::<4>().0;
        [&halves[0], &halves[1]]
    }
}

/// One or more blocks of columns for 16 rows.
pub(super) trait Tile: Copy + Send + Sync {
    const ZERO: Self;
    /// Blocks of 32 columns.
    const BLOCKS: usize;
    /// Bytes of one row's share as GGML writes it.
    const BYTES: usize;

    /// Puts one row's share, as GGML writes it, in its place.
    fn fill(&mut self, row: usize, bytes: &[u8]);

    /// One row of a block as GGML dequantizes it.
    fn unpack(&self, row: usize, block: usize) -> [f32; BLOCK];

    /// What an activation block (its two halves as integers) adds to the product, as [`Tile::multiply`] wants it.
    fn correction<L: Lanes>(l: L, halves: [L::I; 2], scale: f32) -> u32;

    /// Adds the product of a block with that of each of `M` activation rows.
    fn multiply<L: Lanes, const M: usize>(&self, l: L, block: usize, x: &[Block; M], sums: &mut [L::F; M]);
}

/// Four-bit values, `d * (q - 8)`.
#[derive(Clone, Copy)]
#[repr(C, align(32))]
pub(super) struct Q4_0 {
    q: [[u8; 64]; 4],
    d: [f16; LANES],
}

/// Four-bit values, `d * q + m`.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub(super) struct Q4_1 {
    q: [[u8; 64]; 4],
    d: [f16; LANES],
    m: [f16; LANES],
}

/// Eight-bit values, `d * q`; kept with 128 added.
#[derive(Clone, Copy)]
#[repr(C, align(32))]
pub(super) struct Q8_0 {
    q: [[u8; 64]; 8],
    d: [f16; LANES],
}

/// Sum of an activation block.
#[inline(always)]
pub(super) fn sum<L: Lanes>(l: L, [a, b]: [L::I; 2]) -> i32 {
    l.sum_i(l.add_i(a, b))
}

pub(super) fn half_at(block: &[u8], at: usize) -> f16 {
    f16::from_le_bytes([block[at], block[at + 1]])
}

/// Puts a row's bytes in words of 4 beside those of the other rows.
pub(super) fn interleave<const N: usize>(q: &mut [[u8; 64]; N], row: usize, bytes: &[u8]) {
    for (word, bytes) in q.iter_mut().zip(bytes.chunks_exact(4)) {
        word[row * 4..row * 4 + 4].copy_from_slice(bytes);
    }
}

/// A row's 4-bit values: element `i` in the low half of byte `i`, element `i + 16` in the high half.
pub(super) fn nibbles(q: &[[u8; 64]; 4], row: usize) -> [u8; BLOCK] {
    let mut out = [0; BLOCK];
    for i in 0..16 {
        let byte = q[i / 4][row * 4 + i % 4];
        out[i] = byte & 15;
        out[i + 16] = byte >> 4;
    }
    out
}

#[inline(always)]
pub(super) fn split<L: Lanes>(l: L, q: &[[u8; 64]; 4]) -> ([L::I; 4], [L::I; 4]) {
    let mut low = [l.splat_i(0); 4];
    let mut high = low;
    for j in 0..4 {
        let bytes = l.load_bytes(&q[j]);
        low[j] = l.low_nibbles(bytes);
        high[j] = l.high_nibbles(bytes);
    }
    (low, high)
}

impl Tile for Q4_0 {
    const ZERO: Self = Self { q: [[0; 64]; 4], d: [f16::ZERO; LANES] };
    const BLOCKS: usize = 1;
    const BYTES: usize = 18;

    fn fill(&mut self, row: usize, block: &[u8]) {
        self.d[row] = half_at(block, 0);
        interleave(&mut self.q, row, &block[2..]);
    }

    fn unpack(&self, row: usize, _block: usize) -> [f32; BLOCK] {
        let d = self.d[row].to_f32();
        nibbles(&self.q, row).map(|q| d * (f32::from(q) - 8.0))
    }

    #[inline(always)]
    fn correction<L: Lanes>(l: L, halves: [L::I; 2], _scale: f32) -> u32 {
        (-8 * sum(l, halves)) as u32
    }

    #[inline(always)]
    fn multiply<L: Lanes, const M: usize>(&self, l: L, _block: usize, x: &[Block; M], sums: &mut [L::F; M]) {
        let d = l.widen_f16(&self.d);
        let (low, high) = split(l, &self.q);
        for n in 0..M {
            let c = l.dot_nibbles(l.splat_i(x[n].correction as i32), &low, &high, &x[n].q);
            let scale = l.mul(d, l.splat(x[n].scale));
            sums[n] = l.fma(l.to_float(c), scale, sums[n]);
        }
    }
}

impl Tile for Q4_1 {
    const ZERO: Self = Self { q: [[0; 64]; 4], d: [f16::ZERO; LANES], m: [f16::ZERO; LANES] };
    const BLOCKS: usize = 1;
    const BYTES: usize = 20;

    fn fill(&mut self, row: usize, block: &[u8]) {
        self.d[row] = half_at(block, 0);
        self.m[row] = half_at(block, 2);
        interleave(&mut self.q, row, &block[4..]);
    }

    fn unpack(&self, row: usize, _block: usize) -> [f32; BLOCK] {
        let (d, m) = (self.d[row].to_f32(), self.m[row].to_f32());
        nibbles(&self.q, row).map(|q| d * f32::from(q) + m)
    }

    #[inline(always)]
    fn correction<L: Lanes>(l: L, halves: [L::I; 2], scale: f32) -> u32 {
        (scale * sum(l, halves) as f32).to_bits()
    }

    #[inline(always)]
    fn multiply<L: Lanes, const M: usize>(&self, l: L, _block: usize, x: &[Block; M], sums: &mut [L::F; M]) {
        let (d, m) = (l.widen_f16(&self.d), l.widen_f16(&self.m));
        let (low, high) = split(l, &self.q);
        for n in 0..M {
            let c = l.dot_nibbles(l.splat_i(0), &low, &high, &x[n].q);
            let scale = l.mul(d, l.splat(x[n].scale));
            sums[n] = l.fma(l.to_float(c), scale, sums[n]);
            sums[n] = l.fma(m, l.splat(f32::from_bits(x[n].correction)), sums[n]);
        }
    }
}

impl Tile for Q8_0 {
    const ZERO: Self = Self { q: [[128; 64]; 8], d: [f16::ZERO; LANES] };
    const BLOCKS: usize = 1;
    const BYTES: usize = 34;

    fn fill(&mut self, row: usize, block: &[u8]) {
        self.d[row] = half_at(block, 0);
        let mut biased = [0; BLOCK];
        for (to, from) in biased.iter_mut().zip(&block[2..]) {
            *to = from ^ 0x80;
        }
        interleave(&mut self.q, row, &biased);
    }

    fn unpack(&self, row: usize, _block: usize) -> [f32; BLOCK] {
        let d = self.d[row].to_f32();
        std::array::from_fn(|i| d * f32::from((self.q[i / 4][row * 4 + i % 4] ^ 0x80) as i8))
    }

    #[inline(always)]
    fn correction<L: Lanes>(l: L, halves: [L::I; 2], _scale: f32) -> u32 {
        (-L::BYTE_BIAS * sum(l, halves)) as u32
    }

    #[inline(always)]
    fn multiply<L: Lanes, const M: usize>(&self, l: L, _block: usize, x: &[Block; M], sums: &mut [L::F; M]) {
        let d = l.widen_f16(&self.d);
        let mut q = [l.splat_i(0); 8];
        for (q, bytes) in q.iter_mut().zip(&self.q) {
            *q = l.load_bytes(bytes);
        }
        for n in 0..M {
            let c = l.dot_bytes(l.splat_i(x[n].correction as i32), &q, &x[n].q);
            let scale = l.mul(d, l.splat(x[n].scale));
            sums[n] = l.fma(l.to_float(c), scale, sums[n]);
        }
    }
}
