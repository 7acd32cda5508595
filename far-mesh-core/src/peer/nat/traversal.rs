//! Whether this node can be dialed, and which relays it holds a place at where it cannot. Pure: the event loop tells what
//! was seen and asks what to do.

use std::time::{Duration, Instant};

use libp2p::{Multiaddr, core::transport::ListenerId, multiaddr::Protocol};

use super::Reachability;
use crate::{
    id::NodeId,
    peer::address::{self, Scope},
};

/// Relays at which a node holds a place: one may go without the node being lost.
const RELAYS: usize = 2;

/// Relays that are remembered.
const MAX_KNOWN: usize = 32;

/// Addresses that are remembered as confirmed: more is somebody's game.
const MAX_CONFIRMED: usize = 16;

/// First pause after a relay refused or was lost; doubles up to [`MAX_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_secs(1);

/// Longest pause before a relay is asked again.
const MAX_PAUSE: Duration = Duration::from_secs(60);

/// What is known of the way to this node.
#[derive(Debug)]
pub(in crate::peer) struct Traversal {
    /// Whether it wants to be reached at all.
    listens: bool,
    /// Whether its operator said where it is reached: nothing is left to find out then.
    declared: bool,
    /// Own addresses that others dialed.
    confirmed: Vec<Multiaddr>,
    /// The farthest place from which it was seen.
    seen_from: Scope,
    /// Somebody saw it under an address that is none of its own, or could not dial it.
    behind: bool,
    punched: Option<bool>,
    relays: Vec<Relay>,
}

#[derive(Debug)]
struct Relay {
    peer: NodeId,
    addr: Multiaddr,
    place: Place,
    pause: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Place {
    None { since: Instant },
    Asked(ListenerId),
    Held(ListenerId),
}

impl Traversal {
    pub(in crate::peer) fn new(listens: bool, declared: bool, behind: bool) -> Self {
        Self {
            listens,
            declared,
            confirmed: Vec::new(),
            seen_from: if behind { Scope::World } else { Scope::Machine },
            behind,
            punched: None,
            relays: Vec::new(),
        }
    }

    /// A peer that was dialed directly sees this node at `addr`; `own` are the addresses it listens on.
    pub(in crate::peer) fn observed(&mut self, addr: &Multiaddr, own: &[Multiaddr]) {
        let Some(ip) = address::ip(addr) else { return };
        self.seen_from = self.seen_from.max(address::scope(addr));
        self.behind |= !own.iter().any(|own| address::ip(own) == Some(ip));
    }

    /// Nobody got through to `addr`, which others took for this node's. In its own network no NAT stands between: it was
    /// only busy then.
    pub(in crate::peer) fn refuted(&mut self, addr: &Multiaddr) {
        if address::scope(addr) == Scope::World {
            (self.seen_from, self.behind) = (Scope::World, true);
        }
    }

    /// Others reach this node at `addr`.
    pub(in crate::peer) fn confirmed(&mut self, addr: Multiaddr) {
        if !address::is_circuit(&addr) && self.confirmed.len() < MAX_CONFIRMED && !self.confirmed.contains(&addr) {
            self.confirmed.push(addr);
        }
    }

    /// They no longer do.
    pub(in crate::peer) fn expired(&mut self, addr: &Multiaddr) {
        self.confirmed.retain(|confirmed| confirmed != addr);
    }

    /// Somebody who came through a relay tried to get through the NAT.
    pub(in crate::peer) fn punched(&mut self, through: bool) {
        self.punched = Some(through);
    }

    /// A relay is connected and was dialed at `addr`.
    pub(in crate::peer) fn relay(&mut self, peer: NodeId, addr: Multiaddr, now: Instant) {
        if self.relays.len() < MAX_KNOWN && self.relays.iter().all(|relay| relay.peer != peer) {
            self.relays.push(Relay { peer, addr, place: Place::None { since: now }, pause: FIRST_PAUSE });
        }
    }

    /// Whether this node can only be reached with the help of others.
    pub(in crate::peer) fn is_hidden(&self) -> bool {
        self.listens && !self.declared && self.behind && !self.is_direct()
    }

    /// Whether the whole world reaches this node.
    pub(in crate::peer) fn is_public(&self) -> bool {
        self.confirmed.iter().any(|addr| address::scope(addr) == Scope::World)
    }

    /// An address that only neighbours reach is none where others came from farther away.
    fn is_direct(&self) -> bool {
        self.confirmed.iter().any(|addr| address::scope(addr) >= self.seen_from)
    }

    /// When to call [`Traversal::due`] next.
    pub(in crate::peer) fn next_due(&self) -> Option<Instant> {
        if !self.is_hidden() || self.places() >= RELAYS {
            return None;
        }
        let since = |relay: &Relay| if let Place::None { since } = relay.place { Some(since) } else { None };
        self.relays.iter().filter_map(since).min()
    }

    /// Where to listen for circuits now: relays to ask for a place.
    pub(in crate::peer) fn due(&self, now: Instant) -> Vec<(NodeId, Multiaddr)> {
        if !self.is_hidden() {
            return Vec::new();
        }
        let due = |relay: &&Relay| matches!(relay.place, Place::None { since } if since <= now);
        let free = RELAYS.saturating_sub(self.places());
        self.relays.iter().filter(due).take(free).map(|relay| (relay.peer, relay.circuit())).collect()
    }

    fn places(&self) -> usize {
        self.relays.iter().filter(|relay| !matches!(relay.place, Place::None { .. })).count()
    }

    /// A relay was asked; `None` when that was not possible.
    pub(in crate::peer) fn asked(&mut self, peer: NodeId, listener: Option<ListenerId>, now: Instant) {
        if let Some(relay) = self.relays.iter_mut().find(|relay| relay.peer == peer) {
            match listener {
                Some(listener) => relay.place = Place::Asked(listener),
                None => relay.fail(now),
            }
        }
    }

    /// A relay keeps a place. Says whether that is new.
    pub(in crate::peer) fn held(&mut self, peer: NodeId) -> bool {
        let Some(relay) = self.relays.iter_mut().find(|relay| relay.peer == peer) else { return false };
        let Place::Asked(listener) = relay.place else { return false };
        (relay.place, relay.pause) = (Place::Held(listener), FIRST_PAUSE);
        true
    }

    /// A relay refused, or is gone. Says whether a place was lost.
    pub(in crate::peer) fn closed(&mut self, listener: ListenerId, now: Instant) -> bool {
        let places = [Place::Asked(listener), Place::Held(listener)];
        let Some(relay) = self.relays.iter_mut().find(|relay| places.contains(&relay.place)) else { return false };
        let held = matches!(relay.place, Place::Held(_));
        relay.fail(now);
        held
    }

    /// The addresses others reach this node at with certainty: confirmed ones, else circuits.
    pub(in crate::peer) fn addrs(&self) -> Vec<Multiaddr> {
        let held = |relay: &&Relay| matches!(relay.place, Place::Held(_));
        match self.is_direct() {
            true => self.confirmed.clone(),
            false => self.relays.iter().filter(held).map(Relay::circuit).collect(),
        }
    }

    pub(in crate::peer) fn reachability(&self) -> Reachability {
        let has_place = self.relays.iter().any(|relay| matches!(relay.place, Place::Held(_)));
        match () {
            () if !self.listens => Reachability::Unreachable,
            () if self.declared || self.is_direct() => Reachability::Direct,
            () if !self.behind => Reachability::Unknown,
            () if !has_place => Reachability::Unreachable,
            () if self.punched == Some(true) => Reachability::HolePunched,
            () => Reachability::Relayed,
        }
    }
}

impl Relay {
    fn circuit(&self) -> Multiaddr {
        address::with_peer(&self.addr, self.peer).with(Protocol::P2pCircuit)
    }

    fn fail(&mut self, now: Instant) {
        self.place = Place::None { since: now + self.pause };
        self.pause = (self.pause * 2).min(MAX_PAUSE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addr(text: &str) -> Multiaddr {
        text.parse().unwrap()
    }

    fn own() -> Vec<Multiaddr> {
        vec![addr("/ip4/127.0.0.1/tcp/5"), addr("/ip4/192.168.1.2/tcp/5")]
    }

    #[test]
    fn who_is_seen_at_an_address_of_its_own_needs_no_relay() {
        let (mut traversal, now) = (Traversal::new(true, false, false), Instant::now());
        traversal.relay(NodeId::random(), addr("/ip4/192.168.1.1/tcp/1"), now);
        traversal.observed(&addr("/ip4/192.168.1.2/tcp/5"), &own());
        assert_eq!(traversal.reachability(), Reachability::Unknown);
        assert!(traversal.due(now).is_empty() && traversal.next_due().is_none());
        traversal.confirmed(addr("/ip4/192.168.1.2/tcp/5"));
        assert_eq!(traversal.reachability(), Reachability::Direct);
        assert!(!traversal.is_public(), "its network is not the world");
    }

    #[test]
    fn who_is_behind_a_nat_asks_two_relays_and_others_when_one_goes() {
        let (mut traversal, now) = (Traversal::new(true, false, false), Instant::now());
        let relays = [1, 2, 3].map(|port| (NodeId::random(), addr(&format!("/ip4/8.8.8.8/tcp/{port}"))));
        for (peer, addr) in &relays {
            traversal.relay(*peer, addr.clone(), now);
        }
        traversal.observed(&addr("/ip4/9.9.9.9/tcp/5"), &own());
        traversal.confirmed(addr("/ip4/192.168.1.2/tcp/5"));
        assert_eq!(traversal.reachability(), Reachability::Unreachable, "neighbours reach it, the world does not");
        let due = traversal.due(now);
        assert_eq!(due.len(), RELAYS);
        assert_eq!(due[0].1.to_string(), format!("/ip4/8.8.8.8/tcp/1/p2p/{}/p2p-circuit", relays[0].0));
        let listeners = [ListenerId::next(), ListenerId::next()];
        traversal.asked(due[0].0, Some(listeners[0]), now);
        traversal.asked(due[1].0, Some(listeners[1]), now);
        assert!(traversal.due(now).is_empty());
        assert!(traversal.held(due[0].0) && !traversal.held(due[0].0));
        assert_eq!((traversal.reachability(), traversal.addrs()), (Reachability::Relayed, vec![due[0].1.clone()]));
        traversal.punched(true);
        assert_eq!(traversal.reachability(), Reachability::HolePunched);
        assert!(traversal.closed(listeners[0], now));
        assert_eq!(traversal.due(now).iter().map(|(peer, _)| *peer).collect::<Vec<_>>(), [relays[2].0]);
        traversal.asked(relays[2].0, None, now);
        assert_eq!(traversal.next_due(), Some(now + FIRST_PAUSE));
        traversal.confirmed(addr("/ip4/9.9.9.9/tcp/5"));
        assert_eq!(traversal.reachability(), Reachability::Direct);
        assert!(traversal.is_public() && traversal.next_due().is_none());
        assert_eq!(traversal.addrs().len(), 2);
    }

    #[test]
    fn what_the_operator_said_is_not_doubted() {
        let mut traversal = Traversal::new(true, true, false);
        traversal.refuted(&addr("/ip4/9.9.9.9/tcp/5"));
        assert!(!traversal.is_hidden() && traversal.reachability() == Reachability::Direct);
        assert_eq!(Traversal::new(false, false, false).reachability(), Reachability::Unreachable);
    }
}
