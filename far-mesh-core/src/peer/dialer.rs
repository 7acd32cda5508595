//! Connections and streams that handles wait for.

use std::{collections::HashMap, error::Error};

use libp2p::{
    Multiaddr, StreamProtocol, Swarm,
    swarm::{
        ConnectionId, DialError,
        dial_opts::{DialOpts, PeerCondition},
    },
};
use tokio::sync::oneshot;

use super::{
    address,
    behaviour::Behaviour,
    stream::{Failure, Reply},
};
use crate::id::NodeId;

/// What is asked for and not yet there.
#[derive(Debug, Default)]
pub(super) struct Dialer {
    dials: HashMap<ConnectionId, oneshot::Sender<Result<NodeId, String>>>,
    streams: HashMap<NodeId, Waiting>,
}

/// Streams to one peer that is being dialed.
#[derive(Debug)]
struct Waiting {
    requests: Vec<(StreamProtocol, Reply)>,
    /// Addresses not tried yet: another attempt was under way, perhaps to older ones.
    untried: Vec<Multiaddr>,
}

/// How to dial an address that names its peer or not.
///
/// From a new port: with the listener's own, two nodes that dial each other at once meet in one half-open connection.
pub(super) fn options(addr: Multiaddr) -> DialOpts {
    match address::peer_of(&addr) {
        Some(peer) => {
            DialOpts::peer_id(peer).condition(PeerCondition::Always).addresses(vec![addr]).allocate_new_port().build()
        }
        None => DialOpts::unknown_peer_id().address(addr).allocate_new_port().build(),
    }
}

/// How to dial a node that tells this one how it is seen: from the listener's port, since a NAT gives every port its own
/// outside, and the listener's is the one that others are to come through.
pub(super) fn options_to_observer(addr: Multiaddr) -> DialOpts {
    match address::peer_of(&addr) {
        Some(peer) => DialOpts::peer_id(peer).condition(PeerCondition::Always).addresses(vec![addr]).build(),
        None => DialOpts::unknown_peer_id().address(addr).build(),
    }
}

/// What stopped a dial, in words for the operator.
pub(super) fn reason(error: &DialError) -> String {
    match error {
        DialError::Transport(attempts) => {
            let attempts =
                attempts.iter().map(|(addr, error)| format!("{}: {}", address::without_peer(addr), root(error)));
            attempts.collect::<Vec<_>>().join("; ")
        }
        DialError::WrongPeerId { obtained, address } => format!("node {obtained} answers at {address}"),
        DialError::LocalPeerId { .. } => "the address is this node's own".into(),
        DialError::NoAddresses => "no address of it is known".into(),
        DialError::Denied { cause } => root(cause),
        other => other.to_string(),
    }
}

/// The innermost cause: what wraps it only repeats that a dial failed.
fn root(error: &dyn Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

impl Dialer {
    pub(super) fn dial(
        &mut self,
        swarm: &mut Swarm<Behaviour>,
        addr: Multiaddr,
        reply: oneshot::Sender<Result<NodeId, String>>,
    ) {
        if let Some(peer) = address::peer_of(&addr).filter(|peer| swarm.is_connected(peer)) {
            let _ = reply.send(Ok(peer));
            return;
        }
        let options = options(addr);
        let connection = options.connection_id();
        match swarm.dial(options) {
            Ok(()) => drop(self.dials.insert(connection, reply)),
            Err(error) => drop(reply.send(Err(reason(&error)))),
        }
    }

    pub(super) fn open(
        &mut self,
        swarm: &mut Swarm<Behaviour>,
        peer: NodeId,
        addrs: Vec<Multiaddr>,
        protocol: StreamProtocol,
        reply: Reply,
    ) {
        let Err(reply) = swarm.behaviour_mut().streams.open(peer, protocol.clone(), reply) else { return };
        if peer == *swarm.local_peer_id() {
            let _ = reply.send(Err(Failure::Unreachable("it is this node itself".into())));
            return;
        }
        let waiting = self.streams.entry(peer).or_insert(Waiting { requests: Vec::new(), untried: Vec::new() });
        waiting.requests.push((protocol, reply));
        waiting.untried.extend(addrs);
        self.dial_waiting(swarm, peer, None);
    }

    /// Tries the addresses not tried yet; without any, the streams to the peer fail for `reason`.
    fn dial_waiting(&mut self, swarm: &mut Swarm<Behaviour>, peer: NodeId, failed: Option<&str>) {
        let Some(waiting) = self.streams.get_mut(&peer) else { return };
        if let Some(failed) = failed
            && waiting.untried.is_empty()
        {
            self.fail_waiting(peer, failed);
            return;
        }
        let options = DialOpts::peer_id(peer)
            .condition(PeerCondition::DisconnectedAndNotDialing)
            .addresses(waiting.untried.clone())
            .extend_addresses_through_behaviour()
            .allocate_new_port()
            .build();
        match swarm.dial(options) {
            Ok(()) => waiting.untried.clear(),
            // Somebody dials already: its end decides.
            Err(DialError::DialPeerConditionFalse(_)) => {}
            Err(error) => self.fail_waiting(peer, &reason(&error)),
        }
    }

    fn fail_waiting(&mut self, peer: NodeId, reason: &str) {
        for (_, reply) in self.streams.remove(&peer).into_iter().flat_map(|waiting| waiting.requests) {
            let _ = reply.send(Err(Failure::Unreachable(reason.to_owned())));
        }
    }

    pub(super) fn established(&mut self, swarm: &mut Swarm<Behaviour>, connection: ConnectionId, peer: NodeId) {
        if let Some(reply) = self.dials.remove(&connection) {
            let _ = reply.send(Ok(peer));
        }
        for (protocol, reply) in self.streams.remove(&peer).into_iter().flat_map(|waiting| waiting.requests) {
            if let Err(reply) = swarm.behaviour_mut().streams.open(peer, protocol, reply) {
                let _ = reply.send(Err(Failure::Unreachable("the connection was closed at once".into())));
            }
        }
    }

    pub(super) fn failed(
        &mut self,
        swarm: &mut Swarm<Behaviour>,
        connection: ConnectionId,
        peer: Option<NodeId>,
        reason: &str,
    ) {
        if let Some(reply) = self.dials.remove(&connection) {
            let _ = reply.send(Err(reason.to_owned()));
        }
        if let Some(peer) = peer {
            self.dial_waiting(swarm, peer, Some(reason));
        }
    }

    /// Forgets who has gone.
    pub(super) fn sweep(&mut self) {
        self.dials.retain(|_, reply| !reply.is_closed());
        self.streams.retain(|_, waiting| {
            waiting.requests.retain(|(_, reply)| !reply.is_closed());
            !waiting.requests.is_empty()
        });
    }
}
