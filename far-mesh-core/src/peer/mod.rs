//! The network: libp2p node, discovery of adverts, the shard protocol and remote hops.
//!
//! ```text
//! Node (handle) --commands--> event_loop --owns--> Swarm<behaviour: kad, identify, ping, stream, limits> over transport
//!   open_stream / incoming      ^ bootstrap (join)   ^ store (our part of the DHT), quota (who may write to it)
//!   announce / withdraw         | announce + publish | advert (signed sub-records), dht_key (where they lie)
//!   adverts / models ---------- discovery: look up, check again, merge
//! ```
//!
//! What strangers send is bounded and checked where it comes in: connections and streams by [`config`], adverts by
//! [`advert`] and the store, addresses before they are dialed.

mod address;
pub mod advert;
mod announce;
mod behaviour;
mod bootstrap;
mod command;
pub mod config;
mod dht_key;
mod dialer;
mod discovery;
mod event_loop;
pub mod identity;
mod links;
mod node;
mod publish;
mod quota;
mod remote;
