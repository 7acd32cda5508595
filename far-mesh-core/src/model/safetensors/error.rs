//! What can be wrong with a checkpoint, with the values that show it.

use std::{io, path::PathBuf};

use super::header::MAX_HEADER_BYTES;

/// Why files are not a checkpoint we can read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SafetensorsError {
    /// The operating system refused.
    #[error("cannot read {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The path names a directory, a pipe or a device.
    #[error("{} is not a regular file", .0.display())]
    NotAFile(PathBuf),
    /// The header does not end before the file does, or is longer than any sane one.
    #[error(
        "{}: the header has {header_bytes} bytes, the file {file_bytes}, at most {MAX_HEADER_BYTES} are allowed: it is truncated or no safetensors file; pull it again",
        path.display()
    )]
    HeaderLength {
        /// The file.
        path: PathBuf,
        /// Bytes of header it claims.
        header_bytes: u64,
        /// Bytes it has.
        file_bytes: u64,
    },
    /// A header or an index that is no JSON of the right form.
    #[error("{} is damaged: {source}; pull it again", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// What is wrong where.
        #[source]
        source: serde_json::Error,
    },
    /// A tensor whose shape, type and place contradict each other or the file.
    #[error("{}: tensor {tensor:?} {reason}: the file is damaged or truncated; pull it again", path.display())]
    Tensor {
        /// The file.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// What does not fit.
        reason: String,
    },
    /// The index names a file outside of its folder.
    #[error("the index {} names {file:?}, which is not a file beside it", path.display())]
    Outside {
        /// The index.
        path: PathBuf,
        /// The name.
        file: String,
    },
    /// An expert of a layer that is not like the first.
    #[error(
        "tensor {tensor:?} is {found}, that of the first expert is {want}: the checkpoint is damaged; pull it again"
    )]
    Unequal {
        /// The expert's.
        tensor: String,
        /// Its type and shape.
        found: String,
        /// The first expert's type and shape.
        want: String,
    },
    /// The index names more files than any checkpoint has.
    #[error("the index {} names {files} files, at most {most} are read: it is damaged", path.display())]
    Files {
        /// The index.
        path: PathBuf,
        /// How many.
        files: usize,
        /// The limit.
        most: usize,
    },
    /// A tensor the model needs is not there.
    #[error("the checkpoint has no tensor {0:?}: it is incomplete or not of the architecture it names")]
    MissingTensor(String),
    /// A tensor the model needs is of a type this version cannot read.
    #[error("tensor {tensor:?} is of type {dtype}, which is not served: F32, F16 and BF16 are; convert the checkpoint")]
    Unsupported {
        /// The tensor.
        tensor: String,
        /// Its type.
        dtype: String,
    },
}
