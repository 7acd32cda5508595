//! Models as the Hugging Face hub lays them out: a folder with `config.json`, tokenizer files and safetensors.
//!
//! ```text
//! config.json -> Settings -> ModelConfig          model.safetensors (or an index and several) -> Checkpoint
//!                                      GGUF's tensor names -> names -> this folder's tensor names
//! ```
//!
//! Invariant: an entry of `config.json` is read, known to change no result, or refused.

mod config;
mod error;
mod folder;
mod json;
mod names;
mod rope;
mod settings;
#[cfg(test)]
mod tests;

pub(super) use config::config_of;
pub use error::FolderError;
pub use folder::Folder;
pub(crate) use json::read_json;
