//! Tiles of weights in superblocks of 256 (GGML's "K-quants"), whose blocks have integer scales.

use half::f16;

use super::{
    five::dot,
    planes::{Five, Six},
    quant::{BLOCK, Block, Tile, half_at, interleave, nibbles, split, sum},
};
use crate::kernel::simd::{LANES, Lanes};

/// Columns of a superblock.
pub(super) const SUPERBLOCK: usize = 256;
const BLOCKS: usize = SUPERBLOCK / BLOCK;

/// Scale and minimum of each block: `d * s` and `dmin * m` are exact in f32.
#[derive(Clone, Copy)]
#[repr(C)]
struct Scales {
    s: [[u8; LANES]; BLOCKS],
    m: [[u8; LANES]; BLOCKS],
    d: [f16; LANES],
    dmin: [f16; LANES],
}

/// Four-bit values, `d * s * q - dmin * m`.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub(super) struct Q4_K {
    q: [[[u8; 64]; 4]; BLOCKS],
    scales: Scales,
}

/// Five-bit values, `d * s * q - dmin * m`.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub(super) struct Q5_K {
    q: [Five; BLOCKS],
    scales: Scales,
}

/// Six-bit values, `d * s * (q - 32)`, with a scale for each half of a block.
#[derive(Clone, Copy)]
#[repr(C, align(32))]
pub(super) struct Q6_K {
    q: [Six; BLOCKS],
    s: [[[i8; LANES]; 2]; BLOCKS],
    d: [f16; LANES],
}

impl Scales {
    const ZERO: Self =
        Self { s: [[0; LANES]; BLOCKS], m: [[0; LANES]; BLOCKS], d: [f16::ZERO; LANES], dmin: [f16::ZERO; LANES] };

    /// The first 16 bytes of a superblock.
    fn fill(&mut self, row: usize, bytes: &[u8]) {
        self.d[row] = half_at(bytes, 0);
        self.dmin[row] = half_at(bytes, 2);
        let bytes = &bytes[4..16];
        for j in 0..4 {
            self.s[j][row] = bytes[j] & 63;
            self.m[j][row] = bytes[4 + j] & 63;
            self.s[4 + j][row] = bytes[8 + j] & 15 | bytes[j] >> 6 << 4;
            self.m[4 + j][row] = bytes[8 + j] >> 4 | bytes[4 + j] >> 6 << 4;
        }
    }

    fn unpack(&self, row: usize, block: usize, q: [u8; BLOCK]) -> [f32; BLOCK] {
        let scale = self.d[row].to_f32() * f32::from(self.s[block][row]);
        let minimum = self.dmin[row].to_f32() * f32::from(self.m[block][row]);
        q.map(|q| scale * f32::from(q) - minimum)
    }

    /// Scale and minimum of a block.
    #[inline(always)]
    fn load<L: Lanes>(&self, l: L, block: usize) -> (L::F, L::F) {
        let scale = l.mul(l.widen_f16(&self.d), l.widen_u8(&self.s[block]));
        (scale, l.mul(l.widen_f16(&self.dmin), l.widen_u8(&self.m[block])))
    }
}

/// What a block takes off the product for each unit of its minimum.
#[inline(always)]
fn minus_sum<L: Lanes>(l: L, halves: [L::I; 2], scale: f32) -> u32 {
    (-scale * sum(l, halves) as f32).to_bits()
}

/// Adds a block's product, given the integer dot products.
#[inline(always)]
fn add<L: Lanes>(l: L, dot: L::I, (scale, minimum): (L::F, L::F), x: &Block, sum: L::F) -> L::F {
    let sum = l.fma(l.to_float(dot), l.mul(scale, l.splat(x.scale)), sum);
    l.fma(minimum, l.splat(f32::from_bits(x.correction)), sum)
}

/// Low four bits of a block: two blocks share 32 bytes, the first in the low halves.
fn low_quants(bytes: &[u8], block: usize) -> [u8; BLOCK] {
    std::array::from_fn(|i| bytes[block / 2 * BLOCK + i] >> (block % 2 * 4) & 15)
}

impl Tile for Q4_K {
    const ZERO: Self = Self { q: [[[0; 64]; 4]; BLOCKS], scales: Scales::ZERO };
    const BLOCKS: usize = BLOCKS;
    const BYTES: usize = 144;

    fn fill(&mut self, row: usize, bytes: &[u8]) {
        self.scales.fill(row, bytes);
        for (block, tile) in self.q.iter_mut().enumerate() {
            let q = low_quants(&bytes[16..], block);
            let bytes: [u8; 16] = std::array::from_fn(|i| q[i] | q[i + 16] << 4);
            interleave(tile, row, &bytes);
        }
    }

    fn unpack(&self, row: usize, block: usize) -> [f32; BLOCK] {
        self.scales.unpack(row, block, nibbles(&self.q[block], row))
    }

    #[inline(always)]
    fn correction<L: Lanes>(l: L, halves: [L::I; 2], scale: f32) -> u32 {
        minus_sum(l, halves, scale)
    }

    #[inline(always)]
    fn multiply<L: Lanes, const M: usize>(&self, l: L, block: usize, x: &[Block; M], sums: &mut [L::F; M]) {
        let (scales, (low, high)) = (self.scales.load(l, block), split(l, &self.q[block]));
        for n in 0..M {
            let c = l.dot_nibbles(l.splat_i(0), &low, &high, &x[n].q);
            sums[n] = add(l, c, scales, &x[n], sums[n]);
        }
    }
}

impl Tile for Q5_K {
    const ZERO: Self = Self { q: [Five::ZERO; BLOCKS], scales: Scales::ZERO };
    const BLOCKS: usize = BLOCKS;
    const BYTES: usize = 176;

    fn fill(&mut self, row: usize, bytes: &[u8]) {
        self.scales.fill(row, bytes);
        for (block, tile) in self.q.iter_mut().enumerate() {
            let low = low_quants(&bytes[48..], block);
            tile.fill(row, &std::array::from_fn(|i| low[i] | (bytes[16 + i] >> block & 1) << 4));
        }
    }

    fn unpack(&self, row: usize, block: usize) -> [f32; BLOCK] {
        self.scales.unpack(row, block, self.q[block].row(row))
    }

    #[inline(always)]
    fn correction<L: Lanes>(l: L, halves: [L::I; 2], scale: f32) -> u32 {
        minus_sum(l, halves, scale)
    }

    #[inline(always)]
    fn multiply<L: Lanes, const M: usize>(&self, l: L, block: usize, x: &[Block; M], sums: &mut [L::F; M]) {
        let (scales, q) = (self.scales.load(l, block), self.q[block].load(l));
        for n in 0..M {
            let c = dot(l, l.splat_i(0), &q, &x[n]);
            sums[n] = add(l, c, scales, &x[n], sums[n]);
        }
    }
}

impl Tile for Q6_K {
    const ZERO: Self = Self { q: [Six::ZERO; BLOCKS], s: [[[0; LANES]; 2]; BLOCKS], d: [f16::ZERO; LANES] };
    const BLOCKS: usize = BLOCKS;
    const BYTES: usize = 210;

    fn fill(&mut self, row: usize, bytes: &[u8]) {
        self.d[row] = half_at(bytes, 208);
        for (block, tile) in self.q.iter_mut().enumerate() {
            // Four blocks share 64 bytes of low bits and 32 of high ones.
            let (group, part) = (block / 4, block % 4);
            let (low, high) = (&bytes[group * 64 + part % 2 * BLOCK..], &bytes[128 + group * BLOCK..]);
            let q = |i: usize| low[i] >> (part / 2 * 4) & 15 | (high[i] >> (2 * part) & 3) << 4;
            tile.fill(row, &std::array::from_fn(q));
            for half in 0..2 {
                self.s[block][half][row] = bytes[192 + 2 * block + half] as i8;
            }
        }
    }

    fn unpack(&self, row: usize, block: usize) -> [f32; BLOCK] {
        let (d, q) = (self.d[row].to_f32(), self.q[block].row(row));
        std::array::from_fn(|i| d * f32::from(self.s[block][i / 16][row]) * (f32::from(q[i]) - 32.0))
    }

    /// The sums of both halves, each less than 2^11, as two i16.
    #[inline(always)]
    fn correction<L: Lanes>(l: L, [a, b]: [L::I; 2], _scale: f32) -> u32 {
        let (a, b) = (l.sum_i(a) as i16, l.sum_i(b) as i16);
        u32::from(a as u16) | u32::from(b as u16) << 16
    }

    #[inline(always)]
    fn multiply<L: Lanes, const M: usize>(&self, l: L, block: usize, x: &[Block; M], sums: &mut [L::F; M]) {
        let d = l.widen_f16(&self.d);
        let s = [l.widen_i8(&self.s[block][0]), l.widen_i8(&self.s[block][1])];
        let q = self.q[block].load(l);
        for n in 0..M {
            let (correction, x4) = (x[n].correction, x[n].halves());
            let a = l.dot_six_bits(l.splat_i(-32 * i32::from(correction as i16)), &q[0], x4[0]);
            let b = l.dot_six_bits(l.splat_i(-32 * (correction as i32 >> 16)), &q[1], x4[1]);
            // Exact: each dot product is at most 16 * 32 * 127 and a scale 128, so that both together are below 2^24.
            let c = l.fma(l.to_float(a), s[0], l.mul(l.to_float(b), s[1]));
            sums[n] = l.fma(c, l.mul(d, l.splat(x[n].scale)), sums[n]);
        }
    }
}
