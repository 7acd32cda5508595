//! What can be wrong with a folder, with the values that show it.

use std::{io, path::PathBuf};

/// Why a folder is not a model we can read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FolderError {
    /// The operating system refused.
    #[error("cannot read {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file that every model has is not there.
    #[error(
        "{} has no {file}: a model's folder has config.json, tokenizer.json, tokenizer_config.json and safetensors files; copy all of them",
        folder.display()
    )]
    Missing {
        /// The folder.
        folder: PathBuf,
        /// What it lacks.
        file: &'static str,
    },
    /// A JSON file far larger than any sane one.
    #[error("{} has {bytes} bytes, at most {most} are read: it is damaged; copy it again", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Its size.
        bytes: u64,
        /// The limit.
        most: u64,
    },
    /// A file that is no JSON of the right form.
    #[error("{} is damaged: {source}; copy it again", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// What is wrong where.
        #[source]
        source: serde_json::Error,
    },
    /// One of the files where the folder is needed.
    #[error("{} is one file of a model: name the folder it lies in, with config.json and tokenizer.json", .0.display())]
    NameTheFolder(PathBuf),
}
