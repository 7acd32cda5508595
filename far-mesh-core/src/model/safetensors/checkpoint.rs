//! Open files of a checkpoint: headers in memory, tensors on demand.

use std::{
    collections::{BTreeMap, HashMap},
    fmt, fs,
    path::{Component, Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

use serde::Deserialize;

use super::{SafetensorsError, TensorInfo, header};
use crate::model::ranged::read_exact_at;

/// The one file of a small checkpoint.
const SINGLE: &str = "model.safetensors";
/// Says which file of a large one has which tensor.
const INDEX: &str = "model.safetensors.index.json";
/// Most bytes of an index: real ones have less than a hundredth.
const MAX_INDEX_BYTES: u64 = 64 << 20;

/// Most files of a checkpoint, all of them open at once (the largest in use have about 200).
const MAX_FILES: usize = 512;

#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

/// An open checkpoint.
pub struct Checkpoint {
    files: Vec<(PathBuf, fs::File)>,
    tensors: HashMap<String, TensorInfo>,
    bytes_read: AtomicU64,
}

impl Checkpoint {
    /// Opens a safetensors file, or the one or several of a folder, and checks the headers; no tensor is read.
    ///
    /// # Errors
    /// [`SafetensorsError`] when a file cannot be read, is none of the format or is damaged.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, SafetensorsError> {
        let path = path.as_ref();
        let mut checkpoint = Self { files: vec![], tensors: HashMap::new(), bytes_read: AtomicU64::new(0) };
        let (files, named) = match path.is_dir() {
            true => files_of(path)?,
            false => (vec![path.to_path_buf()], vec![]),
        };
        for file in files {
            checkpoint.add(file)?;
        }
        match named.into_iter().find(|name| !checkpoint.tensors.contains_key(name)) {
            Some(missing) => Err(SafetensorsError::MissingTensor(missing)),
            None => Ok(checkpoint),
        }
    }

    /// The files of a folder's checkpoint, ascending by name.
    ///
    /// # Errors
    /// [`SafetensorsError`] when the index cannot be read, is damaged, or names what is not beside it.
    pub fn files_in(folder: &Path) -> Result<Vec<PathBuf>, SafetensorsError> {
        Ok(files_of(folder)?.0)
    }

    fn add(&mut self, path: PathBuf) -> Result<(), SafetensorsError> {
        let file = open_regular(&path)?;
        for tensor in header::read(&file, &path, self.files.len())? {
            if let Some(twice) = self.tensors.insert(tensor.name.clone(), tensor) {
                let reason = format!("is in {}, too", self.files[twice.file].0.display());
                return Err(SafetensorsError::Tensor { path, tensor: twice.name, reason });
            }
        }
        self.files.push((path, file));
        Ok(())
    }

    /// All tensors, in no order.
    pub fn tensors(&self) -> impl ExactSizeIterator<Item = &TensorInfo> {
        self.tensors.values()
    }

    /// The tensor of this name, if there is one.
    pub fn find(&self, name: &str) -> Option<&TensorInfo> {
        self.tensors.get(name)
    }

    /// The tensor of this name.
    ///
    /// # Errors
    /// [`SafetensorsError::MissingTensor`].
    pub fn tensor(&self, name: &str) -> Result<&TensorInfo, SafetensorsError> {
        self.find(name).ok_or_else(|| SafetensorsError::MissingTensor(name.to_owned()))
    }

    /// Appends the bytes of one of this checkpoint's tensors to `into`; nothing else of its file is read.
    ///
    /// # Errors
    /// [`SafetensorsError::Io`], also when the file shrank since it was opened. `into` is then as long as before.
    pub fn read(&self, tensor: &TensorInfo, into: &mut Vec<u8>) -> Result<(), SafetensorsError> {
        // By name, not by what the caller says: the checked place and length count.
        let TensorInfo { file, offset, bytes, .. } = self.tensor(&tensor.name)?;
        let (path, file) = &self.files[*file];
        let start = into.len();
        into.resize(start + *bytes as usize, 0);
        read_exact_at(file, &mut into[start..], *offset).map_err(|source| {
            into.truncate(start);
            SafetensorsError::Io { path: path.clone(), source }
        })?;
        self.bytes_read.fetch_add(*bytes, Ordering::Relaxed);
        Ok(())
    }

    /// Bytes of tensors read so far.
    pub fn bytes_read(&self) -> u64 {
        self.bytes_read.load(Ordering::Relaxed)
    }
}

/// The files of a folder, and the tensors that its index says are in them.
fn files_of(folder: &Path) -> Result<(Vec<PathBuf>, Vec<String>), SafetensorsError> {
    let index = folder.join(INDEX);
    if !index.exists() {
        return Ok((vec![folder.join(SINGLE)], vec![]));
    }
    let Index { weight_map } = read_index(&index)?;
    let mut names: Vec<&String> = weight_map.values().collect();
    names.sort_unstable();
    names.dedup();
    if names.len() > MAX_FILES {
        return Err(SafetensorsError::Files { path: index, files: names.len(), most: MAX_FILES });
    }
    for name in &names {
        let mut parts = Path::new(name).components();
        // One component, and nothing that a path would drop: `x/` names a folder.
        let plain =
            matches!((parts.next(), parts.next()), (Some(Component::Normal(part)), None) if part == name.as_str());
        if !plain {
            return Err(SafetensorsError::Outside { path: index, file: (*name).clone() });
        }
    }
    let files = names.iter().map(|name| folder.join(name)).collect();
    Ok((files, weight_map.into_keys().collect()))
}

fn open_regular(path: &Path) -> Result<fs::File, SafetensorsError> {
    let failed = |source| SafetensorsError::Io { path: path.to_path_buf(), source };
    if !fs::metadata(path).map_err(failed)?.is_file() {
        return Err(SafetensorsError::NotAFile(path.to_path_buf()));
    }
    fs::File::open(path).map_err(failed)
}

fn read_index(path: &Path) -> Result<Index, SafetensorsError> {
    let failed = |source| SafetensorsError::Io { path: path.to_path_buf(), source };
    let file = open_regular(path)?;
    let bytes = file.metadata().map_err(failed)?.len();
    if bytes > MAX_INDEX_BYTES {
        return Err(SafetensorsError::HeaderLength {
            path: path.to_path_buf(),
            header_bytes: bytes,
            file_bytes: bytes,
        });
    }
    let mut text = vec![0; bytes as usize];
    read_exact_at(&file, &mut text, 0).map_err(failed)?;
    serde_json::from_slice(&text).map_err(|source| SafetensorsError::Json { path: path.to_path_buf(), source })
}

impl fmt::Debug for Checkpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let files: Vec<_> = self.files.iter().map(|(path, _)| path).collect();
        f.debug_struct("Checkpoint")
            .field("files", &files)
            .field("tensors", &self.tensors.len())
            .finish_non_exhaustive()
    }
}
