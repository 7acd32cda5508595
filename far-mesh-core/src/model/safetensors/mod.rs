//! Hugging Face safetensors files, read as if a stranger had written them.
//!
//! [`Checkpoint::open`] reads the headers alone and checks every length and offset against what is in the file before it
//! allocates; [`Checkpoint::read`] reads one tensor. A checkpoint is one file or several with an index.
//!
//! The format is specified in <https://github.com/huggingface/safetensors#format>.

mod checkpoint;
mod error;
mod header;
#[cfg(test)]
mod tests;

pub use checkpoint::Checkpoint;
pub use error::SafetensorsError;
pub use header::{MAX_HEADER_BYTES, TensorInfo};
