//! The tensors a model is made of, by GGUF's names, and the shapes that follow from its configuration.

use std::collections::HashSet;

use super::{
    config::{ConfigError, ModelConfig, RopeScaling},
    gguf::{self, TensorInfo},
};
use crate::kernel::AttentionShape;

/// Frequency factors of a scaled rotary embedding.
pub(super) const ROPE_FACTORS: &str = "rope_freqs.weight";

impl ModelConfig {
    /// Name of a tensor of a block; `part` says weight or bias, too.
    pub(super) fn block_tensor(layer: u32, part: &str) -> String {
        format!("blk.{layer}.{part}")
    }

    /// Names of the tensors of a layer.
    pub(crate) fn block_tensors(&self, layer: u32) -> impl Iterator<Item = String> {
        self.block_parts().into_iter().map(move |(part, _)| Self::block_tensor(layer, part))
    }

    /// The tensors of every block with their dimensions, the fastest first.
    fn block_parts(&self) -> Vec<(&'static str, Vec<u64>)> {
        let AttentionShape { heads, kv_heads, head_dim, .. } = self.attention;
        let (hidden, ff) = (self.hidden as u64, self.feed_forward as u64);
        let (queries, keys, head) = ((heads * head_dim) as u64, (kv_heads * head_dim) as u64, head_dim as u64);
        let mut parts = vec![
            ("attn_norm.weight", vec![hidden]),
            ("attn_q.weight", vec![hidden, queries]),
            ("attn_k.weight", vec![hidden, keys]),
            ("attn_v.weight", vec![hidden, keys]),
            ("attn_output.weight", vec![queries, hidden]),
            ("ffn_norm.weight", vec![hidden]),
            ("ffn_gate.weight", vec![hidden, ff]),
            ("ffn_up.weight", vec![hidden, ff]),
            ("ffn_down.weight", vec![ff, hidden]),
        ];
        if self.architecture.qkv_bias {
            parts.extend([("attn_q.bias", vec![queries]), ("attn_k.bias", vec![keys]), ("attn_v.bias", vec![keys])]);
        }
        if self.architecture.qk_norm {
            parts.extend([("attn_q_norm.weight", vec![head]), ("attn_k_norm.weight", vec![head])]);
        }
        parts
    }

    /// Holds every tensor against the shape that follows from the metadata, and refuses tensors nobody would read.
    pub(super) fn check_tensors(&self, file: &gguf::File) -> Result<(), ConfigError> {
        let (hidden, vocabulary) = (self.hidden as u64, self.vocabulary as u64);
        let mut expected = vec![
            ("token_embd.weight".to_owned(), vec![hidden, vocabulary]),
            ("output_norm.weight".to_owned(), vec![hidden]),
        ];
        if !self.tied_head {
            expected.push(("output.weight".to_owned(), vec![hidden, vocabulary]));
        }
        if self.rope_scaling == RopeScaling::Factors {
            expected.push((ROPE_FACTORS.to_owned(), vec![self.attention.head_dim as u64 / 2]));
        }
        let parts = self.block_parts();
        for layer in 0..self.layers {
            expected.extend(parts.iter().map(|(part, dims)| (Self::block_tensor(layer, part), dims.clone())));
        }
        for (name, want) in &expected {
            let TensorInfo { dims, .. } = file.tensor(name)?;
            if dims != want {
                return Err(ConfigError::Shape { tensor: name.clone(), found: dims.clone(), want: want.clone() });
            }
        }
        // Every expected tensor is there and names are unique, so a longer table has a tensor that nobody would read.
        if file.tensors().len() > expected.len() {
            let known: HashSet<&str> = expected.iter().map(|(name, _)| name.as_str()).collect();
            if let Some(extra) = file.tensors().iter().find(|tensor| !known.contains(tensor.name.as_str())) {
                return Err(ConfigError::NotApplied(format!("a tensor {:?}", extra.name)));
            }
        }
        Ok(())
    }
}
