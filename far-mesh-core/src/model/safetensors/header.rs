//! The header of one file: its table of tensors, checked in full before it is used.

use std::{
    collections::{BTreeMap, btree_map},
    fmt, fs,
    path::Path,
};

use serde::{
    Deserialize,
    de::{Error, MapAccess, Visitor},
};

use super::SafetensorsError;
use crate::{kernel::Format, model::ranged::read_exact_at};

/// Most bytes of header, as the format has it.
pub const MAX_HEADER_BYTES: u64 = 100_000_000;

/// Most tensors of a file: 94 layers of 128 experts have 36 thousand.
const MAX_TENSORS: usize = 1 << 18;

/// Bytes that hold the header's length.
const LENGTH_BYTES: u64 = 8;

/// Name, shape and place of a tensor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorInfo {
    /// Its name.
    pub name: String,
    /// Dimensions, the slowest first: a weight `[n, k]` of a linear layer has `shape == [n, k]`.
    pub shape: Vec<u64>,
    /// Type of its elements, as the file names it.
    pub dtype: String,
    /// First byte in its file.
    pub offset: u64,
    /// Bytes.
    pub bytes: u64,
    /// Which of the checkpoint's files it is in.
    pub(super) file: usize,
}

impl TensorInfo {
    /// The kernel format of a tensor that is needed.
    ///
    /// # Errors
    /// [`SafetensorsError::Unsupported`] when this version cannot read the type.
    pub fn format(&self) -> Result<Format, SafetensorsError> {
        dense(&self.dtype)
            .ok_or_else(|| SafetensorsError::Unsupported { tensor: self.name.clone(), dtype: self.dtype.clone() })
    }

    /// The decoder layer it belongs to: `model.layers.N.`
    pub fn layer(&self) -> Option<u32> {
        self.name.strip_prefix("model.layers.")?.split_once('.')?.0.parse().ok()
    }
}

fn dense(dtype: &str) -> Option<Format> {
    Some(match dtype {
        "F32" => Format::F32,
        "F16" => Format::F16,
        "BF16" => Format::BF16,
        _ => return None,
    })
}

/// An entry of the table as it stands in the header.
#[derive(Deserialize)]
struct Entry {
    dtype: String,
    shape: Vec<u64>,
    data_offsets: [u64; 2],
}

/// The table; two entries of one name are an error, not a choice.
struct Table(BTreeMap<String, Entry>);

impl<'de> Deserialize<'de> for Table {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries;
        impl<'de> Visitor<'de> for Entries {
            type Value = Table;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a table of tensors")
            }

            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Table, M::Error> {
                let mut table = BTreeMap::new();
                while let Some(name) = map.next_key::<String>()? {
                    if name == "__metadata__" {
                        map.next_value::<serde::de::IgnoredAny>()?;
                        continue;
                    }
                    if table.len() == MAX_TENSORS {
                        return Err(M::Error::custom(format!("it has more than {MAX_TENSORS} tensors")));
                    }
                    match table.entry(name) {
                        btree_map::Entry::Vacant(place) => {
                            place.insert(map.next_value()?);
                        }
                        btree_map::Entry::Occupied(there) => {
                            return Err(M::Error::custom(format!("tensor {:?} is there twice", there.key())));
                        }
                    }
                }
                Ok(Table(table))
            }
        }
        deserializer.deserialize_map(Entries)
    }
}

/// Reads and checks the header of file number `index` of a checkpoint.
pub(super) fn read(file: &fs::File, path: &Path, index: usize) -> Result<Vec<TensorInfo>, SafetensorsError> {
    let failed = |source| SafetensorsError::Io { path: path.to_path_buf(), source };
    let file_bytes = file.metadata().map_err(failed)?.len();
    let length = |header_bytes| SafetensorsError::HeaderLength { path: path.to_path_buf(), header_bytes, file_bytes };
    let Some(after_length) = file_bytes.checked_sub(LENGTH_BYTES) else { return Err(length(0)) };
    let mut header_bytes = [0; LENGTH_BYTES as usize];
    read_exact_at(file, &mut header_bytes, 0).map_err(failed)?;
    let header_bytes = u64::from_le_bytes(header_bytes);
    if header_bytes > after_length.min(MAX_HEADER_BYTES) {
        return Err(length(header_bytes));
    }
    let mut header = vec![0; header_bytes as usize];
    read_exact_at(file, &mut header, LENGTH_BYTES).map_err(failed)?;
    let Table(table) = serde_json::from_slice(&header)
        .map_err(|source| SafetensorsError::Json { path: path.to_path_buf(), source })?;

    let data_start = LENGTH_BYTES + header_bytes;
    let data_bytes = file_bytes - data_start;
    let mut tensors = Vec::with_capacity(table.len());
    for (name, Entry { dtype, shape, data_offsets: [start, end] }) in table {
        if let Err(reason) = check(&dtype, &shape, start, end, data_bytes) {
            return Err(SafetensorsError::Tensor { path: path.to_path_buf(), tensor: name, reason });
        }
        tensors.push(TensorInfo { name, shape, dtype, offset: data_start + start, bytes: end - start, file: index });
    }
    tensors.sort_unstable_by_key(|tensor| (tensor.offset, tensor.bytes));
    for pair in tensors.windows(2) {
        if pair[0].offset + pair[0].bytes > pair[1].offset {
            let (tensor, reason) = (pair[1].name.clone(), format!("overlaps {:?}", pair[0].name));
            return Err(SafetensorsError::Tensor { path: path.to_path_buf(), tensor, reason });
        }
    }
    Ok(tensors)
}

fn check(dtype: &str, shape: &[u64], start: u64, end: u64, data_bytes: u64) -> Result<(), String> {
    if start > end || end > data_bytes {
        return Err(format!("has bytes {start} to {end} of {data_bytes}"));
    }
    // What an unknown type's elements take does not matter until such a tensor is needed.
    let Some(format) = dense(dtype) else { return Ok(()) };
    let (_, element_bytes) = format.block();
    let want = shape.iter().try_fold(element_bytes as u64, |bytes, dim| bytes.checked_mul(*dim));
    match want == Some(end - start) {
        true => Ok(()),
        false => Err(format!("of shape {shape:?} {dtype} has {} bytes", end - start)),
    }
}
