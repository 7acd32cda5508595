//! Lanes in one 512-bit register.

use std::arch::x86_64::*;

use half::f16;

use super::lanes::{LANES, Lanes};

/// Proof that the processor has AVX-512 F, BW, VL, DQ and VNNI.
#[derive(Clone, Copy)]
pub(in crate::kernel) struct Avx512(());

impl Avx512 {
    /// Callable only where the features are known to be there.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
    #[inline]
    pub(super) fn new() -> Self {
        Self(())
    }
}

/// Calls intrinsics that take no pointer.
macro_rules! op {
    ($call:expr) => {
        // SAFETY: an `Avx512` exists only where its features do, and the intrinsic touches no memory.
        unsafe { $call }
    };
}

impl Lanes for Avx512 {
    type F = __m512;
    type I = __m512i;
    const BYTE_BIAS: i32 = 128;
    const WIDE: bool = true;

    #[inline(always)]
    fn splat(self, value: f32) -> __m512 {
        op!(_mm512_set1_ps(value))
    }
    #[inline(always)]
    fn load(self, from: &[f32; LANES]) -> __m512 {
        // SAFETY: the array has the 64 bytes read.
        unsafe { _mm512_loadu_ps(from.as_ptr()) }
    }
    #[inline(always)]
    fn store(self, value: __m512, to: &mut [f32; LANES]) {
        // SAFETY: the array has the 64 bytes written.
        unsafe { _mm512_storeu_ps(to.as_mut_ptr(), value) }
    }
    #[inline(always)]
    fn add(self, a: __m512, b: __m512) -> __m512 {
        op!(_mm512_add_ps(a, b))
    }
    #[inline(always)]
    fn sub(self, a: __m512, b: __m512) -> __m512 {
        op!(_mm512_sub_ps(a, b))
    }
    #[inline(always)]
    fn mul(self, a: __m512, b: __m512) -> __m512 {
        op!(_mm512_mul_ps(a, b))
    }
    #[inline(always)]
    fn div(self, a: __m512, b: __m512) -> __m512 {
        op!(_mm512_div_ps(a, b))
    }
    #[inline(always)]
    fn min(self, a: __m512, b: __m512) -> __m512 {
        op!(_mm512_min_ps(a, b))
    }
    #[inline(always)]
    fn max(self, a: __m512, b: __m512) -> __m512 {
        op!(_mm512_max_ps(a, b))
    }
    #[inline(always)]
    fn fma(self, a: __m512, b: __m512, c: __m512) -> __m512 {
        op!(_mm512_fmadd_ps(a, b, c))
    }
    #[inline(always)]
    fn widen_f16(self, from: &[f16; LANES]) -> __m512 {
        // SAFETY: the array has the 32 bytes read, and an `Avx512` exists only where its features do.
        unsafe { _mm512_cvtph_ps(_mm256_loadu_si256(from.as_ptr().cast())) }
    }
    #[inline(always)]
    fn widen_bf16(self, from: &[u16; LANES]) -> __m512 {
        // SAFETY: the array has the 32 bytes read, and an `Avx512` exists only where its features do.
        unsafe {
            let wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256(from.as_ptr().cast()));
            _mm512_castsi512_ps(_mm512_slli_epi32::<16>(wide))
        }
    }
    #[inline(always)]
    fn widen_u8(self, from: &[u8; LANES]) -> __m512 {
        // SAFETY: the array has the 16 bytes read, and an `Avx512` exists only where its features do.
        unsafe { _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128(from.as_ptr().cast()))) }
    }
    #[inline(always)]
    fn widen_i8(self, from: &[i8; LANES]) -> __m512 {
        // SAFETY: the array has the 16 bytes read, and an `Avx512` exists only where its features do.
        unsafe { _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(from.as_ptr().cast()))) }
    }

    #[inline(always)]
    fn splat_i(self, value: i32) -> __m512i {
        op!(_mm512_set1_epi32(value))
    }
    #[inline(always)]
    fn load_bytes(self, from: &[u8; 4 * LANES]) -> __m512i {
        // SAFETY: the array has the 64 bytes read.
        unsafe { _mm512_loadu_si512(from.as_ptr().cast()) }
    }
    #[inline(always)]
    fn store_i(self, value: __m512i, to: &mut [i32; LANES]) {
        // SAFETY: the array has the 64 bytes written.
        unsafe { _mm512_storeu_si512(to.as_mut_ptr().cast(), value) }
    }
    #[inline(always)]
    fn add_i(self, a: __m512i, b: __m512i) -> __m512i {
        op!(_mm512_add_epi32(a, b))
    }
    #[inline(always)]
    fn sub_i(self, a: __m512i, b: __m512i) -> __m512i {
        op!(_mm512_sub_epi32(a, b))
    }
    #[inline(always)]
    fn and_i(self, a: __m512i, b: __m512i) -> __m512i {
        op!(_mm512_and_si512(a, b))
    }
    #[inline(always)]
    fn or_i(self, a: __m512i, b: __m512i) -> __m512i {
        op!(_mm512_or_si512(a, b))
    }
    #[inline(always)]
    fn max_i(self, a: __m512i, b: __m512i) -> __m512i {
        op!(_mm512_max_epi32(a, b))
    }
    #[inline(always)]
    fn shl_23(self, a: __m512i) -> __m512i {
        op!(_mm512_slli_epi32::<23>(a))
    }
    #[inline(always)]
    fn shl(self, a: __m512i, by: u32) -> __m512i {
        op!(_mm512_sllv_epi32(a, _mm512_set1_epi32(by as i32)))
    }
    #[inline(always)]
    fn shr(self, a: __m512i, by: u32) -> __m512i {
        op!(_mm512_srlv_epi32(a, _mm512_set1_epi32(by as i32)))
    }
    #[inline(always)]
    fn low_nibbles(self, a: __m512i) -> __m512i {
        op!(_mm512_and_si512(a, _mm512_set1_epi8(15)))
    }
    #[inline(always)]
    fn high_nibbles(self, a: __m512i) -> __m512i {
        op!(_mm512_and_si512(_mm512_srli_epi16::<4>(a), _mm512_set1_epi8(15)))
    }
    #[inline(always)]
    fn dot_nibbles(self, sum: __m512i, low: &[__m512i; 4], high: &[__m512i; 4], x: &[u32; 8]) -> __m512i {
        let mut sum = sum;
        for j in 0..4 {
            sum = op!(_mm512_dpbusd_epi32(sum, low[j], _mm512_set1_epi32(x[j] as i32)));
        }
        for j in 0..4 {
            sum = op!(_mm512_dpbusd_epi32(sum, high[j], _mm512_set1_epi32(x[4 + j] as i32)));
        }
        sum
    }
    #[inline(always)]
    fn dot_bytes(self, sum: __m512i, weights: &[__m512i; 8], x: &[u32; 8]) -> __m512i {
        let mut sum = sum;
        for j in 0..8 {
            sum = op!(_mm512_dpbusd_epi32(sum, weights[j], _mm512_set1_epi32(x[j] as i32)));
        }
        sum
    }
    #[inline(always)]
    fn dot_six_bits(self, sum: __m512i, weights: &[__m512i; 4], x: &[u32; 4]) -> __m512i {
        let mut sum = sum;
        for j in 0..4 {
            sum = op!(_mm512_dpbusd_epi32(sum, weights[j], _mm512_set1_epi32(x[j] as i32)));
        }
        sum
    }
    #[inline(always)]
    fn to_float(self, a: __m512i) -> __m512 {
        op!(_mm512_cvtepi32_ps(a))
    }
    #[inline(always)]
    fn as_bits(self, a: __m512) -> __m512i {
        op!(_mm512_castps_si512(a))
    }
    #[inline(always)]
    fn as_float(self, a: __m512i) -> __m512 {
        op!(_mm512_castsi512_ps(a))
    }
    #[inline(always)]
    fn prefetch(self, address: *const u8) {
        // SAFETY: a prefetch of an address that is not mapped does nothing.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(address.cast()) }
    }
    #[inline(always)]
    fn sum_i(self, a: __m512i) -> i32 {
        op!(_mm512_reduce_add_epi32(a))
    }
    #[inline(always)]
    fn greatest_i(self, a: __m512i) -> i32 {
        op!(_mm512_reduce_max_epi32(a))
    }
}
