//! What a node keeps for the DHT: for each key the newest word of every peer, merged.
//!
//! Kademlia's own memory store keeps one value a key, so the last provider to announce would hide all others. Here a put
//! adds one signed sub-record; a get returns all that live, one after the other. Nothing is replicated again on its own:
//! the owner announces again before it expires.
//!
//! ```text
//! event loop --admit--> AdvertStore (is it good?) --> Shelves (is there room, and who goes for it?)
//! Kademlia  --get, put-->    |  expiry (clocks)
//! ```

mod adverts;
mod expiry;
mod refusal;
mod shelves;
#[cfg(test)]
mod tests;

pub(crate) use self::expiry::MAX_LIFE_S;
pub(super) use self::{
    adverts::AdvertStore,
    expiry::{Clock, alive, system_clock},
    shelves::MAX_PER_KEY,
};
