//! What a device can do, and tensors on it.

use burn::tensor::{Bytes, DType, Shape};
use burn_cubecl::{
    CubeRuntime, kernel::into_contiguous, ops::numeric::empty_device_contiguous_dtype, tensor::CubeTensor,
};
use cubecl::{
    features::TypeUsage,
    ir::{ElemType, FloatKind, StorageType},
    prelude::*,
    server::{Handle, ServerError},
};

use crate::activation::Dtype;

/// What activations are made of: bf16, else f16, the first that has tensor cores; else f32.
pub(super) fn activation_dtype<R: CubeRuntime>(device: &R::Device, exact: bool) -> Dtype {
    let client = R::client(device);
    let features = &client.properties().features;
    let storage = |kind| StorageType::Scalar(ElemType::Float(kind));
    let has = |kind: &FloatKind| {
        let usage = features.type_usage(storage(*kind));
        usage.contains(TypeUsage::Buffer) && usage.contains(TypeUsage::Conversion)
    };
    // GPUs before Ampere have tensor cores for f16 alone.
    let has_cores = |kind: &FloatKind| features.matmul.cmma.iter().any(|cores| cores.a_type == storage(*kind));
    let kinds = [FloatKind::BF16, FloatKind::F16].into_iter().filter(has);
    match kinds.clone().find(has_cores).or_else(|| kinds.clone().next()) {
        Some(FloatKind::BF16) if !exact => Dtype::Bf16,
        Some(FloatKind::F16) if !exact => Dtype::F16,
        _ => Dtype::F32,
    }
}

/// burn's name of an activation's type.
pub(super) fn dtype(dtype: Dtype) -> DType {
    match dtype {
        Dtype::F16 => DType::F16,
        Dtype::Bf16 => DType::BF16,
        Dtype::F32 => DType::F32,
    }
}

/// Elements of `dtype` that a unit reads at once where it may read 8.
pub(super) fn vector_width<R: CubeRuntime>(client: &ComputeClient<R>, dtype: DType) -> usize {
    let hardware = &client.properties().hardware;
    (hardware.load_width as usize / 8 / dtype.size()).min(hardware.max_vector_size).clamp(1, 8)
}

/// The least number of units of a plane (a warp on NVIDIA's GPUs).
pub(super) fn plane_units<R: CubeRuntime>(client: &ComputeClient<R>) -> u32 {
    client.properties().hardware.plane_size_min.max(1)
}

/// Room for a tensor whose rows follow each other without gaps.
pub(super) fn empty<R: CubeRuntime>(like: &CubeTensor<R>, shape: [usize; 2], dtype: DType) -> CubeTensor<R> {
    empty_device_contiguous_dtype(like.client.clone(), like.device.clone(), Shape::from(shape), dtype)
}

/// The tensor without gaps; itself where it has none.
pub(super) fn flat<R: CubeRuntime>(x: CubeTensor<R>) -> CubeTensor<R> {
    into_contiguous(x)
}

/// All of a tensor made by [`flat`] or [`empty`], in vectors of `width` elements.
pub(super) fn array<R: CubeRuntime>(x: &CubeTensor<R>, width: usize) -> ArrayArg<R> {
    // SAFETY: the tensor has no gaps, so the handle holds that many elements.
    unsafe { ArrayArg::from_raw_parts(x.handle.clone(), x.meta.num_elements() / width) }
}

/// Bytes that stay on the device for long: in memory of exactly their size, apart from what comes and goes.
pub(super) fn keep<R: CubeRuntime>(client: &ComputeClient<R>, bytes: Bytes) -> Handle {
    kept(client.memory_persistent_allocation(bytes, |bytes| client.create(bytes)))
}

/// Room for as many bytes, as [`keep`].
pub(super) fn keep_room<R: CubeRuntime>(client: &ComputeClient<R>, bytes: usize) -> Handle {
    kept(client.memory_persistent_allocation(bytes, |bytes| client.empty(bytes)))
}

fn kept(handle: Result<Handle, ServerError>) -> Handle {
    // The loader tells what did not fit.
    let Ok(handle) = handle else { unreachable!("a kept allocation fails in the runtime, or not at all") };
    handle
}

/// Cubes of `dim` units for `units` units; every kernel launched so compares its number with the units.
pub(super) fn cubes<R: CubeRuntime>(client: &ComputeClient<R>, units: usize, dim: CubeDim) -> CubeCount {
    cubecl::calculate_cube_count_elemwise(client, units, dim)
}

/// Units of a cube of a kernel that treats elements by themselves.
pub(super) const ELEMENTWISE: u32 = 256;

/// The family of devices in a kernel class: whose arithmetic is the same.
pub(super) fn family<R: CubeRuntime>(client: &ComputeClient<R>) -> String {
    let properties = client.properties();
    // Tensor cores of different generations add in different orders; the runtime tells them apart by what they take.
    let cores = properties.features.matmul.cmma.len() + properties.features.matmul.mma.len();
    format!("{}{}-plane{}", R::name(client), cores, properties.hardware.plane_size_min)
}
