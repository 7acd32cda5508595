//! Paged attention against the CPU's.

use burn::tensor::{Tensor, TensorData};
use burn_flex::{Flex, FlexDevice};

use super::{Gpu, assert_close, device, matrix, random, values};
use crate::{
    activation::Dtype,
    kernel::{AttentionShape, KernelOps, RopeTable, Sequence},
};

fn rope(positions: usize, head_dim: usize) -> RopeTable {
    let half = head_dim / 2;
    let angle = |i: usize| (i / half) as f64 * 10_000f64.powf(-((i % half) as f64) / half as f64);
    let table = |f: fn(f64) -> f64| (0..positions * half).map(|i| f(angle(i)) as f32).collect();
    RopeTable { cos: table(f64::cos), sin: table(f64::sin), head_dim }
}

fn width(shape: AttentionShape) -> usize {
    (shape.heads + 2 * shape.kv_heads) * shape.head_dim
}

/// A cache on the GPU and one on the CPU that see the same steps.
struct Both {
    shape: AttentionShape,
    table: RopeTable,
    gpu: <Gpu as KernelOps>::Cache,
    gpu_rope: <Gpu as KernelOps>::Rope,
    cpu: <Flex as KernelOps>::Cache,
    seed: u64,
}

impl Both {
    fn new(shape: AttentionShape, pages: usize) -> Self {
        let table = rope(pages * 32, shape.head_dim);
        Self {
            shape,
            gpu: Gpu::cache(2, pages, shape, Dtype::F32, &device()),
            gpu_rope: Gpu::rope(table.clone(), &device()),
            cpu: Flex::cache(2, pages, shape, Dtype::F32, &FlexDevice),
            table,
            seed: 0,
        }
    }

    /// One step on both; the GPU's result, held against the CPU's.
    fn step(&mut self, sequences: &[Sequence<'_>]) -> Vec<f32> {
        self.seed += 1;
        let rows = sequences.iter().map(|sequence| sequence.rows).sum();
        let qkv: Vec<f32> = random(rows * width(self.shape), self.seed).iter().map(|x| x * 2.0).collect();
        let got = self.step_of(&qkv, sequences);
        let qkv = Tensor::from_data(TensorData::new(qkv, [rows, width(self.shape)]), &FlexDevice);
        let want = Flex::attention(qkv, &mut self.cpu, 1, &self.table, sequences).into_data().into_vec().unwrap();
        assert_close(&got, &want, 5e-6, &format!("{:?}, step {}", self.shape, self.seed));
        got
    }

    fn step_of(&mut self, qkv: &[f32], sequences: &[Sequence<'_>]) -> Vec<f32> {
        let rows = qkv.len() / width(self.shape);
        Gpu::prepare(&mut self.gpu, sequences, &device());
        values(Gpu::attention(
            matrix(qkv.to_vec(), [rows, width(self.shape)]),
            &mut self.gpu,
            1,
            &self.gpu_rope,
            sequences,
        ))
    }
}

const SHAPES: [(usize, usize, usize, Option<usize>); 9] = [
    (4, 2, 16, None),
    (9, 3, 64, None),
    (4, 4, 80, None),
    (7, 1, 96, None),
    (8, 2, 128, None),
    (2, 1, 256, None),
    (3, 1, 10, None),
    (4, 2, 64, Some(50)),
    (8, 1, 128, Some(7)),
];

#[test]
fn chunks_and_steps_are_those_of_the_cpu() {
    for (heads, kv_heads, head_dim, window) in SHAPES {
        let shape = AttentionShape { heads, kv_heads, head_dim, window };
        let mut both = Both::new(shape, 24);
        let (long, short): (Vec<u32>, Vec<u32>) = ((0..20).rev().collect(), (20..24).collect());
        both.step(&[Sequence { rows: 70, position: 0, pages: &long, chunk: true }]);
        both.step(&[Sequence { rows: 3, position: 0, pages: &short, chunk: true }]);
        both.step(&[Sequence { rows: 61, position: 70, pages: &long, chunk: true }]);
        both.step(&[
            Sequence { rows: 1, position: 131, pages: &long, chunk: false },
            Sequence { rows: 1, position: 3, pages: &short, chunk: false },
        ]);
        both.step(&[
            Sequence { rows: 1, position: 4, pages: &short, chunk: false },
            Sequence { rows: 200, position: 132, pages: &long, chunk: true },
        ]);
        both.step(&[Sequence { rows: 1, position: 332, pages: &long, chunk: false }]);
    }
}

#[test]
fn bits_depend_neither_on_the_batch_nor_on_how_a_chunk_is_cut() {
    let shape = AttentionShape { heads: 6, kv_heads: 2, head_dim: 32, window: None };
    let pages: [Vec<u32>; 3] = [(0..8).collect(), (8..16).collect(), (16..24).collect()];
    let qkv = random(200 * width(shape), 1);
    let rows = |from: usize, to: usize| &qkv[from * width(shape)..to * width(shape)];
    let chunk = |position, rows, pages| Sequence { rows, position, pages, chunk: rows > 1 };
    let mut alone = Both::new(shape, 24);
    let whole = alone.step_of(rows(0, 199), &[chunk(0, 199, &pages[0])]);
    let step = alone.step_of(rows(199, 200), &[chunk(199, 1, &pages[0])]);
    let mut batch = Both::new(shape, 24);
    let mut cut = batch.step_of(rows(0, 77), &[chunk(0, 77, &pages[1])]);
    cut.extend(batch.step_of(rows(77, 199), &[chunk(77, 122, &pages[1])]));
    assert_eq!(whole, cut);
    batch.step_of(rows(0, 150), &[chunk(0, 150, &pages[2])]);
    let both = [rows(150, 151), rows(199, 200)].concat();
    let beside = batch.step_of(&both, &[chunk(150, 1, &pages[2]), chunk(199, 1, &pages[1])]);
    assert_eq!(beside[step.len()..], step, "beside a shorter one");
}

#[test]
fn numbers_beyond_all_measure_stay_with_their_session() {
    let shape = AttentionShape { heads: 2, kv_heads: 1, head_dim: 16, window: None };
    let mut cache = Both::new(shape, 2);
    let sane = random(width(shape), 2);
    let qkv = [vec![f32::NAN; width(shape)], sane.clone()].concat();
    let sequences = [
        Sequence { rows: 1, position: 0, pages: &[0], chunk: false },
        Sequence { rows: 1, position: 0, pages: &[1], chunk: false },
    ];
    let got = cache.step_of(&qkv, &sequences);
    assert_eq!(got[32..], cache.step_of(&sane, &sequences[1..]), "the other's row");
}
