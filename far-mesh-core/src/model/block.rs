//! A decoder layer: attention and feed-forward, each behind a norm and a residual connection.

use burn::tensor::Tensor;

use super::{attention::Attention, mlp::FeedForward, norm::RmsNorm};
use crate::kernel::{FarBackend, Sequence};

/// A decoder layer of the Llama family (Touvron et al. 2023).
#[derive(Clone, Debug)]
pub(super) struct Block<B: FarBackend> {
    pub(super) attention_norm: RmsNorm<B>,
    pub(super) attention: Attention<B>,
    pub(super) mlp_norm: RmsNorm<B>,
    pub(super) mlp: FeedForward<B>,
}

impl<B: FarBackend> Block<B> {
    /// Gives the residual stream and what this layer adds to it, still apart: the next layer's norm adds them in the
    /// same pass ([`RmsNorm::forward_residual`]).
    ///
    /// # Shapes
    /// `x [t, hidden]` and `normed`, the attention norm of it, to two of the same; rows as in `sequences`.
    pub(super) fn forward(
        &self,
        x: Tensor<B, 2>,
        normed: Tensor<B, 2>,
        cache: &mut B::Cache,
        layer: usize,
        rope: &B::Rope,
        sequences: &[Sequence<'_>],
    ) -> (Tensor<B, 2>, Tensor<B, 2>) {
        let attended = self.attention.forward(normed, cache, layer, rope, sequences);
        let (x, normed) = self.mlp_norm.forward_residual(x, attended);
        let delta = self.mlp.forward(normed);
        (x, delta)
    }
}
