//! One process fetches a file at a time.

use std::{
    fs::{File, TryLockError},
    path::{Path, PathBuf},
    time::Duration,
};

use super::store::{StoreError, beside, make_room_for};
use crate::progress::Progress;

/// How often the lock is tried: the system's own waiting cannot be cancelled.
const INTERVAL: Duration = Duration::from_millis(200);

/// The right to fetch a file; the system takes it back when the process ends, however it ends.
#[derive(Debug)]
pub(super) struct Lock {
    // Held open: closing gives the lock back.
    _file: File,
}

impl Lock {
    /// Waits until no other process fetches `target`. Cancel-safe.
    pub(super) async fn wait(target: &Path, progress: Progress) -> Result<Self, StoreError> {
        let path: PathBuf = beside(target, ".lock");
        make_room_for(&path)?;
        let open = File::options().create(true).truncate(false).write(true).open(&path);
        let file = open.map_err(StoreError::io("open the lock", &path))?;
        let mut told = false;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(Self { _file: file }),
                Err(TryLockError::WouldBlock) => {}
                Err(TryLockError::Error(err)) => return Err(StoreError::io("lock", &path)(err)),
            }
            if !told {
                progress.say(&format!("another process is fetching {}; waiting for it", target.display()));
                told = true;
            }
            tokio::time::sleep(INTERVAL).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_second_waits_for_the_first() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("sub/m.gguf");
        let first = Lock::wait(&target, Progress::Silent).await.unwrap();
        let mut second = Box::pin(Lock::wait(&target, Progress::Silent));
        assert!(futures::poll!(&mut second).is_pending());
        drop(first);
        second.await.unwrap();
    }
}
