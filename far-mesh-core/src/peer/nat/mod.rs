//! Being reached behind a NAT: who can be dialed, who needs a relay, and how a relayed connection becomes a direct one.
//!
//! ```text
//! identify (what others see of us) --+
//! AutoNAT v2 (they dial us back) ----+--> Traversal (pure): direct, or behind a NAT --> reserve places at relays
//! UPnP (a router opens a port) ------+                                             \-> leave the DHT's routing to others
//!
//! who dials us through a relay --DCUtR--> direct connection --> Node::improved; else the circuit carries the session
//! ```
//!
//! Every node is a client of relays, and a relay itself where [`RelayRole`] says so. A circuit carries whole sessions:
//! libp2p's own limits, 128 KiB and two minutes, would cut every one of them.

mod events;
mod reachability;
mod relay;
#[cfg(test)]
mod tests;
mod traversal;

pub use self::{
    reachability::{Reachability, Way},
    relay::RelayRole,
};
pub(super) use self::{relay::limits, traversal::Traversal};
