//! Names of things that cross the mesh: models, sessions, nodes and spans of layers.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// A node of the mesh: the hash of its public key.
pub type NodeId = libp2p::PeerId;

/// SHA-256 of a model's files: two nodes with the same hash hold the same tensors and configuration.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ModelHash(pub [u8; 32]);

/// One sequence being generated; drawn at random by the coordinator.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct SessionId(pub [u8; 16]);

/// Half-open range of decoder layers `[start, end)`, never empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "(u32, u32)", into = "(u32, u32)")]
pub struct Span {
    start: u32,
    end: u32,
}

/// Why two numbers or a text are not a [`Span`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SpanError {
    /// The range holds no layer.
    #[error("span {start}..{end} holds no layer: the end is exclusive and must be greater than the start")]
    Empty {
        /// First layer.
        start: u32,
        /// Layer after the last.
        end: u32,
    },
    /// The text is not of the form `A..B`.
    #[error("{0:?} is not a span of layers: write A..B, for example 0..10 for the first ten")]
    Form(String),
}

/// A text that is not the hexadecimal form of an identifier.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not an identifier of {bytes} bytes in hexadecimal")]
pub struct ParseIdError {
    text: String,
    bytes: usize,
}

impl Span {
    /// The layers `start..end`.
    ///
    /// # Errors
    /// [`SpanError::Empty`] when `end <= start`.
    pub fn new(start: u32, end: u32) -> Result<Self, SpanError> {
        if end <= start {
            return Err(SpanError::Empty { start, end });
        }
        Ok(Self { start, end })
    }

    /// First layer.
    pub fn start(self) -> u32 {
        self.start
    }

    /// Layer after the last.
    pub fn end(self) -> u32 {
        self.end
    }

    /// Number of layers, at least 1.
    #[expect(clippy::len_without_is_empty, reason = "a span is never empty")]
    pub fn len(self) -> u32 {
        self.end - self.start
    }

    /// Whether every layer of `other` is in this span.
    pub fn covers(self, other: Span) -> bool {
        self.start <= other.start && other.end <= self.end
    }
}

impl TryFrom<(u32, u32)> for Span {
    type Error = SpanError;
    fn try_from((start, end): (u32, u32)) -> Result<Self, SpanError> {
        Self::new(start, end)
    }
}

impl From<Span> for (u32, u32) {
    fn from(span: Span) -> Self {
        (span.start, span.end)
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}..{}", self.start, self.end)
    }
}

impl FromStr for Span {
    type Err = SpanError;
    fn from_str(text: &str) -> Result<Self, SpanError> {
        let form = || SpanError::Form(text.to_owned());
        let (start, end) = text.split_once("..").ok_or_else(form)?;
        Self::new(start.trim().parse().map_err(|_| form())?, end.trim().parse().map_err(|_| form())?)
    }
}

impl SessionId {
    /// A fresh identifier of 128 random bits.
    pub fn random() -> Self {
        Self(rand::random())
    }
}

macro_rules! hexadecimal {
    ($name:ident, $bytes:literal) => {
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&hex::encode(self.0))
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }
        impl FromStr for $name {
            type Err = ParseIdError;
            fn from_str(text: &str) -> Result<Self, ParseIdError> {
                let mut bytes = [0; $bytes];
                hex::decode_to_slice(text, &mut bytes)
                    .map_err(|_| ParseIdError { text: text.to_owned(), bytes: $bytes })?;
                Ok(Self(bytes))
            }
        }
    };
}
hexadecimal!(ModelHash, 32);
hexadecimal!(SessionId, 16);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_read_and_written_half_open() {
        let span: Span = "10..20".parse().unwrap();
        assert_eq!((span.start(), span.end(), span.len()), (10, 20, 10));
        assert_eq!(span.to_string(), "10..20");
        assert!(Span::new(0, 30).unwrap().covers(span) && !span.covers(Span::new(9, 12).unwrap()));
        for bad in ["", "3", "5..5", "7..2", "a..b", "-1..2", "0..99999999999"] {
            assert!(bad.parse::<Span>().is_err(), "{bad:?}");
        }
        assert!(serde_json::from_str::<Span>("[4,4]").is_err());
    }

    #[test]
    fn identifiers_survive_their_text_form() {
        let id = SessionId::random();
        assert_eq!(id.to_string().parse::<SessionId>().unwrap(), id);
        assert!("zz".parse::<ModelHash>().is_err());
    }
}
