//! Adverts: signed, expiring offers of a shard, as nodes publish them in the DHT.
//!
//! Invariant: an [`Advert`] exists only with a good signature and contents within the limits.

mod error;
mod offer;
mod sealed;
#[cfg(test)]
pub(super) mod tests;

pub use error::AdvertError;
pub use offer::{
    Advert, Link, LinkTag, MAX_ADDRS, MAX_LINK_US, MAX_LINKS, MAX_QUEUE_NS, MAX_TEXT_BYTES, ShardOffer, Wallet,
};
pub(super) use sealed::{Claim, Sealed, split_first};
