//! From the metadata of a GGUF file to [`ModelConfig`].

use std::collections::BTreeSet;

use super::{
    Architecture, ConfigError, ModelConfig, RopeScaling, SourceError,
    config::{MAX_CONTEXT, MAX_FEED_FORWARD, MAX_VOCABULARY},
    experts::{Experts, MAX_EXPERTS},
    gguf::{self, Value},
    tensors::ROPE_FACTORS,
};
use crate::{
    id::Span,
    kernel::AttentionShape,
    limits::{MAX_HIDDEN, MAX_LAYERS},
};

/// Reads and checks the metadata of a file.
pub(super) fn config_of(file: &gguf::File) -> Result<ModelConfig, ConfigError> {
    let metadata = file.metadata();
    let architecture = metadata.str("general.architecture")?;
    let architecture =
        Architecture::find(architecture).ok_or_else(|| ConfigError::Architecture { found: architecture.to_owned() })?;
    let entries = Entries { file, architecture };
    entries.refuse_what_is_not_applied()?;

    let hidden = entries.number("embedding_length", MAX_HIDDEN as u64)? as usize;
    let heads = entries.number("attention.head_count", MAX_HIDDEN as u64)? as usize;
    let kv_heads = match entries.has("attention.head_count_kv") {
        true => entries.number("attention.head_count_kv", heads as u64)? as usize,
        false => heads,
    };
    if !heads.is_multiple_of(kv_heads) {
        return Err(entries.bad("attention.head_count_kv", kv_heads, format!("a divisor of the {heads} heads")));
    }
    let head_dim = entries.head_dim(hidden, heads)?;
    let vocabulary = match file.tensor("token_embd.weight").map_err(SourceError::from)?.dims.as_slice() {
        &[_, rows] if rows <= MAX_VOCABULARY => rows as usize,
        other => {
            return Err(ConfigError::Shape {
                tensor: "token_embd.weight".into(),
                found: other.to_vec(),
                want: vec![hidden as u64, MAX_VOCABULARY],
            });
        }
    };
    let layers = entries.number("block_count", MAX_LAYERS.into())? as u32;
    Ok(ModelConfig {
        name: metadata.str("general.name").unwrap_or(architecture.name).to_owned(),
        architecture,
        layers,
        hidden,
        attention: AttentionShape { heads, kv_heads, head_dim, window: entries.window()? },
        feed_forward: entries.feed_forward()?,
        vocabulary,
        norm_eps: entries.float("attention.layer_norm_rms_epsilon", None)?,
        rope_theta: entries.float("rope.freq_base", Some(10_000.0))?,
        rope_scaling: entries.rope_scaling()?,
        context_tokens: entries.number("context_length", MAX_CONTEXT)? as u32,
        tied_head: file.find("output.weight").is_none(),
        experts: entries.experts()?,
        span: Span::new(0, layers).map_err(|error| entries.bad("block_count", layers, error.to_string()))?,
    })
}

/// Entries under an architecture's prefix.
struct Entries<'a> {
    file: &'a gguf::File,
    architecture: &'a Architecture,
}

impl Entries<'_> {
    fn key(&self, name: &str) -> String {
        format!("{}.{name}", self.architecture.name)
    }

    fn has(&self, name: &str) -> bool {
        self.file.metadata().has(&self.key(name))
    }

    fn get(&self, name: &str) -> Option<&Value> {
        self.file.metadata().get(&self.key(name))
    }

    fn bad(&self, name: &str, found: impl ToString, want: impl Into<String>) -> ConfigError {
        ConfigError::Value { key: self.key(name), found: found.to_string(), want: want.into() }
    }

    fn number(&self, name: &str, most: u64) -> Result<u64, ConfigError> {
        match self.file.metadata().u64(&self.key(name))? {
            number if (1..=most).contains(&number) => Ok(number),
            number => Err(self.bad(name, number, format!("1 to {most}"))),
        }
    }

    fn float(&self, name: &str, default: Option<f32>) -> Result<f32, ConfigError> {
        let number = match default {
            Some(default) if !self.has(name) => default,
            _ => self.file.metadata().f32(&self.key(name))?,
        };
        match number.is_finite() && number > 0.0 {
            true => Ok(number),
            false => Err(self.bad(name, number, "positive and finite")),
        }
    }

    /// Width of a head: all of it is rotated, keys and values have the same.
    fn head_dim(&self, hidden: usize, heads: usize) -> Result<usize, ConfigError> {
        let head_dim = match self.has("attention.key_length") {
            true => self.number("attention.key_length", MAX_HIDDEN as u64)? as usize,
            false if hidden.is_multiple_of(heads) => hidden / heads,
            false => return Err(self.bad("attention.head_count", heads, format!("a divisor of the width {hidden}"))),
        };
        for name in ["attention.value_length", "rope.dimension_count"] {
            if self.has(name) && self.number(name, u64::MAX)? as usize != head_dim {
                return Err(self.bad(name, self.number(name, u64::MAX)?, format!("the width of a head, {head_dim}")));
            }
        }
        match head_dim.is_multiple_of(2) && heads * head_dim <= 4 * MAX_HIDDEN {
            true => Ok(head_dim),
            false => Err(self.bad("attention.key_length", head_dim, "even and within the limits")),
        }
    }

    /// Positions a query sees, its own among them; 0 in a file means all.
    fn window(&self) -> Result<Option<usize>, ConfigError> {
        const NAME: &str = "attention.sliding_window";
        match self.get(NAME) {
            None | Some(Value::Unsigned(0) | Value::Signed(0)) => Ok(None),
            Some(_) if self.architecture.window => Ok(Some(self.number(NAME, MAX_CONTEXT)? as usize)),
            Some(value) => Err(ConfigError::NotApplied(format!("{NAME} {value:?} in some of its layers"))),
        }
    }

    fn rope_scaling(&self) -> Result<RopeScaling, ConfigError> {
        // Writers that scale nothing leave the factor out or set it to 0 or 1, whatever the type.
        let factor = match self.get("rope.scaling.factor") {
            None | Some(Value::Float(0.0)) => 1.0,
            Some(_) => self.float("rope.scaling.factor", None)?,
        };
        match (self.file.find(ROPE_FACTORS).is_some(), factor == 1.0) {
            (false, true) => Ok(RopeScaling::None),
            (false, false) => Ok(RopeScaling::Linear(factor)),
            (true, true) => Ok(RopeScaling::Factors),
            (true, false) => {
                Err(ConfigError::NotApplied(format!("rope scaling by {factor} beside a tensor {ROPE_FACTORS:?}")))
            }
        }
    }

    /// Width of the feed-forward; models that have experts in every layer may not name one.
    fn feed_forward(&self) -> Result<usize, ConfigError> {
        let name = match self.has("feed_forward_length") || !self.has("expert_feed_forward_length") {
            true => "feed_forward_length",
            false => "expert_feed_forward_length",
        };
        Ok(self.number(name, MAX_FEED_FORWARD)? as usize)
    }

    /// The experts, where the metadata count any.
    fn experts(&self) -> Result<Option<Experts>, ConfigError> {
        let count = match self.get("expert_count") {
            None | Some(Value::Unsigned(0) | Value::Signed(0)) => return Ok(None),
            Some(value) if self.architecture.experts.is_none() => {
                return Err(ConfigError::NotApplied(format!("expert_count {value:?} in a {}", self.architecture.name)));
            }
            Some(_) => self.number("expert_count", MAX_EXPERTS)? as usize,
        };
        let used = self.number("expert_used_count", count as u64)? as usize;
        let feed_forward = match self.has("expert_feed_forward_length") {
            true => self.number("expert_feed_forward_length", MAX_FEED_FORWARD)? as usize,
            false => self.feed_forward()?,
        };
        // 1 is softmax, which is what models without the entry have.
        if self.has("expert_gating_func") && self.number("expert_gating_func", u64::MAX)? != 1 {
            return Err(self.bad("expert_gating_func", self.number("expert_gating_func", u64::MAX)?, "1, softmax"));
        }
        if self.has("expert_weights_scale") && self.float("expert_weights_scale", None)? != 1.0 {
            return Err(ConfigError::NotApplied("expert_weights_scale set".to_owned()));
        }
        // The files that llama.cpp writes of the models we run do not say it, since all of them do.
        let key = self.key("expert_weights_norm");
        let normalized = if self.has("expert_weights_norm") { self.file.metadata().bool(&key)? } else { true };
        if self.architecture.sums_to_one && !normalized {
            return Err(ConfigError::NotApplied("expert_weights_norm = false".to_owned()));
        }
        Ok(Some(Experts { count, used, feed_forward, normalized, dense: BTreeSet::new() }))
    }

    fn refuse_what_is_not_applied(&self) -> Result<(), ConfigError> {
        let text = |name| self.file.metadata().str(&self.key(name)).unwrap_or_default();
        if !matches!(text("rope.scaling.type"), "" | "none" | "linear") {
            return Err(ConfigError::NotApplied(format!("rope scaling {:?}", text("rope.scaling.type"))));
        }
        for name in ["expert_shared_count", "expert_group_count", "leading_dense_block_count", "nextn_predict_layers"] {
            if let Some(value @ (Value::Unsigned(1..) | Value::Signed(1..))) = self.get(name) {
                return Err(ConfigError::NotApplied(format!("{name} {value:?}")));
            }
        }
        for name in [
            "attention.scale",
            "attention.max_alibi_bias",
            "attention.clamp_kqv",
            "attention.sliding_window_pattern",
            "rope.scaling.attn_factor",
            "rope.scale_linear",
        ] {
            if self.has(name) {
                return Err(ConfigError::NotApplied(format!("{name} set")));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{
        Source,
        testing::{GgufWriter, TinyLlama},
    };

    fn check(writer: GgufWriter) -> Result<ModelConfig, ConfigError> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("m.gguf");
        std::fs::write(&path, writer.finish().0).unwrap();
        ModelConfig::read(&Source::open(&path).unwrap())
    }

    #[test]
    fn a_model_is_described_by_its_metadata() {
        let config = check(TinyLlama::default().writer()).unwrap();
        assert_eq!(config.attention, AttentionShape { heads: 4, kv_heads: 2, head_dim: 16, window: None });
        assert_eq!((config.layers, config.hidden, config.feed_forward, config.vocabulary), (6, 64, 96, 80));
        assert_eq!((config.tied_head, config.context_tokens, config.all_layers().len()), (true, 256, 6));
        let untied = TinyLlama { output: Some(crate::kernel::Format::Q8_0), ..TinyLlama::default() };
        assert!(!check(untied.writer()).unwrap().tied_head);
    }

    #[test]
    fn rope_is_scaled_and_a_window_set_as_the_metadata_say() {
        let tiny = || TinyLlama::default().writer();
        let scaled = tiny().text("llama.rope.scaling.type", "linear").f32("llama.rope.scaling.factor", 2.0);
        assert_eq!(check(scaled).unwrap().rope_scaling, RopeScaling::Linear(2.0));
        for nothing in [0.0, 1.0] {
            let plain = check(tiny().f32("llama.rope.scaling.factor", nothing)).unwrap();
            assert_eq!(plain.rope_scaling, RopeScaling::None);
        }
        let factors = || tiny().tensor("rope_freqs.weight", &[8], 0, vec![0; 32]);
        assert_eq!(check(factors()).unwrap().rope_scaling, RopeScaling::Factors);
        let both = check(factors().f32("llama.rope.scaling.factor", 2.0)).unwrap_err().to_string();
        assert!(both.contains("rope_freqs.weight") && both.contains('2'), "{both}");
        assert!(check(tiny().f32("llama.rope.scaling.factor", f32::NAN)).is_err());
        let window = |tokens| check(tiny().u32("llama.attention.sliding_window", tokens)).unwrap().attention.window;
        assert_eq!((window(0), window(9)), (None, Some(9)));
    }

    #[test]
    fn what_cannot_be_served_is_named() {
        let tiny = TinyLlama::default;
        let says = |writer, words: &[&str]| {
            let error = check(writer).unwrap_err().to_string();
            assert!(words.iter().all(|word| error.contains(word)), "{error}");
        };
        says(GgufWriter::default().text("general.architecture", "mamba"), &["mamba", "llama"]);
        says(GgufWriter::default(), &["general.architecture"]);
        says(GgufWriter::default().u32("general.architecture", 3), &["general.architecture", "unsigned integer"]);
        says(tiny().writer().text("llama.rope.scaling.type", "yarn"), &["yarn"]);
        says(tiny().writer().u32("llama.expert_count", 8), &["llama.expert_used_count"]);
        let experts = |used| tiny().writer().u32("llama.expert_count", 8).u32("llama.expert_used_count", used);
        says(experts(9), &["expert_used_count", "is 9", "1 to 8"]);
        says(experts(2), &["blk.0.ffn_gate_inp.weight"]);
        says(experts(2).u32("llama.expert_gating_func", 2), &["expert_gating_func", "is 2", "softmax"]);
        says(experts(2).u32("llama.expert_shared_count", 1), &["expert_shared_count"]);
        says(tiny().writer().u32("llama.expert_count", u32::MAX), &["expert_count", "4294967295"]);
        says(tiny().writer().tensor("rope_freqs.weight", &[4], 0, vec![0; 16]), &["rope_freqs.weight", "[8]"]);
        says(tiny().writer().tensor("blk.0.attn_q.bias", &[64], 0, vec![0; 256]), &["blk.0.attn_q.bias"]);
        says(TinyLlama { layers: 0, ..tiny() }.writer(), &["block_count", "is 0"]);
        says(TinyLlama { kv_heads: 3, ..tiny() }.writer(), &["head_count_kv", "is 3", "4 heads"]);
        says(TinyLlama { context_tokens: 0, ..tiny() }.writer(), &["context_length", "is 0"]);
        says(tiny().writer().u32("llama.attention.key_length", 32), &["rope.dimension_count", "16", "32"]);
        says(tiny().writer().u32("llama.attention.value_length", 8), &["value_length", "8", "16"]);
    }
}
