//! How a model is named on the command line.

use std::path::PathBuf;

use super::{
    catalog::{self, CATALOG, Entry},
    hub::HubFile,
};

/// A model as somebody names it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Reference {
    /// A name of the catalogue.
    Catalog(&'static Entry),
    /// A file of a hub.
    Hub(HubFile),
    /// A file or folder of this machine.
    Path(PathBuf),
    /// Another name: perhaps of a model that was pulled or registered.
    Name(String),
}

/// Why a text names no model.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReferenceError {
    /// Nothing has this name.
    #[error("no model is called {name:?}{}; `far-mesh models list` shows what there is, a file is named by its path, ./{name}",
        nearest.map_or_else(String::new, |nearest| format!(", did you mean {nearest}?")))]
    Unknown {
        /// What was asked for.
        name: String,
        /// The name nearest to it.
        nearest: Option<&'static str>,
    },
    /// Several models have this name.
    #[error("{count} models are called {name:?}: name one by its path, as `far-mesh models list` shows it")]
    Ambiguous {
        /// What was asked for.
        name: String,
        /// How many there are.
        count: usize,
    },
    /// Not a file of a hub.
    #[error(
        "{text:?} names no file of a hub ({reason}): write hf:OWNER/REPO/FILE, for example hf:owner/model-gguf/model.Q4_0.gguf"
    )]
    Hub {
        /// What was written.
        text: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// Empty.
    #[error("the model's name is empty: name one of `far-mesh models list`, hf:OWNER/REPO/FILE or a path")]
    Empty,
}

impl Reference {
    /// Reads `NAME`, `hf:OWNER/REPO/FILE` or a path: what has a separator, ends like a model file or exists is a path.
    ///
    /// # Errors
    /// [`ReferenceError`] for an empty text and for what begins with `hf:` but names no file of a hub.
    pub fn parse(text: &str) -> Result<Self, ReferenceError> {
        if text.is_empty() {
            return Err(ReferenceError::Empty);
        }
        if let Some(file) = text.strip_prefix("hf:") {
            let wrong = |reason| ReferenceError::Hub { text: text.to_owned(), reason };
            return HubFile::parse(file).map(Self::Hub).map_err(wrong);
        }
        if let Some(entry) = catalog::find(text) {
            return Ok(Self::Catalog(entry));
        }
        let path = PathBuf::from(text);
        let looks_like_a_file = text.contains(std::path::is_separator)
            || path
                .extension()
                .is_some_and(|end| end.eq_ignore_ascii_case("gguf") || end.eq_ignore_ascii_case("safetensors"));
        // A folder of the working directory that holds no model does not hide a model of its name.
        if looks_like_a_file || path.is_file() || path.join("config.json").is_file() {
            Ok(Self::Path(path))
        } else {
            Ok(Self::Name(text.to_owned()))
        }
    }
}

impl ReferenceError {
    pub(super) fn unknown(name: &str) -> Self {
        let near = |entry: &&Entry| strsim::jaro_winkler(name, entry.name) > 0.85;
        Self::Unknown { name: name.to_owned(), nearest: CATALOG.iter().find(near).map(|entry| entry.name) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_files_and_paths_are_told_apart() {
        assert!(matches!(Reference::parse("smollm2-135m-instruct"), Ok(Reference::Catalog(_))));
        assert!(matches!(Reference::parse("hf:a/b/c.gguf"), Ok(Reference::Hub(_))));
        for path in ["./x", "/abs/model", "model.GGUF"] {
            assert!(matches!(Reference::parse(path), Ok(Reference::Path(_))), "{path}");
        }
        assert!(matches!(Reference::parse("mistral-7b"), Ok(Reference::Name(_))));
        assert_eq!(Reference::parse("").unwrap_err(), ReferenceError::Empty);
        assert!(Reference::parse("hf:a/b").unwrap_err().to_string().contains("hf:OWNER/REPO/FILE"));
    }

    #[test]
    fn an_unknown_name_suggests_the_nearest() {
        assert!(ReferenceError::unknown("smollm2-135m").to_string().contains("did you mean smollm2-135m-instruct?"));
        assert!(!ReferenceError::unknown("gpt").to_string().contains("did you mean"));
    }
}
