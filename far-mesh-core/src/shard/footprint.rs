//! What a shard takes of its device's memory: weights, the arena, the rotary table and workspace.

use super::{Batching, DeviceChoice};
use crate::{
    id::Span,
    kernel::AttentionShape,
    model::{ModelConfig, Precision, Source},
};

/// Room on a GPU for activations, the workspace of large products and the CUDA runtime's own.
const GPU_WORKSPACE_BYTES: u64 = 1 << 30;

/// What decides, besides the model and the span.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Load {
    /// What computes.
    pub device: DeviceChoice,
    /// What the weights become.
    pub precision: Precision,
    /// Positions that all sessions together may hold.
    pub arena_tokens: usize,
    /// How sessions share the device.
    pub batching: Batching,
}

/// Bytes of each part of a model on a device.
#[derive(Clone, Debug)]
pub(super) struct Footprint {
    /// Weights and cache of each layer.
    layers: Vec<u64>,
    embedding: u64,
    /// Final norm and output matrix; with a tied one the embedding is counted apart.
    head: u64,
    tied_head: bool,
    /// The rotary table and workspace, whatever the span.
    fixed: u64,
}

impl Footprint {
    pub(super) fn of(source: &Source, model: &ModelConfig, load: &Load) -> Self {
        let gpu = matches!(load.device, DeviceChoice::Cuda(_));
        let bytes = |name: &str| {
            let bytes = source.loaded_bytes(name, load.precision);
            // Scales of six bits become bytes there: four bytes more to the 144 of a superblock at most.
            if gpu { bytes.saturating_add(bytes / 36) } else { bytes }
        };
        let AttentionShape { heads, kv_heads, head_dim, .. } = model.attention;
        let element: u64 = if gpu && load.precision != Precision::Exact { 2 } else { 4 };
        let position = 2 * (kv_heads * head_dim) as u64 * element;
        let cache = position.saturating_mul(load.arena_tokens as u64);
        let layer = |layer| {
            let weights = model.block_tensors(layer).map(|name| bytes(&name));
            weights.fold(cache, u64::saturating_add)
        };
        let positions = load.arena_tokens.min(model.context_tokens as usize) as u64;
        let rope = positions * head_dim as u64 * 4;
        // Of each row: the residual stream twice, its norm, what attention and the feed-forward layer take and give.
        let row = 4 * model.hidden + 2 * (heads + 2 * kv_heads) * head_dim + 3 * model.feed_forward;
        let workspace = match gpu {
            true => GPU_WORKSPACE_BYTES,
            false => (row as u64 * 4).saturating_mul(load.batching.step_tokens as u64),
        };
        let head = bytes("output_norm.weight");
        Self {
            layers: (0..model.layers).map(layer).collect(),
            embedding: bytes("token_embd.weight"),
            head: if model.tied_head { head } else { head.saturating_add(bytes("output.weight")) },
            tied_head: model.tied_head,
            fixed: rope.saturating_add(workspace),
        }
    }

    /// Bytes of a shard.
    pub(super) fn bytes(&self, span: Option<Span>, head: bool) -> u64 {
        let own = span.map_or(0..0, |span| span.start() as usize..span.end() as usize);
        let embeds = span.is_some_and(|span| span.start() == 0) || head && self.tied_head;
        let layers = self.layers.get(own).unwrap_or(&self.layers);
        let parts = [if embeds { self.embedding } else { 0 }, if head { self.head } else { 0 }];
        layers.iter().chain(&parts).copied().fold(self.fixed, u64::saturating_add)
    }

    /// The most layers of which any that follow each other fit `max_bytes`.
    pub(super) fn widest(&self, max_bytes: u64) -> u32 {
        let all = self.layers.len() as u32;
        let fits = |length: &u32| {
            (0..=all - length)
                .filter_map(|start| Span::new(start, start + length).ok())
                .all(|span| self.bytes(Some(span), false) <= max_bytes)
        };
        (1..=all).rev().find(fits).unwrap_or(0)
    }
}
