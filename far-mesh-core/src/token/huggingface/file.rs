//! `tokenizer.json`: tokens and merge rules.

use std::path::Path;

use serde::Deserialize;

use super::bounded::{AddedTokens, Rules, Small, Vocab};
use crate::{
    model::huggingface::{FolderError, read_json},
    token::{Cuts, MAX_TOKENS, Pre, Vocabulary, VocabularyError},
};

/// Most bytes of `tokenizer.json`; 256 thousand tokens have about 34 MB.
const MAX_BYTES: u64 = 96 << 20;

/// What is read of the file.
#[derive(Debug, Deserialize)]
pub(super) struct File {
    #[serde(default)]
    added_tokens: AddedTokens,
    #[serde(default)]
    pub(super) normalizer: Small,
    #[serde(default)]
    pub(super) pre_tokenizer: Small,
    #[serde(default)]
    pub(super) post_processor: Small,
    pub(super) model: Model,
}

#[derive(Debug, Deserialize)]
pub(super) struct Model {
    #[serde(default, rename = "type")]
    kind: Option<String>,
    #[serde(default)]
    vocab: Vocab,
    #[serde(default)]
    merges: Rules,
    #[serde(default)]
    pub(super) ignore_merges: bool,
    #[serde(default)]
    pub(super) byte_fallback: bool,
    #[serde(default)]
    dropout: Option<f64>,
    #[serde(default)]
    continuing_subword_prefix: Option<String>,
    #[serde(default)]
    end_of_word_suffix: Option<String>,
}

/// Reads the file of a folder.
pub(super) fn read(folder: &Path) -> Result<File, VocabularyError> {
    let file: Option<File> = read_json(&folder.join("tokenizer.json"), MAX_BYTES).map_err(damaged)?;
    let missing = || FolderError::Missing { folder: folder.to_path_buf(), file: "tokenizer.json" };
    let file = file.ok_or_else(|| damaged(missing()))?;
    file.model.check()?;
    Ok(file)
}

pub(super) fn damaged(error: FolderError) -> VocabularyError {
    VocabularyError::File { reason: error.to_string() }
}

pub(super) fn not_applied<T>(what: impl Into<String>) -> Result<T, VocabularyError> {
    Err(VocabularyError::NotApplied { what: what.into() })
}

impl Model {
    fn check(&self) -> Result<(), VocabularyError> {
        let kind = self.kind.as_deref().unwrap_or("BPE");
        if kind != "BPE" {
            return Err(VocabularyError::Model { model: kind.to_owned(), known: "BPE" });
        }
        if self.dropout.is_some_and(|dropout| dropout != 0.0) {
            return not_applied(format!("dropout {:?}", self.dropout));
        }
        for part in [&self.continuing_subword_prefix, &self.end_of_word_suffix].into_iter().flatten() {
            if !part.is_empty() {
                return not_applied(format!("{part:?} at the ends of tokens"));
            }
        }
        Ok(())
    }
}

impl File {
    /// Tokens in the order of their ids. Ids that nobody uses get a text of their own, as llama.cpp's converter does it.
    pub(super) fn vocabulary(self, cuts: Cuts) -> Result<Vocabulary, VocabularyError> {
        const UNUSED: i32 = 5;
        let spaced = cuts.spaces.is_some();
        let ids = self.model.vocab.0.iter().map(|(_, id)| *id);
        let ids = ids.chain(self.added_tokens.0.iter().map(|added| added.id));
        let count = ids.max().map_or(0, |id| id as usize + 1);
        if count > MAX_TOKENS {
            let want = format!("ids below {MAX_TOKENS}");
            return Err(VocabularyError::Count { what: "tokens", got: count, want });
        }
        let mut tokens: Vec<Option<String>> = vec![None; count];
        let mut types = vec![UNUSED; count];
        let added = self.added_tokens.0.into_iter().map(|added| {
            if added.single_word || added.lstrip || added.rstrip {
                let what = format!("an added token {:?} that takes what is around it", added.content);
                return Err(VocabularyError::NotApplied { what });
            }
            Ok((added.content, added.id, if added.special { 3 } else { 4 }))
        });
        let is_byte = |text: &str| spaced && text.len() == 6 && text.starts_with("<0x") && text.ends_with('>');
        let plain = self.model.vocab.0.into_iter().map(|(text, id)| {
            let kind = if is_byte(&text) { 6 } else { 1 };
            Ok((text, id, kind))
        });
        for token in plain.chain(added) {
            let (text, id, kind) = token?;
            let place = &mut tokens[id as usize];
            if let Some(first) = place.as_ref().filter(|first| **first != text) {
                return not_applied(format!("two texts {first:?} and {text:?} for token {id}"));
            }
            *place = Some(text);
            types[id as usize] = kind;
        }
        let name = |(id, text): (usize, Option<String>)| text.unwrap_or_else(|| format!("[PAD{id}]"));
        Ok(Vocabulary {
            model: if spaced { "bpe" } else { "gpt2" }.to_owned(),
            pre: Pre::Given(cuts),
            tokens: tokens.into_iter().enumerate().map(name).collect(),
            merges: self.model.merges.0,
            types,
            ..Vocabulary::default()
        })
    }
}
