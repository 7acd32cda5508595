//! A model's identity: the SHA-256 of its file or files, remembered so that a second start need not read them again.

use std::{
    fs,
    io::{self, Read, Write},
    path::{Path, PathBuf},
    time::UNIX_EPOCH,
};

use sha2::{Digest, Sha256};

use super::safetensors::{Checkpoint, SafetensorsError};
use crate::id::ModelHash;

/// Bytes hashed between two reports of progress.
const CHUNK_BYTES: usize = 1 << 20;

/// Why a file has no hash.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HashError {
    /// The operating system refused.
    #[error("cannot read {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Somebody writes to the file: its hash would be neither the old nor the new one's.
    #[error("{} changed while it was read; wait until its download has finished", .0.display())]
    Changed(PathBuf),
    /// A folder's index of tensors does not say what its files are.
    #[error(transparent)]
    Files(#[from] SafetensorsError),
}

/// Files of a folder beside its tensors that decide what is computed, and what tokens mean.
const SETTINGS: [&str; 5] =
    ["chat_template.jinja", "config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json"];

/// The files a model is made of: a GGUF file itself, or of a folder its settings and safetensors files.
///
/// # Errors
/// [`HashError::Files`] when a folder's index is damaged.
pub fn model_files(path: &Path) -> Result<Vec<PathBuf>, HashError> {
    if !path.is_dir() {
        return Ok(vec![path.to_path_buf()]);
    }
    let mut files: Vec<PathBuf> = SETTINGS.iter().map(|name| path.join(name)).filter(|file| file.exists()).collect();
    files.extend(Checkpoint::files_in(path)?);
    Ok(files)
}

/// SHA-256 of a model: of a GGUF file its bytes, of a folder the names and hashes of [`model_files`].
///
/// Hashes of files are kept in `cache_dir` under the file's path, size and time of change; a cache that cannot be read or
/// written costs time, nothing else. `progress` hears bytes done and bytes in all.
///
/// # Errors
/// [`HashError`] when a file cannot be read or changes meanwhile.
pub fn model_hash(path: &Path, cache_dir: &Path, progress: &mut dyn FnMut(u64, u64)) -> Result<ModelHash, HashError> {
    if !path.is_dir() {
        return file_hash(path, cache_dir, progress);
    }
    let files = model_files(path)?;
    let size = |file: &PathBuf| fs::metadata(file).map_or(0, |facts| facts.len());
    let all = files.iter().map(size).fold(0, u64::saturating_add);
    let (mut digest, mut before) = (Sha256::new(), 0);
    digest.update(b"far-mesh model folder 1\0");
    for file in &files {
        let hash = file_hash(file, cache_dir, &mut |done, _| progress(before + done, all))?;
        digest.update(file.file_name().unwrap_or_default().as_encoded_bytes());
        digest.update([0]);
        digest.update(hash.0);
        before += size(file);
        progress(before, all);
    }
    Ok(ModelHash(digest.finalize().into()))
}

fn file_hash(path: &Path, cache_dir: &Path, progress: &mut dyn FnMut(u64, u64)) -> Result<ModelHash, HashError> {
    let failed = |source| HashError::Io { path: path.to_path_buf(), source };
    let path_in_full = fs::canonicalize(path).map_err(failed)?;
    let before = Stamp::of(&path_in_full).map_err(failed)?;
    let entry = cache_dir.join(format!("{}.sha256", before.key(&path_in_full)));
    if let Some(hash) = fs::read_to_string(&entry).ok().and_then(|text| text.trim().parse().ok()) {
        return Ok(hash);
    }

    let mut file = fs::File::open(&path_in_full).map_err(failed)?;
    let mut digest = Sha256::new();
    let mut chunk = vec![0; CHUNK_BYTES];
    let mut done = 0;
    loop {
        let read = file.read(&mut chunk).map_err(failed)?;
        if read == 0 {
            break;
        }
        digest.update(&chunk[..read]);
        done += read as u64;
        progress(done, before.bytes);
    }
    if Stamp::of(&path_in_full).map_err(failed)? != before || done != before.bytes {
        return Err(HashError::Changed(path.to_path_buf()));
    }
    let hash = ModelHash(digest.finalize().into());
    if let Err(error) = remember(&entry, hash) {
        tracing::debug!(entry = %entry.display(), %error, "the model's hash is not cached");
    }
    Ok(hash)
}

/// What changes when a file does.
#[derive(PartialEq, Eq)]
struct Stamp {
    bytes: u64,
    modified_ns: u128,
}

impl Stamp {
    fn of(path: &Path) -> io::Result<Self> {
        let facts = fs::metadata(path)?;
        if !facts.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
        }
        let modified_ns = facts.modified()?.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos());
        Ok(Self { bytes: facts.len(), modified_ns })
    }

    /// Name of the cache's entry.
    fn key(&self, path: &Path) -> String {
        let mut digest = Sha256::new();
        digest.update(path.as_os_str().as_encoded_bytes());
        digest.update([0]);
        digest.update(self.bytes.to_le_bytes());
        digest.update(self.modified_ns.to_le_bytes());
        hex::encode(digest.finalize())
    }
}

/// Writes an entry so that a reader sees all of it or nothing.
fn remember(entry: &Path, hash: ModelHash) -> io::Result<()> {
    if let Some(dir) = entry.parent() {
        fs::create_dir_all(dir)?;
    }
    let partial = entry.with_extension(format!("{}.partial", std::process::id()));
    let mut file = fs::File::create(&partial)?;
    writeln!(file, "{hash}")?;
    file.sync_all()?;
    fs::rename(&partial, entry)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_is_computed_once_and_again_when_the_file_changes() {
        let dir = tempfile::tempdir().unwrap();
        let (file, cache) = (dir.path().join("m.gguf"), dir.path().join("cache"));
        fs::write(&file, b"abc").unwrap();
        let mut read = 0;
        let hash = |read: &mut u64| model_hash(&file, &cache, &mut |done, _| *read = done).unwrap();
        let first = hash(&mut read);
        assert_eq!(first.to_string(), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert_eq!(std::mem::take(&mut read), 3);
        assert_eq!((hash(&mut read), read), (first, 0), "the second answer reads nothing");

        fs::write(&file, b"abcd").unwrap();
        assert_ne!(hash(&mut read), first);
        assert_eq!(read, 4);
    }

    #[test]
    fn a_damaged_cache_is_not_believed_and_a_missing_file_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let (file, cache) = (dir.path().join("m.gguf"), dir.path().join("cache"));
        fs::write(&file, b"abc").unwrap();
        let hash = model_hash(&file, &cache, &mut |_, _| {}).unwrap();
        for entry in fs::read_dir(&cache).unwrap() {
            fs::write(entry.unwrap().path(), "ba78").unwrap();
        }
        assert_eq!(model_hash(&file, &cache, &mut |_, _| {}).unwrap(), hash);
        let missing = dir.path().join("absent.gguf");
        assert!(model_hash(&missing, &cache, &mut |_, _| {}).unwrap_err().to_string().contains("absent.gguf"));
    }

    #[test]
    fn a_folder_is_its_settings_and_tensors_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let (model, cache) = (dir.path().join("model"), dir.path().join("cache"));
        fs::create_dir(&model).unwrap();
        let put = |name: &str, text: &str| fs::write(model.join(name), text).unwrap();
        put("config.json", "{}");
        put("model.safetensors", "abc");
        let mut heard = vec![];
        let mut hash = || model_hash(&model, &cache, &mut |done, all| heard.push((done, all))).unwrap();
        let first = hash();
        put("README.md", "words");
        assert_eq!(hash(), first);
        for (name, text) in [("config.json", "{ }"), ("tokenizer.json", "{}"), ("model.safetensors", "abcd")] {
            let before = hash();
            put(name, text);
            assert_ne!(hash(), before, "{name}");
        }
        assert_eq!((heard.first(), heard.last()), (Some(&(2, 5)), Some(&(9, 9))));

        put("model.safetensors.index.json", r#"{"weight_map": {"a": "../x.safetensors"}}"#);
        let outside = model_hash(&model, &cache, &mut |_, _| {}).unwrap_err().to_string();
        assert!(outside.contains("../x.safetensors"), "{outside}");
        put("model.safetensors.index.json", r#"{"weight_map": {"a": "gone.safetensors"}}"#);
        let gone = model_hash(&model, &cache, &mut |_, _| {}).unwrap_err().to_string();
        assert!(gone.contains("gone.safetensors"), "{gone}");
    }
}
