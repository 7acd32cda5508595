//! Grouped-query self-attention (Vaswani et al. 2017, Ainslie et al. 2023) over a paged cache.

use burn::tensor::Tensor;

use super::linear::Linear;
use crate::kernel::{FarBackend, KernelOps, RopeTable, Sequence};

/// Projections of a layer's attention.
#[derive(Clone, Debug)]
pub(super) struct Attention<B: FarBackend> {
    /// Queries, keys and values, stacked in this order.
    pub(super) qkv: Linear<B>,
    pub(super) output: Linear<B>,
}

impl<B: FarBackend> Attention<B> {
    /// Writes the rows' keys and values to `layer` of the cache, then attends.
    ///
    /// # Shapes
    /// `x [t, hidden]`, already normed, to `[t, hidden]`; rows as in `sequences`.
    pub(super) fn forward(
        &self,
        x: Tensor<B, 2>,
        cache: &mut B::Cache,
        layer: usize,
        rope: &RopeTable,
        sequences: &[Sequence<'_>],
    ) -> Tensor<B, 2> {
        let qkv = self.qkv.forward(x);
        self.output.forward(<B as KernelOps>::attention(qkv, cache, layer, rope, sequences))
    }
}
