//! What a node is told when it starts, and the numbers it works with.

use std::{path::PathBuf, time::Duration};

use libp2p::{Multiaddr, identity::Keypair, pnet::PreSharedKey};

use super::nat::RelayRole;

/// A node to start with [`Node::spawn`](super::Node::spawn).
#[derive(Clone, Debug)]
pub struct Config {
    /// Who the node is. [`identity::load_or_create`](super::identity::load_or_create) keeps it in a file.
    pub key: Keypair,
    /// Where to listen; port 0 takes a free one. Empty: only outgoing connections, nobody can reach the node.
    pub listen: Vec<Multiaddr>,
    /// Nodes to join the mesh through, tried again for as long as the node lives.
    pub bootstrap: Vec<Multiaddr>,
    /// File in which peers are remembered, to join the mesh through them after a restart when no bootstrap node answers.
    pub known_peers: Option<PathBuf>,
    /// Key of a private mesh. With it only TCP is spoken: the key wraps TCP connections, and nothing wraps QUIC.
    pub psk: Option<PreSharedKey>,
    /// File with the nodes of the mesh, signed by its operator; nobody else is spoken to. It is read again when it changes.
    pub members: Option<PathBuf>,
    /// How often an advert is announced again; it expires after [`ADVERT_LIVES`] times this.
    pub announce_interval: Duration,
    /// Adds addresses under which others reach the node (behind a port forward) to what it advertises. With any, no NAT is
    /// suspected and no relay asked.
    pub external: Vec<Multiaddr>,
    /// Nobody can dial the node, its operator knows: relays are asked at once.
    pub behind_nat: bool,
    /// Whether the node passes on what nodes behind a NAT say.
    pub relay: RelayRole,
    /// Whether the router is asked to open a port. It is asked by UPnP, a broadcast that not every network wants to see.
    pub upnp: bool,
}

/// Announcements an advert outlives: two may be lost before it disappears.
pub const ADVERT_LIVES: u32 = 3;

/// Middle of the 30 to 60 s in which a full mesh re-announces; spreads 1000 nodes to about 22 announcements a second.
pub const ANNOUNCE_INTERVAL: Duration = Duration::from_secs(45);

/// How long one connection attempt may take, handshakes included: three round trips over a slow satellite link.
pub const DIAL_DEADLINE: Duration = Duration::from_secs(5);

/// How long [`Node::open_stream`](super::Node::open_stream) may take, dialing included.
pub const STREAM_DEADLINE: Duration = Duration::from_secs(8);

/// A connection without streams is closed after this. Longer than the longest pause between two announcements, so that the
/// connections which they use stay, and failover finds a warm one; not much longer, since each look-up meets others.
pub(super) const IDLE_CONNECTION: Duration = Duration::from_secs(60);

/// Connections in handshake from strangers: more are refused at once, so a flood costs no handshakes. One that says
/// nothing holds its place for [`DIAL_DEADLINE`], so the number is well above what a mesh that starts all at once needs.
pub(super) const MAX_PENDING_INCOMING: u32 = 256;

/// Connections from others: about 10 KiB each idle (m), so a flood stops at 10 MiB. A discovery node holds one to each node
/// that bootstraps from it.
pub(super) const MAX_INCOMING: u32 = 1024;

/// Connections from one network of the open internet: a quarter, so that no single one takes all places.
pub(super) const MAX_INCOMING_PER_ORIGIN: usize = 256;

/// All connections: leaves room for our own when strangers took theirs.
pub(super) const MAX_CONNECTIONS: u32 = 1536;

/// Connections of one peer: one a transport in each direction, and one that is being replaced.
pub(super) const MAX_CONNECTIONS_PER_PEER: u32 = 6;

/// Streams of one connection: sessions a coordinator may run through one hop, and Kademlia's.
pub(super) const MAX_STREAMS_PER_CONNECTION: u32 = 1024;

/// Commands that wait for the event loop: handles wait when it is behind.
pub(super) const COMMAND_QUEUE: usize = 64;

impl Config {
    /// A node that listens nowhere, knows nobody and speaks without a mesh key.
    pub fn new(key: Keypair) -> Self {
        Self {
            key,
            listen: Vec::new(),
            bootstrap: Vec::new(),
            known_peers: None,
            psk: None,
            members: None,
            announce_interval: ANNOUNCE_INTERVAL,
            external: Vec::new(),
            behind_nat: false,
            relay: RelayRole::default(),
            upnp: false,
        }
    }
}
