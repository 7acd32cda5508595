//! Root mean square norm (Zhang & Sennrich 2019).

use burn::tensor::Tensor;

use crate::kernel::FarBackend;

/// Scales a row to unit mean square, then by a learned weight.
#[derive(Clone, Debug)]
pub(super) struct RmsNorm<B: FarBackend> {
    pub(super) weight: Tensor<B, 1>,
    pub(super) eps: f32,
}

impl<B: FarBackend> RmsNorm<B> {
    /// # Shapes
    /// `[t, hidden]` to the same.
    pub(super) fn forward(&self, x: &Tensor<B, 2>) -> Tensor<B, 2> {
        B::rms_norm(x, &self.weight, self.eps)
    }

    /// The residual connection and the norm after it: `x + delta`, and its norm.
    ///
    /// # Shapes
    /// `[t, hidden]` all four.
    pub(super) fn forward_residual(&self, x: Tensor<B, 2>, delta: Tensor<B, 2>) -> (Tensor<B, 2>, Tensor<B, 2>) {
        B::add_rms_norm(x, delta, &self.weight, self.eps)
    }
}
