//! JSON files of a stranger's folder, read whole within a bound.

use std::{
    fs,
    io::{self, Read},
    path::Path,
};

use serde::de::DeserializeOwned;

use super::FolderError;

/// Reads a JSON file of at most `most` bytes; `None` where there is none. Nesting is bounded by the parser.
///
/// # Errors
/// [`FolderError`] when it cannot be read, is too large or not of this form.
pub(crate) fn read_json<T: DeserializeOwned>(path: &Path, most: u64) -> Result<Option<T>, FolderError> {
    let failed = |source| FolderError::Io { path: path.to_path_buf(), source };
    let facts = match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        facts => facts.map_err(failed)?,
    };
    // A pipe would be waited for without end.
    if !facts.is_file() {
        return Err(failed(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file")));
    }
    let mut text = Vec::new();
    fs::File::open(path).and_then(|file| file.take(most + 1).read_to_end(&mut text)).map_err(failed)?;
    if text.len() as u64 > most {
        return Err(FolderError::TooLarge { path: path.to_path_buf(), bytes: facts.len(), most });
    }
    serde_json::from_slice(&text).map(Some).map_err(|source| FolderError::Json { path: path.to_path_buf(), source })
}
