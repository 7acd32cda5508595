//! What a model holds.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use far_mesh_core::model::{
    Source, SourceError,
    gguf::{self, MetadataError},
    huggingface::Folder,
};
use serde::Serialize;

use super::manifest::Facts;

/// What a model holds.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Inspection {
    /// The file or folder.
    pub path: PathBuf,
    /// Its size, or that of all files the model is made of.
    pub file_bytes: u64,
    /// What it calls itself; of a folder its name.
    pub name: Option<String>,
    /// Its architecture, as GGUF names it, or its class in `config.json`.
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
    /// Its tensors by encoding or type, largest share first.
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

/// Why a model cannot be inspected.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InspectError {
    /// It is not readable as GGUF or as a folder.
    #[error("cannot inspect {}", path.display())]
    Source {
        /// The file or folder.
        path: PathBuf,
        /// What is wrong.
        #[source]
        source: SourceError,
    },
    /// The file does not say what a model must say.
    #[error("{} is a GGUF file but no language model", path.display())]
    Metadata {
        /// The file.
        path: PathBuf,
        /// What is missing.
        #[source]
        source: MetadataError,
    },
    /// The folder does not say what a model must say.
    #[error("{} is a folder of tensors but no language model: config.json has no {key:?}", path.display())]
    Setting {
        /// The folder.
        path: PathBuf,
        /// What is missing.
        key: &'static str,
    },
}

/// A tensor as the table of kinds counts it.
struct Seen {
    encoding: String,
    bytes: Option<u64>,
    layer: Option<u32>,
}

/// Reads the header of a GGUF file, or the settings and headers of a folder. Models that are not served are shown, too.
///
/// # Errors
/// [`InspectError`] when something cannot be read, is damaged or is no language model.
pub fn inspect(path: &Path) -> Result<Inspection, InspectError> {
    let source = Source::open(path).map_err(|source| InspectError::Source { path: path.to_owned(), source })?;
    let (mut inspection, tensors) = match &source {
        Source::Gguf(file) => of_file(path, file)?,
        Source::HuggingFace(folder) => of_folder(path, folder)?,
        // A kind of source that this program does not know has no table to show.
        _ => return Err(InspectError::Setting { path: path.to_owned(), key: "tensors" }),
    };
    let mut kinds: BTreeMap<String, TensorKind> = BTreeMap::new();
    let mut layers = BTreeMap::<u32, u64>::new();
    for Seen { encoding, bytes, layer } in tensors {
        let start = TensorKind { encoding: encoding.clone(), count: 0, bytes: Some(0) };
        let kind = kinds.entry(encoding).or_insert(start);
        kind.count += 1;
        kind.bytes = kind.bytes.zip(bytes).map(|(sum, bytes)| sum.saturating_add(bytes));
        let sum = match layer {
            Some(layer) => layers.entry(layer).or_default(),
            None => &mut inspection.other_bytes,
        };
        *sum = sum.saturating_add(bytes.unwrap_or(0));
    }
    inspection.tensors = kinds.into_values().collect();
    inspection.tensors.sort_by_key(|kind| std::cmp::Reverse(kind.bytes));
    inspection.layer_bytes = layers.into_iter().map(|(layer, bytes)| LayerBytes { layer, bytes }).collect();
    Ok(inspection)
}

fn of_file(path: &Path, file: &gguf::File) -> Result<(Inspection, Vec<Seen>), InspectError> {
    let metadata = file.metadata();
    let missing = |source| InspectError::Metadata { path: path.to_owned(), source };
    let architecture = metadata.str("general.architecture").map_err(missing)?.to_owned();
    let number = |key: &str| metadata.u64(&format!("{architecture}.{key}"));
    let heads = number("attention.head_count").map_err(missing)?;
    let seen = file.tensors().iter().map(|tensor| Seen {
        encoding: tensor.encoding.name().map_or_else(|| format!("unknown ({})", tensor.encoding.0), str::to_owned),
        bytes: tensor.bytes,
        layer: tensor.layer(),
    });
    let inspection = Inspection {
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
        tensors: vec![],
        layer_bytes: vec![],
        other_bytes: 0,
    };
    Ok((inspection, seen.collect()))
}

fn of_folder(path: &Path, folder: &Folder) -> Result<(Inspection, Vec<Seen>), InspectError> {
    let settings = folder.settings();
    let maybe = |key: &str| settings.get(key).and_then(serde_json::Value::as_u64);
    let number = |key| maybe(key).ok_or_else(|| InspectError::Setting { path: path.to_owned(), key });
    let class = settings.get("architectures").and_then(|classes| classes.get(0)?.as_str());
    let heads = number("num_attention_heads")?;
    let seen = folder.checkpoint().tensors().map(|tensor| Seen {
        encoding: tensor.dtype.clone(),
        bytes: Some(tensor.bytes),
        layer: tensor.layer(),
    });
    let inspection = Inspection {
        path: path.to_owned(),
        file_bytes: Facts::of(path).map_or(0, |facts| facts.bytes),
        name: path.file_name().map(|name| name.to_string_lossy().into_owned()),
        architecture: class
            .ok_or_else(|| InspectError::Setting { path: path.to_owned(), key: "architectures" })?
            .to_owned(),
        layers: number("num_hidden_layers")?,
        hidden: number("hidden_size")?,
        heads,
        kv_heads: maybe("num_key_value_heads").unwrap_or(heads),
        context: number("max_position_embeddings")?,
        vocabulary: maybe("vocab_size"),
        tensors: vec![],
        layer_bytes: vec![],
        other_bytes: 0,
    };
    Ok((inspection, seen.collect()))
}
