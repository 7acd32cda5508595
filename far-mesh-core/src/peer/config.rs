//! What a node is told when it starts, and the numbers it works with.

use std::time::Duration;

use libp2p::{Multiaddr, identity::Keypair, pnet::PreSharedKey};

/// A node to start with [`Node::spawn`](super::Node::spawn).
#[derive(Clone, Debug)]
pub struct Config {
    /// Who the node is. [`identity::load_or_create`](super::identity::load_or_create) keeps it in a file.
    pub key: Keypair,
    /// Where to listen; port 0 takes a free one. Empty: only outgoing connections, nobody can reach the node.
    pub listen: Vec<Multiaddr>,
    /// Nodes to join the mesh through, tried again for as long as the node lives.
    pub bootstrap: Vec<Multiaddr>,
    /// Key of a private mesh. With it only TCP is spoken: the key wraps TCP connections, and nothing wraps QUIC.
    pub psk: Option<PreSharedKey>,
    /// How often an advert is announced again; it expires after [`ADVERT_LIVES`] times this.
    pub announce_interval: Duration,
    /// Adds addresses under which others reach the node (behind a port forward) to what it advertises.
    pub external: Vec<Multiaddr>,
}

/// Announcements an advert outlives: two may be lost before it disappears.
pub const ADVERT_LIVES: u32 = 3;

/// Middle of the 30 to 60 s in which a full mesh re-announces; spreads 1000 nodes to about 22 announcements a second.
pub const ANNOUNCE_INTERVAL: Duration = Duration::from_secs(45);

/// How long one connection attempt may take, handshakes included: three round trips over a slow satellite link.
pub const DIAL_DEADLINE: Duration = Duration::from_secs(5);

/// How long [`Node::open_stream`](super::Node::open_stream) may take, dialing included.
pub const STREAM_DEADLINE: Duration = Duration::from_secs(8);

/// A connection without streams is closed after this. Longer than [`ANNOUNCE_INTERVAL`], so that the connections which
/// announcements use stay, and failover finds a warm one.
pub(super) const IDLE_CONNECTION: Duration = Duration::from_secs(120);

/// Connections in handshake from strangers: more are refused at once, so a flood costs no handshakes. One that says
/// nothing holds its place for [`DIAL_DEADLINE`], so the number is well above what a mesh that starts all at once needs.
pub(super) const MAX_PENDING_INCOMING: u32 = 256;

/// Connections from others: about 10 KiB each idle (m), so a flood stops at 5 MiB.
pub(super) const MAX_INCOMING: u32 = 512;

/// All connections: leaves room for our own when strangers took theirs.
pub(super) const MAX_CONNECTIONS: u32 = 1024;

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
            psk: None,
            announce_interval: ANNOUNCE_INTERVAL,
            external: Vec::new(),
        }
    }
}
