//! Joining the mesh: bootstrap addresses are dialed until one answers, and again whenever it is lost. Pure: the event
//! loop asks what to dial and tells what happened. Peers met before are tried beside them as long as nobody answered.

use std::time::{Duration, Instant};

use libp2p::{Multiaddr, swarm::ConnectionId};

use super::address::{self, Scope};
use crate::id::NodeId;

/// First pause after a failed attempt; doubles up to [`MAX_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(250);

/// Longest pause between attempts: a discovery node that restarts finds its mesh again within this.
const MAX_PAUSE: Duration = Duration::from_secs(15);

/// How long bootstrap nodes are waited for before peers met earlier are asked.
const KNOWN_AFTER: Duration = Duration::from_secs(1);

/// A bootstrap address that did not lead anywhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BootstrapFailure {
    /// The address.
    pub addr: Multiaddr,
    /// What was seen.
    pub reason: String,
}

/// How far joining is.
#[derive(Debug, Clone, Default)]
pub(super) struct Progress {
    /// A bootstrap node is connected and identified.
    pub(super) joined: bool,
    /// The last failure of each address that has one.
    pub(super) failures: Vec<BootstrapFailure>,
}

#[derive(Debug)]
pub(super) struct Bootstrap {
    entries: Vec<Entry>,
}

#[derive(Debug)]
struct Entry {
    addr: Multiaddr,
    /// Named by nobody, met before.
    known: bool,
    state: State,
    /// No attempt before it, since the last one failed.
    not_before: Option<Instant>,
    pause: Duration,
    failure: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum State {
    Waiting(Instant),
    Dialing(ConnectionId),
    Connected(NodeId),
    Joined(NodeId),
}

/// How near a mesh is whose bootstrap nodes have these addresses: what leads nearer leads out of it.
pub(super) fn nearest(addrs: &[Multiaddr]) -> Scope {
    addrs.iter().map(address::scope).min().unwrap_or(Scope::Machine)
}

impl Bootstrap {
    /// `addrs` are dialed at once, those `known` from before when none of them has answered after [`KNOWN_AFTER`].
    pub(super) fn new(addrs: &[Multiaddr], known: &[Multiaddr], now: Instant) -> Self {
        let later = if addrs.is_empty() { now } else { now + KNOWN_AFTER };
        let named = addrs.iter().map(|addr| (addr, false));
        let known = known.iter().filter(|addr| !addrs.contains(addr)).map(|addr| (addr, true));
        let entry = |(addr, known): (&Multiaddr, bool)| {
            let state = State::Waiting(if known { later } else { now });
            Entry { addr: addr.clone(), known, state, not_before: None, pause: FIRST_PAUSE, failure: None }
        };
        Self { entries: named.chain(known).map(entry).collect() }
    }

    /// When to call [`Bootstrap::due`] next.
    pub(super) fn next_due(&self) -> Option<Instant> {
        let joined = self.is_joined();
        let wanted = self.entries.iter().filter(|entry| !(entry.known && joined));
        wanted.filter_map(|entry| if let State::Waiting(at) = entry.state { Some(at) } else { None }).min()
    }

    /// The addresses to dial now, and where to report how that went.
    pub(super) fn due(&self, now: Instant) -> Vec<(usize, Multiaddr)> {
        let joined = self.is_joined();
        let due = |entry: &Entry| !(entry.known && joined) && matches!(entry.state, State::Waiting(at) if at <= now);
        self.entries.iter().enumerate().filter(|(_, e)| due(e)).map(|(i, e)| (i, e.addr.clone())).collect()
    }

    pub(super) fn dialing(&mut self, index: usize, connection: ConnectionId) {
        if let Some(entry) = self.entries.get_mut(index) {
            entry.state = State::Dialing(connection);
        }
    }

    /// The attempt could not even start.
    pub(super) fn undialed(&mut self, index: usize, reason: String, now: Instant) {
        if let Some(entry) = self.entries.get_mut(index) {
            entry.fail(reason, now);
        }
    }

    pub(super) fn failed(&mut self, connection: ConnectionId, reason: &str, now: Instant) {
        for entry in self.entries.iter_mut().filter(|entry| entry.state == State::Dialing(connection)) {
            entry.fail(reason.to_owned(), now);
        }
    }

    /// A connection stands, whoever dialed it.
    pub(super) fn established(&mut self, connection: ConnectionId, peer: NodeId) {
        for entry in &mut self.entries {
            let dialed = entry.state == State::Dialing(connection);
            let free = matches!(entry.state, State::Waiting(_) | State::Dialing(_));
            if dialed || free && address::peer_of(&entry.addr) == Some(peer) {
                entry.state = State::Connected(peer);
            }
        }
    }

    /// The peer said who it is and is of use.
    pub(super) fn identified(&mut self, peer: NodeId) {
        for entry in self.entries.iter_mut().filter(|entry| entry.state == State::Connected(peer)) {
            (entry.state, entry.pause) = (State::Joined(peer), FIRST_PAUSE);
            (entry.not_before, entry.failure) = (None, None);
        }
    }

    /// The peer said who it is, and is of no use.
    pub(super) fn useless(&mut self, peer: NodeId, reason: &str, now: Instant) {
        for entry in self.entries.iter_mut().filter(|entry| entry.state == State::Connected(peer)) {
            entry.fail(reason.to_owned(), now);
        }
    }

    /// The last connection to the peer is gone.
    pub(super) fn lost(&mut self, peer: NodeId, reason: &str, now: Instant) {
        let states = [State::Connected(peer), State::Joined(peer)];
        for entry in self.entries.iter_mut().filter(|entry| states.contains(&entry.state)) {
            entry.fail(reason.to_owned(), now);
        }
    }

    pub(super) fn progress(&self) -> Progress {
        let failure = |entry: &Entry| {
            let reason = entry.failure.clone()?;
            Some(BootstrapFailure { addr: entry.addr.clone(), reason })
        };
        Progress {
            joined: self.is_joined(),
            failures: self.entries.iter().filter(|entry| !entry.known).filter_map(failure).collect(),
        }
    }

    fn is_joined(&self) -> bool {
        self.entries.iter().any(|entry| matches!(entry.state, State::Joined(_)))
    }
}

impl Entry {
    /// Connections that others open and lose meanwhile are no attempts: the pause stays as it is.
    fn fail(&mut self, reason: String, now: Instant) {
        let next = self.not_before.filter(|at| now < *at).unwrap_or_else(|| {
            let next = now + self.pause;
            self.pause = (self.pause * 2).min(MAX_PAUSE);
            next
        });
        self.not_before = Some(next);
        self.state = State::Waiting(next);
        self.failure = Some(reason);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: usize) -> ConnectionId {
        ConnectionId::new_unchecked(number)
    }

    #[test]
    fn addresses_are_tried_again_with_growing_pauses_and_after_a_loss() {
        let (start, peer) = (Instant::now(), NodeId::random());
        let addrs: [Multiaddr; 2] = ["/ip4/127.0.0.1/tcp/1".parse().unwrap(), "/ip4/127.0.0.1/tcp/2".parse().unwrap()];
        let mut bootstrap = Bootstrap::new(&addrs, &[], start);
        assert_eq!(bootstrap.due(start).len(), 2);
        bootstrap.dialing(0, id(1));
        bootstrap.dialing(1, id(2));
        assert!(bootstrap.due(start).is_empty() && bootstrap.next_due().is_none());
        bootstrap.failed(id(1), "refused", start);
        assert_eq!(bootstrap.next_due(), Some(start + FIRST_PAUSE));
        bootstrap.dialing(0, id(3));
        let then = start + FIRST_PAUSE;
        bootstrap.failed(id(3), "refused again", then);
        assert_eq!(bootstrap.next_due(), Some(then + FIRST_PAUSE * 2));
        assert_eq!(bootstrap.progress().failures[0].reason, "refused again");
        bootstrap.established(id(2), peer);
        assert!(!bootstrap.progress().joined, "connected is not identified");
        bootstrap.identified(peer);
        assert!(bootstrap.progress().joined);
        bootstrap.lost(peer, "closed", start);
        assert!(!bootstrap.progress().joined && bootstrap.next_due() == Some(start + FIRST_PAUSE));
        let mut now = then;
        for _ in 0..20 {
            now += MAX_PAUSE;
            bootstrap.undialed(0, "no".into(), now);
        }
        assert_eq!(bootstrap.due(now + MAX_PAUSE).len(), 2);
    }

    #[test]
    fn connections_of_others_that_are_lost_do_not_put_off_the_next_attempt() {
        let (start, peer) = (Instant::now(), NodeId::random());
        let addr = format!("/ip4/127.0.0.1/tcp/1/p2p/{peer}").parse().unwrap();
        let mut bootstrap = Bootstrap::new(&[addr], &[], start);
        for number in 0..20 {
            bootstrap.established(id(number), peer);
            bootstrap.lost(peer, "closed", start);
        }
        assert_eq!(bootstrap.next_due(), Some(start + FIRST_PAUSE));
    }

    #[test]
    fn a_bootstrap_node_that_dials_us_counts() {
        let (start, peer) = (Instant::now(), NodeId::random());
        let addr = format!("/ip4/127.0.0.1/tcp/1/p2p/{peer}").parse().unwrap();
        let mut bootstrap = Bootstrap::new(&[addr], &[], start);
        bootstrap.established(id(9), peer);
        bootstrap.identified(peer);
        assert!(bootstrap.progress().joined);
    }

    #[test]
    fn peers_met_before_are_asked_when_no_bootstrap_node_answers() {
        let (start, peer) = (Instant::now(), NodeId::random());
        let named: Multiaddr = "/ip4/127.0.0.1/tcp/1".parse().unwrap();
        let known: Multiaddr = format!("/ip4/192.0.2.1/tcp/2/p2p/{peer}").parse().unwrap();
        let met = [named.clone(), known.clone()];
        let mut bootstrap = Bootstrap::new(std::slice::from_ref(&named), &met, start);
        assert_eq!(bootstrap.due(start), [(0, named)], "once, and not those met before");
        bootstrap.dialing(0, id(1));
        assert_eq!(bootstrap.next_due(), Some(start + KNOWN_AFTER));
        let later = start + KNOWN_AFTER;
        assert_eq!(bootstrap.due(later), [(1, known)]);
        bootstrap.undialed(1, "gone".into(), later);
        assert!(bootstrap.progress().failures.is_empty(), "nobody asked for it");
        bootstrap.established(id(1), NodeId::random());
        let State::Connected(first) = bootstrap.entries[0].state else { panic!() };
        bootstrap.identified(first);
        assert!(bootstrap.next_due().is_none() && bootstrap.due(later + MAX_PAUSE).is_empty());
        assert_eq!(Bootstrap::new(&[], &met[1..], start).due(start).len(), 1, "with nobody named, at once");
    }
}
