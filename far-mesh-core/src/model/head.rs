//! From last hidden states to logits.

use burn::tensor::Tensor;

use super::{linear::Linear, norm::RmsNorm};
use crate::kernel::FarBackend;

/// Final norm and output matrix.
#[derive(Clone, Debug)]
pub struct Head<B: FarBackend> {
    pub(super) norm: RmsNorm<B>,
    pub(super) output: Linear<B>,
}

impl<B: FarBackend> Head<B> {
    /// # Shapes
    /// `x [t, hidden]` to logits `[t, vocabulary]` f32.
    pub fn forward(&self, x: Tensor<B, 2>) -> Tensor<B, 2> {
        self.output.forward_logits(self.norm.forward(&x))
    }
}
