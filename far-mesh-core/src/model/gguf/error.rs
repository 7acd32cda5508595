//! What can be wrong with a GGUF file, with the values that show it.

use std::{io, path::PathBuf};

use super::{Encoding, ValueType, header::MAX_HEADER_BYTES};

/// Why a file is not a model we can read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GgufError {
    /// The operating system refused.
    #[error("cannot read {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The path names a directory, a pipe or a device.
    #[error("{} is not a regular file", .0.display())]
    NotAFile(PathBuf),
    /// The first four bytes are not GGUF's.
    #[error("the file starts with {0:02x?}, a GGUF file with 47 47 55 46: this is another format or not a model")]
    Magic([u8; 4]),
    /// A version this reader does not know.
    #[error("GGUF version {0} is not supported: versions 2 and 3 are; convert the file anew")]
    Version(u32),
    /// Written by a big-endian machine.
    #[error("the file is big-endian: only little-endian GGUF files are supported")]
    BigEndian,
    /// The header does not end before the file does.
    #[error(
        "the file is truncated or damaged: {what} needs {needed} bytes at byte {at} of {file_bytes}; pull it again"
    )]
    Truncated {
        /// What was to be read.
        what: &'static str,
        /// Where it starts.
        at: u64,
        /// Bytes it needs, at the least.
        needed: u64,
        /// Bytes of the file.
        file_bytes: u64,
    },
    /// A sane header is far smaller.
    #[error(
        "the header is damaged: {what} of {needed} bytes at byte {at} passes the limit of {MAX_HEADER_BYTES} bytes of header"
    )]
    HeaderTooLarge {
        /// What was to be read.
        what: &'static str,
        /// Where it starts.
        at: u64,
        /// Bytes it needs, at the least.
        needed: u64,
    },
    /// A count or length no sane file has.
    #[error("the header is damaged: {what} is {found}, at most {most} is allowed; pull it again")]
    Bound {
        /// What was counted.
        what: &'static str,
        /// The count.
        found: u64,
        /// The limit.
        most: u64,
    },
    /// A text that is not UTF-8.
    #[error("the header is damaged: {what} at byte {at} is not UTF-8; pull it again")]
    Text {
        /// Which text.
        what: &'static str,
        /// Where it starts.
        at: u64,
    },
    /// A type number the format does not define.
    #[error("the header is damaged: {key:?} has value type {number}, the format defines 0 to 12")]
    ValueType {
        /// The entry.
        key: String,
        /// Its type.
        number: u32,
    },
    /// Arrays of arrays: legal, but nothing we read has them.
    #[error("{key:?} is an array of arrays, which is not supported")]
    NestedArray {
        /// The entry.
        key: String,
    },
    /// A boolean that is neither 0 nor 1.
    #[error("the header is damaged: {key:?} is a boolean of value {value}")]
    Bool {
        /// The entry.
        key: String,
        /// Its byte.
        value: u8,
    },
    /// Two entries of one name: which one counts would be a guess.
    #[error("the header is damaged: {0:?} is there twice")]
    DuplicateKey(String),
    /// Two tensors of one name.
    #[error("the header is damaged: tensor {0:?} is there twice")]
    DuplicateTensor(String),
    /// `general.alignment` is no power of two or absurd.
    #[error("the header is damaged: general.alignment is {0}, must be a power of two of at most 1 MiB")]
    Alignment(u64),
    /// The shape is empty, overflows or does not fill whole blocks.
    #[error("tensor {tensor:?} of shape {dims:?} {encoding}: {reason}")]
    Shape {
        /// The tensor.
        tensor: String,
        /// Its dimensions, fastest first.
        dims: Vec<u64>,
        /// Its encoding.
        encoding: Encoding,
        /// What does not fit.
        reason: &'static str,
    },
    /// The offset breaks the file's own alignment.
    #[error("the header is damaged: tensor {tensor:?} is at offset {offset}, not a multiple of {alignment}")]
    Misaligned {
        /// The tensor.
        tensor: String,
        /// Its offset in the data section.
        offset: u64,
        /// The file's alignment.
        alignment: u64,
    },
    /// The tensor ends behind the file's end.
    #[error("the file is truncated: tensor {tensor:?} ends at byte {end} of {file_bytes}; pull it again")]
    Outside {
        /// The tensor.
        tensor: String,
        /// Byte after its last.
        end: u64,
        /// Bytes of the file.
        file_bytes: u64,
    },
    /// Two tensors share bytes.
    #[error("the header is damaged: tensors {first:?} and {second:?} overlap at byte {at}")]
    Overlap {
        /// The one that starts first.
        first: String,
        /// The other.
        second: String,
        /// Where the other starts.
        at: u64,
    },
    /// A tensor the model needs is not there.
    #[error("the file has no tensor {0:?}: it is incomplete or not of the architecture it names")]
    MissingTensor(String),
    /// A tensor the model needs is in an encoding this version cannot read.
    #[error(
        "tensor {tensor:?} is encoded as {encoding}, which is not served: F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q4_K, Q5_K and Q6_K are; take another quantization of the model"
    )]
    Unsupported {
        /// The tensor.
        tensor: String,
        /// Its encoding.
        encoding: Encoding,
    },
}

/// Why a metadata entry cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MetadataError {
    /// It is not there.
    #[error("the file has no metadata entry {key:?}")]
    Missing {
        /// The entry.
        key: String,
    },
    /// It is of another type.
    #[error("metadata entry {key:?} is {found}, must be {want}")]
    Type {
        /// The entry.
        key: String,
        /// What was asked for.
        want: &'static str,
        /// What is there.
        found: ValueType,
    },
}
