//! A linear layer whose weight may be made of several matrices of different encodings.

use burn::tensor::Tensor;

use crate::kernel::{FarBackend, KernelOps};

/// Weight `[n, k]` as one matrix, or as several that share `k` and follow each other in `n`.
#[derive(Clone, Debug)]
pub(super) struct Linear<B: FarBackend> {
    parts: Vec<B::Packed>,
}

impl<B: FarBackend> Linear<B> {
    /// Invariant: at least one part.
    pub(super) fn new(first: B::Packed, rest: Vec<B::Packed>) -> Self {
        let mut parts = vec![first];
        parts.extend(rest);
        Self { parts }
    }

    /// # Shapes
    /// `x [t, k]` to `[t, n]`.
    pub(super) fn forward(&self, x: Tensor<B, 2>) -> Tensor<B, 2> {
        match self.parts.as_slice() {
            [whole] => <B as KernelOps>::linear(x, whole),
            parts => Tensor::cat(parts.iter().map(|part| <B as KernelOps>::linear(x.clone(), part)).collect(), 1),
        }
    }
}
