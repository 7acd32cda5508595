//! A linear layer whose weight may be made of several matrices of different encodings.

use burn::tensor::Tensor;

use crate::kernel::{FarBackend, KernelOps};

/// Weight `[n, k]` as one matrix, or as several that share `k` and follow each other in `n`, and perhaps a bias.
#[derive(Clone, Debug)]
pub(super) struct Linear<B: FarBackend> {
    parts: Vec<B::Packed>,
    /// `[1, n]`, of the activations' type.
    bias: Option<Tensor<B, 2>>,
}

impl<B: FarBackend> Linear<B> {
    /// Invariant: at least one part.
    pub(super) fn new(first: B::Packed, rest: Vec<B::Packed>) -> Self {
        let mut parts = vec![first];
        parts.extend(rest);
        Self { parts, bias: None }
    }

    /// The layer with a bias `[n]`, where there is one.
    pub(super) fn with_bias(self, bias: Option<Tensor<B, 1>>) -> Self {
        Self { bias: bias.map(Tensor::unsqueeze), ..self }
    }

    /// # Shapes
    /// `x [t, k]` to `[t, n]` of the same type.
    pub(super) fn forward(&self, x: Tensor<B, 2>) -> Tensor<B, 2> {
        self.product(x, <B as KernelOps>::linear)
    }

    /// # Shapes
    /// `x [t, k]` to `[t, n]` f32.
    pub(super) fn forward_logits(&self, x: Tensor<B, 2>) -> Tensor<B, 2> {
        self.product(x, <B as KernelOps>::logits)
    }

    fn product(&self, x: Tensor<B, 2>, part: impl Fn(Tensor<B, 2>, &B::Packed) -> Tensor<B, 2>) -> Tensor<B, 2> {
        let product = match self.parts.as_slice() {
            [whole] => part(x, whole),
            parts => Tensor::cat(parts.iter().map(|weight| part(x.clone(), weight)).collect(), 1),
        };
        match &self.bias {
            Some(bias) => product + bias.clone(),
            None => product,
        }
    }
}
