//! [`KernelOps`] for burn's CPU backend: between its tensors and our slices.

use burn::tensor::{Bytes, DType, Shape, Tensor, TensorPrimitive};
use burn_flex::{Flex, FlexDevice, FlexTensor, Layout};

use super::{
    attention::{self, PAGE_TOKENS, PagedCache},
    linear::{self, Packed},
    ops::{AttentionShape, KernelOps, PackError, RawMatrix, RopeTable, Sequence},
    rowwise,
};
use crate::activation::Dtype;

/// All instruction sets of the CPU give the same bits, so they are one class; the number counts changes of the order of
/// summation.
const KERNEL_CLASS: &str = "cpu-int8b32-f32/1";

impl KernelOps for Flex {
    type Packed = Packed;
    type Cache = PagedCache;
    type Rope = RopeTable;
    const PAGE_TOKENS: usize = PAGE_TOKENS;

    fn activation_dtype(_exact: bool, _device: &FlexDevice) -> Dtype {
        Dtype::F32
    }

    fn kernel_class(_dtype: Dtype, _device: &FlexDevice) -> String {
        KERNEL_CLASS.into()
    }

    fn pack(matrix: RawMatrix<'_>, _dtype: Dtype, _device: &FlexDevice) -> Result<Packed, PackError> {
        Packed::new(matrix)
    }

    fn packed_bytes(weight: &Packed) -> usize {
        weight.bytes()
    }

    fn linear(x: Tensor<Self, 2>, weight: &Packed) -> Tensor<Self, 2> {
        let [rows, k] = x.dims();
        assert_eq!(k, weight.columns(), "columns of the activation and of {weight:?}");
        tensor(linear::linear(values(&flat(x)), weight), [rows, weight.rows()])
    }

    fn embed(weight: &Packed, ids: &[u32], _dtype: Dtype, _device: &FlexDevice) -> Tensor<Self, 2> {
        tensor(linear::embed(weight, ids), [ids.len(), weight.columns()])
    }

    fn rms_norm(x: &Tensor<Self, 2>, weight: &Tensor<Self, 1>, eps: f32) -> Tensor<Self, 2> {
        let dims = x.dims();
        let (x, weight) = (flat(x.clone()), flat(weight.clone()));
        assert_eq!(dims[1], values(&weight).len(), "width of the activation and of the norm");
        tensor(rowwise::rms_norm(values(&x), values(&weight), eps), dims)
    }

    fn add_rms_norm(
        x: Tensor<Self, 2>,
        delta: Tensor<Self, 2>,
        weight: &Tensor<Self, 1>,
        eps: f32,
    ) -> (Tensor<Self, 2>, Tensor<Self, 2>) {
        let dims = x.dims();
        assert_eq!(dims, delta.dims(), "shapes of the two terms");
        let (mut x, delta, weight) = (flat(x), flat(delta), flat(weight.clone()));
        assert_eq!(dims[1], values(&weight).len(), "width of the activation and of the norm");
        // In place where nobody else holds `x`, in a copy where somebody does.
        let norm = rowwise::add_rms_norm(x.storage_mut(), values(&delta), values(&weight), eps);
        (Tensor::from_primitive(TensorPrimitive::Float(x)), tensor(norm, dims))
    }

    fn silu_mul(gate_up: Tensor<Self, 2>) -> Tensor<Self, 2> {
        let [rows, both] = gate_up.dims();
        assert!(both.is_multiple_of(2), "gate and up of one width, not {both} together");
        tensor(rowwise::silu_mul(values(&flat(gate_up)), both / 2), [rows, both / 2])
    }

    fn rope(table: RopeTable, _device: &FlexDevice) -> RopeTable {
        table
    }

    fn cache(layers: usize, pages: usize, shape: AttentionShape, _dtype: Dtype, _device: &FlexDevice) -> PagedCache {
        PagedCache::new(layers, pages, shape)
    }

    fn cache_bytes(cache: &PagedCache) -> usize {
        cache.bytes()
    }

    fn attention(
        qkv: Tensor<Self, 2>,
        cache: &mut PagedCache,
        layer: usize,
        rope: &RopeTable,
        sequences: &[Sequence<'_>],
    ) -> Tensor<Self, 2> {
        let [rows, _] = qkv.dims();
        let out = attention::attention(values(&flat(qkv)), cache, layer, rope, sequences);
        let width = out.len() / rows.max(1);
        tensor(out, [rows, width])
    }
}

/// The tensor as f32 without gaps; shares the memory where it already is.
fn flat<const D: usize>(x: Tensor<Flex, D>) -> FlexTensor {
    let x = if x.dtype() == DType::F32 { x } else { x.cast(DType::F32) };
    let x = x.into_primitive().tensor();
    let whole = x.is_contiguous() && x.layout().start_offset() == 0 && x.bytes().len() == 4 * x.layout().num_elements();
    if whole { x } else { x.to_contiguous() }
}

/// Elements of a tensor made by [`flat`].
fn values(x: &FlexTensor) -> &[f32] {
    x.storage()
}

fn tensor<const D: usize>(values: Vec<f32>, dims: [usize; D]) -> Tensor<Flex, D> {
    let layout = Layout::contiguous(Shape::from(dims));
    Tensor::from_primitive(TensorPrimitive::Float(FlexTensor::new(Bytes::from_elems(values), layout, DType::F32)))
}
