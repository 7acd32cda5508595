//! What a mixture of experts is made of.

use std::collections::BTreeSet;

/// Most experts of a layer (Qwen3-MoE has 128, the largest in use 512).
pub(super) const MAX_EXPERTS: u64 = 1024;

/// Experts of the layers of a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Experts {
    /// Experts of a layer.
    pub count: usize,
    /// How many of them a token passes, at least 1 and at most all.
    pub used: usize,
    /// Width of one.
    pub feed_forward: usize,
    /// The weights of those a token passes sum to one; else they are their shares among all experts.
    pub normalized: bool,
    /// Layers that have an ordinary feed-forward instead.
    pub(super) dense: BTreeSet<u32>,
}

impl Experts {
    /// Whether a layer has experts.
    pub fn in_layer(&self, layer: u32) -> bool {
        !self.dense.contains(&layer)
    }
}
