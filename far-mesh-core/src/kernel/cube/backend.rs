//! [`KernelOps`] for burn's CubeCL backend: between its tensors and our kernels.

use burn::tensor::{Bytes, DType, Tensor, TensorPrimitive, backend::DeviceOps};
use burn_cubecl::{CubeBackend, CubeRuntime, tensor::CubeTensor};
use cubecl::{prelude::*, stream_id::StreamId};

use super::{
    attention::{self, CubeCache, CubeRope, PAGE_TOKENS},
    dense,
    device::{self, ELEMENTWISE, array, cubes, empty, flat, plane_units, vector_width},
    pass::{self, Piece},
    rowwise, thin,
    weight::CubePacked,
    wide,
};
use crate::{
    activation::Dtype,
    kernel::ops::{AttentionShape, KernelOps, PackError, RawMatrix, RopeTable, Sequence, Share},
};

/// Counts changes of the order of summation.
const VERSION: u32 = 1;

/// All of a program's work goes to one stream of a device, whatever thread asks: buffers are then used again at once, and
/// nothing waits for another stream. Threads get numbers from 0 on.
const STREAM: StreamId = StreamId { value: u64::MAX / 2 };

/// Most cubes in a row of a grid, a limit of all devices.
const GRID: usize = 1 << 15;

impl<R: CubeRuntime> KernelOps for CubeBackend<R, f32, i32, u8>
where
    R::Device: DeviceOps,
{
    type Packed = CubePacked;
    type Cache = CubeCache;
    type Rope = CubeRope;
    const PAGE_TOKENS: usize = PAGE_TOKENS;
    const STEPS_DIFFER: bool = true;

    fn activation_dtype(exact: bool, device: &R::Device) -> Dtype {
        device::activation_dtype::<R>(device, exact)
    }

    fn kernel_class(dtype: Dtype, device: &R::Device) -> String {
        let client = R::client(device);
        let family = device::family(&client);
        format!("{family}-{}/{VERSION}", format!("{dtype:?}").to_lowercase())
    }

    fn compute<T>(shares: &[Share], run: impl FnOnce() -> T) -> T {
        STREAM.executes(|| pass::with_shares(shares, run))
    }

    fn pack(matrix: RawMatrix<'_>, dtype: Dtype, device: &R::Device) -> Result<CubePacked, PackError> {
        CubePacked::new(&R::client(device), matrix, dtype)
    }

    fn packed_bytes(weight: &CubePacked) -> usize {
        weight.bytes()
    }

    fn linear(x: Tensor<Self, 2>, weight: &CubePacked) -> Tensor<Self, 2> {
        let to = x.dtype();
        product(x, weight, to)
    }

    fn logits(x: Tensor<Self, 2>, weight: &CubePacked) -> Tensor<Self, 2> {
        product(x, weight, DType::F32)
    }

    fn embed(weight: &CubePacked, ids: &[u32], dtype: Dtype, device: &R::Device) -> Tensor<Self, 2> {
        let client = R::client(device);
        let dtype = device::dtype(dtype);
        let ids_on_device = client.create(Bytes::from_elems(ids.to_vec()));
        let handle = client.empty(ids.len() * weight.k * dtype.size());
        let out = CubeTensor::new_contiguous(client, device.clone(), [ids.len(), weight.k].into(), handle, dtype);
        let units = ids.len() * weight.tile_columns();
        let dim = CubeDim::new_1d(ELEMENTWISE);
        let arguments = weight.arguments();
        // SAFETY: the arrays hold what the kernel reads by `layout`; the caller keeps ids below the number of rows.
        unsafe {
            dense::embed::launch_unchecked::<R>(
                &out.client,
                cubes(&out.client, units, dim),
                dim,
                arguments.quants,
                arguments.high,
                arguments.scales,
                arguments.supers,
                ArrayArg::from_raw_parts(ids_on_device, ids.len()),
                array(&out, 1),
                weight.n as u32,
                weight.tile_columns() as u32,
                units as u32,
                weight.encoding,
                dtype.into(),
            );
        }
        tensor(out)
    }

    fn rms_norm(x: &Tensor<Self, 2>, weight: &Tensor<Self, 1>, eps: f32) -> Tensor<Self, 2> {
        let x = primitive(x.clone());
        let out = empty(&x, x.meta.shape().dims(), x.dtype);
        norm([&x, &x, &x, &out], weight, eps, false);
        tensor(out)
    }

    fn add(x: Tensor<Self, 2>, delta: Tensor<Self, 2>) -> Tensor<Self, 2> {
        let (x, delta) = (primitive(x), primitive(delta));
        same(&x, &delta);
        let out = empty(&x, x.meta.shape().dims(), x.dtype);
        let units = x.meta.num_elements();
        let dim = CubeDim::new_1d(ELEMENTWISE);
        // SAFETY: all three have that many elements without gaps.
        unsafe {
            rowwise::add::launch_unchecked::<R>(
                &x.client,
                cubes(&x.client, units, dim),
                dim,
                array(&x, 1),
                array(&delta, 1),
                array(&out, 1),
                units as u32,
                x.dtype.into(),
            );
        }
        tensor(out)
    }

    fn add_rms_norm(
        x: Tensor<Self, 2>,
        delta: Tensor<Self, 2>,
        weight: &Tensor<Self, 1>,
        eps: f32,
    ) -> (Tensor<Self, 2>, Tensor<Self, 2>) {
        let (x, delta) = (primitive(x), primitive(delta));
        same(&x, &delta);
        let dims = x.meta.shape().dims();
        let (sum, out) = (empty(&x, dims, x.dtype), empty(&x, dims, x.dtype));
        norm([&x, &delta, &sum, &out], weight, eps, true);
        (tensor(sum), tensor(out))
    }

    fn silu_mul(gate_up: Tensor<Self, 2>) -> Tensor<Self, 2> {
        let [rows, both] = gate_up.dims();
        assert!(both.is_multiple_of(2), "gate and up of one width, not {both} together");
        let gate_up = primitive(gate_up);
        let out = empty(&gate_up, [rows, both / 2], gate_up.dtype);
        let units = rows * both / 2;
        let dim = CubeDim::new_1d(ELEMENTWISE);
        // SAFETY: the shapes are those the kernel documents, without gaps.
        unsafe {
            rowwise::silu_mul::launch_unchecked::<R>(
                &gate_up.client,
                cubes(&gate_up.client, units, dim),
                dim,
                array(&gate_up, 1),
                array(&out, 1),
                (both / 2) as u32,
                units as u32,
                gate_up.dtype.into(),
            );
        }
        tensor(out)
    }

    fn rope(table: RopeTable, device: &R::Device) -> CubeRope {
        CubeRope::new(&R::client(device), table.cos, table.sin)
    }

    fn cache(layers: usize, pages: usize, shape: AttentionShape, dtype: Dtype, device: &R::Device) -> CubeCache {
        CubeCache::new(&R::client(device), layers, pages, shape, dtype)
    }

    fn cache_bytes(cache: &CubeCache) -> usize {
        cache.bytes()
    }

    fn prepare(cache: &mut CubeCache, sequences: &[Sequence<'_>], device: &R::Device) {
        cache.prepare(&R::client(device), sequences);
    }

    fn attention(
        qkv: Tensor<Self, 2>,
        cache: &mut CubeCache,
        layer: usize,
        rope: &CubeRope,
        _sequences: &[Sequence<'_>],
    ) -> Tensor<Self, 2> {
        tensor(attention::attention(&primitive(qkv), cache, layer, rope))
    }
}

type Backend<R> = CubeBackend<R, f32, i32, u8>;

/// The tensor without gaps.
fn primitive<R: CubeRuntime, const D: usize>(x: Tensor<Backend<R>, D>) -> CubeTensor<R>
where
    R::Device: DeviceOps,
{
    flat(x.into_primitive().tensor())
}

fn tensor<R: CubeRuntime>(x: CubeTensor<R>) -> Tensor<Backend<R>, 2>
where
    R::Device: DeviceOps,
{
    Tensor::from_primitive(TensorPrimitive::Float(x))
}

fn same<R: CubeRuntime>(x: &CubeTensor<R>, other: &CubeTensor<R>) {
    assert_eq!((x.meta.shape(), x.dtype), (other.meta.shape(), other.dtype), "shapes and types of the two terms");
}

/// Each piece of the rows in the way it is to be computed.
fn product<R: CubeRuntime>(x: Tensor<Backend<R>, 2>, weight: &CubePacked, to: DType) -> Tensor<Backend<R>, 2>
where
    R::Device: DeviceOps,
{
    let [rows, k] = x.dims();
    assert_eq!(k, weight.k, "columns of the activation and of {weight:?}");
    let compute = |x: Tensor<Backend<R>, 2>, piece: &Piece| {
        let x = primitive(x);
        tensor(if piece.wide { wide::wide(&x, weight, to) } else { few(&x, weight, to) })
    };
    match pass::pieces(rows).as_slice() {
        [piece] => compute(x, piece),
        pieces => {
            let rows_of = |piece: &Piece| x.clone().narrow(0, piece.first, piece.rows);
            Tensor::cat(pieces.iter().map(|piece| compute(rows_of(piece), piece)).collect(), 0)
        }
    }
}

/// The thin product, up to [`thin::MOST_ROWS`] rows at a time.
fn few<R: CubeRuntime>(x: &CubeTensor<R>, weight: &CubePacked, to: DType) -> CubeTensor<R> {
    let t = x.meta.shape()[0];
    let y = empty(x, [t, weight.n], to);
    let take = match t {
        1 => 1,
        2..=4 => 4,
        _ => thin::MOST_ROWS,
    };
    let (groups, width) = (weight.groups(), vector_width(&x.client, x.dtype));
    let arguments = weight.arguments();
    // SAFETY: the arrays hold what the kernel reads by `layout`; `x` and `y` are of the shapes it documents, without gaps.
    unsafe {
        thin::thin::launch_unchecked::<R>(
            &x.client,
            CubeCount::new_3d(t.div_ceil(take) as u32, groups.min(GRID) as u32, groups.div_ceil(GRID) as u32),
            CubeDim::new_1d(thin::UNITS),
            width,
            arguments.quants,
            arguments.high,
            arguments.scales,
            arguments.supers,
            array(x, width),
            array(&y, 1),
            weight.n as u32,
            weight.tile_columns() as u32,
            t as u32,
            weight.encoding,
            take as u32,
            thin::UNITS / plane_units(&x.client),
            x.dtype.into(),
            to.into(),
        );
    }
    y
}

/// `[x, delta, sum, out]` of the kernel.
fn norm<R: CubeRuntime>([x, delta, sum, out]: [&CubeTensor<R>; 4], weight: &Tensor<Backend<R>, 1>, eps: f32, add: bool)
where
    R::Device: DeviceOps,
{
    let [rows, width] = x.meta.shape().dims();
    let weight = primitive(weight.clone());
    assert_eq!(width, weight.meta.num_elements(), "width of the activation and of the norm");
    // SAFETY: the shapes are those the kernel documents, without gaps; without `add` it leaves `delta` and `sum` alone.
    unsafe {
        rowwise::norm::launch_unchecked::<R>(
            &x.client,
            CubeCount::new_2d(rows.min(GRID) as u32, rows.div_ceil(GRID) as u32),
            CubeDim::new_1d(rowwise::NORM_UNITS),
            array(x, 1),
            array(delta, 1),
            array(&weight, 1),
            array(sum, 1),
            array(out, 1),
            rows as u32,
            width as u32,
            eps,
            add,
            x.dtype.into(),
        );
    }
}
