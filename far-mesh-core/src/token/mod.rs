//! Text to token ids and back: tokenizer, chat template, streaming detokenizer.
//!
//! ```text
//! conversation -> chat (template) --\
//!                                    +-> tokenizer -> ids -> session -> ids -> detokenizer -> text
//! raw prompt ----------------------/
//! ```
//!
//! Invariant: control tokens come from the model's template, never from what a user wrote.

mod chat;
mod detokenizer;
mod gguf;
mod huggingface;
mod json;
mod source;
mod template;
#[cfg(test)]
mod tests;
mod tokenizer;
mod vocabulary;
mod words;

pub use detokenizer::Detokenizer;
pub use template::{ChatTemplate, MAX_MESSAGES, MAX_TEMPLATE_BYTES, Message, TemplateError};
pub use tokenizer::{EncodeError, MAX_TEXT_BYTES, Piece, Tokenizer};
pub use vocabulary::{Kind, MAX_MERGES, MAX_TOKENS, Vocabulary, VocabularyError};
pub use words::{Cuts, Pre, Spaces, Step};
