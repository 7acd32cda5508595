//! What may go wrong with a node, named by what the caller does about it.

use std::{io, time::Duration};

use libp2p::{Multiaddr, StreamProtocol};

use crate::{
    id::NodeId,
    peer::{bootstrap::BootstrapFailure, members::MembersError},
};

/// Why a node did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SpawnError {
    /// The key cannot be used.
    #[error("the node's key cannot be used: it must be ed25519")]
    Key,
    /// All listen addresses need QUIC.
    #[error("a mesh key wraps TCP only, and no listen address is TCP: add one like /ip4/0.0.0.0/tcp/31330")]
    OnlyQuic,
    /// The member list cannot be used.
    #[error(transparent)]
    Members(#[from] MembersError),
    /// An address cannot be listened on.
    #[error("cannot listen on {addr}: choose another address or port")]
    Listen {
        /// The address.
        addr: Multiaddr,
        /// Why not.
        #[source]
        source: io::Error,
    },
}

/// Why the mesh was not joined.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum BootstrapError {
    /// None of the bootstrap addresses answered in time.
    #[error("no bootstrap node answered within {} s{}; is it running, reachable, and of the same mesh key?", waited.as_secs_f32(), list(failures))]
    Unreachable {
        /// How long was waited.
        waited: Duration,
        /// What became of each address.
        failures: Vec<BootstrapFailure>,
    },
    /// The node has shut down.
    #[error("the node has shut down")]
    Closed,
}

/// Why an address was not reached.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum DialError {
    /// Nobody answered as a node there.
    #[error("cannot reach {addr}: {reason}")]
    Unreachable {
        /// The address.
        addr: Multiaddr,
        /// What was seen.
        reason: String,
    },
    /// The node has shut down.
    #[error("the node has shut down")]
    Closed,
}

/// Why a stream was not opened.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum StreamError {
    /// No connection to the node could be made: choose another.
    #[error("cannot reach node {peer}: {reason}")]
    Unreachable {
        /// The node.
        peer: NodeId,
        /// What was seen.
        reason: String,
    },
    /// The node is there but has no such protocol: choose another, or mind the versions.
    #[error("node {peer} does not speak {protocol}: it is of another kind or version")]
    Unsupported {
        /// The node.
        peer: NodeId,
        /// The protocol.
        protocol: StreamProtocol,
    },
    /// The connection ended meanwhile.
    #[error("connection to node {peer} was lost: {reason}")]
    Lost {
        /// The node.
        peer: NodeId,
        /// What was seen.
        reason: String,
    },
    /// This node has shut down.
    #[error("the node has shut down")]
    Closed,
}

/// Somebody in this process accepts the protocol already.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("protocol {0} is accepted already: drop the other Incoming first")]
pub struct AlreadyAccepted(pub StreamProtocol);

/// The failures as the end of a sentence.
pub(in crate::peer) fn list(failures: &[BootstrapFailure]) -> String {
    let one = |failure: &BootstrapFailure| format!("{} ({})", failure.addr, failure.reason);
    let all = failures.iter().map(one).collect::<Vec<_>>().join(", ");
    if all.is_empty() { all } else { format!(": {all}") }
}
