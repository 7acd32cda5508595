//! Attention of tiles of queries over the paged cache, with the softmax taken as it goes (Milakov & Gimelshein 2018, Dao et
//! al. 2022), all in f32.

use cubecl::prelude::*;

use super::plan::{STRETCH, TILE_WORDS};

/// Units of a cube.
pub(super) const UNITS: u32 = 128;

/// Stands for minus infinity: a difference of two is no NaN.
const LOWEST: f32 = -1e30;

/// What the kernel is compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Tiling {
    /// Key-value heads.
    pub(super) kv_heads: u32,
    /// Query heads of a key-value head.
    pub(super) group: u32,
    /// Elements of a head.
    pub(super) head_dim: u32,
    /// Queries of a tile, at most as many as units.
    pub(super) queries: u32,
    /// Positions read at once: 16 or 32.
    pub(super) positions: u32,
    /// Whether the past is shared out in stretches, whose sums [`combine`] adds up.
    pub(super) stretched: bool,
}

/// # Shapes
/// `queries [t, heads * head_dim]` f32, rotated and scaled; `keys` and `values [pages, kv_heads, 32, head_dim]`; `out [t, heads
/// * head_dim]`. Stretched, instead of `out`: `sums [t * heads, stretches, head_dim]` and `stats [t * heads, stretches, 2]`, the
/// greatest score and the sum of weights. Cubes: tiles, key-value heads, stretches.
#[cube(launch_unchecked)]
pub(super) fn attend<F: Float, N: Size>(
    queries: &Array<Vector<f32, N>>,
    keys: &Array<Vector<F, N>>,
    values: &Array<Vector<F, N>>,
    plan: &Array<u32>,
    out: &mut Array<Vector<F, N>>,
    sums: &mut Array<Vector<f32, N>>,
    stats: &mut Array<f32>,
    first_tile: u32,
    window: u32,
    #[comptime] tiling: Tiling,
    #[define(F)] _activation: StorageType,
) {
    let width = comptime!(queries.vector_size() as u32);
    let vectors = comptime!(tiling.head_dim / width);
    let stride = comptime!(vectors + 1);
    let (group, taken, positions) = comptime!((tiling.group, tiling.queries, tiling.positions));
    let heads = comptime!(tiling.kv_heads * tiling.group);

    let entry = first_tile + CUBE_POS_X * comptime!(TILE_WORDS as u32);
    let first_row = plan[entry as usize];
    let rows = plan[(entry + 1) as usize];
    let first_position = plan[(entry + 2) as usize];
    let table = plan[(entry + 3) as usize];
    let first_query = plan[(entry + 4) as usize];
    let kv_head = CUBE_POS_Y;
    let query_count = rows * group;

    // The past of the tile: from what its first query sees to its last query.
    let last_query = select(first_query + taken < query_count, first_query + taken, query_count) - 1;
    let mut end = first_position + last_query / group + 1;
    let oldest = first_position + first_query / group + 1;
    let mut start = select(oldest > window, oldest - window, 0u32.runtime());
    if comptime!(tiling.stretched) {
        let from = CUBE_POS_Z * comptime!(STRETCH as u32);
        start = select(start < from, from, start);
        end = select(end < from + comptime!(STRETCH as u32), end, from + comptime!(STRETCH as u32));
    }
    if start >= end {
        terminate!();
    }

    let mut own = SharedMemory::<Vector<f32, N>>::new(comptime!((taken * vectors) as usize));
    let mut page = SharedMemory::<Vector<f32, N>>::new(comptime!((positions * stride) as usize));
    let mut scores = SharedMemory::<f32>::new(comptime!((taken * positions) as usize));
    let mut greatest = SharedMemory::<f32>::new(comptime!(taken as usize));
    let mut factors = SharedMemory::<f32>::new(comptime!(taken as usize));

    let mut i = UNIT_POS;
    while i < comptime!(taken * vectors) {
        let query = first_query + i / vectors;
        let clamped = select(query < query_count, query, query_count - 1);
        let head = (first_row + clamped / group) * heads + kv_head * group + clamped % group;
        own[i as usize] = queries[(head * vectors + i % vectors) as usize];
        i += UNITS;
    }

    // Scores: a unit takes one position and every `score_stride`th query.
    let score_stride = comptime!(UNITS / positions);
    let score_count = comptime!(taken.div_ceil(score_stride));
    let own_position = UNIT_POS % positions;
    let own_score = UNIT_POS / positions;
    let mut score = Array::<f32>::new(comptime!(score_count as usize));
    // Sums: a unit takes one vector of the head and every `sum_stride`th query.
    let sum_stride = comptime!(UNITS / vectors);
    let sum_count = comptime!(taken.div_ceil(sum_stride));
    let own_vector = UNIT_POS % vectors;
    let own_sum = UNIT_POS / vectors;
    let mut sum = Array::<Vector<f32, N>>::new(comptime!(sum_count as usize));
    #[unroll]
    for i in 0..sum_count {
        sum[comptime!(i as usize)] = Vector::new(0.0f32);
    }
    // Of query `UNIT_POS`.
    let mut most = LOWEST.runtime();
    let mut total = 0.0f32.runtime();

    let mut at = start / positions * positions;
    while at < end {
        sync_cube();
        load(keys, plan, &mut page, table, at, end, kv_head, tiling.kv_heads, positions, vectors);
        sync_cube();
        #[unroll]
        for i in 0..score_count {
            score[comptime!(i as usize)] = 0.0;
        }
        for d in 0..vectors {
            let key = page[(own_position * stride + d) as usize];
            #[unroll]
            for i in 0..score_count {
                let query = own_score + comptime!(i * score_stride);
                // Queries past the tile's end are computed from the last one's, and dropped.
                let query = select(query < taken, query, comptime!(taken - 1).runtime());
                let own = own[(query * vectors + d) as usize];
                #[unroll]
                for j in 0..width {
                    let to = comptime!(i as usize);
                    score[to] = fma(own[comptime!(j as usize)], key[comptime!(j as usize)], score[to]);
                }
            }
        }
        #[unroll]
        for i in 0..score_count {
            let query = own_score + comptime!(i * score_stride);
            if query < taken {
                let seen =
                    is_seen(at + own_position, first_position + (first_query + query) / group, end, start, window);
                scores[(query * positions + own_position) as usize] =
                    select(seen, score[comptime!(i as usize)], LOWEST.runtime());
            }
        }
        sync_cube();
        load(values, plan, &mut page, table, at, end, kv_head, tiling.kv_heads, positions, vectors);
        if UNIT_POS < taken {
            let before = most;
            for p in 0..positions {
                most = max(most, scores[(UNIT_POS * positions + p) as usize]);
            }
            greatest[UNIT_POS as usize] = most;
            factors[UNIT_POS as usize] = Exp::exp(before - most);
        }
        sync_cube();
        #[unroll]
        for i in 0..score_count {
            let query = own_score + comptime!(i * score_stride);
            if query < taken {
                let to = (query * positions + own_position) as usize;
                let value = scores[to];
                // A score nobody sees weighs nothing, also while none has been seen.
                let weight = Exp::exp(value - greatest[query as usize]);
                scores[to] = select(value > comptime!(LOWEST / 2.0), weight, 0.0f32.runtime());
            }
        }
        sync_cube();
        if UNIT_POS < taken {
            total *= factors[UNIT_POS as usize];
            for p in 0..positions {
                total += scores[(UNIT_POS * positions + p) as usize];
            }
        }
        if own_sum < sum_stride {
            #[unroll]
            for i in 0..sum_count {
                let query = own_sum + comptime!(i * sum_stride);
                let query = select(query < taken, query, comptime!(taken - 1).runtime());
                sum[comptime!(i as usize)] = sum[comptime!(i as usize)] * Vector::new(factors[query as usize]);
            }
            for p in 0..positions {
                let value = page[(p * stride + own_vector) as usize];
                #[unroll]
                for i in 0..sum_count {
                    let query = own_sum + comptime!(i * sum_stride);
                    let query = select(query < taken, query, comptime!(taken - 1).runtime());
                    let weight = Vector::new(scores[(query * positions + p) as usize]);
                    sum[comptime!(i as usize)] = fma(weight, value, sum[comptime!(i as usize)]);
                }
            }
        }
        at += positions;
    }

    if UNIT_POS < taken {
        factors[UNIT_POS as usize] = total;
        greatest[UNIT_POS as usize] = most;
    }
    sync_cube();
    if own_sum < sum_stride {
        #[unroll]
        for i in 0..sum_count {
            let own_query = own_sum + comptime!(i * sum_stride);
            let query = first_query + own_query;
            if own_query < taken && query < query_count {
                let head = (first_row + query / group) * heads + kv_head * group + query % group;
                if comptime!(tiling.stretched) {
                    let to = head * CUBE_COUNT_Z + CUBE_POS_Z;
                    sums[(to * vectors + own_vector) as usize] = sum[comptime!(i as usize)];
                    if own_vector == 0 {
                        stats[(to * 2) as usize] = greatest[own_query as usize];
                        stats[(to * 2 + 1) as usize] = factors[own_query as usize];
                    }
                } else {
                    let value = sum[comptime!(i as usize)] / Vector::new(factors[own_query as usize]);
                    out[(head * vectors + own_vector) as usize] = Vector::cast_from(value);
                }
            }
        }
    }
}

/// Whether a query sees a position of the stretch `start..end`.
#[cube]
fn is_seen(position: u32, query: u32, end: u32, start: u32, window: u32) -> bool {
    position <= query && query - position < window && position < end && position >= start
}

/// `positions` keys or values from position `at` on, zeros past the end.
#[cube]
fn load<F: Float, N: Size>(
    from: &Array<Vector<F, N>>,
    plan: &Array<u32>,
    to: &mut SharedMemory<Vector<f32, N>>,
    table: u32,
    at: u32,
    end: u32,
    kv_head: u32,
    #[comptime] kv_heads: u32,
    #[comptime] positions: u32,
    #[comptime] vectors: u32,
) {
    let mut i = UNIT_POS;
    while i < comptime!(positions * vectors) {
        let (p, d) = (i / vectors, i % vectors);
        let position = at + p;
        let mut value = Vector::new(0.0f32);
        if position < end {
            let page = plan[(table + position / 32) as usize];
            let place = (page * kv_heads + kv_head) * 32 + position % 32;
            value = Vector::cast_from(from[(place * vectors + d) as usize]);
        }
        to[(p * comptime!(vectors + 1) + d) as usize] = value;
        i += UNITS;
    }
}

/// Adds up the stretches of each row that decodes, from the first it sees to the last.
///
/// # Shapes
/// As [`attend`]; a unit for each vector of each query head of each single row.
#[cube(launch_unchecked)]
pub(super) fn combine<F: Float, N: Size>(
    sums: &Array<Vector<f32, N>>,
    stats: &Array<f32>,
    plan: &Array<u32>,
    out: &mut Array<Vector<F, N>>,
    first_tile: u32,
    window: u32,
    stretches: u32,
    units: u32,
    #[comptime] tiling: Tiling,
    #[define(F)] _activation: StorageType,
) {
    let unit = ABSOLUTE_POS as u32;
    if unit >= units {
        terminate!();
    }
    let width = comptime!(sums.vector_size() as u32);
    let vectors = comptime!(tiling.head_dim / width);
    let heads = comptime!(tiling.kv_heads * tiling.group);
    let entry = first_tile + unit / comptime!(heads * vectors) * comptime!(TILE_WORDS as u32);
    let row = plan[entry as usize];
    let end = plan[(entry + 2) as usize] + 1;
    let start = select(end > window, end - window, 0u32.runtime());
    let head = row * heads + unit / vectors % heads;
    let first = start / comptime!(STRETCH as u32);
    let past = (end + comptime!(STRETCH as u32 - 1)) / comptime!(STRETCH as u32);
    let mut most = LOWEST.runtime();
    for i in first..past {
        most = max(most, stats[((head * stretches + i) * 2) as usize]);
    }
    let mut total = 0.0f32;
    let mut sum = Vector::<f32, N>::new(0.0f32);
    for i in first..past {
        let at = head * stretches + i;
        let weight = Exp::exp(stats[(at * 2) as usize] - most);
        total = fma(weight, stats[(at * 2 + 1) as usize], total);
        sum = fma(Vector::new(weight), sums[(at * vectors + unit % vectors) as usize], sum);
    }
    out[(head * vectors + unit % vectors) as usize] = Vector::cast_from(sum / Vector::new(total));
}
