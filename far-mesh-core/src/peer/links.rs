//! Who is connected and how far away, readable without asking the event loop.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use libp2p::{Multiaddr, swarm::ConnectionId};

use super::address::{self, Scope};
use crate::id::NodeId;

/// Written by the event loop, read by handles.
#[derive(Debug, Default)]
pub(super) struct Links(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    peers: HashMap<NodeId, Link>,
    listen: Vec<Multiaddr>,
}

#[derive(Debug, Default)]
struct Link {
    connections: HashMap<ConnectionId, Connection>,
    rtt: Option<Duration>,
}

#[derive(Debug)]
struct Connection {
    remote: Multiaddr,
    dialed: bool,
}

impl Links {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Every method leaves the state whole, so a panic elsewhere cannot have broken it.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn established(&self, peer: NodeId, connection: ConnectionId, remote: Multiaddr, dialed: bool) {
        let connection_of = |link: &mut Link| link.connections.insert(connection, Connection { remote, dialed });
        connection_of(self.lock().peers.entry(peer).or_default());
    }

    pub(super) fn closed(&self, peer: &NodeId, connection: ConnectionId) {
        let mut state = self.lock();
        if let Some(link) = state.peers.get_mut(peer) {
            link.connections.remove(&connection);
            if link.connections.is_empty() {
                state.peers.remove(peer);
            }
        }
    }

    /// A ping took `rtt`. Smoothed as TCP does (RFC 6298): one slow answer says little.
    pub(super) fn measured(&self, peer: &NodeId, rtt: Duration) {
        if let Some(link) = self.lock().peers.get_mut(peer) {
            link.rtt = Some(link.rtt.map_or(rtt, |old| (old * 7 + rtt) / 8));
        }
    }

    pub(super) fn rtt(&self, peer: &NodeId) -> Option<Duration> {
        self.lock().peers.get(peer).and_then(|link| link.rtt)
    }

    pub(super) fn peers(&self) -> Vec<NodeId> {
        self.lock().peers.keys().copied().collect()
    }

    /// Whether a connection to the peer stays on this machine.
    pub(super) fn is_near(&self, peer: &NodeId) -> bool {
        let near = |link: &Link| link.connections.values().any(|connection| address::is_loopback(&connection.remote));
        self.lock().peers.get(peer).is_some_and(near)
    }

    /// How far away the peer is, by its nearest connection.
    pub(super) fn scope(&self, peer: &NodeId) -> Scope {
        let nearest =
            |link: &Link| link.connections.values().map(|connection| address::scope(&connection.remote)).min();
        self.lock().peers.get(peer).and_then(nearest).unwrap_or(Scope::World)
    }

    /// The addresses under which the peer was reached.
    pub(super) fn dialed(&self, peer: &NodeId) -> Vec<Multiaddr> {
        let dialed = |link: &Link| {
            let dialed = link.connections.values().filter(|connection| connection.dialed);
            dialed.map(|connection| connection.remote.clone()).collect()
        };
        self.lock().peers.get(peer).map(dialed).unwrap_or_default()
    }

    pub(super) fn listening(&self, addr: Multiaddr) {
        let mut state = self.lock();
        if !state.listen.contains(&addr) {
            state.listen.push(addr);
        }
    }

    pub(super) fn not_listening(&self, addr: &Multiaddr) {
        self.lock().listen.retain(|listen| listen != addr);
    }

    pub(super) fn listen_addrs(&self) -> Vec<Multiaddr> {
        self.lock().listen.clone()
    }

    /// Nobody is connected any more.
    pub(super) fn clear(&self) {
        *self.lock() = State::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_is_as_far_as_its_nearest_connection() {
        let (links, peer) = (Links::default(), NodeId::random());
        assert_eq!(links.scope(&peer), Scope::World, "a stranger");
        let addrs = ["/ip4/8.8.8.8/tcp/1", "/ip4/10.0.0.1/tcp/1", "/ip4/127.0.0.1/tcp/1"];
        for (number, (addr, want)) in addrs.into_iter().zip([Scope::World, Scope::Network, Scope::Machine]).enumerate()
        {
            let connection = ConnectionId::new_unchecked(number);
            links.established(peer, connection, addr.parse().unwrap(), false);
            assert_eq!(links.scope(&peer), want);
        }
        links.closed(&peer, ConnectionId::new_unchecked(2));
        assert_eq!(links.scope(&peer), Scope::Network);
    }
}
