//! Vocabulary and chat template from the tokenizer files of a Hugging Face folder, read as if a stranger had written them.
//!
//! ```text
//! tokenizer.json         -> file: tokens, merges, added tokens; cuts: how text is cut into words
//! tokenizer_config.json,
//! generation_config.json -> settings: tokens of special meaning, chat template
//! ```
//!
//! Two kinds are read: byte-level BPE (Llama 3, Qwen, SmolLM and most others) and BPE over characters that falls back to
//! bytes (Llama 2, Mistral, Mixtral). What else a tokenizer does is an error.

mod bounded;
mod cuts;
mod file;
mod settings;
#[cfg(test)]
mod tests;

use std::collections::HashMap;

pub(super) use settings::template;

use super::{Vocabulary, VocabularyError};
use crate::model::huggingface::Folder;

/// Reads the vocabulary of a folder.
pub(super) fn vocabulary(folder: &Folder) -> Result<Vocabulary, VocabularyError> {
    let file = file::read(folder.path())?;
    let cuts = cuts::cuts(&file)?;
    let first = cuts::first_token(&file)?;
    let mut vocabulary = file.vocabulary(cuts)?;
    let ids: HashMap<&str, u32> = (0u32..).zip(&vocabulary.tokens).map(|(id, text)| (text.as_str(), id)).collect();
    let special = settings::read(folder, &ids)?;
    let first = match first {
        None => None,
        Some(text) => {
            let unknown = || VocabularyError::NotApplied { what: format!("a first token {text:?} it does not know") };
            Some(*ids.get(text.as_str()).ok_or_else(unknown)?)
        }
    };
    vocabulary.add_bos = first.is_some() || special.add_bos;
    vocabulary.bos = first.or(special.bos);
    vocabulary.eos = special.eos;
    vocabulary.ends = special.ends;
    Ok(vocabulary)
}
