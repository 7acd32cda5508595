//! What a model is: widths, heads, layers, read from a file's metadata or a folder's settings and checked against its
//! tensors.

use super::{Architecture, SourceError, experts::Experts, gguf::MetadataError, huggingface, metadata, source::Source};
use crate::{id::Span, kernel::AttentionShape};

/// Greatest vocabulary: the largest in use has 262 thousand tokens.
pub(super) const MAX_VOCABULARY: u64 = 1 << 20;

/// Greatest width of a feed-forward layer (Llama 3.1 405B has 53248).
pub(super) const MAX_FEED_FORWARD: u64 = 1 << 18;

/// Greatest context: 16 million positions, more than any model has.
pub(super) const MAX_CONTEXT: u64 = 1 << 24;

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
    /// A mixture of experts in place of the feed-forward of some layers or all.
    pub experts: Option<Experts>,
    pub(super) span: Span,
}

/// What the frequencies of the rotary embedding are changed by, to reach beyond the context of the first training.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum RopeScaling {
    /// Nothing.
    None,
    /// All are divided by one number (position interpolation, Chen et al. 2023).
    Linear(f32),
    /// Each is divided by its own, which the file holds as a tensor (Llama 3.1 in GGUF).
    Factors,
    /// Long waves are divided by `factor`, short ones are left, those between are blended (Llama 3.1).
    Llama3 {
        /// What long waves are divided by.
        factor: f32,
        /// Waves longer than `context_tokens / low` are long.
        low: f32,
        /// Waves shorter than `context_tokens / high` are short.
        high: f32,
        /// Positions of the first training.
        context_tokens: f32,
    },
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
    Source(#[from] SourceError),
    /// An entry of `config.json` is missing.
    #[error("config.json has no {key:?}: it is incomplete; copy it again")]
    Setting {
        /// The entry.
        key: String,
    },
    /// An entry of `config.json` that nobody here knows.
    #[error(
        "config.json sets {key} = {found}, which this version does not know and which might change the result; if it changes nothing, remove it"
    )]
    UnknownSetting {
        /// The entry.
        key: String,
        /// Its value.
        found: String,
    },
    /// Positions are scaled in a way that is not implemented.
    #[error(
        "rope scaling of type {found:?} is not served: default, linear and llama3 are; take a checkpoint without it, or remove rope_scaling to serve the context of its first training alone"
    )]
    Rope {
        /// The type.
        found: String,
    },
    /// A folder whose weights are quantized in a way of its own.
    #[error(
        "config.json has a quantization_config, whose tensors are not served: take the checkpoint in bf16 and pack it with --quantize, or take a GGUF file"
    )]
    QuantizedFolder,
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
    /// Reads and checks metadata or settings, and holds every tensor against the shape that follows from them.
    ///
    /// # Errors
    /// [`ConfigError`] says which entry or tensor does not fit.
    pub fn read(source: &Source) -> Result<Self, ConfigError> {
        let config = match source {
            Source::Gguf(file) => metadata::config_of(file)?,
            Source::HuggingFace(folder) => huggingface::config_of(folder)?,
        };
        config.check_tensors(source)?;
        Ok(config)
    }

    /// All layers.
    pub fn all_layers(&self) -> Span {
        self.span
    }

    /// The experts of a layer that has some.
    pub(super) fn experts_in(&self, layer: u32) -> Option<&Experts> {
        self.experts.as_ref().filter(|experts| experts.in_layer(layer))
    }
}
