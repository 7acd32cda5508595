//! The folder of models: places of files, and what the file system says about them.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use super::{catalog::Entry, hub::HubFile};

/// `<data-dir>/models`, and the hashes of files that lie elsewhere.
#[derive(Clone, Debug)]
pub(super) struct Store {
    dir: PathBuf,
    hashes: PathBuf,
}

/// What the file system refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// Reading or writing failed.
    #[error("cannot {doing} {}{}", path.display(), remedy(source))]
    Io {
        /// What was tried.
        doing: &'static str,
        /// With which file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A manifest is not ours or damaged.
    #[error("{} is no manifest of a model ({reason}): delete it, then pull the model again", path.display())]
    Manifest {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

impl StoreError {
    pub(super) fn io(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self + use<> {
        let path = path.to_owned();
        move |source| Self::Io { doing, path, source }
    }
}

impl Store {
    pub(super) fn new(data_dir: &Path) -> Self {
        Self { dir: data_dir.join("models"), hashes: data_dir.join("cache").join("hashes") }
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Where hashes are remembered.
    pub(super) fn hashes(&self) -> PathBuf {
        self.hashes.clone()
    }

    pub(super) fn catalog_file(&self, entry: &Entry) -> PathBuf {
        self.dir.join(entry.file)
    }

    pub(super) fn hub_file(&self, file: &HubFile) -> PathBuf {
        self.dir.join(file.relative())
    }

    /// The manifest of a file that was registered where it lies.
    pub(super) fn registration(&self, name: &str) -> PathBuf {
        self.dir.join(format!("{name}.json"))
    }
}

/// `path` with `end` added to its name.
pub(super) fn beside(path: &Path, end: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(end);
    name.into()
}

/// Makes the folder a file is to lie in.
pub(super) fn make_room_for(path: &Path) -> Result<(), StoreError> {
    let parent = path.parent().unwrap_or(path);
    fs::create_dir_all(parent).map_err(StoreError::io("create the folder", parent))
}

/// Gives a complete file its name for good: what is on the disk after a power cut is either the old or the new.
pub(super) fn publish(from: &Path, to: &Path) -> Result<(), StoreError> {
    fs::File::open(from).and_then(|file| file.sync_all()).map_err(StoreError::io("write out", from))?;
    fs::rename(from, to).map_err(StoreError::io("rename the finished download to", to))?;
    if let Some(parent) = to.parent() {
        // Not every file system can sync a folder; the rename holds all the same unless the power goes.
        let _ = fs::File::open(parent).and_then(|dir| dir.sync_all());
    }
    Ok(())
}

/// Deletes a file that may not be there.
pub(super) fn remove(path: &Path) -> Result<(), StoreError> {
    match fs::remove_file(path) {
        Err(err) if err.kind() != io::ErrorKind::NotFound => Err(StoreError::io("delete", path)(err)),
        _ => Ok(()),
    }
}

fn remedy(err: &io::Error) -> &'static str {
    match err.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            ": the disk is full; free some space or choose another folder with --data-dir, then run this again: it goes on where it stopped"
        }
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            ": no permission; make the folder yours or choose another with --data-dir"
        }
        io::ErrorKind::NotFound => ": it does not exist; check the path",
        io::ErrorKind::NotADirectory | io::ErrorKind::AlreadyExists => {
            ": a file is where a folder is needed; move it away or choose another folder with --data-dir"
        }
        _ => "",
    }
}
