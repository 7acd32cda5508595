//! Counts what each node holds here, so that none holds too much.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use super::ServeConfig;
use crate::id::NodeId;

/// What a node can hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// A stream that is not part of a session yet.
    Greeting,
    /// A session it coordinates.
    Session,
}

/// Places given out.
#[derive(Debug)]
pub(super) struct Admission {
    limits: [Limit; 2],
    tokens_per_peer: u64,
    held: Mutex<Held>,
}

#[derive(Clone, Copy, Debug)]
struct Limit {
    in_all: usize,
    per_peer: usize,
}

#[derive(Debug, Default)]
struct Held {
    in_all: [usize; 2],
    per_peer: HashMap<NodeId, Share>,
}

/// What one node holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Share {
    places: [usize; 2],
    tokens: u64,
}

/// A place; free again when dropped.
#[derive(Debug)]
pub(super) struct Slot {
    admission: Arc<Admission>,
    peer: NodeId,
    place: Place,
    tokens: u64,
}

/// Why a node gets no place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoPlace {
    /// It, or all together, hold as many as they may.
    Places,
    /// Its sessions would reach more positions than it may hold.
    Tokens {
        /// Positions it may still ask for.
        left: u64,
    },
}

impl Admission {
    pub(super) fn new(config: &ServeConfig) -> Self {
        let greeting = Limit { in_all: config.max_greetings, per_peer: config.max_greetings_per_peer };
        let session = Limit { in_all: config.max_sessions, per_peer: config.max_sessions_per_peer };
        let tokens_per_peer = config.max_tokens_per_peer;
        Self { limits: [greeting, session], tokens_per_peer, held: Mutex::default() }
    }

    /// A place for `peer` with `tokens` positions, if it and all others together hold less than the limits.
    pub(super) fn enter(self: &Arc<Self>, peer: NodeId, place: Place, tokens: u64) -> Result<Slot, NoPlace> {
        let at = place as usize;
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let share = held.per_peer.get(&peer).copied().unwrap_or_default();
        if held.in_all[at] >= self.limits[at].in_all || share.places[at] >= self.limits[at].per_peer {
            return Err(NoPlace::Places);
        }
        let left = self.tokens_per_peer.saturating_sub(share.tokens);
        // The first is for the hop to judge: it says what it has room for, and what it never takes.
        if share.tokens > 0 && tokens > left {
            return Err(NoPlace::Tokens { left });
        }
        held.in_all[at] += 1;
        let share = held.per_peer.entry(peer).or_default();
        share.places[at] += 1;
        share.tokens += tokens;
        Ok(Slot { admission: Arc::clone(self), peer, place, tokens })
    }
}

impl Slot {
    /// The positions are free again; the place is kept.
    pub(super) fn free_tokens(&mut self) {
        let mut held = self.admission.held.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(share) = held.per_peer.get_mut(&self.peer) {
            share.tokens -= self.tokens;
        }
        self.tokens = 0;
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let at = self.place as usize;
        let mut held = self.admission.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.in_all[at] -= 1;
        if let Some(share) = held.per_peer.get_mut(&self.peer) {
            share.places[at] -= 1;
            share.tokens -= self.tokens;
            if *share == Share::default() {
                held.per_peer.remove(&self.peer);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_holds_no_more_than_its_share_and_leaves_nothing_behind() {
        let config = ServeConfig { max_sessions: 3, max_sessions_per_peer: 2, ..ServeConfig::default() };
        let admission = Arc::new(Admission::new(&config));
        let (greedy, modest) = (NodeId::random(), NodeId::random());
        let first = admission.enter(greedy, Place::Session, 9).unwrap();
        let second = admission.enter(greedy, Place::Session, 9).unwrap();
        assert_eq!(admission.enter(greedy, Place::Session, 9).unwrap_err(), NoPlace::Places, "third of one node");
        let other = admission.enter(modest, Place::Session, 9).unwrap();
        assert_eq!(admission.enter(modest, Place::Session, 9).unwrap_err(), NoPlace::Places, "fourth in all");
        assert!(admission.enter(modest, Place::Greeting, 0).is_ok(), "places are counted apart");
        drop(first);
        let again = admission.enter(greedy, Place::Session, 9).unwrap();
        drop((second, other, again));
        assert!(admission.held.lock().unwrap().per_peer.is_empty());
    }

    #[test]
    fn what_a_node_has_opened_leaves_room_for_others() {
        let config = ServeConfig { max_tokens_per_peer: 100, ..ServeConfig::default() };
        let admission = Arc::new(Admission::new(&config));
        let (hoarder, other) = (NodeId::random(), NodeId::random());
        let held = [60, 30].map(|tokens| admission.enter(hoarder, Place::Session, tokens).unwrap());
        assert_eq!(admission.enter(hoarder, Place::Session, 11).unwrap_err(), NoPlace::Tokens { left: 10 });
        assert_eq!(admission.enter(hoarder, Place::Session, u64::MAX).unwrap_err(), NoPlace::Tokens { left: 10 });
        assert!(admission.enter(other, Place::Session, 100).is_ok());
        let [mut over, held] = held;
        over.free_tokens();
        assert!(admission.enter(hoarder, Place::Session, 70).is_ok(), "a session that is over holds its place alone");
        drop((over, held));
        assert!(admission.enter(hoarder, Place::Session, 101).is_ok(), "the only one may be as long as the hop allows");
        assert!(admission.held.lock().unwrap().per_peer.is_empty());
    }
}
