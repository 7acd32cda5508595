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
    per_peer: HashMap<NodeId, [usize; 2]>,
}

/// A place; free again when dropped.
#[derive(Debug)]
pub(super) struct Slot {
    admission: Arc<Admission>,
    peer: NodeId,
    place: Place,
}

impl Admission {
    pub(super) fn new(config: &ServeConfig) -> Self {
        let greeting = Limit { in_all: config.max_greetings, per_peer: config.max_greetings_per_peer };
        let session = Limit { in_all: config.max_sessions, per_peer: config.max_sessions_per_peer };
        Self { limits: [greeting, session], held: Mutex::default() }
    }

    /// A place for `peer`, if it and all others together hold less than the limits.
    pub(super) fn enter(self: &Arc<Self>, peer: NodeId, place: Place) -> Option<Slot> {
        let at = place as usize;
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let of_peer = held.per_peer.get(&peer).map_or(0, |counts| counts[at]);
        if held.in_all[at] >= self.limits[at].in_all || of_peer >= self.limits[at].per_peer {
            return None;
        }
        held.in_all[at] += 1;
        held.per_peer.entry(peer).or_default()[at] += 1;
        Some(Slot { admission: Arc::clone(self), peer, place })
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let at = self.place as usize;
        let mut held = self.admission.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.in_all[at] -= 1;
        if let Some(counts) = held.per_peer.get_mut(&self.peer) {
            counts[at] -= 1;
            if *counts == [0, 0] {
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
        let first = admission.enter(greedy, Place::Session).unwrap();
        let second = admission.enter(greedy, Place::Session).unwrap();
        assert!(admission.enter(greedy, Place::Session).is_none(), "third of one node");
        let other = admission.enter(modest, Place::Session).unwrap();
        assert!(admission.enter(modest, Place::Session).is_none(), "fourth in all");
        assert!(admission.enter(modest, Place::Greeting).is_some(), "places are counted apart");
        drop(first);
        let again = admission.enter(greedy, Place::Session).unwrap();
        drop((second, other, again));
        assert!(admission.held.lock().unwrap().per_peer.is_empty());
    }
}
