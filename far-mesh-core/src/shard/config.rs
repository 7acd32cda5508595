//! What a shard is made of and what it says about itself.

use std::path::PathBuf;

use super::Batching;
use crate::{
    activation::Dtype,
    id::{ModelHash, Span},
    kernel::{CudaMissing, Isa},
    model::{ConfigError, ModelError, Precision, SourceError},
};

/// How to load a shard.
#[derive(Clone, Debug)]
pub struct Config {
    /// The model: a GGUF file or a folder.
    pub model: PathBuf,
    /// Its hash, from [`crate::model::model_hash`].
    pub hash: ModelHash,
    /// The layers to serve; `None` for a head alone.
    pub span: Option<Span>,
    /// Whether to load the final norm and the output matrix.
    pub head: bool,
    /// What computes.
    pub device: DeviceChoice,
    /// What the weights become.
    pub precision: Precision,
    /// Threads that compute on the CPU, at least 1.
    pub threads: usize,
    /// Positions that all sessions together may hold; rounded up to whole pages. Room is taken as it is used.
    pub arena_tokens: usize,
    /// How sessions share the device and the cache.
    pub batching: Batching,
    /// Instruction set to compute with instead of the machine's best: for tests that all give the same bits.
    pub isa: Option<Isa>,
}

/// What a shard computes on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum DeviceChoice {
    /// The machine's processor.
    #[default]
    Cpu,
    /// The NVIDIA GPU with this number, as [`probe_cuda`](crate::kernel::probe_cuda) counts them.
    Cuda(usize),
}

/// What a loaded shard is.
#[derive(Clone, Debug, PartialEq)]
pub struct Info {
    /// What nodes agree on: the model's hash, or where it is quantized that of [`Precision::hash`].
    pub hash: ModelHash,
    /// The model's own name.
    pub name: String,
    /// The layers served; `None` for a head alone.
    pub span: Option<Span>,
    /// Layers of the whole model.
    pub layers: u32,
    /// Width of the hidden state.
    pub hidden: usize,
    /// Tokens the model tells apart.
    pub vocab: usize,
    /// Positions the model was made for.
    pub context_tokens: u32,
    /// Type of the activations that go in and come out.
    pub dtype: Dtype,
    /// Shards of the same class give the same bits: device family, arithmetic and version of the kernels.
    pub kernel_class: String,
    /// Bytes of weights on the device.
    pub packed_bytes: usize,
    /// Bytes of the key-value arena when all of it is in use.
    pub arena_bytes: usize,
    /// Positions the arena holds.
    pub arena_tokens: usize,
}

/// Why a shard cannot be loaded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// The file is unreadable or damaged.
    #[error("cannot load {}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        #[source]
        source: Box<SourceError>,
    },
    /// The model cannot be served.
    #[error("cannot load {}: {source}", path.display())]
    Model {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        #[source]
        source: Box<ModelError>,
    },
    /// Neither layers nor head.
    #[error("nothing to load: give a span of layers, the head, or both")]
    Nothing,
    /// No thread to compute with.
    #[error("0 threads cannot compute: give at least 1")]
    Threads,
    /// The arena is empty or absurd.
    #[error("an arena of {tokens} tokens is out of bounds: give 1 to {most}")]
    Arena {
        /// What was asked for.
        tokens: usize,
        /// The limit.
        most: usize,
    },
    /// The arena is more than this machine can hold.
    #[error(
        "an arena of {tokens} tokens takes {bytes} bytes, which the system does not give: take a smaller one or fewer layers"
    )]
    ArenaMemory {
        /// Positions asked for.
        tokens: usize,
        /// Bytes they take.
        bytes: usize,
    },
    /// A forward would have too few rows.
    #[error("forwards of {tokens} tokens are too small: give at least {least}")]
    StepTokens {
        /// What was asked for.
        tokens: usize,
        /// The limit.
        least: usize,
    },
    /// The GPU cannot be used.
    #[error("cannot compute on cuda:{index}: {source}")]
    Cuda {
        /// Its number.
        index: usize,
        /// What is missing, and the remedy.
        #[source]
        source: CudaMissing,
    },
    /// The weights, the arena and room to compute do not fit the GPU's memory.
    #[error(
        "cuda:{index} has {free_bytes} bytes free, weights, arena and workspace need about {needed_bytes}: serve fewer layers, take a smaller arena, or free memory"
    )]
    CudaMemory {
        /// The GPU.
        index: usize,
        /// What is needed.
        needed_bytes: u64,
        /// What there is.
        free_bytes: u64,
    },
    /// The GPU failed while the shard was made ready.
    #[error("the device failed while its kernels were made ready: {reason}")]
    WarmUp {
        /// What it said.
        reason: String,
    },
    /// The system gave no thread.
    #[error("cannot start the worker thread: {0}")]
    Thread(#[source] std::io::Error),
}

impl LoadError {
    pub(super) fn model(path: &std::path::Path, source: impl Into<ModelError>) -> Self {
        Self::Model { path: path.to_path_buf(), source: Box::new(source.into()) }
    }

    pub(super) fn config(path: &std::path::Path, source: ConfigError) -> Self {
        Self::model(path, source)
    }
}
