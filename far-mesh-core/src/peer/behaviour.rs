//! The protocols of a node, put together.

use std::{num::NonZeroUsize, sync::Arc, time::Duration};

use libp2p::{
    StreamProtocol, autonat,
    connection_limits::{self, ConnectionLimits},
    dcutr, identify, kad, ping, relay,
    swarm::{NetworkBehaviour, behaviour::toggle::Toggle},
    upnp,
};

use super::{
    bootstrap,
    config::{Config, MAX_CONNECTIONS, MAX_CONNECTIONS_PER_PEER, MAX_INCOMING, MAX_PENDING_INCOMING},
    links::Links,
    members::{Gate, Members},
    nat::{self, RelayRole},
    store::{AdvertStore, MAX_PER_KEY, system_clock},
    stream,
};
use crate::{id::NodeId, limits::MAX_ADVERT_BYTES};

/// Kademlia of this mesh; other DHTs do not mix with it.
pub(super) const KAD: StreamProtocol = StreamProtocol::new("/far-mesh/kad/1");

/// What identify says we speak.
pub(super) const IDENTIFY_VERSION: &str = "/far-mesh/1";

/// What identify says we are.
pub(super) const AGENT: &str = concat!("far-mesh/", env!("CARGO_PKG_VERSION"));

/// Largest Kademlia message: a full key's adverts, and room for the closer peers that go with them.
const MAX_KAD_BYTES: usize = MAX_PER_KEY * MAX_ADVERT_BYTES + 64 * 1024;

/// Nodes that hold an advert, and that are asked for a key.
///
/// Kademlia's own 20 are for records that are written once and read for days. An advert is announced again within a minute,
/// so half as many do: that a quarter of a mesh dies at once hides one in a million adverts until then. Each holder is a
/// request of every announcement and, for most who announce, a connection.
pub(super) const REPLICAS: NonZeroUsize = NonZeroUsize::new(10).unwrap();

/// Requests of one query that run side by side: a dead peer among them must not stall it.
const PARALLELISM: usize = 8;

/// A query that takes longer is of no use to anybody; an advert is announced again soon.
const QUERY_DEADLINE: Duration = Duration::from_secs(10);

/// How long one node may take to answer one request of a query.
const REQUEST_DEADLINE: Duration = Duration::from_secs(4);

/// How often the way to a connected peer is measured, after the first time at once. A node of a large mesh has a hundred
/// connections.
const PING_INTERVAL: Duration = Duration::from_secs(20);

/// A ping without an answer ends the connection. Long, for machines whose cores are all computing: hop deadlines find
/// failures, this only clears up.
const PING_DEADLINE: Duration = Duration::from_secs(20);

#[derive(NetworkBehaviour)]
pub(super) struct Behaviour {
    /// First, so that a refused connection costs the others nothing.
    pub(super) gate: Gate,
    limits: connection_limits::Behaviour,
    pub(super) kad: kad::Behaviour<AdvertStore>,
    identify: identify::Behaviour,
    ping: ping::Behaviour,
    pub(super) streams: stream::Behaviour,
    relay_client: relay::client::Behaviour,
    pub(super) relay: relay::Behaviour,
    dcutr: dcutr::Behaviour,
    autonat_client: autonat::v2::client::Behaviour,
    autonat_server: autonat::v2::server::Behaviour,
    upnp: Toggle<upnp::tokio::Behaviour>,
}

impl Behaviour {
    /// The protocols of a node; `reachable` when it listens, so that it can hold a part of the DHT.
    pub(super) fn new(
        config: &Config,
        members: Option<Members>,
        links: &Arc<Links>,
        acceptors: stream::Acceptors,
        relay_client: relay::client::Behaviour,
        reachable: bool,
    ) -> Self {
        let key = &config.key;
        let id = key.public().to_peer_id();
        let limits = ConnectionLimits::default()
            .with_max_pending_incoming(Some(MAX_PENDING_INCOMING))
            .with_max_established_incoming(Some(MAX_INCOMING))
            .with_max_established(Some(MAX_CONNECTIONS))
            .with_max_established_per_peer(Some(MAX_CONNECTIONS_PER_PEER));
        let identify = identify::Config::new(IDENTIFY_VERSION.into(), key.public())
            .with_agent_version(AGENT.into())
            .with_push_listen_addr_updates(true);
        let mut relay = relay::Behaviour::new(id, nat::limits());
        relay.set_status(Some(match config.relay {
            RelayRole::Always => relay::Status::Enable,
            RelayRole::Auto | RelayRole::Never => relay::Status::Disable,
        }));
        Self {
            gate: Gate::new(members, Arc::clone(links), bootstrap::nearest(&config.bootstrap)),
            limits: connection_limits::Behaviour::new(limits),
            kad: kademlia(id, reachable),
            identify: identify::Behaviour::new(identify),
            ping: ping::Behaviour::new(ping::Config::new().with_interval(PING_INTERVAL).with_timeout(PING_DEADLINE)),
            streams: stream::Behaviour::new(acceptors),
            relay_client,
            relay,
            dcutr: dcutr::Behaviour::new(id),
            autonat_client: autonat::v2::client::Behaviour::default(),
            autonat_server: autonat::v2::server::Behaviour::default(),
            upnp: config.upnp.then(upnp::tokio::Behaviour::default).into(),
        }
    }
}

/// Kademlia as this mesh uses it.
pub(super) fn kademlia(id: NodeId, reachable: bool) -> kad::Behaviour<AdvertStore> {
    let mut config = kad::Config::new(KAD);
    config
        .set_replication_factor(REPLICAS)
        .set_query_timeout(QUERY_DEADLINE)
        .set_substreams_timeout(REQUEST_DEADLINE)
        .set_parallelism(NonZeroUsize::new(PARALLELISM).unwrap_or(NonZeroUsize::MIN))
        .set_max_packet_size(MAX_KAD_BYTES)
        // The event loop says whom the routing table keeps.
        .set_kbucket_inserts(kad::BucketInserts::Manual)
        // The event loop judges who sent a record before the store sees it.
        .set_record_filtering(kad::StoreInserts::FilterBoth)
        // Owners announce again; nobody else does, and nobody caches what would go stale.
        .set_record_ttl(None)
        .set_replication_interval(None)
        .set_publication_interval(None)
        .set_provider_publication_interval(None)
        .set_caching(kad::Caching::Disabled);
    let mut kad = kad::Behaviour::with_config(id, AdvertStore::new(system_clock()), config);
    // By default a node without a confirmed public address answers nobody; a mesh on loopback would stay empty.
    kad.set_mode(Some(if reachable { kad::Mode::Server } else { kad::Mode::Client }));
    kad
}
