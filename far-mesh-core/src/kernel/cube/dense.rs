//! Weights as plain rows: the embedding of token ids, and pieces of a matrix for the wide product.

use cubecl::prelude::*;

use super::tile::{Encoding, tile_weights};

/// Rows `ids` of a weight.
///
/// # Shapes
/// `out [ids.len(), 8 * columns]`; a unit for each 8 elements.
#[cube(launch_unchecked)]
pub(super) fn embed<F: Float>(
    quants: &Array<Vector<u32, Const<4>>>,
    high: &Array<u32>,
    scales: &Array<u32>,
    supers: &Array<u32>,
    ids: &Array<u32>,
    out: &mut Array<F>,
    rows: u32,
    columns: u32,
    units: u32,
    #[comptime] encoding: Encoding,
    #[define(F)] _activation: StorageType,
) {
    let unit = ABSOLUTE_POS as u32;
    if unit >= units {
        terminate!();
    }
    let id = ids[(unit / columns) as usize];
    let mut weights = Array::<f32>::new(32usize);
    tile_weights(quants, high, scales, supers, id / 4, unit % columns, columns, rows, encoding, &mut weights);
    #[unroll]
    for r in 0..4u32 {
        if id % 4 == r {
            #[unroll]
            for j in 0..8u32 {
                out[(unit * 8 + j) as usize] = F::cast_from(weights[comptime!((r * 8 + j) as usize)]);
            }
        }
    }
}

/// Groups of 4 rows from `first_group` on, row by row.
///
/// # Shapes
/// `out [4 * groups, 8 * columns]`; a unit for each tile.
#[cube(launch_unchecked)]
pub(super) fn unpack<F: Float, N: Size>(
    quants: &Array<Vector<u32, Const<4>>>,
    high: &Array<u32>,
    scales: &Array<u32>,
    supers: &Array<u32>,
    out: &mut Array<Vector<F, N>>,
    first_group: u32,
    rows: u32,
    columns: u32,
    units: u32,
    #[comptime] encoding: Encoding,
    #[define(F)] _activation: StorageType,
) {
    let unit = ABSOLUTE_POS as u32;
    if unit >= units {
        terminate!();
    }
    let (group, column) = (unit / columns, unit % columns);
    let width = comptime!(out.vector_size() as u32);
    let mut weights = Array::<f32>::new(32usize);
    tile_weights(quants, high, scales, supers, first_group + group, column, columns, rows, encoding, &mut weights);
    #[unroll]
    for r in 0..4u32 {
        #[unroll]
        for part in 0..comptime!(8 / width) {
            let mut values = Vector::<f32, N>::empty();
            #[unroll]
            for j in 0..width {
                values[comptime!(j as usize)] = weights[comptime!((r * 8 + part * width + j) as usize)];
            }
            let at = ((group * 4 + r) * columns + column) * comptime!(8 / width) + part;
            out[at as usize] = Vector::cast_from(values);
        }
    }
}
