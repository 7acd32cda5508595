//! Matrix product for few rows: every weight is read once from memory, whatever the number of rows (up to 8).
//!
//! A cube of 128 units computes 4 outputs for up to 8 rows of activations; its units share the columns. Invariant: each
//! result is summed in an order that depends on the number of columns alone, so a row's bits do not depend on the rows beside
//! it, nor on how many a cube takes at once.

use cubecl::prelude::*;

use super::tile::{Encoding, tile_weights};

/// Units of a cube. It fixes the order of summation: part of the kernel class.
pub(super) const UNITS: u32 = 128;
/// Most rows of activations a cube takes at once; beyond them the weights are read again, from the cache if it is large.
pub(super) const MOST_ROWS: usize = 8;

/// # Shapes
/// `x [t, 8 * columns]` times the weight `[rows, 8 * columns]` transposed is `y [t, rows]`. Cubes: `x` over pieces of `take`
/// rows of activations, `y` and `z` over groups of 4 weight rows.
#[cube(launch_unchecked)]
pub(super) fn thin<F: Float, N: Size, O: Float>(
    quants: &Array<Vector<u32, Const<4>>>,
    high: &Array<u32>,
    scales: &Array<u32>,
    supers: &Array<u32>,
    x: &Array<Vector<F, N>>,
    y: &mut Array<O>,
    rows: u32,
    columns: u32,
    t: u32,
    #[comptime] encoding: Encoding,
    #[comptime] take: u32,
    #[comptime] planes: u32,
    #[define(F)] _activation: StorageType,
    #[define(O)] _output: StorageType,
) {
    let group = CUBE_POS_Z * CUBE_COUNT_Y + CUBE_POS_Y;
    if group * 4 >= rows {
        terminate!();
    }
    let first = CUBE_POS_X * take;
    let sums = comptime!((4 * take) as usize);
    let width = comptime!(x.vector_size() as u32);
    let mut weights = Array::<f32>::new(32usize);
    let mut sum = Array::<f32>::new(sums);
    #[unroll]
    for i in 0..sums {
        sum[i] = 0.0;
    }
    let mut column = UNIT_POS;
    while column < columns {
        tile_weights(quants, high, scales, supers, group, column, columns, rows, encoding, &mut weights);
        #[unroll]
        for i in 0..take {
            let row = select(first + i < t, first + i, t - 1);
            let at = (row * columns + column) * comptime!(8 / width);
            #[unroll]
            for part in 0..comptime!(8 / width) {
                let values = Vector::<f32, N>::cast_from(x[(at + part) as usize]);
                #[unroll]
                for j in 0..width {
                    let value = values[comptime!(j as usize)];
                    #[unroll]
                    for r in 0..4u32 {
                        let to = comptime!((i * 4 + r) as usize);
                        sum[to] = fma(weights[comptime!((r * 8 + part * width + j) as usize)], value, sum[to]);
                    }
                }
            }
        }
        column += UNITS;
    }
    let mut shared = SharedMemory::<f32>::new(comptime!(sums * planes as usize));
    #[unroll]
    for i in 0..sums {
        let total = plane_sum(sum[i]);
        if UNIT_POS_PLANE == 0 {
            shared[(UNIT_POS / PLANE_DIM) as usize * sums + i] = total;
        }
    }
    sync_cube();
    if UNIT_POS < comptime!(sums as u32) {
        let mut total = 0.0f32;
        for plane in 0..UNITS / PLANE_DIM {
            total += shared[plane as usize * sums + UNIT_POS as usize];
        }
        let row = first + UNIT_POS / 4;
        let output = group * 4 + UNIT_POS % 4;
        if row < t && output < rows {
            y[(row * rows + output) as usize] = O::cast_from(total);
        }
    }
}
