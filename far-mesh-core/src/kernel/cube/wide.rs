//! Matrix product for many rows: the weight is dequantized piece by piece into a workspace of the activations' type, which
//! stays in the device's cache, and multiplied there, by the tensor cores for 16-bit types, with f32 sums.
//!
//! Invariant: how a product is cut follows from the weight alone, never from the number of rows, so a row's sum runs over the
//! columns in one order. Burn's own choice depends on the number of rows, and it takes f32 to the tensor cores with ten bits.

use burn::tensor::{DType, Shape};
use burn_cubecl::{CubeRuntime, tensor::CubeTensor};
use cubecl::{prelude::*, server::Handle, zspace::metadata::Metadata};
use cubek::{
    matmul::{
        components::{stage::PartitionBuffering, tile::TileMatmulKind},
        definition::{MatmulElems, MatmulGlobalElems, MatmulProblem, MatmulSetupError, TilingBlueprint, TilingScheme},
        launch::launch_tiling::launch_ref,
        routines::{BlueprintStrategy, simple::SimpleAlgorithm, simple_unit::SimpleUnitAlgorithm},
    },
    std::{
        InputBinding,
        cube_count::{GlobalOrder, HypercubeBlueprint},
    },
};

use super::{
    dense,
    device::{ELEMENTWISE, cubes, empty, vector_width},
    layout::TILE_ROWS,
    weight::CubePacked,
};
use crate::activation::Dtype;

/// Elements of the workspace: 32 MiB of 16 bits, less than the second-level caches of the GPUs we aim at.
const WORKSPACE: usize = 16 << 20;
/// Rows of a piece are a multiple of this, so that pieces begin where the device likes buffers to begin.
const PIECE_ROWS: usize = 256;

/// `x [t, k]`, without gaps, times `weight [n, k]` transposed is `[t, n]` of type `to`.
pub(super) fn wide<R: CubeRuntime>(x: &CubeTensor<R>, weight: &CubePacked, to: DType) -> CubeTensor<R> {
    let t = x.meta.shape()[0];
    let (n, k) = (weight.n, weight.k);
    let y = empty(x, [t, n], to);
    let own = match x.dtype {
        DType::BF16 => Dtype::Bf16,
        DType::F16 => Dtype::F16,
        _ => Dtype::F32,
    };
    if let Some(rows) = weight.dense(own) {
        multiply(x, matrix(x, rows, n, k), y.clone());
        return y;
    }
    let most = (WORKSPACE / k / PIECE_ROWS * PIECE_ROWS).max(PIECE_ROWS);
    for first in (0..n).step_by(most) {
        let rows = most.min(n - first);
        let piece = unpack(x, weight, first, rows);
        let handle = y.handle.clone().offset_start((first * to.size()) as u64);
        let part = Metadata::new(Shape::from([t, rows]), [n, 1]);
        let part = CubeTensor::new(y.client.clone(), handle, part, y.device.clone(), to);
        multiply(x, matrix(x, piece, rows, k), part);
    }
    y
}

/// Dense rows `[n, k]` as the right side of a product, `[k, n]`.
fn matrix<R: CubeRuntime>(x: &CubeTensor<R>, rows: Handle, n: usize, k: usize) -> CubeTensor<R> {
    let meta = Metadata::new(Shape::from([k, n]), [1, k]);
    CubeTensor::new(x.client.clone(), rows, meta, x.device.clone(), x.dtype)
}

fn multiply<R: CubeRuntime>(x: &CubeTensor<R>, weight: CubeTensor<R>, out: CubeTensor<R>) {
    let done = match x.dtype.size() {
        2 => match on_cores(x, &weight, &out) {
            Err(MatmulSetupError::Unavailable(_)) => on_units(x, &weight, &out),
            done => done,
        },
        _ => on_units(x, &weight, &out),
    };
    // The worker turns a panic into an error of the session.
    assert!(done.is_ok(), "the matrix product has no kernel here: {:?}", done.err());
}

/// By tensor cores: a cube computes 128 rows and columns of the result, 32 columns of the weight at a time.
pub(super) fn on_cores<R: CubeRuntime>(
    x: &CubeTensor<R>,
    weight: &CubeTensor<R>,
    out: &CubeTensor<R>,
) -> Result<(), MatmulSetupError> {
    let mut types = types(x, out);
    let scheme = TilingScheme::builder()
        .with_tile_size((16, 16, 16).into())
        .with_partition_size((1, 8, 2).into())
        .with_stage_size((8, 1, 1).into())
        .build();
    let Ok(scheme) = scheme else { unreachable!("the scheme is complete") };
    let problem = MatmulProblem::from_shapes_and_strides(
        x.meta.shape().clone(),
        weight.meta.shape().clone(),
        out.meta.shape().clone(),
        x.meta.strides().clone(),
        weight.meta.strides().clone(),
        out.meta.strides().clone(),
        types.as_global_elems(),
        AddressType::U32,
        None,
        None,
    )?;
    let plane = x.client.properties().hardware.plane_size_max;
    let order = HypercubeBlueprint::builder().global_order(GlobalOrder::SwizzleRow(4)).build();
    let mut blueprint = TilingBlueprint::builder(TileMatmulKind::Cmma, scheme, plane, &problem)
        .partition_buffering(PartitionBuffering::Single)
        .hypercube_blueprint(order)
        .build();
    // One kernel for all numbers of rows.
    blueprint.check_m_bounds = true;
    let [x, weight] = [x, weight].map(|side| InputBinding::new(side.clone().binding(), side.dtype.into()));
    let forced = BlueprintStrategy::<(), SimpleAlgorithm>::Forced(blueprint);
    launch_ref(&out.client, x, weight, out.clone().binding(), &forced, &mut types)
}

/// By the units themselves, in the activations' own arithmetic.
fn on_units<R: CubeRuntime>(
    x: &CubeTensor<R>,
    weight: &CubeTensor<R>,
    out: &CubeTensor<R>,
) -> Result<(), MatmulSetupError> {
    let mut types = types(x, out);
    let [x, weight] = [x, weight].map(|side| InputBinding::new(side.clone().binding(), side.dtype.into()));
    let inferred = BlueprintStrategy::<(), SimpleUnitAlgorithm>::Inferred(Default::default());
    launch_ref(&out.client, x, weight, out.clone().binding(), &inferred, &mut types)
}

fn types<R: CubeRuntime>(x: &CubeTensor<R>, out: &CubeTensor<R>) -> MatmulElems {
    MatmulElems::from_globals(&MatmulGlobalElems { lhs: x.dtype.into(), rhs: x.dtype.into(), out: out.dtype.into() })
}

/// Rows `first..first + rows` of a weight; `first` is a multiple of a tile's rows.
fn unpack<R: CubeRuntime>(x: &CubeTensor<R>, weight: &CubePacked, first: usize, rows: usize) -> Handle {
    let client = &x.client;
    let (groups, columns) = (rows.div_ceil(TILE_ROWS), weight.tile_columns());
    let out = client.empty(groups * TILE_ROWS * weight.k * x.dtype.size());
    let width = vector_width(client, x.dtype);
    let units = groups * columns;
    let dim = CubeDim::new_1d(ELEMENTWISE);
    let arguments = weight.arguments();
    // SAFETY: the arrays hold what the kernel reads by `layout`; it writes `units` tiles into `out`, which has room for them.
    unsafe {
        dense::unpack::launch_unchecked::<R>(
            client,
            cubes(client, units, dim),
            dim,
            width,
            arguments.quants,
            arguments.high,
            arguments.scales,
            arguments.supers,
            ArrayArg::from_raw_parts(out.clone(), groups * TILE_ROWS * weight.k / width),
            (first / TILE_ROWS) as u32,
            weight.n as u32,
            columns as u32,
            units as u32,
            weight.encoding,
            x.dtype.into(),
        );
    }
    out
}
