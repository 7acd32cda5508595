//! What a coordinator is made of, and why it may not start.

use std::path::PathBuf;

use super::OtherClass;
use crate::{
    id::ModelHash,
    model::{ConfigError, Precision, SourceError},
    session::GenerateError,
    shard::LoadError,
    token::{EncodeError, TemplateError, VocabularyError},
};

/// A model to serve.
#[derive(Clone, Debug)]
pub struct Config {
    /// Name that callers use.
    pub name: String,
    /// The model, a GGUF file or a folder; tokenizer, template, final norm and output matrix are read from it.
    pub path: PathBuf,
    /// Its hash, from [`crate::model::model_hash`].
    pub hash: ModelHash,
    /// What the head's weights become.
    pub precision: Precision,
    /// Threads of the head, at least 1.
    pub threads: usize,
    /// What becomes of a session whose lost layers only nodes of another kernel class serve.
    pub other_class: OtherClass,
    /// Where the coordinator stands, if that is known: what nodes say of their regions is held against it.
    pub region: Option<String>,
}

/// Why a coordinator does not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The file is unreadable or damaged.
    #[error("cannot read the model")]
    File(#[from] SourceError),
    /// The model cannot be served.
    #[error("cannot serve the model")]
    Model(#[from] ConfigError),
    /// The tokenizer is missing or of an unknown kind.
    #[error("cannot use the model's tokenizer")]
    Tokenizer(#[from] VocabularyError),
    /// The head cannot be loaded.
    #[error("cannot load the model's head")]
    Head(#[from] LoadError),
    /// The chat template is not usable.
    #[error("cannot use the model's chat template")]
    Template(#[source] TemplateError),
    /// The numbers do not fit together.
    #[error(transparent)]
    Generator(#[from] GenerateError),
    /// The thread that loads ended early.
    #[error("loading was broken off")]
    Aborted,
}

/// Why a prompt is not one.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum PromptError {
    /// The text cannot be tokenized.
    #[error(transparent)]
    Text(#[from] EncodeError),
    /// The conversation does not fit the model's template, or it has none.
    #[error(transparent)]
    Chat(#[from] TemplateError),
}
