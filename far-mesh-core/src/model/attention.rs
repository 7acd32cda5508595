//! Grouped-query self-attention (Vaswani et al. 2017, Ainslie et al. 2023) over a paged cache.

use burn::tensor::Tensor;

use super::{linear::Linear, norm::RmsNorm};
use crate::kernel::{AttentionShape, FarBackend, KernelOps, Sequence};

/// Projections of a layer's attention.
#[derive(Clone, Debug)]
pub(super) struct Attention<B: FarBackend> {
    /// Queries, keys and values, stacked in this order.
    pub(super) qkv: Linear<B>,
    pub(super) head_norms: Option<HeadNorms<B>>,
    pub(super) output: Linear<B>,
}

/// Norms of each query's and key's head before it is rotated (Qwen3), with weights all heads share.
#[derive(Clone, Debug)]
pub(super) struct HeadNorms<B: FarBackend> {
    pub(super) queries: RmsNorm<B>,
    pub(super) keys: RmsNorm<B>,
    pub(super) shape: AttentionShape,
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
        rope: &B::Rope,
        sequences: &[Sequence<'_>],
    ) -> Tensor<B, 2> {
        let qkv = self.qkv.forward(x);
        let qkv = match &self.head_norms {
            Some(norms) => norms.forward(qkv),
            None => qkv,
        };
        self.output.forward(<B as KernelOps>::attention(qkv, cache, layer, rope, sequences))
    }
}

impl<B: FarBackend> HeadNorms<B> {
    /// # Shapes
    /// Queries, keys and values `[t, (heads + 2 * kv_heads) * head_dim]` to the same.
    fn forward(&self, qkv: Tensor<B, 2>) -> Tensor<B, 2> {
        let AttentionShape { heads, kv_heads, head_dim, .. } = self.shape;
        let [rows, width] = qkv.dims();
        let (keys, values) = (heads * head_dim, (heads + kv_heads) * head_dim);
        let normed = |part: Tensor<B, 2>, norm: &RmsNorm<B>| {
            let columns = part.dims()[1];
            norm.forward(&part.reshape([rows * columns / head_dim, head_dim])).reshape([rows, columns])
        };
        let queries = normed(qkv.clone().slice([0..rows, 0..keys]), &self.queries);
        let keys = normed(qkv.clone().slice([0..rows, keys..values]), &self.keys);
        Tensor::cat(vec![queries, keys, qkv.slice([0..rows, values..width])], 1)
    }
}
