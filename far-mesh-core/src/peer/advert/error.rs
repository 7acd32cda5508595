//! Why something is not an advert.

use super::sealed::VERSION;
use crate::limits::MAX_ADVERT_BYTES;

/// Why bytes or an offer are not an advert.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AdvertError {
    /// The bytes end too soon or go on too long.
    #[error("advert of {got} bytes is malformed: at most {MAX_ADVERT_BYTES}, and the length inside must fit")]
    Length {
        /// Bytes present.
        got: usize,
    },
    /// Written by another version of the program.
    #[error("advert has version {got}, this program reads {VERSION}")]
    Version {
        /// Its version.
        got: u8,
    },
    /// The key is no key or did not sign this under this DHT key.
    #[error("advert is not signed by the node it names")]
    Signature,
    /// The body does not decode.
    #[error("body of the advert does not decode")]
    Body,
    /// A field is outside its range.
    #[error("{field} of the advert is {value}, must be {range}")]
    Field {
        /// Which.
        field: &'static str,
        /// Its value.
        value: String,
        /// What it may be.
        range: String,
    },
}
