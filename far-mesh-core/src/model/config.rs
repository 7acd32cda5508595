//! What a model is: widths, heads, layers, read from a file's metadata and checked against its tensors.

use super::{
    Architecture,
    gguf::{self, GgufError, MetadataError, Value},
    tensors::ROPE_FACTORS,
};
use crate::{
    id::Span,
    kernel::AttentionShape,
    limits::{MAX_HIDDEN, MAX_LAYERS},
};

/// Greatest vocabulary: the largest in use has 262 thousand tokens.
const MAX_VOCABULARY: u64 = 1 << 20;

/// Greatest width of a feed-forward layer (Llama 3.1 405B has 53248).
const MAX_FEED_FORWARD: u64 = 1 << 18;

/// Greatest context: 16 million positions, more than any model has.
const MAX_CONTEXT: u64 = 1 << 24;

/// A model's shape.
///
/// Invariant: within [`crate::limits`], `heads` a multiple of `kv_heads`, `head_dim` even, and every tensor the model
/// needs is in the file with the shape that follows from it.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelConfig {
    /// The file's own name for the model, or its architecture's.
    pub name: String,
    /// What sets it apart from other models.
    pub architecture: &'static Architecture,
    /// Decoder layers.
    pub layers: u32,
    /// Width of the hidden state.
    pub hidden: usize,
    /// Query heads, key-value heads and their width.
    pub attention: AttentionShape,
    /// Width of the feed-forward layer.
    pub feed_forward: usize,
    /// Number of tokens.
    pub vocabulary: usize,
    /// Term that keeps the norm's root from zero.
    pub norm_eps: f32,
    /// Base of the rotary embedding's wave lengths.
    pub rope_theta: f32,
    /// What its frequencies are changed by.
    pub rope_scaling: RopeScaling,
    /// Positions the model was made for.
    pub context_tokens: u32,
    /// The output matrix is the embedding.
    pub tied_head: bool,
    span: Span,
}

/// What the frequencies of the rotary embedding are changed by, to reach beyond the context of the first training.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum RopeScaling {
    /// Nothing.
    None,
    /// All are divided by one number (position interpolation, Chen et al. 2023).
    Linear(f32),
    /// Each is divided by its own, which the file holds as a tensor (Llama 3.1).
    Factors,
}

/// Why a file's metadata does not describe a model we run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// An architecture without an implementation.
    #[error("architecture {found:?} is not served; {served:?} are", served = Architecture::names())]
    Architecture {
        /// The file's architecture.
        found: String,
    },
    /// An entry is missing or of the wrong type.
    #[error(transparent)]
    Metadata(#[from] MetadataError),
    /// A tensor is missing or unreadable.
    #[error(transparent)]
    Gguf(#[from] GgufError),
    /// A number no model has.
    #[error("{key} is {found}, must be {want}")]
    Value {
        /// The entry.
        key: String,
        /// Its value.
        found: String,
        /// What it may be.
        want: String,
    },
    /// A tensor's shape contradicts the metadata.
    #[error("tensor {tensor:?} has shape {found:?}, the metadata make it {want:?}: the file is damaged")]
    Shape {
        /// The tensor.
        tensor: String,
        /// Its dimensions.
        found: Vec<u64>,
        /// What they should be.
        want: Vec<u64>,
    },
    /// Something that would change the result and is not implemented.
    #[error("the model has {0}, which this version does not apply; running it without would be wrong")]
    NotApplied(String),
}

impl ModelConfig {
    /// Reads and checks the metadata of a file.
    ///
    /// # Errors
    /// [`ConfigError`] says which entry or tensor does not fit.
    pub fn from_gguf(file: &gguf::File) -> Result<Self, ConfigError> {
        let metadata = file.metadata();
        let architecture = metadata.str("general.architecture")?;
        let architecture = Architecture::find(architecture)
            .ok_or_else(|| ConfigError::Architecture { found: architecture.to_owned() })?;
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
        let vocabulary = match file.tensor("token_embd.weight")?.dims.as_slice() {
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
        let config = Self {
            name: metadata.str("general.name").unwrap_or(architecture.name).to_owned(),
            architecture,
            layers,
            hidden,
            attention: AttentionShape { heads, kv_heads, head_dim, window: entries.window()? },
            feed_forward: entries.number("feed_forward_length", MAX_FEED_FORWARD)? as usize,
            vocabulary,
            norm_eps: entries.float("attention.layer_norm_rms_epsilon", None)?,
            rope_theta: entries.float("rope.freq_base", Some(10_000.0))?,
            rope_scaling: entries.rope_scaling()?,
            context_tokens: entries.number("context_length", MAX_CONTEXT)? as u32,
            tied_head: file.find("output.weight").is_none(),
            span: Span::new(0, layers).map_err(|error| entries.bad("block_count", layers, error.to_string()))?,
        };
        config.check_tensors(file)?;
        Ok(config)
    }

    /// All layers.
    pub fn all_layers(&self) -> Span {
        self.span
    }
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

    fn refuse_what_is_not_applied(&self) -> Result<(), ConfigError> {
        let text = |name| self.file.metadata().str(&self.key(name)).unwrap_or_default();
        if !matches!(text("rope.scaling.type"), "" | "none" | "linear") {
            return Err(ConfigError::NotApplied(format!("rope scaling {:?}", text("rope.scaling.type"))));
        }
        if let Some(value @ (Value::Unsigned(1..) | Value::Signed(1..))) = self.get("expert_count") {
            return Err(ConfigError::NotApplied(format!("expert_count {value:?}")));
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
    use crate::model::testing::{GgufWriter, TinyLlama};

    fn check(writer: GgufWriter) -> Result<ModelConfig, ConfigError> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("m.gguf");
        std::fs::write(&path, writer.finish().0).unwrap();
        ModelConfig::from_gguf(&gguf::File::open(&path).unwrap())
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
        says(tiny().writer().u32("llama.expert_count", 8), &["expert_count"]);
        says(tiny().writer().tensor("rope_freqs.weight", &[4], 0, vec![0; 16]), &["rope_freqs.weight", "[8]"]);
        says(tiny().writer().tensor("blk.0.attn_q.bias", &[64], 0, vec![0; 256]), &["blk.0.attn_q.bias"]);
        says(TinyLlama { layers: 0, ..tiny() }.writer(), &["block_count", "is 0"]);
        says(TinyLlama { kv_heads: 3, ..tiny() }.writer(), &["head_count_kv", "is 3", "4 heads"]);
        says(TinyLlama { context_tokens: 0, ..tiny() }.writer(), &["context_length", "is 0"]);
        says(tiny().writer().u32("llama.attention.key_length", 32), &["rope.dimension_count", "16", "32"]);
        says(tiny().writer().u32("llama.attention.value_length", 8), &["value_length", "8", "16"]);
    }
}
