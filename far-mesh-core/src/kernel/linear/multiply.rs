//! The product itself: splits it into tasks and runs them.

use std::{cell::RefCell, marker::PhantomData, ops::Range};

use super::{
    dense::{self, Element},
    quant::{Block, Tile},
    rows::{GROUP, Quantize, groups, interleave},
    weight::{Packed, by_kind},
};
use crate::kernel::{
    output::{Output, Parts},
    pool,
    simd::{Isa, Kernel, LANES, Lanes},
};

/// Bytes of weights a task goes through for each group of rows: they stay in the second-level cache meanwhile.
const STRIP_BYTES: usize = 128 * 1024;
/// Least bytes of a task with few rows: less is not worth the draw.
const LEAST_BYTES: usize = 12 * 1024;
/// Tasks to a thread, so that one that is slowed down can leave some to the others.
const TASKS_PER_THREAD: usize = 4;
/// Rows of a task.
const STRIP_ROWS: usize = 16 * GROUP;
/// How far ahead of the multiplication weights are asked for.
const PREFETCH_BYTES: usize = 2048;

thread_local! {
    /// Activations of the call in progress: kept, so that a step allocates nothing.
    static BLOCKS: RefCell<Vec<Block>> = const { RefCell::new(Vec::new()) };
    static COLUMNS: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

/// `x [t, k]` times the transposed weight: `[t, n]`.
pub(in crate::kernel) fn linear(x: &[f32], weight: &Packed) -> Vec<f32> {
    let weight = weight.weight();
    let call = Call { x, rows: x.len() / weight.k, n: weight.n, k: weight.k };
    by_kind!(&weight.tiles, quantized tiles => call.quantized(tiles), dense columns => call.dense(columns))
}

struct Call<'a> {
    x: &'a [f32],
    rows: usize,
    n: usize,
    k: usize,
}

impl Call<'_> {
    fn quantized<T: Tile>(&self, tiles: &[T]) -> Vec<f32> {
        BLOCKS.with_borrow_mut(|blocks| {
            let per_row = self.k / super::quant::BLOCK;
            blocks.resize(self.rows * per_row, Block::ZERO);
            let isa = Isa::current();
            let out = Parts::of(blocks);
            self.by_groups(|start, size| {
                let x = &self.x[start * self.k..][..size * self.k];
                // SAFETY: a group belongs to one task.
                let out = unsafe { out.slice(start * per_row, size * per_row) };
                isa.run(Quantize::<T> { x, size, out, tile: PhantomData });
            });
            let blocks = &blocks[..];
            self.strips(per_row / T::BLOCKS * size_of::<T>(), |range, rows, out| {
                isa.run(QuantStrip { tiles, per_row, range, rows, x: blocks, n: self.n, out });
            })
        })
    }

    fn dense<E: Element>(&self, columns: &[[E; LANES]]) -> Vec<f32> {
        COLUMNS.with_borrow_mut(|x| {
            x.resize(self.rows * self.k, 0.0);
            let out = Parts::of(x);
            self.by_groups(|start, size| {
                // SAFETY: a group belongs to one task.
                let out = unsafe { out.slice(start * self.k, size * self.k) };
                interleave(&self.x[start * self.k..][..size * self.k], size, out);
            });
            let x = &x[..];
            let isa = Isa::current();
            self.strips(self.k * size_of::<[E; LANES]>(), |range, rows, out| {
                isa.run(DenseStrip { columns, k: self.k, range, rows, x, n: self.n, out });
            })
        })
    }

    /// Calls `task` for each group of rows.
    fn by_groups(&self, task: impl Fn(usize, usize) + Sync) {
        pool::run(self.rows.div_ceil(STRIP_ROWS), |i| {
            let first = i * STRIP_ROWS;
            groups(STRIP_ROWS.min(self.rows - first)).for_each(|(start, size)| task(first + start, size));
        });
    }

    /// Calls `task` for ranges of tiles and of rows that together cover the product once.
    fn strips(&self, tile_bytes: usize, task: impl Fn(Range<usize>, Range<usize>, Parts<'_>) + Sync) -> Vec<f32> {
        let tiles = self.n.div_ceil(LANES);
        let share = tiles.div_ceil(pool::threads() * TASKS_PER_THREAD).max(LEAST_BYTES.div_ceil(tile_bytes));
        let width = if self.rows <= GROUP { share } else { share.min((STRIP_BYTES / tile_bytes).max(1)) };
        let (across, down) = (tiles.div_ceil(width), self.rows.div_ceil(STRIP_ROWS));
        let mut out = Output::new(self.rows * self.n);
        let parts = out.parts();
        pool::run(across * down, |i| {
            let (a, d) = (i / down, i % down);
            let range = a * width..tiles.min((a + 1) * width);
            task(range, d * STRIP_ROWS..self.rows.min((d + 1) * STRIP_ROWS), parts);
        });
        // SAFETY: the tasks cover all tiles and rows, and each writes all outputs of its own.
        unsafe { out.finish() }
    }
}

/// Some tiles times some rows.
struct QuantStrip<'a, T> {
    tiles: &'a [T],
    /// Blocks of a row.
    per_row: usize,
    range: Range<usize>,
    rows: Range<usize>,
    x: &'a [Block],
    n: usize,
    out: Parts<'a>,
}

impl<T: Tile> Kernel for QuantStrip<'_, T> {
    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        for (start, size) in groups(self.rows.len()) {
            let start = self.rows.start + start;
            match size {
                8 if L::WIDE => self.group::<L, 8, 8>(l, start),
                8 => self.group::<L, 8, 4>(l, start),
                4 => self.group::<L, 4, 4>(l, start),
                2 => self.group::<L, 2, 2>(l, start),
                _ => self.group::<L, 1, 1>(l, start),
            }
        }
    }
}

impl<T: Tile> QuantStrip<'_, T> {
    /// A group of `G` rows, `M` at a time.
    #[inline(always)]
    fn group<L: Lanes, const G: usize, const M: usize>(&self, l: L, start: usize) {
        let x = self.x[start * self.per_row..][..G * self.per_row].as_chunks::<M>().0;
        let (per_row, share) = (self.per_row / T::BLOCKS, size_of::<T>() / T::BLOCKS);
        for tile in self.range.clone() {
            let tiles = &self.tiles[tile * per_row..][..per_row];
            for part in 0..G / M {
                let mut sums = [l.splat(0.0); M];
                for (w, x) in tiles.iter().zip(x.chunks_exact(T::BLOCKS * (G / M))) {
                    for block in 0..T::BLOCKS {
                        if G == 1 {
                            let ahead = std::ptr::from_ref(w).cast::<u8>().wrapping_add(PREFETCH_BYTES + block * share);
                            for line in 0..share.div_ceil(64) {
                                l.prefetch(ahead.wrapping_add(64 * line));
                            }
                        }
                        w.multiply(l, block, &x[block * (G / M) + part], &mut sums);
                    }
                }
                store(l, &sums, self.out, start + part * M, tile, self.n);
            }
        }
    }
}

/// Some columns times some rows.
struct DenseStrip<'a, E> {
    columns: &'a [[E; LANES]],
    k: usize,
    range: Range<usize>,
    rows: Range<usize>,
    x: &'a [f32],
    n: usize,
    out: Parts<'a>,
}

impl<E: Element> Kernel for DenseStrip<'_, E> {
    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        for (start, size) in groups(self.rows.len()) {
            let start = self.rows.start + start;
            match size {
                8 if L::WIDE => self.group::<L, 8, 8>(l, start),
                8 => self.group::<L, 8, 4>(l, start),
                4 => self.group::<L, 4, 4>(l, start),
                2 => self.group::<L, 2, 2>(l, start),
                _ => self.group::<L, 1, 1>(l, start),
            }
        }
    }
}

impl<E: Element> DenseStrip<'_, E> {
    /// A group of `G` rows, `M` at a time.
    #[inline(always)]
    fn group<L: Lanes, const G: usize, const M: usize>(&self, l: L, start: usize) {
        let x = self.x[start * self.k..][..G * self.k].as_chunks::<M>().0;
        for tile in self.range.clone() {
            let columns = &self.columns[tile * self.k..][..self.k];
            for part in 0..G / M {
                let sums = dense::multiply::<L, E, M>(l, columns, x, G / M, part);
                store(l, &sums, self.out, start + part * M, tile, self.n);
            }
        }
    }
}

#[inline(always)]
fn store<L: Lanes, const M: usize>(l: L, sums: &[L::F; M], out: Parts<'_>, start: usize, tile: usize, n: usize) {
    let first = tile * LANES;
    for (i, sum) in sums.iter().enumerate() {
        let mut values = [0.0; LANES];
        l.store(*sum, &mut values);
        // SAFETY: no other task has these rows and columns.
        unsafe { out.write_lanes((start + i) * n + first, &values, n - first) };
    }
}
