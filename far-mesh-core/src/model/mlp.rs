//! Gated feed-forward layer, SwiGLU (Shazeer 2020).

use burn::tensor::Tensor;

use super::linear::Linear;
use crate::kernel::FarBackend;

/// `down(silu(gate(x)) * up(x))`.
#[derive(Clone, Debug)]
pub(super) struct Mlp<B: FarBackend> {
    /// Gate and up, stacked in this order.
    pub(super) gate_up: Linear<B>,
    pub(super) down: Linear<B>,
}

impl<B: FarBackend> Mlp<B> {
    /// # Shapes
    /// `x [t, hidden]`, already normed, to `[t, hidden]`.
    pub(super) fn forward(&self, x: Tensor<B, 2>) -> Tensor<B, 2> {
        self.down.forward(B::silu_mul(self.gate_up.forward(x)))
    }
}
