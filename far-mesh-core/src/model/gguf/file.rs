//! An open GGUF file: header in memory, tensors on demand.

use std::{
    collections::HashMap,
    fmt, fs, io,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

use super::{GgufError, Header, Metadata, TensorInfo};
use crate::model::ranged::read_exact_at;

/// Bytes read at a time while the header is parsed.
const HEADER_BUFFER_BYTES: usize = 64 << 10;

/// An open model file.
pub struct File {
    file: fs::File,
    path: PathBuf,
    file_bytes: u64,
    header: Header,
    index: HashMap<String, usize>,
    bytes_read: AtomicU64,
}

impl File {
    /// Opens a file and checks its header; no tensor is read.
    ///
    /// # Errors
    /// [`GgufError`] when the file cannot be read, is no GGUF file or is damaged.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, GgufError> {
        let path = path.as_ref().to_path_buf();
        let failed = |source| GgufError::Io { path: path.clone(), source };
        let facts = fs::metadata(&path).map_err(failed)?;
        if !facts.is_file() {
            return Err(GgufError::NotAFile(path));
        }
        let file = fs::File::open(&path).map_err(failed)?;
        let file_bytes = facts.len();
        let header = Header::read(io::BufReader::with_capacity(HEADER_BUFFER_BYTES, &file), file_bytes);
        let header = header.map_err(|error| match error {
            GgufError::Io { source, .. } => failed(source),
            error => error,
        })?;
        let index = header.tensors.iter().enumerate().map(|(at, tensor)| (tensor.name.clone(), at)).collect();
        Ok(Self { file, path, file_bytes, header, index, bytes_read: AtomicU64::new(0) })
    }

    /// Where the file is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes of the file.
    pub fn file_bytes(&self) -> u64 {
        self.file_bytes
    }

    /// Bytes before the first tensor.
    pub fn header_bytes(&self) -> u64 {
        self.header.bytes
    }

    /// The metadata entries.
    pub fn metadata(&self) -> &Metadata {
        &self.header.metadata
    }

    /// All tensors, in the order of the file's table.
    pub fn tensors(&self) -> &[TensorInfo] {
        &self.header.tensors
    }

    /// The tensor of this name, if there is one.
    pub fn find(&self, name: &str) -> Option<&TensorInfo> {
        self.index.get(name).map(|&at| &self.header.tensors[at])
    }

    /// The tensor of this name.
    ///
    /// # Errors
    /// [`GgufError::MissingTensor`].
    pub fn tensor(&self, name: &str) -> Result<&TensorInfo, GgufError> {
        self.find(name).ok_or_else(|| GgufError::MissingTensor(name.to_owned()))
    }

    /// Appends a tensor's bytes to `into`; nothing else of the file is read.
    ///
    /// # Errors
    /// [`GgufError::Unsupported`] for an unknown encoding, [`GgufError::Outside`] when the file shrank, else
    /// [`GgufError::Io`]. `into` is then as long as before.
    pub fn read(&self, tensor: &TensorInfo, into: &mut Vec<u8>) -> Result<(), GgufError> {
        let (_, bytes) = tensor.readable()?;
        self.read_part(tensor, 0, bytes, into)
    }

    /// Appends `bytes` bytes of a tensor, the first of them `skip` from its start.
    ///
    /// # Errors
    /// As [`File::read`]; [`GgufError::Outside`] also for bytes beyond the tensor.
    pub(in crate::model) fn read_part(
        &self,
        tensor: &TensorInfo,
        skip: u64,
        bytes: u64,
        into: &mut Vec<u8>,
    ) -> Result<(), GgufError> {
        let (_, whole) = tensor.readable()?;
        let offset = tensor.offset.saturating_add(skip);
        let end = offset.saturating_add(bytes);
        let outside = || GgufError::Outside { tensor: tensor.name.clone(), end, file_bytes: self.file_bytes };
        // Holds for every tensor of this file's table; `tensor` might be of another's.
        if end > self.file_bytes || skip.saturating_add(bytes) > whole {
            return Err(outside());
        }
        let start = into.len();
        into.resize(start + bytes as usize, 0);
        let read = read_exact_at(&self.file, &mut into[start..], offset);
        read.map_err(|source| {
            into.truncate(start);
            match source.kind() {
                io::ErrorKind::UnexpectedEof => outside(),
                _ => GgufError::Io { path: self.path.clone(), source },
            }
        })?;
        self.bytes_read.fetch_add(bytes, Ordering::Relaxed);
        Ok(())
    }

    /// Bytes of tensors read so far.
    pub fn bytes_read(&self) -> u64 {
        self.bytes_read.load(Ordering::Relaxed)
    }
}

impl fmt::Debug for File {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("File")
            .field("path", &self.path)
            .field("file_bytes", &self.file_bytes)
            .field("tensors", &self.header.tensors.len())
            .finish_non_exhaustive()
    }
}
