//! What a model file holds.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use far_mesh_core::model::gguf::{File, GgufError};
use serde::Serialize;

/// What a model file holds.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Inspection {
    /// The file.
    pub path: PathBuf,
    /// Its size.
    pub file_bytes: u64,
    /// What it calls itself.
    pub name: Option<String>,
    /// Its architecture, as GGUF names it.
    pub architecture: String,
    /// Decoder layers.
    pub layers: u64,
    /// Width of the hidden state.
    pub hidden: u64,
    /// Attention heads.
    pub heads: u64,
    /// Heads of keys and values; fewer than `heads` where several share one.
    pub kv_heads: u64,
    /// Positions it was made for.
    pub context: u64,
    /// Token ids it knows.
    pub vocabulary: Option<u64>,
    /// Its tensors by encoding, largest share first.
    pub tensors: Vec<TensorKind>,
    /// Bytes of each layer, in order.
    pub layer_bytes: Vec<LayerBytes>,
    /// Bytes outside the layers: embedding, final norm, head.
    pub other_bytes: u64,
}

/// The tensors of one encoding.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TensorKind {
    /// The encoding.
    pub encoding: String,
    /// How many there are.
    pub count: u64,
    /// Their bytes; `None` where the encoding is not known.
    pub bytes: Option<u64>,
}

/// The bytes of a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct LayerBytes {
    /// The layer.
    pub layer: u32,
    /// Bytes of its tensors.
    pub bytes: u64,
}

/// Why a file cannot be inspected.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InspectError {
    /// The file is not readable as GGUF.
    #[error("cannot inspect {}", path.display())]
    Gguf {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        #[source]
        source: GgufError,
    },
    /// The file does not say what a model must say.
    #[error("{} is a GGUF file but no language model", path.display())]
    Metadata {
        /// The file.
        path: PathBuf,
        /// What is missing.
        #[source]
        source: far_mesh_core::model::gguf::MetadataError,
    },
}

/// Reads the header of a GGUF file.
///
/// # Errors
/// [`InspectError`] when the file cannot be read, is damaged or is no language model.
pub fn inspect(path: &Path) -> Result<Inspection, InspectError> {
    let file = File::open(path).map_err(|source| InspectError::Gguf { path: path.to_owned(), source })?;
    let metadata = file.metadata();
    let missing = |source| InspectError::Metadata { path: path.to_owned(), source };
    let architecture = metadata.str("general.architecture").map_err(missing)?.to_owned();
    let number = |key: &str| metadata.u64(&format!("{architecture}.{key}"));
    let heads = number("attention.head_count").map_err(missing)?;

    let mut kinds: BTreeMap<String, TensorKind> = BTreeMap::new();
    let (mut layers, mut other_bytes) = (BTreeMap::<u32, u64>::new(), 0_u64);
    for tensor in file.tensors() {
        let number = tensor.encoding.0;
        let encoding = tensor.encoding.name().map_or_else(|| format!("unknown ({number})"), str::to_owned);
        let start = TensorKind { encoding: encoding.clone(), count: 0, bytes: Some(0) };
        let kind = kinds.entry(encoding).or_insert(start);
        kind.count += 1;
        kind.bytes = kind.bytes.zip(tensor.bytes).map(|(sum, bytes)| sum.saturating_add(bytes));
        let bytes = tensor.bytes.unwrap_or(0);
        match tensor.layer() {
            Some(layer) => {
                let sum = layers.entry(layer).or_default();
                *sum = sum.saturating_add(bytes);
            }
            None => other_bytes = other_bytes.saturating_add(bytes),
        }
    }
    let mut tensors: Vec<_> = kinds.into_values().collect();
    tensors.sort_by_key(|kind| std::cmp::Reverse(kind.bytes));
    Ok(Inspection {
        path: path.to_owned(),
        file_bytes: file.file_bytes(),
        name: metadata.str("general.name").ok().map(str::to_owned),
        layers: number("block_count").map_err(missing)?,
        hidden: number("embedding_length").map_err(missing)?,
        heads,
        kv_heads: number("attention.head_count_kv").unwrap_or(heads),
        context: number("context_length").map_err(missing)?,
        vocabulary: metadata.strings("tokenizer.ggml.tokens").ok().map(|tokens| tokens.len() as u64),
        architecture,
        tensors,
        layer_bytes: layers.into_iter().map(|(layer, bytes)| LayerBytes { layer, bytes }).collect(),
        other_bytes,
    })
}
