//! Decoder models: file formats, configuration and the forward pass, generic over the backend.
//!
//! ```text
//! gguf::File -> ModelConfig -> Loader -> SpanModel (embedding?, blocks) and Head (norm, output matrix)
//!                                        token ids or hidden states -> hidden states -> logits
//! ```
//!
//! Invariants: weights stay in the file's encoding, packed for the kernel, unless [`Precision::Exact`] asks for f32; a
//! row's result has the same bits however the model is cut into spans and the prompt into chunks; nothing of a file is
//! silently ignored: a tensor or a setting that would change the result and is not understood is an error.
//!
//! # Adding an architecture
//! All of them are one decoder with small differences. To add one:
//! 1. give it a row in [`ARCHITECTURES`]; a difference no row has yet is a new field of [`Architecture`], which is off in
//!    the row of Llama that the others start from;
//! 2. where the difference has tensors, name them with their shapes in `tensors.rs` and load them in `load.rs`; where it has
//!    metadata, read and bound them in `config.rs`, and stop refusing them there;
//! 3. apply it in the layer it belongs to, as an `Option` of that layer: `HeadNorms` in `attention.rs` is an example;
//! 4. give `tests/fixtures/make_architectures.py` a tiny model of it, so that `tests/architectures.rs` holds it against
//!    `transformers`.
//!
//! A setting of the file that no field covers stays an error: without it the result would be wrong, and nobody would see.

mod architecture;
mod attention;
mod block;
mod config;
mod dequantize;
pub mod gguf;
mod hash;
mod head;
mod linear;
mod load;
mod mlp;
mod norm;
mod ranged;
mod rope;
pub mod safetensors;
mod span;
mod tensors;
#[doc(hidden)]
pub mod testing;

pub use architecture::{ARCHITECTURES, Architecture};
pub use config::{ConfigError, ModelConfig, RopeScaling};
pub use hash::{HashError, model_hash};
pub use head::Head;
pub use load::{Loader, ModelError, Precision};
pub use span::SpanModel;
