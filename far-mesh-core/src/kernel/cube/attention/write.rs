//! Rotates queries and keys, and stores keys and values.

use cubecl::prelude::*;

use super::plan::ROW_WORDS;

/// Rotary embedding (Su et al. 2021) in the half-split form; queries go to `queries` in f32, times `scale`.
///
/// # Shapes
/// `qkv [t, (heads + 2 * kv_heads) * 2 * half]`, `queries [t, heads * 2 * half]`, `cos` and `sin [positions, half]`, `keys` and
/// `values [pages, kv_heads, 32, 2 * half]`; a unit for each pair of elements of a row.
#[cube(launch_unchecked)]
pub(super) fn write<F: Float>(
    qkv: &Array<F>,
    plan: &Array<u32>,
    cos: &Array<f32>,
    sin: &Array<f32>,
    queries: &mut Array<f32>,
    keys: &mut Array<F>,
    values: &mut Array<F>,
    scale: f32,
    units: u32,
    #[comptime] heads: u32,
    #[comptime] kv_heads: u32,
    #[comptime] half: u32,
    #[define(F)] _activation: StorageType,
) {
    let unit = ABSOLUTE_POS as u32;
    if unit >= units {
        terminate!();
    }
    let slots = comptime!(heads + 2 * kv_heads);
    let row = unit / comptime!(slots * half);
    let rest = unit % comptime!(slots * half);
    let (slot, i) = (rest / half, rest % half);
    let from = (row * slots + slot) * comptime!(2 * half) + i;
    let first = f32::cast_from(qkv[from as usize]);
    let second = f32::cast_from(qkv[(from + half) as usize]);
    let position = plan[(row * comptime!(ROW_WORDS as u32)) as usize];
    let angle = (position * half + i) as usize;
    let turned_first = first * cos[angle] - second * sin[angle];
    let turned_second = second * cos[angle] + first * sin[angle];
    if slot < heads {
        let to = (row * heads + slot) * comptime!(2 * half) + i;
        queries[to as usize] = turned_first * scale;
        queries[(to + half) as usize] = turned_second * scale;
    } else {
        let table = plan[(row * comptime!(ROW_WORDS as u32) + 1) as usize];
        let page = plan[(table + position / 32) as usize];
        let head = (slot - heads) % kv_heads;
        let to = ((page * kv_heads + head) * 32 + position % 32) * comptime!(2 * half) + i;
        if slot < comptime!(heads + kv_heads) {
            keys[to as usize] = F::cast_from(turned_first);
            keys[(to + half) as usize] = F::cast_from(turned_second);
        } else {
            values[to as usize] = F::cast_from(first);
            values[(to + half) as usize] = F::cast_from(second);
        }
    }
}
