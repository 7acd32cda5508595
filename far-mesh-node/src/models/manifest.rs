//! What is known about a file of a model, recorded beside it.

use std::{
    fs,
    io::{self, Read},
    path::{Path, PathBuf},
    time::UNIX_EPOCH,
};

use far_mesh_core::model::model_files;
use serde::{Deserialize, Serialize};

use super::store::{StoreError, beside, make_room_for, publish};
use crate::config::Sha256;

/// Most bytes of a manifest: a few names and a path.
const MAX_BYTES: u64 = 64 * 1024;

/// `<file>.json`: what is known about a file of a model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// What the model is called.
    pub name: String,
    /// Where it came from: `python:PACKAGE==VERSION`, `hf:OWNER/REPO/FILE` or `file:PATH`.
    pub source: String,
    /// The hub's commit, where it said one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
    /// Size of the file, or of all files of the folder.
    pub bytes: u64,
    /// SHA-256 of the file or folder, as computed here.
    pub sha256: Sha256,
    /// When the file or the latest of the folder last changed, in nanoseconds since 1970, when it was hashed.
    pub modified_ns: u64,
    /// The file, where it does not lie beside the manifest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<PathBuf>,
}

impl Manifest {
    /// Whether the file is still the one that was hashed, as far as size and time of change tell.
    pub(super) fn describes(&self, facts: Facts) -> bool {
        facts == Facts { bytes: self.bytes, modified_ns: self.modified_ns }
    }

    /// The manifest of a file, or none.
    pub(super) fn of(file: &Path) -> Result<Option<Self>, StoreError> {
        Self::read(&beside(file, ".json"))
    }

    /// The manifest at a path, or none.
    pub(super) fn read(path: &Path) -> Result<Option<Self>, StoreError> {
        let file = match fs::File::open(path) {
            Ok(file) => file,
            Err(err) if err.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(err) => return Err(StoreError::io("open", path)(err)),
        };
        let mut text = Vec::new();
        file.take(MAX_BYTES + 1).read_to_end(&mut text).map_err(StoreError::io("read", path))?;
        let wrong = |reason| StoreError::Manifest { path: path.to_owned(), reason };
        if text.len() as u64 > MAX_BYTES {
            return Err(wrong(format!("more than {MAX_BYTES} bytes")));
        }
        serde_json::from_slice(&text).map(Some).map_err(|err| wrong(err.to_string()))
    }

    /// Writes the manifest of a file beside it.
    pub(super) fn write_beside(&self, file: &Path) -> Result<(), StoreError> {
        self.write(&beside(file, ".json"))
    }

    /// Writes the manifest, whole or not at all.
    pub(super) fn write(&self, path: &Path) -> Result<(), StoreError> {
        make_room_for(path)?;
        let wrong = |err: serde_json::Error| StoreError::Manifest { path: path.to_owned(), reason: err.to_string() };
        let text = serde_json::to_vec_pretty(self).map_err(wrong)?;
        // Unique to the process: two may record the same registration at once.
        let fresh = beside(path, &format!(".{}.part", std::process::id()));
        fs::write(&fresh, text).map_err(StoreError::io("write", &fresh))?;
        publish(&fresh, path)
    }
}

/// What changes when a model does: of a file its own, of a folder those of all files the model is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Facts {
    pub(super) bytes: u64,
    /// In nanoseconds since 1970; 0 where the file system does not say.
    pub(super) modified_ns: u64,
}

impl Facts {
    /// Looks at a model's files.
    pub(super) fn of(path: &Path) -> io::Result<Self> {
        let mut all = Self { bytes: 0, modified_ns: 0 };
        for file in model_files(path).map_err(io::Error::other)? {
            let metadata = fs::metadata(&file)?;
            if !metadata.is_file() {
                return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
            }
            let since = metadata.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
            let modified_ns = since.and_then(|since| u64::try_from(since.as_nanos()).ok()).unwrap_or(0);
            all.bytes = all.bytes.saturating_add(metadata.len());
            all.modified_ns = all.modified_ns.max(modified_ns);
        }
        Ok(all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manifest_survives_and_notices_a_change() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("m.gguf");
        fs::write(&file, b"1234").unwrap();
        let facts = Facts::of(&file).unwrap();
        let manifest = Manifest {
            name: "m".into(),
            source: "hf:a/b/m.gguf".into(),
            revision: None,
            bytes: 4,
            sha256: Sha256([7; 32]),
            modified_ns: facts.modified_ns,
            path: None,
        };
        manifest.write_beside(&file).unwrap();
        assert_eq!(Manifest::of(&file).unwrap(), Some(manifest.clone()));
        assert!(manifest.describes(facts));
        fs::write(&file, b"12345").unwrap();
        assert!(!manifest.describes(Facts::of(&file).unwrap()));
    }

    #[test]
    fn what_is_no_manifest_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("m.gguf.json");
        assert_eq!(Manifest::read(&path).unwrap(), None);
        for bad in [&b"{"[..], b"{}", &vec![b' '; 70_000]] {
            fs::write(&path, bad).unwrap();
            let err = Manifest::read(&path).unwrap_err().to_string();
            assert!(err.contains("m.gguf.json") && err.contains("delete it"), "{err}");
        }
    }
}
