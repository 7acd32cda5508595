//! The network: libp2p node, discovery of adverts, the shard protocol and remote hops.
//!
//! ```text
//! Node (handle) --commands--> event_loop --owns--> Swarm<behaviour: kad, identify, ping, stream, limits, nat> over transport
//!   open_stream / incoming      ^ bootstrap, known    ^ store (our part of the DHT), quota (who may write to it)
//!   announce / withdraw         | announce + publish | advert (signed sub-records), dht_key (where they lie)
//!   adverts / models ---------- discovery: look up, check again, merge
//!   reachability / improved --- nat: relays, hole punching, AutoNAT, UPnP
//! ```
//!
//! The shard protocol stands on streams, not on the node: [`wire`] (frames and links), [`serve`] (a provider's side),
//! [`RemoteRoute`] (a coordinator's side); `shard_dialer` gives them the node's streams.
//!
//! What strangers send is bounded and checked where it comes in: who they are by [`members`], connections and streams by
//! [`config`] and [`Pace`], what comes on them by [`wire`], adverts by [`advert`] and the store, addresses before they are
//! dialed.

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
mod known;
mod links;
mod lookup;
pub mod members;
mod merge;
pub mod nat;
mod node;
mod origin;
mod publish;
mod quota;
mod remote;
mod routing;
mod serve;
mod shard_dialer;
mod store;
mod stream;
mod transport;
pub mod wire;

#[cfg(test)]
mod node_tests;

pub use libp2p::{Multiaddr, Stream, StreamProtocol, identity::Keypair, pnet::PreSharedKey};

#[cfg(test)]
pub(crate) use self::advert::tests::offer;
pub(crate) use self::store::MAX_LIFE_S;
pub use self::{
    advert::{Advert, AdvertError, ShardOffer, Wallet},
    bootstrap::BootstrapFailure,
    config::Config,
    discovery::{AnnounceError, DiscoveryError, ModelListing},
    members::{Members, MembersError},
    nat::{Reachability, RelayRole, Way},
    node::{AlreadyAccepted, BootstrapError, DialError, Node, SpawnError, StreamError},
    quota::{Pace, Verdict},
    remote::{Loss, Mender, RemoteHop, RemoteRoute, RouteError, StepTime},
    serve::{ServeConfig, Server, serve},
    stream::{INCOMING_QUEUE, Incoming},
    wire::PROTOCOL as SHARD_PROTOCOL,
};
