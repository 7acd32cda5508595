//! Splits attention into tasks and runs them.

use std::{cell::RefCell, ops::Range};

use super::{
    cache::{PAGE_TOKENS, PagedCache, Slab},
    rope::rotate,
    sequences::{Spans, check, touched},
    softmax::Running,
};
use crate::kernel::{
    ops::{AttentionShape, RopeTable, Sequence},
    output::{Output, Parts},
    pool,
    simd::{Isa, Kernel, LANES, Lanes},
};

/// Queries of a task: a page is read once for all of them.
const BLOCK_QUERIES: usize = 16;
/// Queries whose scores are summed at a time.
const SCORE_GROUP: usize = 8;
/// Queries whose values are summed at a time: their sums and a page's vectors fill the registers.
const VALUE_GROUP: usize = 4;
/// Pages between two looks at the greatest score. Fixed: it is part of the order of summation.
const STRETCH_PAGES: usize = 16;
const STRETCH: usize = STRETCH_PAGES * PAGE_TOKENS;
/// Vectors of a value done at a time.
const VALUE_VECTORS: usize = 4;

/// Elements of keys and values that are worth another thread to write.
const WRITE_ELEMENTS: usize = 16 * 1024;
/// Products of a query's and a key's element that are worth another thread: about 10 us of work.
const ATTEND_PRODUCTS: usize = 256 * 1024;

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

/// Memory of a task, kept by its thread.
#[derive(Default)]
struct Scratch {
    /// `[head_dim]`.
    rotated: Vec<f32>,
    /// `[BLOCK_QUERIES, head_dim]`.
    queries: Vec<f32>,
    /// `[BLOCK_QUERIES, STRETCH]`.
    scores: Vec<f32>,
    /// `[BLOCK_QUERIES, value stride]`.
    sums: Vec<f32>,
}

/// Rotates, stores and attends; see [`crate::kernel::KernelOps::attention`].
pub(in crate::kernel) fn attention(
    qkv: &[f32],
    cache: &mut PagedCache,
    layer: usize,
    rope: &RopeTable,
    sequences: &[Sequence<'_>],
) -> Vec<f32> {
    let shape = cache.shape();
    let rows = sequences.iter().map(|sequence| sequence.rows).sum::<usize>();
    let width = (shape.heads + 2 * shape.kv_heads) * shape.head_dim;
    assert_eq!(qkv.len(), rows * width, "queries, keys and values of {rows} rows");
    check(cache, rope, sequences);
    let (isa, slab) = (Isa::current(), cache.slab());
    let spans = Spans::new(sequences);

    let step = Step { qkv, width, shape, slab, rope };
    let slabs = cache.layer_mut(layer);
    let worth = rows * 2 * shape.kv_heads * shape.head_dim >= WRITE_ELEMENTS;
    pool::run_if(worth, spans.count(touched) * shape.kv_heads, |i| {
        let (task, head) = (i / shape.kv_heads, i % shape.kv_heads);
        let (first_row, sequence, share) = spans.find(task, touched);
        SCRATCH.with_borrow_mut(|scratch| {
            write(&step, first_row, sequence, head, share, slabs, &mut scratch.rotated);
        });
    });

    let mut out = Output::new(rows * shape.heads * shape.head_dim);
    let parts = out.parts();
    let group = shape.heads / shape.kv_heads;
    let blocks = |sequence: &Sequence<'_>| (sequence.rows * group).div_ceil(BLOCK_QUERIES);
    let slabs = cache.layer(layer);
    let window = shape.window.unwrap_or(usize::MAX);
    let pairs = spans.count(|sequence| sequence.rows * (sequence.position + sequence.rows).min(window));
    let worth = pairs * shape.heads * shape.head_dim >= ATTEND_PRODUCTS;
    pool::run_if(worth, spans.count(blocks) * shape.kv_heads, |i| {
        let (task, head) = (i / shape.kv_heads, i % shape.kv_heads);
        let (first_row, sequence, block) = spans.find(task, blocks);
        SCRATCH.with_borrow_mut(|scratch| {
            isa.run(Attend { step: &step, first_row, sequence, head, block, slabs, out: parts, scratch });
        });
    });
    // SAFETY: the blocks cover every query of every head of every row.
    unsafe { out.finish() }
}

/// What all tasks of a call share.
struct Step<'a> {
    qkv: &'a [f32],
    width: usize,
    shape: AttentionShape,
    slab: Slab,
    rope: &'a RopeTable,
}

impl Step<'_> {
    /// A head of a row, counted over queries, keys and values.
    #[inline(always)]
    fn head(&self, row: usize, head: usize) -> &[f32] {
        &self.qkv[row * self.width + head * self.slab.head_dim..][..self.slab.head_dim]
    }

    /// Where the slab of a page's head starts in its layer.
    #[inline(always)]
    fn slab_at(&self, page: u32, head: usize) -> usize {
        (page as usize * self.shape.kv_heads + head) * self.slab.elements()
    }
}

/// Keys and values of those rows of a sequence that lie in its `share`-th touched page, into one head's slab.
fn write(
    step: &Step<'_>,
    first_row: usize,
    sequence: Sequence<'_>,
    head: usize,
    share: usize,
    slabs: Parts<'_>,
    rotated: &mut Vec<f32>,
) {
    let (slab, half) = (step.slab, step.slab.head_dim / 2);
    let page = sequence.position / PAGE_TOKENS + share;
    // SAFETY: a page is written by one task a head: no page is written through two sequences, as checked before.
    let memory = unsafe { slabs.slice(step.slab_at(sequence.pages[page], head), slab.elements()) };
    let (keys, values) = memory.split_at_mut(slab.key_elements());
    rotated.resize(slab.head_dim, 0.0);
    let end = ((page + 1) * PAGE_TOKENS).min(sequence.position + sequence.rows);
    for position in (page * PAGE_TOKENS).max(sequence.position)..end {
        let row = first_row + position - sequence.position;
        let (cos, sin) = (&step.rope.cos[position * half..], &step.rope.sin[position * half..]);
        let key = step.head(row, step.shape.heads + head);
        rotate(key, cos, sin, 1.0, rotated);
        let token = position % PAGE_TOKENS;
        for (keys, key) in keys.as_chunks_mut::<PAGE_TOKENS>().0.iter_mut().zip(&*rotated) {
            keys[token] = *key;
        }
        let value = step.head(row, step.shape.heads + step.shape.kv_heads + head);
        values[token * slab.value_stride()..][..slab.head_dim].copy_from_slice(value);
    }
}

/// Some consecutive queries of a sequence that share a key-value head, row by row.
struct Attend<'a> {
    step: &'a Step<'a>,
    first_row: usize,
    sequence: Sequence<'a>,
    head: usize,
    block: usize,
    slabs: &'a [f32],
    out: Parts<'a>,
    scratch: &'a mut Scratch,
}

impl Kernel for Attend<'_> {
    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        let (step, slab) = (self.step, self.step.slab);
        let (head_dim, stride) = (slab.head_dim, slab.value_stride());
        let group = step.shape.heads / step.shape.kv_heads;
        let first = self.block * BLOCK_QUERIES;
        let count = BLOCK_QUERIES.min(self.sequence.rows * group - first);

        let Scratch { rotated, queries, scores, sums } = self.scratch;
        rotated.resize(head_dim, 0.0);
        queries.resize(BLOCK_QUERIES * head_dim, 0.0);
        scores.resize(BLOCK_QUERIES * STRETCH, 0.0);
        sums.clear();
        sums.resize(BLOCK_QUERIES * stride, 0.0);
        let scale = 1.0 / (head_dim as f32).sqrt();
        let window = step.shape.window.unwrap_or(usize::MAX);
        // Positions each query sees. Queries are in order of position: the first sees the earliest.
        let mut seen = [const { 0..0 }; BLOCK_QUERIES];
        for i in 0..count {
            let (row, head) = ((first + i) / group, (first + i) % group);
            let position = self.sequence.position + row;
            seen[i] = (position + 1).saturating_sub(window)..position + 1;
            let query = step.head(self.first_row + row, self.head * group + head);
            let half = head_dim / 2;
            let (cos, sin) = (&step.rope.cos[position * half..], &step.rope.sin[position * half..]);
            rotate(query, cos, sin, scale, &mut rotated[..head_dim]);
            // Those whose scores are summed together lie element by element.
            let mut start = 0;
            while i >= start + score_group(count - start) {
                start += score_group(count - start);
            }
            let group = queries[start * head_dim..].chunks_exact_mut(score_group(count - start));
            for (queries, rotated) in group.zip(&rotated[..head_dim]) {
                queries[i - start] = *rotated;
            }
        }

        let mut running = [Running::NOTHING; BLOCK_QUERIES];
        for (stretch, pages) in self.sequence.pages.chunks(STRETCH_PAGES).enumerate() {
            let start = stretch * STRETCH;
            let Some(most) = seen[count - 1].end.checked_sub(start).filter(|most| *most > 0) else { break };
            let first_page = seen[0].start.saturating_sub(start) / PAGE_TOKENS;
            let pages = &pages[..most.div_ceil(PAGE_TOKENS).min(pages.len())];
            for (p, page) in pages.iter().enumerate().skip(first_page) {
                let keys = &self.slabs[step.slab_at(*page, self.head)..][..slab.key_elements()];
                let keys = keys.as_chunks::<LANES>().0.as_chunks::<2>().0;
                let mut i = 0;
                while i < count {
                    let q = &queries[i * head_dim..];
                    let s = &mut scores[i * STRETCH + p * PAGE_TOKENS..];
                    let size = score_group(count - i);
                    match size {
                        8 => score::<L, 8>(l, keys, q, s),
                        4 => score::<L, 4>(l, keys, q, s),
                        3 => score::<L, 3>(l, keys, q, s),
                        2 => score::<L, 2>(l, keys, q, s),
                        _ => score::<L, 1>(l, keys, q, s),
                    }
                    i += size;
                }
            }
            for i in 0..count {
                let visible = within(&seen[i], start, STRETCH);
                if visible.is_empty() {
                    continue;
                }
                let shrink = running[i].take(l, &mut scores[i * STRETCH..][..STRETCH], visible);
                for sum in sums[i * stride..][..stride].as_chunks_mut::<LANES>().0 {
                    l.store(l.mul(l.load(sum), l.splat(shrink)), sum);
                }
            }
            for (p, page) in pages.iter().enumerate().skip(first_page) {
                let at = step.slab_at(*page, self.head) + slab.key_elements();
                let values = self.slabs[at..][..PAGE_TOKENS * stride].as_chunks::<LANES>().0;
                let mut i = 0;
                while i < count {
                    let size = (count - i).min(VALUE_GROUP);
                    let visible = |i: usize| within(&seen[i], start + p * PAGE_TOKENS, PAGE_TOKENS);
                    // What all of them see: the last begins latest, the first ends earliest. Each adds what it alone
                    // sees before and after it, so its sum is in order of position.
                    let common = visible(i + size - 1).start..visible(i).end;
                    let common = if common.is_empty() { PAGE_TOKENS..PAGE_TOKENS } else { common };
                    for j in i..i + size {
                        let own = visible(j);
                        weigh_own(l, values, own.start..own.end.min(common.start), scores, p, stride, j, sums);
                    }
                    let w = &scores[i * STRETCH + p * PAGE_TOKENS..];
                    let s = &mut sums[i * stride..];
                    match size {
                        4 => weigh::<L, 4>(l, values, common.clone(), w, stride, s),
                        3 => weigh::<L, 3>(l, values, common.clone(), w, stride, s),
                        2 => weigh::<L, 2>(l, values, common.clone(), w, stride, s),
                        _ => weigh::<L, 1>(l, values, common.clone(), w, stride, s),
                    }
                    for j in i..i + size {
                        let own = visible(j);
                        weigh_own(l, values, own.start.max(common.end)..own.end, scores, p, stride, j, sums);
                    }
                    i += size;
                }
            }
        }

        for i in 0..count {
            let (row, head) = ((first + i) / group, (first + i) % group);
            let sums = &mut sums[i * stride..][..stride];
            let inverse = l.splat(1.0 / running[i].total);
            for sum in sums.as_chunks_mut::<LANES>().0 {
                l.store(l.mul(l.load(sum), inverse), sum);
            }
            let at = ((self.first_row + row) * step.shape.heads + self.head * group + head) * head_dim;
            // SAFETY: this query belongs to this task alone.
            unsafe { self.out.write(at, &sums[..head_dim]) };
        }
    }
}

/// How many of the `left` queries of a task have their scores summed together.
#[inline(always)]
fn score_group(left: usize) -> usize {
    if left >= SCORE_GROUP { SCORE_GROUP } else { left.min(VALUE_GROUP) }
}

/// The part of `seen` that lies in the `length` positions from `start` on, counted from there.
#[inline(always)]
fn within(seen: &Range<usize>, start: usize, length: usize) -> Range<usize> {
    seen.start.saturating_sub(start).min(length)..seen.end.saturating_sub(start).min(length)
}

/// Adds what query `j` alone sees of the values of page `p` of a stretch.
#[inline(always)]
#[expect(clippy::too_many_arguments, reason = "the state of one loop, taken apart for its two uses")]
fn weigh_own<L: Lanes>(
    l: L,
    values: &[[f32; LANES]],
    tokens: Range<usize>,
    scores: &[f32],
    p: usize,
    stride: usize,
    j: usize,
    sums: &mut [f32],
) {
    if !tokens.is_empty() {
        let weights = &scores[j * STRETCH + p * PAGE_TOKENS..];
        weigh::<L, 1>(l, values, tokens, weights, stride, &mut sums[j * stride..]);
    }
}

/// Scores of `M` queries, element by element, with the 32 keys of a page.
#[inline(always)]
fn score<L: Lanes, const M: usize>(l: L, keys: &[[[f32; LANES]; 2]], queries: &[f32], scores: &mut [f32]) {
    let mut sums = [[l.splat(0.0); 2]; M];
    let queries = queries.as_chunks::<M>().0;
    for (q, keys) in queries.iter().zip(keys) {
        let keys = [l.load(&keys[0]), l.load(&keys[1])];
        for n in 0..M {
            let q = l.splat(q[n]);
            sums[n][0] = l.fma(q, keys[0], sums[n][0]);
            sums[n][1] = l.fma(q, keys[1], sums[n][1]);
        }
    }
    for n in 0..M {
        let scores = scores[n * STRETCH..][..PAGE_TOKENS].as_chunks_mut::<LANES>().0;
        l.store(sums[n][0], &mut scores[0]);
        l.store(sums[n][1], &mut scores[1]);
    }
}

/// Adds some of a page's values to the sums of `M` queries, each times the query's weight.
#[inline(always)]
fn weigh<L: Lanes, const M: usize>(
    l: L,
    values: &[[f32; LANES]],
    tokens: Range<usize>,
    weights: &[f32],
    stride: usize,
    sums: &mut [f32],
) {
    let vectors = stride / LANES;
    let mut v = 0;
    while v < vectors {
        if vectors - v >= VALUE_VECTORS {
            weigh_vectors::<L, M, VALUE_VECTORS>(l, values, tokens.clone(), weights, stride, v, sums);
            v += VALUE_VECTORS;
        } else {
            weigh_vectors::<L, M, 1>(l, values, tokens.clone(), weights, stride, v, sums);
            v += 1;
        }
    }
}

#[inline(always)]
fn weigh_vectors<L: Lanes, const M: usize, const V: usize>(
    l: L,
    values: &[[f32; LANES]],
    tokens: Range<usize>,
    weights: &[f32],
    stride: usize,
    v: usize,
    sums: &mut [f32],
) {
    let mut acc = [[l.splat(0.0); V]; M];
    for n in 0..M {
        let sums = sums[n * stride + v * LANES..][..V * LANES].as_chunks::<LANES>().0;
        for j in 0..V {
            acc[n][j] = l.load(&sums[j]);
        }
    }
    let mut rows = [&weights[..0]; M];
    for (n, row) in rows.iter_mut().enumerate() {
        *row = &weights[n * STRETCH + tokens.start..][..tokens.len()];
    }
    let values = &values[tokens.start * (stride / LANES)..];
    for (i, values) in values.chunks_exact(stride / LANES).take(tokens.len()).enumerate() {
        let values = &values[v..][..V];
        for n in 0..M {
            let w = l.splat(rows[n][i]);
            for j in 0..V {
                acc[n][j] = l.fma(w, l.load(&values[j]), acc[n][j]);
            }
        }
    }
    for n in 0..M {
        let sums = sums[n * stride + v * LANES..][..V * LANES].as_chunks_mut::<LANES>().0;
        for j in 0..V {
            l.store(acc[n][j], &mut sums[j]);
        }
    }
}
