//! The operations a kernel is written with.

use half::f16;

/// Lanes of a vector, whatever the registers' width.
pub(in crate::kernel) const LANES: usize = 16;

/// Sixteen lanes on one instruction set. A value of an implementing type is the proof that the processor has it.
pub(in crate::kernel) trait Lanes: Copy {
    /// Sixteen f32.
    type F: Copy;
    /// Sixteen i32, or 64 bytes.
    type I: Copy;
    /// What [`Lanes::dot_bytes`] adds to each weight.
    const BYTE_BIAS: i32;
    /// Whether 8 sums and a tile of weights find room in the registers.
    const WIDE: bool;

    fn splat(self, value: f32) -> Self::F;
    fn load(self, from: &[f32; LANES]) -> Self::F;
    fn store(self, value: Self::F, to: &mut [f32; LANES]);
    fn add(self, a: Self::F, b: Self::F) -> Self::F;
    fn sub(self, a: Self::F, b: Self::F) -> Self::F;
    fn mul(self, a: Self::F, b: Self::F) -> Self::F;
    fn div(self, a: Self::F, b: Self::F) -> Self::F;
    /// `a * b + c`, rounded once.
    fn fma(self, a: Self::F, b: Self::F, c: Self::F) -> Self::F;
    /// `if a < b { a } else { b }`: `b` where either is not a number.
    fn min(self, a: Self::F, b: Self::F) -> Self::F;
    /// `if a > b { a } else { b }`: `b` where either is not a number.
    fn max(self, a: Self::F, b: Self::F) -> Self::F;
    fn widen_f16(self, from: &[f16; LANES]) -> Self::F;
    /// bfloat16 given by its bits.
    fn widen_bf16(self, from: &[u16; LANES]) -> Self::F;

    /// Bytes as numbers 0 to 255.
    fn widen_u8(self, from: &[u8; LANES]) -> Self::F;
    /// Bytes as numbers -128 to 127.
    fn widen_i8(self, from: &[i8; LANES]) -> Self::F;

    fn splat_i(self, value: i32) -> Self::I;
    /// Four bytes a lane.
    fn load_bytes(self, from: &[u8; 4 * LANES]) -> Self::I;
    fn store_i(self, value: Self::I, to: &mut [i32; LANES]);
    fn add_i(self, a: Self::I, b: Self::I) -> Self::I;
    fn sub_i(self, a: Self::I, b: Self::I) -> Self::I;
    fn and_i(self, a: Self::I, b: Self::I) -> Self::I;
    fn or_i(self, a: Self::I, b: Self::I) -> Self::I;
    fn max_i(self, a: Self::I, b: Self::I) -> Self::I;
    /// Each lane shifted left by 23: a small integer becomes the exponent of an f32.
    fn shl_23(self, a: Self::I) -> Self::I;
    /// Each lane shifted left by `by`, 0 to 31.
    fn shl(self, a: Self::I, by: u32) -> Self::I;
    /// Each lane shifted right by `by`, 0 to 31, zeros coming in.
    fn shr(self, a: Self::I, by: u32) -> Self::I;
    /// The low four bits of each byte.
    fn low_nibbles(self, a: Self::I) -> Self::I;
    /// The high four bits of each byte, shifted down.
    fn high_nibbles(self, a: Self::I) -> Self::I;
    /// Adds to each lane the dot products of 32 bytes, less 128 plus [`Lanes::BYTE_BIAS`], with 32 int8 in `x`, none of
    /// which is -128.
    fn dot_bytes(self, sum: Self::I, weights: &[Self::I; 8], x: &[u32; 8]) -> Self::I;
    fn to_float(self, a: Self::I) -> Self::F;
    fn as_bits(self, a: Self::F) -> Self::I;
    fn as_float(self, a: Self::I) -> Self::F;

    /// Adds to each lane the dot products of 32 weights in 0..=15 (the first 16 in `low`, four bytes a lane and word)
    /// with 32 int8 in `x`, none of which is -128.
    fn dot_nibbles(self, sum: Self::I, low: &[Self::I; 4], high: &[Self::I; 4], x: &[u32; 8]) -> Self::I;

    /// Adds to each lane the dot products of 16 weights in 0..=63 with 16 int8 in `x`, none of which is -128.
    fn dot_six_bits(self, sum: Self::I, weights: &[Self::I; 4], x: &[u32; 4]) -> Self::I;

    /// Asks for a cache line that will be read soon; any address will do.
    #[inline(always)]
    fn prefetch(self, _address: *const u8) {}

    /// Sum of the lanes as a tree: lane `i` with `i + 8`, then `i + 4`, `i + 2`, `i + 1`.
    #[inline(always)]
    fn sum(self, a: Self::F) -> f32 {
        let mut lanes = [0.0; LANES];
        self.store(a, &mut lanes);
        for half in [8, 4, 2, 1] {
            for i in 0..half {
                lanes[i] += lanes[i + half];
            }
        }
        lanes[0]
    }

    /// Greatest lane; the tree of [`Lanes::sum`] with [`Lanes::max`].
    #[inline(always)]
    fn greatest(self, a: Self::F) -> f32 {
        let mut lanes = [0.0; LANES];
        self.store(a, &mut lanes);
        for half in [8, 4, 2, 1] {
            for i in 0..half {
                let (a, b) = (lanes[i], lanes[i + half]);
                lanes[i] = if b > a { b } else { a };
            }
        }
        lanes[0]
    }

    /// Sum of the lanes, wrapping.
    #[inline(always)]
    fn sum_i(self, a: Self::I) -> i32 {
        let mut lanes = [0; LANES];
        self.store_i(a, &mut lanes);
        lanes.into_iter().fold(0, i32::wrapping_add)
    }

    /// Greatest lane.
    #[inline(always)]
    fn greatest_i(self, a: Self::I) -> i32 {
        let mut lanes = [0; LANES];
        self.store_i(a, &mut lanes);
        lanes.into_iter().fold(i32::MIN, i32::max)
    }
}
