//! Lanes in two 256-bit registers: lanes 0 to 7, then 8 to 15.

use std::arch::x86_64::*;

use half::f16;

use super::lanes::{LANES, Lanes};

/// Proof that the processor has AVX2, FMA and F16C.
#[derive(Clone, Copy)]
pub(in crate::kernel) struct Avx2(());

/// Calls intrinsics that take no pointer, once for each half.
macro_rules! halves {
    // Not a closure: the compiler may leave one out of line, and then without the features.
    ($intrinsic:ident, $($value:expr),+) => {
        // SAFETY: an `Avx2` exists only where its features do, and the intrinsic touches no memory.
        unsafe { [$intrinsic($($value[0]),+), $intrinsic($($value[1]),+)] }
    };
}

impl Avx2 {
    /// Callable only where the features are known to be there.
    #[target_feature(enable = "avx2,fma,f16c")]
    #[inline]
    pub(super) fn new() -> Self {
        Self(())
    }

    /// Adds the i16 to the lane they lie in.
    #[inline(always)]
    fn add_pairs(self, sum: [__m256i; 2], pairs: [__m256i; 2]) -> [__m256i; 2] {
        // SAFETY: an `Avx2` exists only where its features do.
        let one = [unsafe { _mm256_set1_epi16(1) }; 2];
        self.add_i(sum, halves!(_mm256_madd_epi16, pairs, one))
    }
}

impl Lanes for Avx2 {
    type F = [__m256; 2];
    type I = [__m256i; 2];
    const BYTE_BIAS: i32 = 0;
    const WIDE: bool = false;

    #[inline(always)]
    fn splat(self, value: f32) -> Self::F {
        // SAFETY: an `Avx2` exists only where its features do.
        [unsafe { _mm256_set1_ps(value) }; 2]
    }
    #[inline(always)]
    fn load(self, from: &[f32; LANES]) -> Self::F {
        // SAFETY: the array has the two times 32 bytes read.
        unsafe { [_mm256_loadu_ps(from.as_ptr()), _mm256_loadu_ps(from.as_ptr().add(8))] }
    }
    #[inline(always)]
    fn store(self, value: Self::F, to: &mut [f32; LANES]) {
        // SAFETY: the array has the two times 32 bytes written.
        unsafe {
            _mm256_storeu_ps(to.as_mut_ptr(), value[0]);
            _mm256_storeu_ps(to.as_mut_ptr().add(8), value[1]);
        }
    }
    #[inline(always)]
    fn add(self, a: Self::F, b: Self::F) -> Self::F {
        halves!(_mm256_add_ps, a, b)
    }
    #[inline(always)]
    fn sub(self, a: Self::F, b: Self::F) -> Self::F {
        halves!(_mm256_sub_ps, a, b)
    }
    #[inline(always)]
    fn mul(self, a: Self::F, b: Self::F) -> Self::F {
        halves!(_mm256_mul_ps, a, b)
    }
    #[inline(always)]
    fn div(self, a: Self::F, b: Self::F) -> Self::F {
        halves!(_mm256_div_ps, a, b)
    }
    #[inline(always)]
    fn min(self, a: Self::F, b: Self::F) -> Self::F {
        halves!(_mm256_min_ps, a, b)
    }
    #[inline(always)]
    fn max(self, a: Self::F, b: Self::F) -> Self::F {
        halves!(_mm256_max_ps, a, b)
    }
    #[inline(always)]
    fn fma(self, a: Self::F, b: Self::F, c: Self::F) -> Self::F {
        halves!(_mm256_fmadd_ps, a, b, c)
    }
    #[inline(always)]
    fn widen_f16(self, from: &[f16; LANES]) -> Self::F {
        // SAFETY: the array has the two times 16 bytes read, and an `Avx2` exists only where its features do.
        unsafe {
            let low = _mm_loadu_si128(from.as_ptr().cast());
            let high = _mm_loadu_si128(from.as_ptr().add(8).cast());
            [_mm256_cvtph_ps(low), _mm256_cvtph_ps(high)]
        }
    }
    #[inline(always)]
    fn widen_bf16(self, from: &[u16; LANES]) -> Self::F {
        // SAFETY: the array has the two times 16 bytes read, and an `Avx2` exists only where its features do.
        unsafe {
            let low = _mm256_cvtepu16_epi32(_mm_loadu_si128(from.as_ptr().cast()));
            let high = _mm256_cvtepu16_epi32(_mm_loadu_si128(from.as_ptr().add(8).cast()));
            [_mm256_castsi256_ps(_mm256_slli_epi32::<16>(low)), _mm256_castsi256_ps(_mm256_slli_epi32::<16>(high))]
        }
    }
    #[inline(always)]
    fn widen_u8(self, from: &[u8; LANES]) -> Self::F {
        // SAFETY: the array has the two times 8 bytes read, and an `Avx2` exists only where its features do.
        let wide = unsafe {
            let (low, high) = (_mm_loadl_epi64(from.as_ptr().cast()), _mm_loadl_epi64(from.as_ptr().add(8).cast()));
            [_mm256_cvtepu8_epi32(low), _mm256_cvtepu8_epi32(high)]
        };
        self.to_float(wide)
    }
    #[inline(always)]
    fn widen_i8(self, from: &[i8; LANES]) -> Self::F {
        // SAFETY: the array has the two times 8 bytes read, and an `Avx2` exists only where its features do.
        let wide = unsafe {
            let (low, high) = (_mm_loadl_epi64(from.as_ptr().cast()), _mm_loadl_epi64(from.as_ptr().add(8).cast()));
            [_mm256_cvtepi8_epi32(low), _mm256_cvtepi8_epi32(high)]
        };
        self.to_float(wide)
    }

    #[inline(always)]
    fn splat_i(self, value: i32) -> Self::I {
        // SAFETY: an `Avx2` exists only where its features do.
        [unsafe { _mm256_set1_epi32(value) }; 2]
    }
    #[inline(always)]
    fn load_bytes(self, from: &[u8; 4 * LANES]) -> Self::I {
        // SAFETY: the array has the two times 32 bytes read.
        unsafe { [_mm256_loadu_si256(from.as_ptr().cast()), _mm256_loadu_si256(from.as_ptr().add(32).cast())] }
    }
    #[inline(always)]
    fn store_i(self, value: Self::I, to: &mut [i32; LANES]) {
        // SAFETY: the array has the two times 32 bytes written.
        unsafe {
            _mm256_storeu_si256(to.as_mut_ptr().cast(), value[0]);
            _mm256_storeu_si256(to.as_mut_ptr().add(8).cast(), value[1]);
        }
    }
    #[inline(always)]
    fn add_i(self, a: Self::I, b: Self::I) -> Self::I {
        halves!(_mm256_add_epi32, a, b)
    }
    #[inline(always)]
    fn sub_i(self, a: Self::I, b: Self::I) -> Self::I {
        halves!(_mm256_sub_epi32, a, b)
    }
    #[inline(always)]
    fn and_i(self, a: Self::I, b: Self::I) -> Self::I {
        halves!(_mm256_and_si256, a, b)
    }
    #[inline(always)]
    fn or_i(self, a: Self::I, b: Self::I) -> Self::I {
        halves!(_mm256_or_si256, a, b)
    }
    #[inline(always)]
    fn max_i(self, a: Self::I, b: Self::I) -> Self::I {
        halves!(_mm256_max_epi32, a, b)
    }
    #[inline(always)]
    fn shl_23(self, a: Self::I) -> Self::I {
        // SAFETY: an `Avx2` exists only where its features do.
        unsafe { [_mm256_slli_epi32::<23>(a[0]), _mm256_slli_epi32::<23>(a[1])] }
    }
    #[inline(always)]
    fn shl(self, a: Self::I, by: u32) -> Self::I {
        halves!(_mm256_sllv_epi32, a, self.splat_i(by as i32))
    }
    #[inline(always)]
    fn shr(self, a: Self::I, by: u32) -> Self::I {
        halves!(_mm256_srlv_epi32, a, self.splat_i(by as i32))
    }
    #[inline(always)]
    fn low_nibbles(self, a: Self::I) -> Self::I {
        self.and_i(a, self.splat_i(0x0f0f_0f0f))
    }
    #[inline(always)]
    fn high_nibbles(self, a: Self::I) -> Self::I {
        // SAFETY: an `Avx2` exists only where its features do.
        let shifted = unsafe { [_mm256_srli_epi16::<4>(a[0]), _mm256_srli_epi16::<4>(a[1])] };
        self.low_nibbles(shifted)
    }
    #[inline(always)]
    fn dot_nibbles(self, sum: Self::I, low: &[Self::I; 4], high: &[Self::I; 4], x: &[u32; 8]) -> Self::I {
        // A pair is at most 2 * 15 * 127, eight of them 30480: their sum stays within i16.
        let mut pairs = self.splat_i(0);
        for j in 0..4 {
            let (a, b) = (self.splat_i(x[j] as i32), self.splat_i(x[4 + j] as i32));
            let a = halves!(_mm256_maddubs_epi16, low[j], a);
            let b = halves!(_mm256_maddubs_epi16, high[j], b);
            let both = halves!(_mm256_add_epi16, a, b);
            pairs = halves!(_mm256_add_epi16, pairs, both);
        }
        self.add_pairs(sum, pairs)
    }
    #[inline(always)]
    fn dot_bytes(self, sum: Self::I, weights: &[Self::I; 8], x: &[u32; 8]) -> Self::I {
        // |w| * (x with the sign of w): a pair is at most 2 * 128 * 127 = 32512 and so never saturates its i16.
        // SAFETY: an `Avx2` exists only where its features do.
        let flip = [unsafe { _mm256_set1_epi8(-128) }; 2];
        let mut sum = sum;
        for j in 0..8 {
            let w = halves!(_mm256_xor_si256, weights[j], flip);
            let x = self.splat_i(x[j] as i32);
            let x = halves!(_mm256_sign_epi8, x, w);
            let w = halves!(_mm256_abs_epi8, w);
            sum = self.add_pairs(sum, halves!(_mm256_maddubs_epi16, w, x));
        }
        sum
    }
    #[inline(always)]
    fn dot_six_bits(self, sum: Self::I, weights: &[Self::I; 4], x: &[u32; 4]) -> Self::I {
        // A pair is at most 2 * 63 * 127 = 16002: the sum of two stays within i16.
        let mut sum = sum;
        for j in [0, 2] {
            let a = halves!(_mm256_maddubs_epi16, weights[j], self.splat_i(x[j] as i32));
            let b = halves!(_mm256_maddubs_epi16, weights[j + 1], self.splat_i(x[j + 1] as i32));
            sum = self.add_pairs(sum, halves!(_mm256_add_epi16, a, b));
        }
        sum
    }
    #[inline(always)]
    fn to_float(self, a: Self::I) -> Self::F {
        halves!(_mm256_cvtepi32_ps, a)
    }
    #[inline(always)]
    fn as_bits(self, a: Self::F) -> Self::I {
        halves!(_mm256_castps_si256, a)
    }
    #[inline(always)]
    fn as_float(self, a: Self::I) -> Self::F {
        halves!(_mm256_castsi256_ps, a)
    }
    #[inline(always)]
    fn prefetch(self, address: *const u8) {
        // SAFETY: a prefetch of an address that is not mapped does nothing.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(address.cast()) }
    }
}
