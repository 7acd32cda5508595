//! Lanes as arrays: the reference the other instruction sets are held to, and what a processor without a path of its
//! own runs (the compiler turns most of it into that processor's vectors).

use half::f16;

use super::lanes::{LANES, Lanes};

/// No vectors assumed.
#[derive(Clone, Copy)]
pub(in crate::kernel) struct Scalar;

macro_rules! each {
    ($i:ident => $value:expr) => {{
        let mut out = [Default::default(); LANES];
        for $i in 0..LANES {
            out[$i] = $value;
        }
        out
    }};
}

#[inline(always)]
fn dot(weights: i32, x: u32, bias: i32) -> i32 {
    let (w, x) = (weights.to_le_bytes(), x.to_le_bytes());
    let mut sum = 0;
    for i in 0..4 {
        sum += (i32::from(w[i]) - bias) * i32::from(x[i] as i8);
    }
    sum
}

impl Lanes for Scalar {
    type F = [f32; LANES];
    type I = [i32; LANES];
    const BYTE_BIAS: i32 = 0;
    const WIDE: bool = false;

    #[inline(always)]
    fn splat(self, value: f32) -> Self::F {
        [value; LANES]
    }
    #[inline(always)]
    fn load(self, from: &[f32; LANES]) -> Self::F {
        *from
    }
    #[inline(always)]
    fn store(self, value: Self::F, to: &mut [f32; LANES]) {
        *to = value;
    }
    #[inline(always)]
    fn add(self, a: Self::F, b: Self::F) -> Self::F {
        each!(i => a[i] + b[i])
    }
    #[inline(always)]
    fn sub(self, a: Self::F, b: Self::F) -> Self::F {
        each!(i => a[i] - b[i])
    }
    #[inline(always)]
    fn mul(self, a: Self::F, b: Self::F) -> Self::F {
        each!(i => a[i] * b[i])
    }
    #[inline(always)]
    fn div(self, a: Self::F, b: Self::F) -> Self::F {
        each!(i => a[i] / b[i])
    }
    #[inline(always)]
    fn fma(self, a: Self::F, b: Self::F, c: Self::F) -> Self::F {
        each!(i => a[i].mul_add(b[i], c[i]))
    }
    #[inline(always)]
    fn min(self, a: Self::F, b: Self::F) -> Self::F {
        each!(i => if a[i] < b[i] { a[i] } else { b[i] })
    }
    #[inline(always)]
    fn max(self, a: Self::F, b: Self::F) -> Self::F {
        each!(i => if a[i] > b[i] { a[i] } else { b[i] })
    }
    #[inline(always)]
    fn widen_f16(self, from: &[f16; LANES]) -> Self::F {
        each!(i => from[i].to_f32())
    }
    #[inline(always)]
    fn widen_bf16(self, from: &[u16; LANES]) -> Self::F {
        each!(i => f32::from_bits(u32::from(from[i]) << 16))
    }
    #[inline(always)]
    fn widen_u8(self, from: &[u8; LANES]) -> Self::F {
        each!(i => f32::from(from[i]))
    }
    #[inline(always)]
    fn widen_i8(self, from: &[i8; LANES]) -> Self::F {
        each!(i => f32::from(from[i]))
    }

    #[inline(always)]
    fn splat_i(self, value: i32) -> Self::I {
        [value; LANES]
    }
    #[inline(always)]
    fn load_bytes(self, from: &[u8; 4 * LANES]) -> Self::I {
        each!(i => i32::from_le_bytes([from[4 * i], from[4 * i + 1], from[4 * i + 2], from[4 * i + 3]]))
    }
    #[inline(always)]
    fn store_i(self, value: Self::I, to: &mut [i32; LANES]) {
        *to = value;
    }
    #[inline(always)]
    fn add_i(self, a: Self::I, b: Self::I) -> Self::I {
        each!(i => a[i].wrapping_add(b[i]))
    }
    #[inline(always)]
    fn sub_i(self, a: Self::I, b: Self::I) -> Self::I {
        each!(i => a[i].wrapping_sub(b[i]))
    }
    #[inline(always)]
    fn and_i(self, a: Self::I, b: Self::I) -> Self::I {
        each!(i => a[i] & b[i])
    }
    #[inline(always)]
    fn or_i(self, a: Self::I, b: Self::I) -> Self::I {
        each!(i => a[i] | b[i])
    }
    #[inline(always)]
    fn max_i(self, a: Self::I, b: Self::I) -> Self::I {
        each!(i => a[i].max(b[i]))
    }
    #[inline(always)]
    fn shl_23(self, a: Self::I) -> Self::I {
        each!(i => a[i] << 23)
    }
    #[inline(always)]
    fn shl(self, a: Self::I, by: u32) -> Self::I {
        each!(i => a[i] << by)
    }
    #[inline(always)]
    fn shr(self, a: Self::I, by: u32) -> Self::I {
        each!(i => (a[i] as u32 >> by) as i32)
    }
    #[inline(always)]
    fn low_nibbles(self, a: Self::I) -> Self::I {
        each!(i => a[i] & 0x0f0f_0f0f)
    }
    #[inline(always)]
    fn high_nibbles(self, a: Self::I) -> Self::I {
        each!(i => (a[i] >> 4) & 0x0f0f_0f0f)
    }
    #[inline(always)]
    fn dot_nibbles(self, sum: Self::I, low: &[Self::I; 4], high: &[Self::I; 4], x: &[u32; 8]) -> Self::I {
        let word = |i: usize, j: usize| dot(low[j][i], x[j], 0) + dot(high[j][i], x[4 + j], 0);
        each!(i => sum[i] + word(i, 0) + word(i, 1) + word(i, 2) + word(i, 3))
    }
    #[inline(always)]
    fn dot_bytes(self, sum: Self::I, weights: &[Self::I; 8], x: &[u32; 8]) -> Self::I {
        let mut sum = sum;
        for (weights, x) in weights.iter().zip(x) {
            sum = each!(i => sum[i] + dot(weights[i], *x, 128));
        }
        sum
    }
    #[inline(always)]
    fn dot_six_bits(self, sum: Self::I, weights: &[Self::I; 4], x: &[u32; 4]) -> Self::I {
        let word = |i: usize, j: usize| dot(weights[j][i], x[j], 0);
        each!(i => sum[i] + word(i, 0) + word(i, 1) + word(i, 2) + word(i, 3))
    }
    #[inline(always)]
    fn to_float(self, a: Self::I) -> Self::F {
        each!(i => a[i] as f32)
    }
    #[inline(always)]
    fn as_bits(self, a: Self::F) -> Self::I {
        each!(i => a[i].to_bits() as i32)
    }
    #[inline(always)]
    fn as_float(self, a: Self::I) -> Self::F {
        each!(i => f32::from_bits(a[i] as u32))
    }
}
