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
mod rope;
mod span;
#[doc(hidden)]
pub mod testing;

pub use config::{ARCHITECTURES, ConfigError, ModelConfig};
pub use hash::{HashError, model_hash};
pub use head::Head;
pub use load::{Loader, ModelError, Precision};
pub use span::SpanModel;
