//! The tensors a model is made of, by GGUF's names, and the shapes that follow from its configuration.

use std::collections::HashSet;

use super::{
    config::{ConfigError, ModelConfig, RopeScaling},
    source::Source,
};
use crate::kernel::AttentionShape;

/// Hidden states of token ids.
pub(super) const EMBEDDING: &str = "token_embd.weight";

/// The output matrix, where it is not the embedding.
pub(super) const OUTPUT: &str = "output.weight";

/// Frequency factors of a scaled rotary embedding.
pub(super) const ROPE_FACTORS: &str = "rope_freqs.weight";

impl ModelConfig {
    /// Name of a tensor of a block; `part` says weight or bias, too.
    pub(super) fn block_tensor(layer: u32, part: &str) -> String {
        format!("blk.{layer}.{part}")
    }

    /// Names of the tensors of a layer.
    pub(crate) fn block_tensors(&self, layer: u32) -> impl Iterator<Item = String> {
        self.block_parts(layer).into_iter().map(move |(part, _)| Self::block_tensor(layer, part))
    }

    /// The tensors of a layer with their dimensions, the fastest first.
    fn block_parts(&self, layer: u32) -> Vec<(&'static str, Vec<u64>)> {
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
        ];
        match self.experts_in(layer) {
            None => parts.extend([
                ("ffn_gate.weight", vec![hidden, ff]),
                ("ffn_up.weight", vec![hidden, ff]),
                ("ffn_down.weight", vec![ff, hidden]),
            ]),
            Some(experts) => {
                let (count, ff) = (experts.count as u64, experts.feed_forward as u64);
                parts.extend([
                    ("ffn_gate_inp.weight", vec![hidden, count]),
                    ("ffn_gate_exps.weight", vec![hidden, ff, count]),
                    ("ffn_up_exps.weight", vec![hidden, ff, count]),
                    ("ffn_down_exps.weight", vec![ff, hidden, count]),
                ]);
            }
        }
        if self.architecture.qkv_bias {
            parts.extend([("attn_q.bias", vec![queries]), ("attn_k.bias", vec![keys]), ("attn_v.bias", vec![keys])]);
        }
        if self.architecture.qk_norm {
            parts.extend([("attn_q_norm.weight", vec![head]), ("attn_k_norm.weight", vec![head])]);
        }
        parts
    }

    /// Holds every tensor against the shape that follows from the configuration, and refuses tensors nobody would read.
    pub(super) fn check_tensors(&self, source: &Source) -> Result<(), ConfigError> {
        let (hidden, vocabulary) = (self.hidden as u64, self.vocabulary as u64);
        let output = || (OUTPUT.to_owned(), vec![hidden, vocabulary]);
        let mut expected =
            vec![(EMBEDDING.to_owned(), vec![hidden, vocabulary]), ("output_norm.weight".to_owned(), vec![hidden])];
        // A checkpoint may hold a tied matrix twice; the head's loader compares the two.
        if !self.tied_head || source.find(OUTPUT).is_some() {
            expected.push(output());
        }
        if self.rope_scaling == RopeScaling::Factors {
            expected.push((ROPE_FACTORS.to_owned(), vec![self.attention.head_dim as u64 / 2]));
        }
        for layer in 0..self.layers {
            let parts = self.block_parts(layer).into_iter();
            expected.extend(parts.map(|(part, dims)| (Self::block_tensor(layer, part), dims)));
        }
        let mut known = HashSet::new();
        for (name, want) in &expected {
            let tensor = source.tensor(name)?;
            if &tensor.dims != want {
                let (tensor, found) = (tensor.name.to_owned(), tensor.dims);
                return Err(ConfigError::Shape { tensor, found, want: want.clone() });
            }
            known.extend(tensor.names());
        }
        let extra = |name: &&str| !known.contains(name) && !derived(name);
        match source.names().into_iter().find(extra) {
            Some(extra) => Err(ConfigError::NotApplied(format!("a tensor {extra:?}"))),
            None => Ok(()),
        }
    }
}

/// Frequencies that old checkpoints of Llama store, though they follow from the configuration.
fn derived(name: &str) -> bool {
    name.starts_with("model.layers.") && name.ends_with(".self_attn.rotary_emb.inv_freq")
}
