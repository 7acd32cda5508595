//! Keys and values in pages on the device, and the launch of what fills and reads them.

use std::fmt;

use burn::tensor::Bytes;
use burn_cubecl::{CubeRuntime, tensor::CubeTensor};
use cubecl::{prelude::*, server::Handle};

use super::{
    PAGE_TOKENS, Plan,
    attend::{self, Tiling},
    plan::{STRETCH, Tiles},
    write,
};
use crate::{
    activation::Dtype,
    kernel::{
        cube::device::{ELEMENTWISE, array, cubes, dtype, empty, keep, keep_room},
        ops::{AttentionShape, Sequence},
    },
};

/// Keys and values of all layers of a span, in the activations' type: for each layer `[pages, kv_heads, 32, head_dim]` twice.
pub struct CubeCache {
    shape: AttentionShape,
    pages: usize,
    dtype: Dtype,
    layers: Vec<Layer>,
    tiling: Tilings,
    step: Option<Step>,
}

struct Layer {
    keys: Handle,
    values: Handle,
}

/// How single rows and chunks are cut into tiles.
#[derive(Clone, Copy)]
struct Tilings {
    single: Tiling,
    chunk: Tiling,
}

/// The sequences of the step that runs.
struct Step {
    plan: Plan,
    words: Handle,
}

/// Cosines and sines on the device, `[positions, head_dim / 2]` each.
#[derive(Clone, Debug)]
pub struct CubeRope {
    cos: Handle,
    sin: Handle,
    elements: usize,
}

impl CubeRope {
    pub(in super::super) fn new<R: CubeRuntime>(client: &ComputeClient<R>, cos: Vec<f32>, sin: Vec<f32>) -> Self {
        let elements = cos.len();
        Self { cos: keep(client, Bytes::from_elems(cos)), sin: keep(client, Bytes::from_elems(sin)), elements }
    }
}

impl CubeCache {
    pub(in super::super) fn new<R: CubeRuntime>(
        client: &ComputeClient<R>,
        layers: usize,
        pages: usize,
        shape: AttentionShape,
        dtype: Dtype,
    ) -> Self {
        let bytes = layer_bytes(pages, shape, dtype);
        let layers =
            (0..layers).map(|_| Layer { keys: keep_room(client, bytes), values: keep_room(client, bytes) }).collect();
        let tiling = Tilings::new(shape, client.properties().hardware.max_shared_memory_size);
        Self { shape, pages, dtype, layers, tiling, step: None }
    }

    /// Bytes of all layers.
    pub fn bytes(&self) -> usize {
        self.layers.len() * 2 * layer_bytes(self.pages, self.shape, self.dtype)
    }

    /// Brings a step's positions and page tables to the device.
    pub(in super::super) fn prepare<R: CubeRuntime>(&mut self, client: &ComputeClient<R>, sequences: &[Sequence<'_>]) {
        let plan = Plan::new(sequences, self.shape, self.tiling.chunk.queries as usize);
        let words = client.create(Bytes::from_elems(plan.words.clone()));
        self.step = Some(Step { plan, words });
    }

    fn arrays<R: CubeRuntime>(&self, layer: usize, width: usize) -> [ArrayArg<R>; 2] {
        let elements = layer_bytes(self.pages, self.shape, self.dtype) / self.dtype.bytes();
        let Layer { keys, values } = &self.layers[layer];
        // SAFETY: both were made with room for this many elements.
        [keys, values].map(|handle| unsafe { ArrayArg::from_raw_parts(handle.clone(), elements / width) })
    }

    /// Elements of a head that a unit reads at once.
    fn width(&self) -> usize {
        if self.shape.head_dim.is_multiple_of(4) { 4 } else { 2 }
    }

    fn window(&self) -> u32 {
        self.shape.window.and_then(|window| u32::try_from(window).ok()).unwrap_or(u32::MAX)
    }
}

fn layer_bytes(pages: usize, shape: AttentionShape, dtype: Dtype) -> usize {
    pages * shape.kv_heads * PAGE_TOKENS * shape.head_dim * dtype.bytes()
}

impl Tilings {
    /// The largest tiles whose queries, page and scores fit the memory that a cube's units share. The number of positions
    /// read at once is part of the order of summation: it follows from the head's width alone.
    fn new(shape: AttentionShape, shared_bytes: usize) -> Self {
        let positions = if shape.head_dim > 64 { 16 } else { 32 };
        let group = shape.heads / shape.kv_heads;
        let bytes =
            |queries: usize| 4 * (queries * (shape.head_dim + positions + 2) + positions * (shape.head_dim + 4));
        let fits = |queries: &usize| bytes(*queries) <= shared_bytes.min(48 << 10);
        let queries = [64, 32, 16, 8, 4, 2].into_iter().find(fits).unwrap_or(1);
        let tiling = |queries: usize, stretched| Tiling {
            kv_heads: shape.kv_heads as u32,
            group: group as u32,
            head_dim: shape.head_dim as u32,
            queries: queries as u32,
            positions: positions as u32,
            stretched,
        };
        Self { single: tiling(group, true), chunk: tiling(queries, false) }
    }
}

/// Rotates, stores and attends: [`KernelOps::attention`](crate::kernel::KernelOps::attention) on a tensor without gaps.
pub(in super::super) fn attention<R: CubeRuntime>(
    qkv: &CubeTensor<R>,
    cache: &CubeCache,
    layer: usize,
    rope: &CubeRope,
) -> CubeTensor<R> {
    let AttentionShape { heads, kv_heads, head_dim, .. } = cache.shape;
    // The model prepares every step.
    let Some(step) = &cache.step else { unreachable!("attention without a prepared step") };
    let rows = step.plan.rows;
    assert_eq!(qkv.meta.shape()[0], rows, "rows of the activation and of the sequences");
    assert_eq!(qkv.dtype, dtype(cache.dtype), "types of the activation and of the cache");
    let queries = empty(qkv, [rows, heads * head_dim], burn::tensor::DType::F32);
    let out = empty(qkv, [rows, heads * head_dim], qkv.dtype);
    let [keys, values] = cache.arrays(layer, 1);
    let half = head_dim / 2;
    let units = rows * (heads + 2 * kv_heads) * half;
    let dim = CubeDim::new_1d(ELEMENTWISE);
    // SAFETY: the shapes are those the kernel documents; the shard keeps positions within the rotary table and pages within
    // the cache.
    unsafe {
        write::write::launch_unchecked::<R>(
            &qkv.client,
            cubes(&qkv.client, units, dim),
            dim,
            array(qkv, 1),
            step.words(),
            ArrayArg::from_raw_parts(rope.cos.clone(), rope.elements),
            ArrayArg::from_raw_parts(rope.sin.clone(), rope.elements),
            array(&queries, 1),
            keys,
            values,
            1.0 / (head_dim as f32).sqrt(),
            units as u32,
            heads as u32,
            kv_heads as u32,
            half as u32,
            qkv.dtype.into(),
        );
    }
    if step.plan.singles.count > 0 {
        stretched(&queries, &out, cache, layer, step);
    }
    if step.plan.chunks.count > 0 {
        let unused = [queries.clone(), queries.clone()];
        launch(&queries, &out, unused, cache, layer, step, step.plan.chunks, cache.tiling.chunk, 1);
    }
    out
}

/// Single rows: stretches by themselves, then their sum.
fn stretched<R: CubeRuntime>(
    queries: &CubeTensor<R>,
    out: &CubeTensor<R>,
    cache: &CubeCache,
    layer: usize,
    step: &Step,
) {
    let AttentionShape { heads, head_dim, .. } = cache.shape;
    let Step { plan, .. } = step;
    let (tiling, width) = (cache.tiling.single, cache.width());
    let sums = empty(queries, [plan.rows * heads * plan.stretches, head_dim], queries.dtype);
    let stats = empty(queries, [plan.rows * heads * plan.stretches, 2], queries.dtype);
    launch(queries, out, [sums.clone(), stats.clone()], cache, layer, step, plan.singles, tiling, plan.stretches);
    let units = plan.singles.count * heads * head_dim / width;
    let dim = CubeDim::new_1d(ELEMENTWISE);
    // SAFETY: as above.
    unsafe {
        attend::combine::launch_unchecked::<R>(
            &queries.client,
            cubes(&queries.client, units, dim),
            dim,
            width,
            array(&sums, width),
            array(&stats, 1),
            step.words(),
            array(out, width),
            plan.singles.first_word as u32,
            cache.window(),
            plan.stretches as u32,
            units as u32,
            tiling,
            out.dtype.into(),
        );
    }
}

#[expect(clippy::too_many_arguments, reason = "what the kernel takes")]
fn launch<R: CubeRuntime>(
    queries: &CubeTensor<R>,
    out: &CubeTensor<R>,
    [sums, stats]: [CubeTensor<R>; 2],
    cache: &CubeCache,
    layer: usize,
    step: &Step,
    tiles: Tiles,
    tiling: Tiling,
    stretches: usize,
) {
    let width = cache.width();
    let [keys, values] = cache.arrays(layer, width);
    // SAFETY: as above.
    unsafe {
        attend::attend::launch_unchecked::<R>(
            &queries.client,
            CubeCount::new_3d(tiles.count as u32, tiling.kv_heads, stretches as u32),
            CubeDim::new_1d(attend::UNITS),
            width,
            array(queries, width),
            keys,
            values,
            step.words(),
            array(out, width),
            array(&sums, width),
            array(&stats, 1),
            tiles.first_word as u32,
            cache.window(),
            tiling,
            out.dtype.into(),
        );
    }
}

impl Step {
    fn words<R: CubeRuntime>(&self) -> ArrayArg<R> {
        // SAFETY: made of these words.
        unsafe { ArrayArg::from_raw_parts(self.words.clone(), self.plan.words.len()) }
    }
}

const _: () = assert!(STRETCH.is_multiple_of(PAGE_TOKENS));

impl fmt::Debug for CubeCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CubeCache")
            .field("shape", &self.shape)
            .field("layers", &self.layers.len())
            .field("pages", &self.pages)
            .field("dtype", &self.dtype)
            .finish()
    }
}
