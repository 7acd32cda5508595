//! Rows of a packed matrix as f32: what GGML's dequantization gives, bit for bit.

use super::{
    dense::Element,
    quant::{BLOCK, Tile},
    weight::{Packed, by_kind},
};
use crate::kernel::simd::LANES;

/// Rows `ids`, one after the other. An id that is not a row panics: the caller checks.
pub(in crate::kernel) fn embed(weight: &Packed, ids: &[u32]) -> Vec<f32> {
    let (weight, mut out) = (weight.weight(), Vec::with_capacity(ids.len() * weight.columns()));
    for id in ids {
        let row = *id as usize;
        assert!(row < weight.n, "token {row} of a vocabulary of {}", weight.n);
        by_kind!(&weight.tiles,
            quantized tiles => unpack(tiles, row, weight.k, &mut out),
            dense columns => widen(columns, row, weight.k, &mut out));
    }
    out
}

fn unpack<T: Tile>(tiles: &[T], row: usize, k: usize, out: &mut Vec<f32>) {
    let per_row = k / (BLOCK * T::BLOCKS);
    for tile in &tiles[row / LANES * per_row..][..per_row] {
        (0..T::BLOCKS).for_each(|block| out.extend(tile.unpack(row % LANES, block)));
    }
}

fn widen<E: Element>(columns: &[[E; LANES]], row: usize, k: usize, out: &mut Vec<f32>) {
    out.extend(columns[row / LANES * k..][..k].iter().map(|column| column[row % LANES].widen()));
}
