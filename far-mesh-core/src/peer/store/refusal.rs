//! Why a sub-record is not kept.

use super::expiry::MAX_LIFE_S;
use crate::{id::NodeId, peer::advert::AdvertError};

/// Why a sub-record is not kept.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(in crate::peer) enum Refusal {
    #[error(transparent)]
    Bad(#[from] AdvertError),
    #[error("it is of {peer}, and nobody speaks for another")]
    NotTheirs { peer: NodeId },
    #[error("it lies under a key that is not its own")]
    ForeignKey,
    #[error("it expired at {expires_unix_s}, now is {now}")]
    Expired { expires_unix_s: u64, now: u64 },
    #[error("it wants to live {life_s} s, at most {MAX_LIFE_S} are given")]
    TooLong { life_s: u64 },
    #[error("sequence {got} is not newer than {held}")]
    Older { got: u64, held: u64 },
    #[error("there is no more room: {0}")]
    Full(&'static str),
}
