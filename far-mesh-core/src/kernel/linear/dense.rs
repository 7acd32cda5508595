//! Weights that are floating-point numbers: one column of 16 rows.

use half::{bf16, f16};

use super::quant::BLOCK;
use crate::kernel::simd::{LANES, Lanes};

/// An element of a dense weight.
pub(super) trait Element: bytemuck::Pod + Send + Sync {
    fn read(bytes: &[u8]) -> Self;
    fn widen(self) -> f32;
    fn load<L: Lanes>(l: L, from: &[Self; LANES]) -> L::F;
}

impl Element for f32 {
    fn read(bytes: &[u8]) -> Self {
        Self::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
    }
    fn widen(self) -> f32 {
        self
    }
    #[inline(always)]
    fn load<L: Lanes>(l: L, from: &[Self; LANES]) -> L::F {
        l.load(from)
    }
}

impl Element for f16 {
    fn read(bytes: &[u8]) -> Self {
        Self::from_le_bytes([bytes[0], bytes[1]])
    }
    fn widen(self) -> f32 {
        self.to_f32()
    }
    #[inline(always)]
    fn load<L: Lanes>(l: L, from: &[Self; LANES]) -> L::F {
        l.widen_f16(from)
    }
}

impl Element for bf16 {
    fn read(bytes: &[u8]) -> Self {
        Self::from_le_bytes([bytes[0], bytes[1]])
    }
    fn widen(self) -> f32 {
        self.to_f32()
    }
    #[inline(always)]
    fn load<L: Lanes>(l: L, from: &[Self; LANES]) -> L::F {
        l.widen_bf16(bytemuck::cast_ref(from))
    }
}

/// Product of 16 rows, column by column, with `M` activation rows: item `part` of each `parts` in `x`. Summed in blocks:
/// less rounding than one long sum.
#[inline(always)]
pub(super) fn multiply<L: Lanes, E: Element, const M: usize>(
    l: L,
    w: &[[E; LANES]],
    x: &[[f32; M]],
    parts: usize,
    part: usize,
) -> [L::F; M] {
    let mut sums = [l.splat(0.0); M];
    for (w, x) in w.chunks(BLOCK).zip(x.chunks(BLOCK * parts)) {
        let mut block = [l.splat(0.0); M];
        for (w, x) in w.iter().zip(x.chunks_exact(parts)) {
            let w = E::load(l, w);
            for n in 0..M {
                block[n] = l.fma(w, l.splat(x[part][n]), block[n]);
            }
        }
        for n in 0..M {
            sums[n] = l.add(sums[n], block[n]);
        }
    }
    sums
}
