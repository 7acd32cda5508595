//! The forward pass of a span of layers.

use std::ops::Range;

use burn::tensor::Tensor;

use super::block::Block;
use crate::{
    activation::Dtype,
    id::Span,
    kernel::{FarBackend, Sequence},
};

/// Consecutive decoder layers on a device; the first also embeds token ids.
#[derive(Clone, Debug)]
pub struct SpanModel<B: FarBackend> {
    pub(super) span: Span,
    pub(super) embedding: Option<B::Packed>,
    pub(super) blocks: Vec<Block<B>>,
    pub(super) rope: B::Rope,
    pub(super) dtype: Dtype,
    pub(super) device: B::Device,
}

impl<B: FarBackend> SpanModel<B> {
    /// The layers.
    pub fn span(&self) -> Span {
        self.span
    }

    /// The hidden states of token ids, each less than the vocabulary; `None` where the span does not start at layer 0.
    ///
    /// # Shapes
    /// `[ids.len(), hidden]`.
    pub fn embed(&self, ids: &[u32]) -> Option<Tensor<B, 2>> {
        self.embedding.as_ref().map(|embedding| B::embed(embedding, ids, self.dtype, &self.device))
    }

    /// Runs `layers`, counted from the span's first, on the rows of several sequences.
    ///
    /// Invariant: the caller keeps `layers` within the span and positions below the rotary table's.
    ///
    /// # Shapes
    /// `x [t, hidden]` to the same; rows as in `sequences`.
    pub fn forward(
        &self,
        mut x: Tensor<B, 2>,
        layers: Range<usize>,
        cache: &mut B::Cache,
        sequences: &[Sequence<'_>],
    ) -> Tensor<B, 2> {
        B::prepare(cache, sequences, &self.device);
        let mut delta: Option<Tensor<B, 2>> = None;
        for layer in layers {
            let block = &self.blocks[layer];
            let normed;
            (x, normed) = match delta.take() {
                Some(delta) => block.attention_norm.forward_residual(x, delta),
                None => {
                    let normed = block.attention_norm.forward(&x);
                    (x, normed)
                }
            };
            let (sum, next) = block.forward(x, normed, cache, layer, &self.rope, sequences);
            (x, delta) = (sum, Some(next));
        }
        match delta {
            Some(delta) => B::add(x, delta),
            None => x,
        }
    }
}
