//! Tiles of 5-bit weights in blocks of 32.

use half::f16;

use super::{
    planes::Five,
    quant::{BLOCK, Block, Tile, half_at, sum},
};
use crate::kernel::simd::{LANES, Lanes};

/// Five-bit values, `d * (q - 16)`.
#[derive(Clone, Copy)]
#[repr(C, align(32))]
pub(super) struct Q5_0 {
    q: Five,
    d: [f16; LANES],
}

/// Five-bit values, `d * q + m`.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub(super) struct Q5_1 {
    q: Five,
    d: [f16; LANES],
    m: [f16; LANES],
}

/// Quants of a block: a word with the fifth bits, then the low halves of 16 bytes, then the high ones.
fn quants(bytes: &[u8]) -> [u8; BLOCK] {
    let (high, low) = bytes.split_at(4);
    std::array::from_fn(|i| low[i % 16] >> (i / 16 * 4) & 15 | (high[i / 8] >> (i % 8) & 1) << 4)
}

/// Dot products of a whole block.
#[inline(always)]
pub(super) fn dot<L: Lanes>(l: L, sum: L::I, [a, b]: &[[L::I; 4]; 2], x: &Block) -> L::I {
    let [first, second] = x.halves();
    l.dot_six_bits(l.dot_six_bits(sum, a, first), b, second)
}

impl Tile for Q5_0 {
    const ZERO: Self = Self { q: Five::ZERO, d: [f16::ZERO; LANES] };
    const BLOCKS: usize = 1;
    const BYTES: usize = 22;

    fn fill(&mut self, row: usize, bytes: &[u8]) {
        self.d[row] = half_at(bytes, 0);
        self.q.fill(row, &quants(&bytes[2..]));
    }

    fn unpack(&self, row: usize, _block: usize) -> [f32; BLOCK] {
        let d = self.d[row].to_f32();
        self.q.row(row).map(|q| d * (f32::from(q) - 16.0))
    }

    #[inline(always)]
    fn correction<L: Lanes>(l: L, halves: [L::I; 2], _scale: f32) -> u32 {
        (-16 * sum(l, halves)) as u32
    }

    #[inline(always)]
    fn multiply<L: Lanes, const M: usize>(&self, l: L, _block: usize, x: &[Block; M], sums: &mut [L::F; M]) {
        let (d, q) = (l.widen_f16(&self.d), self.q.load(l));
        for n in 0..M {
            let c = dot(l, l.splat_i(x[n].correction as i32), &q, &x[n]);
            let scale = l.mul(d, l.splat(x[n].scale));
            sums[n] = l.fma(l.to_float(c), scale, sums[n]);
        }
    }
}

impl Tile for Q5_1 {
    const ZERO: Self = Self { q: Five::ZERO, d: [f16::ZERO; LANES], m: [f16::ZERO; LANES] };
    const BLOCKS: usize = 1;
    const BYTES: usize = 24;

    fn fill(&mut self, row: usize, bytes: &[u8]) {
        self.d[row] = half_at(bytes, 0);
        self.m[row] = half_at(bytes, 2);
        self.q.fill(row, &quants(&bytes[4..]));
    }

    fn unpack(&self, row: usize, _block: usize) -> [f32; BLOCK] {
        let (d, m) = (self.d[row].to_f32(), self.m[row].to_f32());
        self.q.row(row).map(|q| d * f32::from(q) + m)
    }

    #[inline(always)]
    fn correction<L: Lanes>(l: L, halves: [L::I; 2], scale: f32) -> u32 {
        (scale * sum(l, halves) as f32).to_bits()
    }

    #[inline(always)]
    fn multiply<L: Lanes, const M: usize>(&self, l: L, _block: usize, x: &[Block; M], sums: &mut [L::F; M]) {
        let (d, m, q) = (l.widen_f16(&self.d), l.widen_f16(&self.m), self.q.load(l));
        for n in 0..M {
            let c = dot(l, l.splat_i(0), &q, &x[n]);
            let scale = l.mul(d, l.splat(x[n].scale));
            sums[n] = l.fma(l.to_float(c), scale, sums[n]);
            sums[n] = l.fma(m, l.splat(f32::from_bits(x[n].correction)), sums[n]);
        }
    }
}
