//! What a model file says about its tokens, checked before anything is built from it.

use std::collections::{HashMap, HashSet};

use super::words::Pre;
use crate::model::gguf::MetadataError;

/// Most tokens of a vocabulary (the largest in use have 262144).
pub const MAX_TOKENS: usize = 1 << 20;

/// Most merge rules; a vocabulary has about one for each token.
pub const MAX_MERGES: usize = 1 << 21;

/// Texts that end a turn or a document in the models in use, for files that name only one of several such tokens.
const END_TEXTS: [&str; 12] = [
    "<|im_end|>",
    "<|endoftext|>",
    "<|eot_id|>",
    "<|eom_id|>",
    "<|end_of_text|>",
    "<|end|>",
    "<|endofturn|>",
    "<|end_of_turn|>",
    "<end_of_turn>",
    "<|return|>",
    "</s>",
    "[EOS]",
];

/// Tokens, merge rules and the tokens of special meaning, as the keys `tokenizer.ggml.*` of a GGUF file give them, or the
/// files of a Hugging Face folder.
#[derive(Clone, Debug, Default)]
pub struct Vocabulary {
    /// Kind of tokenizer; `gpt2` is byte-level BPE, `bpe` that over characters with `▁` for spaces.
    pub model: String,
    /// The rule that cuts text into words before merging.
    pub pre: Pre,
    /// Text of each token, in the order of their ids; bytes as GPT-2 writes them (`Ġ` is a space).
    pub tokens: Vec<String>,
    /// Merge rules, most important first: two tokens with a space between.
    pub merges: Vec<String>,
    /// Kind of each token as GGML numbers them ([`Kind`]); empty: all are text.
    pub types: Vec<i32>,
    /// Begins a text.
    pub bos: Option<u32>,
    /// Ends a text.
    pub eos: Option<u32>,
    /// Ends a turn.
    pub eot: Option<u32>,
    /// Ends a message that another follows.
    pub eom: Option<u32>,
    /// Others after which there is nothing more to say.
    pub ends: Vec<u32>,
    /// Whether a raw prompt begins with `bos`.
    pub add_bos: bool,
}

/// Kind of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Text.
    Text,
    /// Marker with a meaning of its own, never part of the output's text.
    Control,
    /// Text that the model's makers keep in one piece, such as `<think>`.
    Whole,
    /// Reserved or unknown.
    Unused,
    /// One byte, written `<0x0A>`.
    Byte,
}

/// Why a vocabulary cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum VocabularyError {
    /// The tokenizer is of another kind.
    #[error("tokenizer model {model:?} is not supported, known are: {known}")]
    Model {
        /// What the file says.
        model: String,
        /// What is known.
        known: &'static str,
    },
    /// The rule that cuts text into words is not known; guessing one would change every prompt.
    #[error("pre-tokenizer {pre:?} is not supported, known are: {known}")]
    Pre {
        /// What the file says.
        pre: String,
        /// What is known.
        known: String,
    },
    /// A list is empty, too long, or does not fit another.
    #[error("vocabulary has {got} {what}, needs {want}")]
    Count {
        /// The list.
        what: &'static str,
        /// Its entries.
        got: usize,
        /// What would be right.
        want: String,
    },
    /// A token has no text.
    #[error("token {id} has no text")]
    EmptyToken {
        /// Its id.
        id: usize,
    },
    /// Two tokens have the same text.
    #[error("tokens {first} and {second} have the same text {text:?}")]
    Duplicate {
        /// The text.
        text: String,
        /// One id.
        first: u32,
        /// The other.
        second: u32,
    },
    /// A token's kind is not one that GGML defines.
    #[error("token {id} is of type {kind}, known are 0 to 6")]
    Type {
        /// Its id.
        id: usize,
        /// What the file says.
        kind: i32,
    },
    /// A special token is not in the vocabulary.
    #[error("{name} token is {id}, the vocabulary has {tokens} tokens")]
    SpecialId {
        /// Which.
        name: &'static str,
        /// Its id.
        id: u32,
        /// Tokens there are.
        tokens: usize,
    },
    /// A merge rule is not two tokens of the vocabulary whose union is a third.
    #[error("merge {index} {text:?} is not two tokens that make a third: {missing:?} is not in the vocabulary")]
    Merge {
        /// Its place.
        index: usize,
        /// The rule.
        text: String,
        /// What is missing.
        missing: String,
    },
    /// A metadata entry of the model file cannot be used.
    #[error(transparent)]
    Metadata(#[from] MetadataError),
    /// A tokenizer file is missing, unreadable or damaged.
    #[error("{reason}")]
    File {
        /// Which and why.
        reason: String,
    },
    /// Something of the tokenizer that would change the tokens of prompts and is not implemented.
    #[error("the tokenizer has {what}, which this version does not apply: prompts would become other tokens")]
    NotApplied {
        /// What and where.
        what: String,
    },
    /// The tokenizer library refused what passed the checks above.
    #[error("tokenizer cannot be built: {reason}")]
    Build {
        /// Its words.
        reason: String,
    },
}

impl Vocabulary {
    /// Kind of a token; `id` must be in the vocabulary.
    pub(super) fn kind(&self, id: usize) -> Result<Kind, VocabularyError> {
        match self.types.get(id).copied().unwrap_or(1) {
            1 => Ok(Kind::Text),
            3 => Ok(Kind::Control),
            4 => Ok(Kind::Whole),
            0 | 2 | 5 => Ok(Kind::Unused),
            6 => Ok(Kind::Byte),
            kind => Err(VocabularyError::Type { id, kind }),
        }
    }

    /// Checks lists and ids against each other and gives the id of each text.
    pub(super) fn check(&self) -> Result<HashMap<&str, u32>, VocabularyError> {
        self.check_counts()?;
        self.check_ids()?;
        let mut ids = HashMap::with_capacity(self.tokens.len());
        for (id, text) in (0u32..).zip(&self.tokens) {
            if text.is_empty() {
                return Err(VocabularyError::EmptyToken { id: id as usize });
            }
            if let Some(first) = ids.insert(text.as_str(), id) {
                return Err(VocabularyError::Duplicate { text: text.clone(), first, second: id });
            }
        }
        Ok(ids)
    }

    /// Whether there is a token for each byte, so that any character can be written.
    pub(super) fn check_bytes(&self) -> Result<(), VocabularyError> {
        let texts: HashSet<&str> = self.tokens.iter().map(String::as_str).collect();
        match (0..=u8::MAX).filter(|byte| texts.contains(format!("<0x{byte:02X}>").as_str())).count() {
            256 => Ok(()),
            got => Err(VocabularyError::Count { what: "tokens of one byte", got, want: "256".to_owned() }),
        }
    }

    fn check_counts(&self) -> Result<(), VocabularyError> {
        let tokens = self.tokens.len();
        let count = |what, got, want| Err(VocabularyError::Count { what, got, want });
        if tokens == 0 || tokens > MAX_TOKENS {
            return count("tokens", tokens, format!("1 to {MAX_TOKENS}"));
        }
        if self.merges.len() > MAX_MERGES {
            return count("merges", self.merges.len(), format!("at most {MAX_MERGES}"));
        }
        if !self.types.is_empty() && self.types.len() != tokens {
            return count("token types", self.types.len(), format!("{tokens}, one a token"));
        }
        Ok(())
    }

    fn check_ids(&self) -> Result<(), VocabularyError> {
        let named = [("bos", self.bos), ("eos", self.eos), ("eot", self.eot), ("eom", self.eom)];
        for (name, id) in named.into_iter().chain(self.ends.iter().map(|id| ("end", Some(*id)))) {
            if let Some(id) = id.filter(|id| *id as usize >= self.tokens.len()) {
                return Err(VocabularyError::SpecialId { name, id, tokens: self.tokens.len() });
            }
        }
        if self.add_bos && self.bos.is_none() {
            return Err(VocabularyError::Count { what: "bos tokens", got: 0, want: "one, as add_bos asks".to_owned() });
        }
        Ok(())
    }

    /// Tokens after which there is nothing more to say, ascending.
    pub(super) fn end_tokens(&self) -> Result<Vec<u32>, VocabularyError> {
        let mut ends: Vec<u32> = [self.eos, self.eot, self.eom].into_iter().flatten().collect();
        ends.extend(&self.ends);
        for (id, text) in (0u32..).zip(&self.tokens) {
            let marker = matches!(self.kind(id as usize)?, Kind::Control | Kind::Whole);
            if marker && END_TEXTS.contains(&text.as_str()) {
                ends.push(id);
            }
        }
        ends.sort_unstable();
        ends.dedup();
        Ok(ends)
    }
}
