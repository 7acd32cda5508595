//! The files of a model behind one face: tensors by GGUF's names, whatever the files call them.

use std::path::Path;

use super::{
    Precision,
    gguf::{self, GgufError},
    huggingface::{Folder, FolderError},
    safetensors::{self, SafetensorsError},
};
use crate::kernel::Format;

/// An open model: a GGUF file, or a folder as Hugging Face lays it out.
#[derive(Debug)]
#[non_exhaustive]
pub enum Source {
    /// One file with everything in it.
    Gguf(gguf::File),
    /// `config.json`, `tokenizer.json` and safetensors files.
    HuggingFace(Folder),
}

/// Why files are not a model we can read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SourceError {
    /// A GGUF file.
    #[error(transparent)]
    Gguf(#[from] GgufError),
    /// A safetensors file.
    #[error(transparent)]
    Safetensors(#[from] SafetensorsError),
    /// A folder or one of its JSON files.
    #[error(transparent)]
    Folder(#[from] FolderError),
}

/// A tensor, wherever it lies. The experts of a layer are one tensor of three dimensions.
#[derive(Clone, Debug)]
pub(super) struct Tensor<'a> {
    /// The file's own name for it, or for the first of its parts.
    pub(super) name: &'a str,
    /// Dimensions, the fastest first.
    pub(super) dims: Vec<u64>,
    parts: Parts<'a>,
}

#[derive(Clone, Debug)]
enum Parts<'a> {
    /// The tensor, which of how many equal parts of it.
    Gguf { tensor: &'a gguf::TensorInfo, part: u64, parts: u64 },
    /// One tensor, or one for each expert.
    Safetensors(Vec<&'a safetensors::TensorInfo>),
}

impl Source {
    /// Opens a GGUF file or a folder and checks headers and settings; no tensor is read.
    ///
    /// # Errors
    /// [`SourceError`] when something cannot be read, is of another format or damaged.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, SourceError> {
        let path = path.as_ref();
        if path.is_dir() {
            return Ok(Self::HuggingFace(Folder::open(path)?));
        }
        if path.extension().is_some_and(|end| end.eq_ignore_ascii_case("safetensors")) {
            return Err(FolderError::NameTheFolder(path.to_path_buf()).into());
        }
        Ok(Self::Gguf(gguf::File::open(path)?))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        match self {
            Self::Gguf(file) => file.path(),
            Self::HuggingFace(folder) => folder.path(),
        }
    }

    /// Bytes of tensors read so far.
    pub fn bytes_read(&self) -> u64 {
        match self {
            Self::Gguf(file) => file.bytes_read(),
            Self::HuggingFace(folder) => folder.checkpoint().bytes_read(),
        }
    }

    /// The tensor GGUF gives this name.
    pub(super) fn tensor(&self, name: &str) -> Result<Tensor<'_>, SourceError> {
        match self {
            Self::Gguf(file) => {
                let tensor = file.tensor(name)?;
                let parts = Parts::Gguf { tensor, part: 0, parts: 1 };
                Ok(Tensor { name: &tensor.name, dims: tensor.dims.clone(), parts })
            }
            Self::HuggingFace(folder) => {
                let (first, rest) = folder.tensors(name)?;
                let mut dims: Vec<u64> = first.shape.iter().rev().copied().collect();
                let mut parts = vec![first];
                if let Some(rest) = rest {
                    dims.push(rest.len() as u64 + 1);
                    parts.extend(rest);
                }
                Ok(Tensor { name: &first.name, dims, parts: Parts::Safetensors(parts) })
            }
        }
    }

    /// The tensor GGUF gives this name, if it is there.
    pub(super) fn find(&self, name: &str) -> Option<Tensor<'_>> {
        self.tensor(name).ok()
    }

    /// Bytes of the tensor GGUF gives this name; 0 where it is not there or its type is unknown.
    pub(crate) fn tensor_bytes(&self, name: &str) -> u64 {
        self.find(name).and_then(|tensor| tensor.bytes()).unwrap_or(0)
    }

    /// Bytes that a tensor takes once it is loaded; 0 where it is not there or its type is unknown.
    pub(crate) fn loaded_bytes(&self, name: &str, precision: Precision) -> u64 {
        let Some(tensor) = self.find(name) else { return 0 };
        let Ok(format) = tensor.format() else { return 0 };
        let elements = tensor.dims.iter().product::<u64>();
        let of = |format: Format| elements / format.block().0 as u64 * format.block().1 as u64;
        match precision {
            // Norms and biases are numbers wherever they go.
            _ if tensor.dims.len() == 1 => of(Format::F32),
            Precision::Exact => of(Format::F32),
            Precision::Quantized(kind) if format.block().0 == 1 && tensor.dims[0].is_multiple_of(32) => {
                of(kind.format())
            }
            Precision::Packed | Precision::Quantized(_) => tensor.bytes().unwrap_or(0),
        }
    }

    /// The files' own names of all tensors.
    pub(super) fn names(&self) -> Vec<&str> {
        match self {
            Self::Gguf(file) => file.tensors().iter().map(|tensor| tensor.name.as_str()).collect(),
            Self::HuggingFace(folder) => folder.checkpoint().tensors().map(|tensor| tensor.name.as_str()).collect(),
        }
    }

    /// Appends a tensor's bytes to `into`; nothing else is read.
    pub(super) fn read(&self, tensor: &Tensor<'_>, into: &mut Vec<u8>) -> Result<(), SourceError> {
        match (self, &tensor.parts) {
            (Self::Gguf(file), Parts::Gguf { tensor, part, parts }) => {
                let (_, bytes) = tensor.readable()?;
                Ok(file.read_part(tensor, bytes / parts * part, bytes / parts, into)?)
            }
            (Self::HuggingFace(folder), Parts::Safetensors(parts)) => {
                let start = into.len();
                for part in parts {
                    if let Err(error) = folder.checkpoint().read(part, into) {
                        into.truncate(start);
                        return Err(error.into());
                    }
                }
                Ok(())
            }
            (Self::Gguf(_), Parts::Safetensors(_)) => Err(GgufError::MissingTensor(tensor.name.to_owned()).into()),
            (Self::HuggingFace(_), Parts::Gguf { .. }) => {
                Err(SafetensorsError::MissingTensor(tensor.name.to_owned()).into())
            }
        }
    }
}

impl<'a> Tensor<'a> {
    /// How its elements are stored.
    pub(super) fn format(&self) -> Result<Format, SourceError> {
        match &self.parts {
            Parts::Gguf { tensor, .. } => Ok(tensor.readable()?.0),
            Parts::Safetensors(parts) => Ok(parts[0].format()?),
        }
    }

    /// Its bytes; `None` where its type is unknown.
    pub(super) fn bytes(&self) -> Option<u64> {
        match &self.parts {
            Parts::Gguf { tensor, parts, .. } => tensor.bytes.map(|bytes| bytes / parts),
            Parts::Safetensors(parts) => Some(parts.iter().map(|part| part.bytes).sum()),
        }
    }

    /// The files' names of all its parts.
    pub(super) fn names(&self) -> Vec<&'a str> {
        match &self.parts {
            Parts::Gguf { .. } => vec![self.name],
            Parts::Safetensors(parts) => parts.iter().map(|part| part.name.as_str()).collect(),
        }
    }

    /// The matrix of one expert; `None` beyond the last.
    pub(super) fn expert(&self, number: usize) -> Option<Self> {
        let &[k, n, experts] = self.dims.as_slice() else { return None };
        if number as u64 >= experts {
            return None;
        }
        let dims = vec![k, n];
        Some(match &self.parts {
            Parts::Gguf { tensor, .. } => {
                let parts = Parts::Gguf { tensor, part: number as u64, parts: experts };
                Self { name: self.name, dims, parts }
            }
            Parts::Safetensors(parts) => {
                let own = *parts.get(number)?;
                Self { name: &own.name, dims, parts: Parts::Safetensors(vec![own]) }
            }
        })
    }
}
