//! Gated feed-forward layer, SwiGLU (Shazeer 2020).

use burn::tensor::Tensor;

use super::{linear::Linear, moe::Moe};
use crate::kernel::FarBackend;

/// `down(silu(gate(x)) * up(x))`.
#[derive(Clone, Debug)]
pub(super) struct Mlp<B: FarBackend> {
    /// Gate and up, stacked in this order.
    pub(super) gate_up: Linear<B>,
    pub(super) down: Linear<B>,
}

/// What a layer feeds its rows forward through.
#[derive(Clone, Debug)]
pub(super) enum FeedForward<B: FarBackend> {
    /// One for all rows.
    Dense(Mlp<B>),
    /// A few of many for each.
    Experts(Moe<B>),
}

impl<B: FarBackend> Mlp<B> {
    /// # Shapes
    /// `x [t, hidden]`, already normed, to `[t, hidden]`.
    pub(super) fn forward(&self, x: Tensor<B, 2>) -> Tensor<B, 2> {
        self.down.forward(B::silu_mul(self.gate_up.forward(x)))
    }
}

impl<B: FarBackend> FeedForward<B> {
    /// # Shapes
    /// `x [t, hidden]`, already normed, to `[t, hidden]`.
    pub(super) fn forward(&self, x: Tensor<B, 2>) -> Tensor<B, 2> {
        match self {
            Self::Dense(mlp) => mlp.forward(x),
            Self::Experts(moe) => moe.forward(x),
        }
    }
}
