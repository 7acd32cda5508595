//! What models there are: of the catalogue, and on this machine.

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde::Serialize;

use super::{
    catalog::CATALOG,
    manifest::{Facts, Manifest},
    store::{Store, StoreError, beside},
};
use crate::config::Sha256;

/// Folders below that of models: `OWNER/REPO` and a few inside.
const MAX_DEPTH: usize = 8;

/// A model that can be had or is here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Listed {
    /// What it is called.
    pub name: String,
    /// How far it is.
    #[serde(flatten)]
    pub state: State,
    /// Size of the whole file.
    pub bytes: u64,
    /// SHA-256 of the file.
    pub sha256: Sha256,
    /// Where it comes from.
    pub source: String,
    /// Its file, where it is here.
    pub path: Option<PathBuf>,
}

/// How far a model is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "lowercase")]
#[non_exhaustive]
pub enum State {
    /// Here, as its manifest says.
    Ready,
    /// Begun; the next pull continues.
    Partial {
        /// Bytes of the file, or of the package it is in.
        done_bytes: u64,
    },
    /// The file changed since it was hashed: the next use checks it.
    Changed,
    /// The file that was registered is gone.
    Missing,
    /// Not here.
    Absent,
}

/// Lists the catalogue, then everything else on this machine.
///
/// # Errors
/// [`StoreError`] when the folder of models cannot be read.
pub fn list(data_dir: &Path) -> Result<Vec<Listed>, StoreError> {
    let store = Store::new(data_dir);
    let mut here: Vec<_> = manifests(&store)?.into_iter().map(|(path, manifest)| listed(path, manifest)).collect();
    let mut all = Vec::new();
    for entry in CATALOG {
        let pulled = here.iter().position(|model| model.name == entry.name && model.state == State::Ready);
        if let Some(index) = pulled {
            all.push(here.remove(index));
            continue;
        }
        let Ok(sha256) = entry.sha256.parse() else { continue };
        let file = store.catalog_file(entry);
        let part = fs::metadata(beside(&file, ".part")).map(|part| part.len()).ok();
        let state = match (file.is_file(), part) {
            (true, _) => State::Changed,
            (false, Some(done_bytes)) => State::Partial { done_bytes },
            (false, None) => State::Absent,
        };
        here.retain(|model| model.path.as_ref() != Some(&file));
        let path = (state == State::Changed).then_some(file);
        all.push(Listed {
            name: entry.name.into(),
            state,
            bytes: entry.bytes,
            sha256,
            source: entry.source.describe(),
            path,
        });
    }
    here.sort_by(|one, other| (&one.name, &one.path).cmp(&(&other.name, &other.path)));
    all.extend(here);
    Ok(all)
}

fn listed(path: PathBuf, manifest: Manifest) -> Listed {
    let state = match Facts::of(&path) {
        Ok(facts) if manifest.describes(facts) => State::Ready,
        _ if path.exists() => State::Changed,
        _ => State::Missing,
    };
    Listed {
        name: manifest.name,
        state,
        bytes: manifest.bytes,
        sha256: manifest.sha256,
        source: manifest.source,
        path: (state != State::Missing).then_some(path),
    }
}

/// The files that manifests speak of. A JSON file that is no manifest is somebody else's and left out.
pub(super) fn manifests(store: &Store) -> Result<Vec<(PathBuf, Manifest)>, StoreError> {
    let mut found = Vec::new();
    collect(store.dir(), MAX_DEPTH, &mut found)?;
    found.sort_by(|(one, _), (other, _)| one.cmp(other));
    Ok(found)
}

fn collect(dir: &Path, depth: usize, found: &mut Vec<(PathBuf, Manifest)>) -> Result<(), StoreError> {
    let entries = match fs::read_dir(dir) {
        Err(err) if err.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        entries => entries.map_err(StoreError::io("list", dir))?,
    };
    for entry in entries {
        let entry = entry.map_err(StoreError::io("list", dir))?;
        let path = entry.path();
        let Ok(kind) = entry.file_type() else { continue };
        if kind.is_dir() && depth > 0 {
            collect(&path, depth - 1, found)?;
        } else if kind.is_file()
            && path.extension().is_some_and(|end| end == "json")
            && let Ok(Some(manifest)) = Manifest::read(&path)
        {
            let file = manifest.path.clone().unwrap_or_else(|| path.with_extension(""));
            found.push((file, manifest));
        }
    }
    Ok(())
}
