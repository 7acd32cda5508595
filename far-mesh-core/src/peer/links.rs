//! Who is connected and how far away, readable without asking the event loop.

use std::{
    collections::HashMap,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use libp2p::{Multiaddr, swarm::ConnectionId};
use tokio::sync::broadcast;

use super::{
    address::{self, Scope},
    nat::{Reachability, Way},
    origin::{Origin, origin},
};
use crate::id::NodeId;

/// Improvements that may wait for a slow listener; one that missed some looks at [`Links::way`] itself.
const IMPROVED_QUEUE: usize = 256;

/// Written by the event loop, read by handles.
#[derive(Debug)]
pub(super) struct Links {
    state: Mutex<State>,
    improved: broadcast::Sender<NodeId>,
    dht_requests: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    peers: HashMap<NodeId, Link>,
    listen: Vec<Multiaddr>,
    reachability: Reachability,
    reached_at: Vec<Multiaddr>,
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
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A connection stands. Says whether it is the first direct one beside relayed ones.
    pub(super) fn established(&self, peer: NodeId, connection: ConnectionId, remote: Multiaddr, dialed: bool) -> bool {
        let mut state = self.lock();
        let link = state.peers.entry(peer).or_default();
        let before = link.way();
        link.connections.insert(connection, Connection { remote, dialed });
        let improved = (before, link.way()) == (Some(Way::Relayed), Some(Way::Direct));
        drop(state);
        if improved {
            // Nobody listens: nobody wants to know.
            let _ = self.improved.send(peer);
        }
        improved
    }

    /// The best connection to the peer.
    pub(super) fn way(&self, peer: &NodeId) -> Option<Way> {
        self.lock().peers.get(peer).and_then(Link::way)
    }

    /// Tells of peers to which there is a direct connection where there were only relayed ones.
    pub(super) fn improved(&self) -> broadcast::Receiver<NodeId> {
        self.improved.subscribe()
    }

    /// Notes how this node is reached; says whether its addresses changed.
    pub(super) fn reached(&self, reachability: Reachability, addrs: Vec<Multiaddr>) -> bool {
        let mut state = self.lock();
        state.reachability = reachability;
        let changed = state.reached_at != addrs;
        state.reached_at = addrs;
        changed
    }

    /// How this node is reached, and where.
    pub(super) fn reachability(&self) -> (Reachability, Vec<Multiaddr>) {
        let state = self.lock();
        (state.reachability, state.reached_at.clone())
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

    /// A ping took `rtt`. A slow answer says little and is smoothed as TCP does (RFC 6298); a quick one says that the way is no
    /// longer than that, which is never so at the first ping, beside the handshakes.
    pub(super) fn measured(&self, peer: &NodeId, rtt: Duration) {
        if let Some(link) = self.lock().peers.get_mut(peer) {
            link.rtt = Some(link.rtt.map_or(rtt, |old| rtt.min((old * 7 + rtt) / 8)));
        }
    }

    pub(super) fn rtt(&self, peer: &NodeId) -> Option<Duration> {
        self.lock().peers.get(peer).and_then(|link| link.rtt)
    }

    pub(super) fn peers(&self) -> Vec<NodeId> {
        self.lock().peers.keys().copied().collect()
    }

    /// How far away the peer is, by its nearest connection.
    pub(super) fn scope(&self, peer: &NodeId) -> Scope {
        let nearest = |link: &Link| link.connections.values().map(Connection::scope).min();
        self.lock().peers.get(peer).and_then(nearest).unwrap_or(Scope::World)
    }

    /// A direct address of every peer that was dialed, with its identity.
    pub(super) fn met(&self) -> Vec<Multiaddr> {
        let met = |(peer, link): (&NodeId, &Link)| {
            let direct = |connection: &&Connection| connection.dialed && !address::is_circuit(&connection.remote);
            link.connections.values().find(direct).map(|connection| address::with_peer(&connection.remote, *peer))
        };
        self.lock().peers.iter().filter_map(met).collect()
    }

    /// The DHT was asked for something.
    pub(super) fn count_request(&self) {
        self.dht_requests.fetch_add(1, Ordering::Relaxed);
    }

    /// How often it was.
    pub(super) fn dht_requests(&self) -> u64 {
        self.dht_requests.load(Ordering::Relaxed)
    }

    /// Where a connection comes from.
    pub(super) fn origin(&self, peer: &NodeId, connection: ConnectionId) -> Option<Origin> {
        let state = self.lock();
        let connection = state.peers.get(peer).and_then(|link| link.connections.get(&connection));
        connection.map_or(Some(Origin::Unknown), |connection| origin(&connection.remote))
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

impl Default for Links {
    fn default() -> Self {
        Self {
            state: Mutex::default(),
            improved: broadcast::channel(IMPROVED_QUEUE).0,
            dht_requests: AtomicU64::new(0),
        }
    }
}

impl Link {
    fn way(&self) -> Option<Way> {
        let direct = |connection: &Connection| !address::is_circuit(&connection.remote);
        match self.connections.values().any(direct) {
            true => Some(Way::Direct),
            false => (!self.connections.is_empty()).then_some(Way::Relayed),
        }
    }
}

impl Connection {
    /// A relay may be near; whom one meets there is not.
    fn scope(&self) -> Scope {
        if address::is_circuit(&self.remote) { Scope::World } else { address::scope(&self.remote) }
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

    #[test]
    fn a_direct_connection_beside_a_relayed_one_is_news() {
        let (links, peer, relay) = (Links::default(), NodeId::random(), NodeId::random());
        let mut improved = links.improved();
        let circuit: Multiaddr = format!("/ip4/127.0.0.1/tcp/1/p2p/{relay}/p2p-circuit/p2p/{peer}").parse().unwrap();
        links.established(peer, ConnectionId::new_unchecked(1), circuit, true);
        assert_eq!((links.way(&peer), links.scope(&peer)), (Some(Way::Relayed), Scope::World));
        assert!(improved.try_recv().is_err());
        for number in 2..4 {
            links.established(peer, ConnectionId::new_unchecked(number), "/ip4/8.8.8.8/tcp/1".parse().unwrap(), false);
        }
        assert_eq!((links.way(&peer), improved.try_recv().unwrap()), (Some(Way::Direct), peer));
        assert!(improved.try_recv().is_err(), "told once");
    }
}
