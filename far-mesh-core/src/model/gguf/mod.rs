//! GGUF files (versions 2 and 3), read as if a stranger had written them.
//!
//! [`File::open`] reads the header alone, through buffered reads: every count, length, offset and alignment is checked
//! against what is left of the file before anything is allocated. Tensors are read one at a time by [`File::read`], so a
//! shard touches only the bytes of its own span, and nothing of the file stays mapped.
//!
//! The format is specified in <https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>.

mod encoding;
mod error;
mod file;
mod header;
mod metadata;
mod tensor;
#[cfg(test)]
mod tests;
mod value;

pub use encoding::Encoding;
pub use error::{GgufError, MetadataError};
pub use file::File;
pub use header::{Header, MAX_HEADER_BYTES};
pub use metadata::Metadata;
pub use tensor::TensorInfo;
pub use value::{Array, Strings, Value, ValueType};
