//! What treats each row or element by itself: norms, the gate of the feed-forward layer, the residual sum.
//!
//! All of it computes in f32. A sum is rounded to the activation's type before its norm is taken, so that a span may end
//! after it: what crosses to the next node is what its norm will see.

use cubecl::prelude::*;

/// Units of a cube that takes the norm of a row; fixes the order of summation.
pub(super) const NORM_UNITS: u32 = 256;

/// `out = x / sqrt(mean(x^2) + eps) * weight`, and before it, with `ADD`, `sum = x + delta` in place of `x`.
///
/// # Shapes
/// `x`, `delta`, `sum`, `out [rows, width]` in the activation's type, `weight [width]` f32; a cube for each row. Without `add`
/// neither `delta` nor `sum` is touched.
#[cube(launch_unchecked)]
pub(super) fn norm<F: Float>(
    x: &Array<F>,
    delta: &Array<F>,
    weight: &Array<f32>,
    sum: &mut Array<F>,
    out: &mut Array<F>,
    rows: u32,
    width: u32,
    eps: f32,
    #[comptime] add: bool,
    #[define(F)] _activation: StorageType,
) {
    let row = CUBE_POS_Y * CUBE_COUNT_X + CUBE_POS_X;
    if row >= rows {
        terminate!();
    }
    let first = row * width;
    let mut squares = 0.0f32;
    let mut i = UNIT_POS;
    while i < width {
        let at = (first + i) as usize;
        if comptime!(add) {
            let rounded = F::cast_from(f32::cast_from(x[at]) + f32::cast_from(delta[at]));
            sum[at] = rounded;
            let value = f32::cast_from(rounded);
            squares = fma(value, value, squares);
        } else {
            let value = f32::cast_from(x[at]);
            squares = fma(value, value, squares);
        }
        i += NORM_UNITS;
    }
    let mut shared = SharedMemory::<f32>::new(NORM_UNITS as usize);
    shared[UNIT_POS as usize] = squares;
    sync_cube();
    #[unroll]
    for level in 0..8u32 {
        let half = comptime!(128u32 >> level);
        if UNIT_POS < half {
            let other = shared[(UNIT_POS + half) as usize];
            shared[UNIT_POS as usize] += other;
        }
        sync_cube();
    }
    let scale = 1.0 / Sqrt::sqrt(shared[0] / f32::cast_from(width) + eps);
    let mut i = UNIT_POS;
    while i < width {
        let at = (first + i) as usize;
        // A unit reads back only what it wrote itself.
        let value = if comptime!(add) { f32::cast_from(sum[at]) } else { f32::cast_from(x[at]) };
        out[at] = F::cast_from(value * scale * weight[i as usize]);
        i += NORM_UNITS;
    }
}

/// `silu(gate) * up`.
///
/// # Shapes
/// `gate_up [t, 2 * width]` to `out [t, width]`; a unit for each result.
#[cube(launch_unchecked)]
pub(super) fn silu_mul<F: Float>(
    gate_up: &Array<F>,
    out: &mut Array<F>,
    width: u32,
    units: u32,
    #[define(F)] _activation: StorageType,
) {
    let unit = ABSOLUTE_POS as u32;
    if unit >= units {
        terminate!();
    }
    let at = (unit / width) * 2 * width + unit % width;
    let gate = f32::cast_from(gate_up[at as usize]);
    let up = f32::cast_from(gate_up[(at + width) as usize]);
    out[unit as usize] = F::cast_from(gate / (1.0 + Exp::exp(-gate)) * up);
}

/// `out = x + delta`, with the rounding of [`norm`].
#[cube(launch_unchecked)]
pub(super) fn add<F: Float>(
    x: &Array<F>,
    delta: &Array<F>,
    out: &mut Array<F>,
    units: u32,
    #[define(F)] _activation: StorageType,
) {
    let unit = ABSOLUTE_POS as u32;
    if unit >= units {
        terminate!();
    }
    let at = unit as usize;
    out[at] = F::cast_from(f32::cast_from(x[at]) + f32::cast_from(delta[at]));
}
