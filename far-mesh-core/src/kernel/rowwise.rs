//! Operations on each row alone: root mean square norm with and without a residual, and the gated activation.

use super::{
    output::{Output, Parts},
    pool,
    simd::{Isa, Kernel, LANES, Lanes, exp},
};

/// Elements of a task: less is not worth another thread.
const TASK_ELEMENTS: usize = 8192;

/// Root mean square norm of each row, times `weight`.
pub(super) fn rms_norm(x: &[f32], weight: &[f32], eps: f32) -> Vec<f32> {
    let width = weight.len();
    let mut out = Output::new(x.len());
    let (parts, isa) = (out.parts(), Isa::current());
    by_rows(x.len() / width, width, |row| {
        isa.run(Norm { x: &x[row * width..][..width], weight, eps, out: parts, at: row * width });
    });
    // SAFETY: every row has been written.
    unsafe { out.finish() }
}

/// Adds `delta` to `x` and gives the norm of the sum.
pub(super) fn add_rms_norm(x: &mut [f32], delta: &[f32], weight: &[f32], eps: f32) -> Vec<f32> {
    let width = weight.len();
    let mut out = Output::new(x.len());
    let (parts, isa, rows) = (out.parts(), Isa::current(), x.len() / width);
    let sums = Parts::of(x);
    by_rows(rows, width, |row| {
        // SAFETY: each row belongs to one task.
        let x = unsafe { sums.slice(row * width, width) };
        for (x, delta) in x.iter_mut().zip(&delta[row * width..][..width]) {
            *x += delta;
        }
        isa.run(Norm { x, weight, eps, out: parts, at: row * width });
    });
    // SAFETY: every row has been written.
    unsafe { out.finish() }
}

/// `silu(gate) * up` of rows `gate, up` of `width` elements each.
pub(super) fn silu_mul(gate_up: &[f32], width: usize) -> Vec<f32> {
    let rows = gate_up.len() / (2 * width);
    let mut out = Output::new(rows * width);
    let (parts, isa) = (out.parts(), Isa::current());
    by_rows(rows, width, |row| {
        let (gate, up) = gate_up[row * 2 * width..][..2 * width].split_at(width);
        isa.run(Silu { gate, up, out: parts, at: row * width });
    });
    // SAFETY: every row has been written.
    unsafe { out.finish() }
}

fn by_rows(rows: usize, width: usize, row: impl Fn(usize) + Sync) {
    let share = TASK_ELEMENTS.div_ceil(width.max(1));
    pool::run(rows.div_ceil(share), |task| (task * share..rows.min((task + 1) * share)).for_each(&row));
}

/// The elements of `x` from `at` on, with zeros after the last.
#[inline(always)]
fn lanes_at<L: Lanes>(l: L, x: &[f32], at: usize) -> L::F {
    match x[at..].first_chunk() {
        Some(lanes) => l.load(lanes),
        None => {
            let mut lanes = [0.0; LANES];
            lanes[..x.len() - at].copy_from_slice(&x[at..]);
            l.load(&lanes)
        }
    }
}

/// Writes `value` to element `at` and on of a row of `width` that begins at `row`.
#[inline(always)]
fn write_lanes<L: Lanes>(l: L, value: L::F, out: Parts<'_>, row: usize, at: usize, width: usize) {
    let mut lanes = [0.0; LANES];
    l.store(value, &mut lanes);
    // SAFETY: each row belongs to one task.
    unsafe { out.write_lanes(row + at, &lanes, width - at) };
}

struct Norm<'a> {
    x: &'a [f32],
    weight: &'a [f32],
    eps: f32,
    out: Parts<'a>,
    at: usize,
}

impl Kernel for Norm<'_> {
    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        let width = self.x.len();
        // Two sums in turn hide the latency of one.
        let mut sums = [l.splat(0.0); 2];
        for (i, at) in (0..width).step_by(LANES).enumerate() {
            let x = lanes_at(l, self.x, at);
            sums[i % 2] = l.fma(x, x, sums[i % 2]);
        }
        let mean = l.sum(l.add(sums[0], sums[1])) / width as f32;
        let scale = l.splat(1.0 / (mean + self.eps).sqrt());
        for at in (0..width).step_by(LANES) {
            let y = l.mul(l.mul(lanes_at(l, self.x, at), scale), lanes_at(l, self.weight, at));
            write_lanes(l, y, self.out, self.at, at, width);
        }
    }
}

struct Silu<'a> {
    gate: &'a [f32],
    up: &'a [f32],
    out: Parts<'a>,
    at: usize,
}

impl Kernel for Silu<'_> {
    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        let width = self.gate.len();
        for at in (0..width).step_by(LANES) {
            let gate = lanes_at(l, self.gate, at);
            let denominator = l.add(l.splat(1.0), exp(l, l.sub(l.splat(0.0), gate)));
            let y = l.mul(l.div(gate, denominator), lanes_at(l, self.up, at));
            write_lanes(l, y, self.out, self.at, at, width);
        }
    }
}
