//! Decoder models: file formats, configuration and the forward pass, generic over the backend.
//!
//! ```text
//! gguf::File ----------\
//!                       +-> Source -> ModelConfig -> Loader -> SpanModel (embedding?, blocks) and Head (norm, output)
//! huggingface::Folder -/    tensors by GGUF's names             token ids or hidden states -> hidden states -> logits
//!   (config.json, safetensors)
//! ```
//!
//! Invariants: weights stay in the file's encoding, packed for the kernel, unless a [`Precision`] asks for something else;
//! a row's result has the same bits however the model is cut into spans and the prompt into chunks; a span reads the bytes
//! of its own tensors alone; nothing of a file is silently ignored: a tensor or a setting that would change the result
//! and is not understood is an error.
//!
//! # Adding an architecture
//! All of them are one decoder with small differences. To add one:
//! 1. give it a row in [`ARCHITECTURES`] with its names in GGUF files and in `config.json`; a difference no row has yet is a
//!    new field of [`Architecture`], which is off in the row of Llama that the others start from;
//! 2. where the difference has tensors, name them with their shapes in `tensors.rs`, say in `huggingface/names.rs` what
//!    checkpoints call them, and load them in `load.rs`;
//! 3. where it has settings, read and bound them in `metadata.rs` (GGUF) and `huggingface/config.rs` (`config.json`), and
//!    stop refusing them there;
//! 4. apply it in the layer it belongs to, as an `Option` of that layer or a variant of it: `HeadNorms` in `attention.rs`
//!    and `FeedForward` in `mlp.rs` are examples;
//! 5. give `tests/fixtures/make_architectures.py` a tiny model of it, so that `tests/architectures.rs` holds it against
//!    `transformers`, from both kinds of files.
//!
//! A setting of the file that no field covers stays an error: without it the result would be wrong, and nobody would see.

mod architecture;
mod attention;
mod block;
mod config;
mod dequantize;
mod experts;
pub mod gguf;
mod hash;
mod head;
pub mod huggingface;
mod linear;
mod load;
mod metadata;
mod mlp;
mod moe;
mod norm;
mod precision;
mod quantize;
mod ranged;
mod rope;
pub mod safetensors;
mod source;
mod span;
mod tensors;
#[doc(hidden)]
pub mod testing;

pub use architecture::{ARCHITECTURES, Architecture};
pub use config::{ConfigError, ModelConfig, RopeScaling};
pub use experts::Experts;
pub use hash::{HashError, model_files, model_hash};
pub use head::Head;
pub use load::{Loader, ModelError};
pub use precision::{Precision, Quantize};
pub use source::{Source, SourceError};
pub use span::SpanModel;
