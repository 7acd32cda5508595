//! An open folder: settings and the headers of its tensors in memory, tensors on demand.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::{FolderError, json::read_json, names::Names};
use crate::model::{
    Architecture, SourceError,
    experts::MAX_EXPERTS,
    safetensors::{Checkpoint, SafetensorsError, TensorInfo},
};

/// Most bytes of `config.json`: real ones have a few thousand.
const MAX_CONFIG_BYTES: u64 = 1 << 20;

/// An open folder of a model.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    settings: Map<String, Value>,
    checkpoint: Checkpoint,
    names: Option<Names>,
}

impl Folder {
    /// Opens a folder, parses its settings and checks the headers of its safetensors files; no tensor is read.
    ///
    /// # Errors
    /// [`SourceError`] when a file is missing, unreadable or damaged.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, SourceError> {
        let path = path.as_ref().to_path_buf();
        let settings: Option<Map<String, Value>> = read_json(&path.join("config.json"), MAX_CONFIG_BYTES)?;
        let settings = settings.ok_or_else(|| FolderError::Missing { folder: path.clone(), file: "config.json" })?;
        let checkpoint = Checkpoint::open(&path)?;
        // What is wrong with them is said when they are read in full.
        let experts = ["num_local_experts", "num_experts"].iter().find_map(|key| settings.get(*key)?.as_u64());
        let names = class_of(&settings)
            .and_then(Architecture::of_class)
            .map(|architecture| Names::new(architecture, experts.unwrap_or(0).min(MAX_EXPERTS) as usize));
        Ok(Self { path, settings, checkpoint, names })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The entries of `config.json`.
    pub fn settings(&self) -> &Map<String, Value> {
        &self.settings
    }

    /// The tensors.
    pub fn checkpoint(&self) -> &Checkpoint {
        &self.checkpoint
    }

    /// The tensor GGUF gives this name, and where it holds all experts those of the others.
    pub(in crate::model) fn tensors(
        &self,
        name: &str,
    ) -> Result<(&TensorInfo, Option<Vec<&TensorInfo>>), SafetensorsError> {
        let missing = || SafetensorsError::MissingTensor(name.to_owned());
        let names = self.names.as_ref().ok_or_else(missing)?;
        let first = self.checkpoint.tensor(&names.of(name, 0).ok_or_else(missing)?)?;
        let Some(experts) = names.experts(name) else { return Ok((first, None)) };
        let mut rest = Vec::new();
        for expert in 1..experts {
            let other = self.checkpoint.tensor(&names.of(name, expert).ok_or_else(missing)?)?;
            if (&other.shape, &other.dtype) != (&first.shape, &first.dtype) {
                return Err(SafetensorsError::Unequal {
                    tensor: other.name.clone(),
                    found: format!("{} {:?}", other.dtype, other.shape),
                    want: format!("{} {:?}", first.dtype, first.shape),
                });
            }
            rest.push(other);
        }
        Ok((first, Some(rest)))
    }
}

/// The class that the settings name first.
pub(super) fn class_of(settings: &Map<String, Value>) -> Option<&str> {
    settings.get("architectures")?.get(0)?.as_str()
}
