//! Vocabulary and chat template from the metadata of a GGUF file.

use super::{ChatTemplate, TemplateError, Tokenizer, Vocabulary, VocabularyError};
use crate::model::gguf::{Metadata, MetadataError};

impl Vocabulary {
    /// Reads the entries `tokenizer.ggml.*`.
    ///
    /// # Errors
    /// [`VocabularyError::Metadata`] when one that must be there is missing, or one is of another type.
    pub fn from_gguf(metadata: &Metadata) -> Result<Self, VocabularyError> {
        let texts = |key: &str| metadata.strings(key).map(|texts| texts.iter().map(str::to_owned).collect());
        let id = |key: &str| -> Result<Option<u32>, VocabularyError> {
            if !metadata.has(key) {
                return Ok(None);
            }
            // An id beyond 32 bits is beyond any vocabulary, which `check` will say.
            Ok(Some(u32::try_from(metadata.u64(key)?).unwrap_or(u32::MAX)))
        };
        let types = "tokenizer.ggml.token_type";
        Ok(Self {
            model: metadata.str("tokenizer.ggml.model")?.to_owned(),
            pre: match metadata.has("tokenizer.ggml.pre") {
                true => metadata.str("tokenizer.ggml.pre")?.into(),
                false => "default".into(),
            },
            tokens: texts("tokenizer.ggml.tokens")?,
            merges: texts("tokenizer.ggml.merges")?,
            types: if metadata.has(types) { metadata.i32s(types)? } else { Vec::new() },
            bos: id("tokenizer.ggml.bos_token_id")?,
            eos: id("tokenizer.ggml.eos_token_id")?,
            eot: id("tokenizer.ggml.eot_token_id")?,
            eom: id("tokenizer.ggml.eom_token_id")?,
            ends: Vec::new(),
            add_bos: metadata.has("tokenizer.ggml.add_bos_token") && metadata.bool("tokenizer.ggml.add_bos_token")?,
        })
    }
}

impl Tokenizer {
    /// The tokenizer of a GGUF file.
    ///
    /// # Errors
    /// As [`Vocabulary::from_gguf`] and [`Tokenizer::new`].
    pub fn from_gguf(metadata: &Metadata) -> Result<Self, VocabularyError> {
        // Named before the lists are read, which another kind of tokenizer may lack.
        Self::check_model(metadata.str("tokenizer.ggml.model")?)?;
        Self::new(&Vocabulary::from_gguf(metadata)?)
    }
}

impl ChatTemplate {
    /// The chat template of a GGUF file.
    ///
    /// # Errors
    /// [`TemplateError::Missing`] when it has none (a base model), else as [`ChatTemplate::new`].
    pub fn from_gguf(metadata: &Metadata, tokenizer: &Tokenizer) -> Result<Self, TemplateError> {
        match metadata.str("tokenizer.chat_template") {
            Ok(source) => Self::new(source, tokenizer.bos_text(), tokenizer.eos_text()),
            Err(MetadataError::Missing { .. }) => Err(TemplateError::Missing),
            Err(error) => Err(TemplateError::Syntax { reason: error.to_string() }),
        }
    }
}
