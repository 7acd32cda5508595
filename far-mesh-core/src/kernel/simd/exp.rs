//! The exponential function, with the same bits on every instruction set.

use super::lanes::Lanes;

/// `1.5 * 2^23`: adding it to a small f32 rounds that to the nearest integer, ties to even, into the low bits.
pub(in crate::kernel) const ROUND: f32 = 12_582_912.0;

/// Least argument: its result is the least whose exponent below is still a normal number's.
const LEAST: f32 = -86.5;
/// Greatest argument: one more and the result is no longer finite.
const GREATEST: f32 = 88.3;
/// ln 2 in two parts (Cody & Waite 1980); the first has few bits, so its product with an integer is exact.
const LN_2_HIGH: f32 = 0.693_359_4;
const LN_2_LOW: f32 = -2.121_944_4e-4;
/// Polynomial of Cephes `expf` for `(exp(r) - 1 - r) / r^2`, highest power first.
#[expect(clippy::excessive_precision, reason = "as published")]
const COEFFICIENTS: [f32; 6] =
    [1.987_569_150_0e-4, 1.398_199_950_7e-3, 8.333_451_907_3e-3, 4.166_579_589_4e-2, 1.666_666_545_9e-1, 0.5];

/// `e^x` to 2 units in the last place, clamped to `[e^-86.5, e^88.3]`; not a number stays so.
#[inline(always)]
pub(in crate::kernel) fn exp<L: Lanes>(l: L, x: L::F) -> L::F {
    let x = l.max(l.splat(LEAST), l.min(l.splat(GREATEST), x));
    let round = l.splat(ROUND);
    let shifted = l.fma(x, l.splat(std::f32::consts::LOG2_E), round);
    let n = l.sub(shifted, round);
    let r = l.fma(n, l.splat(-LN_2_HIGH), x);
    let r = l.fma(n, l.splat(-LN_2_LOW), r);
    let mut p = l.splat(COEFFICIENTS[0]);
    for c in &COEFFICIENTS[1..] {
        p = l.fma(p, r, l.splat(*c));
    }
    let y = l.add(l.fma(p, l.mul(r, r), r), l.splat(1.0));
    l.as_float(l.add_i(l.as_bits(y), l.shl_23(l.as_bits(shifted))))
}

#[cfg(test)]
mod tests {
    use super::super::{lanes::LANES, scalar::Scalar};
    use super::*;

    #[test]
    fn exp_is_close_to_the_real_one_over_its_range() {
        let l = Scalar;
        for i in -86_000..88_000 {
            let x = i as f32 / 1000.0;
            let y = exp(l, [x; LANES])[0];
            let want = f64::from(x).exp();
            assert!((f64::from(y) / want - 1.0).abs() < 2.5e-7, "exp({x}) = {y}, not {want}");
        }
        assert_eq!(exp(l, [0.0; LANES])[0], 1.0);
        assert!(exp(l, [f32::INFINITY; LANES])[0].is_finite() && exp(l, [f32::INFINITY; LANES])[0] > 2e38);
        assert!((0.0..1e-37).contains(&exp(l, [f32::NEG_INFINITY; LANES])[0]));
        assert!(exp(l, [f32::NAN; LANES])[0].is_nan());
    }
}
