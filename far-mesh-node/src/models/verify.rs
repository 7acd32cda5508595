//! SHA-256 of files.

use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use sha2::{Digest, Sha256 as Hasher};

use super::store::StoreError;
use crate::{config::Sha256, progress::Progress};

/// Read at a time: large enough that the hash, not the system calls, takes the time.
const CHUNK_BYTES: usize = 1 << 20;

/// Hashes a file off the async threads. When the future is dropped, so is the work.
pub(super) async fn hash(path: PathBuf, label: String, progress: Progress) -> Result<Sha256, StoreError> {
    struct StopOnDrop(Arc<AtomicBool>);
    impl Drop for StopOnDrop {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
    let stop = StopOnDrop(Arc::default());
    let stopped = stop.0.clone();
    let failed = StoreError::io("read", &path);
    let work = tokio::task::spawn_blocking(move || hash_now(&path, &label, progress, &stopped));
    let done = work.await.unwrap_or_else(|err| Err(io::Error::other(err)));
    done.map_err(failed)
}

fn hash_now(path: &Path, label: &str, progress: Progress, stopped: &AtomicBool) -> io::Result<Sha256> {
    let mut file = File::open(path)?;
    let meter = progress.begin(label, Some(file.metadata()?.len()));
    let (mut hasher, mut chunk, mut done) = (Hasher::new(), vec![0; CHUNK_BYTES], 0_u64);
    loop {
        if stopped.load(Ordering::Relaxed) {
            return Err(io::ErrorKind::Interrupted.into());
        }
        let read = match file.read(&mut chunk) {
            Ok(0) => return Ok(Sha256(hasher.finalize().into())),
            Ok(read) => read,
            Err(err) if err.kind() == io::ErrorKind::Interrupted => continue,
            Err(err) => return Err(err),
        };
        hasher.update(&chunk[..read]);
        done += read as u64;
        meter.set(done);
    }
}

/// Whether a file begins as a GGUF file does.
pub(super) fn is_gguf(path: &Path) -> Result<bool, StoreError> {
    let mut magic = [0; 4];
    match File::open(path).and_then(|mut file| file.read_exact(&mut magic)) {
        Ok(()) => Ok(&magic == b"GGUF"),
        Err(err) if err.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(err) => Err(StoreError::io("read", path)(err)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_hash_is_the_published_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("abc");
        std::fs::write(&path, b"abc").unwrap();
        let hash = hash(path.clone(), "hashing".into(), Progress::Silent).await.unwrap();
        // FIPS 180-2, appendix B.1.
        assert_eq!(hash.to_string(), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert!(!is_gguf(&path).unwrap());
    }
}
