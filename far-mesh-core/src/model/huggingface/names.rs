//! From GGUF's tensor names to those of Hugging Face checkpoints.

use crate::model::Architecture;

/// Tensors outside of the layers.
const OUTSIDE: &[(&str, &str)] = &[
    ("token_embd.weight", "model.embed_tokens.weight"),
    ("output_norm.weight", "model.norm.weight"),
    ("output.weight", "lm_head.weight"),
];

/// Tensors of a layer: the part after `blk.N.` and after `model.layers.N.`.
const PARTS: &[(&str, &str)] = &[
    ("attn_norm.weight", "input_layernorm.weight"),
    ("attn_q.weight", "self_attn.q_proj.weight"),
    ("attn_k.weight", "self_attn.k_proj.weight"),
    ("attn_v.weight", "self_attn.v_proj.weight"),
    ("attn_output.weight", "self_attn.o_proj.weight"),
    ("attn_q.bias", "self_attn.q_proj.bias"),
    ("attn_k.bias", "self_attn.k_proj.bias"),
    ("attn_v.bias", "self_attn.v_proj.bias"),
    ("attn_q_norm.weight", "self_attn.q_norm.weight"),
    ("attn_k_norm.weight", "self_attn.k_norm.weight"),
    ("ffn_norm.weight", "post_attention_layernorm.weight"),
    ("ffn_gate.weight", "mlp.gate_proj.weight"),
    ("ffn_up.weight", "mlp.up_proj.weight"),
    ("ffn_down.weight", "mlp.down_proj.weight"),
];

/// The names of one model.
#[derive(Debug)]
pub(super) struct Names {
    architecture: &'static Architecture,
    experts: usize,
}

impl Names {
    pub(super) fn new(architecture: &'static Architecture, experts: usize) -> Self {
        Self { architecture, experts }
    }

    /// How many tensors hold what GGUF has in this one; `None` where it is one to one.
    pub(super) fn experts(&self, name: &str) -> Option<usize> {
        name.ends_with("_exps.weight").then_some(self.experts)
    }

    /// The name of a tensor, or of an expert's share of it.
    pub(super) fn of(&self, name: &str, expert: usize) -> Option<String> {
        let same = |table: &[(&str, &'static str)], name: &str| {
            table.iter().find(|(ours, _)| *ours == name).map(|(_, theirs)| *theirs)
        };
        let Some((layer, part)) = name.strip_prefix("blk.").and_then(|rest| rest.split_once('.')) else {
            return same(OUTSIDE, name).map(str::to_owned);
        };
        if let Some(part) = same(PARTS, part) {
            return Some(format!("model.layers.{layer}.{part}"));
        }
        let experts = self.architecture.experts?;
        let block = experts.block;
        let own = match part {
            "ffn_gate_inp.weight" => return Some(format!("model.layers.{layer}.{block}.gate.weight")),
            "ffn_gate_exps.weight" => experts.gate,
            "ffn_up_exps.weight" => experts.up,
            "ffn_down_exps.weight" => experts.down,
            _ => return None,
        };
        Some(format!("model.layers.{layer}.{block}.experts.{expert}.{own}.weight"))
    }
}
