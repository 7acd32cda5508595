//! Bounds on what goes into a row, checked before a database sees it: both databases then agree on what they take.

/// Longest identifier of a session, a request, a node or a model, in bytes.
pub const MAX_ID_BYTES: usize = 256;

/// Longest description (GPU, place, quantization, reason of a failure), in bytes.
pub const MAX_TEXT_BYTES: usize = 4096;

/// Longest prompt that is stored, in bytes.
pub const MAX_PROMPT_BYTES: usize = 4 * 1024 * 1024;

/// A value that no row can hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FieldError {
    /// An identifier without a character.
    #[error("{field} is empty: give it a value")]
    Empty {
        /// Name of the field.
        field: &'static str,
    },
    /// A text beyond its bound.
    #[error("{field} has {bytes} bytes, at most {limit} are stored: shorten it")]
    TooLong {
        /// Name of the field.
        field: &'static str,
        /// Its length.
        bytes: usize,
        /// The bound.
        limit: usize,
    },
    /// A text with the character NUL, which PostgreSQL does not store.
    #[error("{field} holds the character NUL, which cannot be stored: remove it")]
    Nul {
        /// Name of the field.
        field: &'static str,
    },
    /// A number beyond 2^63 - 1.
    #[error("{field} is {value}, at most {} is stored: give a smaller one", i64::MAX)]
    TooLarge {
        /// Name of the field.
        field: &'static str,
        /// Its value.
        value: u64,
    },
    /// A range of layers without a layer.
    #[error("layers {start}..{end} hold no layer: the end is exclusive and must be greater than the start")]
    NoLayers {
        /// First layer.
        start: u32,
        /// Layer after the last.
        end: u32,
    },
}

/// An identifier: not empty, of at most [`MAX_ID_BYTES`].
pub(crate) fn id(field: &'static str, value: &str) -> Result<(), FieldError> {
    if value.is_empty() {
        return Err(FieldError::Empty { field });
    }
    text(field, value, MAX_ID_BYTES)
}

/// A text of at most `limit` bytes.
pub(crate) fn text(field: &'static str, value: &str, limit: usize) -> Result<(), FieldError> {
    if value.len() > limit {
        return Err(FieldError::TooLong { field, bytes: value.len(), limit });
    }
    if value.contains('\0') {
        return Err(FieldError::Nul { field });
    }
    Ok(())
}

/// A text that may be absent, of at most [`MAX_TEXT_BYTES`].
pub(crate) fn optional(field: &'static str, value: Option<&str>) -> Result<(), FieldError> {
    value.map_or(Ok(()), |value| text(field, value, MAX_TEXT_BYTES))
}

/// A number as BIGINT.
pub(crate) fn bigint(field: &'static str, value: u64) -> Result<i64, FieldError> {
    i64::try_from(value).map_err(|_| FieldError::TooLarge { field, value })
}

/// A range of layers that holds one.
pub(crate) fn layers(start: u32, end: u32) -> Result<(), FieldError> {
    if end <= start { Err(FieldError::NoLayers { start, end }) } else { Ok(()) }
}
