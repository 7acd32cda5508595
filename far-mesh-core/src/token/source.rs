//! Tokenizer and chat template of an open model, whatever its files.

use super::{ChatTemplate, TemplateError, Tokenizer, VocabularyError, huggingface};
use crate::model::Source;

impl Tokenizer {
    /// The tokenizer of a model.
    ///
    /// # Errors
    /// [`VocabularyError`] when it is missing, damaged or of a kind that is not known.
    pub fn of(source: &Source) -> Result<Self, VocabularyError> {
        match source {
            Source::Gguf(file) => Self::from_gguf(file.metadata()),
            Source::HuggingFace(folder) => Self::new(&huggingface::vocabulary(folder)?),
        }
    }
}

impl ChatTemplate {
    /// The chat template of a model.
    ///
    /// # Errors
    /// [`TemplateError::Missing`] when it has none (a base model), else as [`ChatTemplate::new`].
    pub fn of(source: &Source, tokenizer: &Tokenizer) -> Result<Self, TemplateError> {
        match source {
            Source::Gguf(file) => Self::from_gguf(file.metadata(), tokenizer),
            Source::HuggingFace(folder) => {
                let template = huggingface::template(folder)?;
                Self::new(&template, tokenizer.bos_text(), tokenizer.eos_text())
            }
        }
    }
}
