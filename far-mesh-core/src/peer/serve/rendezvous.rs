//! Brings the data stream of an upstream hop to the session that waits for it, whichever comes first.
//!
//! The coordinator opens all hops at once, so an upstream hop may attach before this node has read its own `Open`.
//! Such a stream is parked until the session appears, for a bounded time and within its node's greeting places.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::oneshot;

use crate::{
    id::{NodeId, SessionId},
    peer::wire::Link,
};

/// Where a session takes its data stream.
pub(super) type Deliver = oneshot::Sender<Link>;

/// Sessions of this node and streams that came before theirs.
#[derive(Debug, Default)]
pub(super) struct Rendezvous {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    sessions: HashMap<SessionId, Awaited>,
    parked: HashMap<(SessionId, NodeId), oneshot::Sender<Deliver>>,
}

#[derive(Debug)]
struct Awaited {
    upstream: Option<NodeId>,
    deliver: Option<Deliver>,
}

/// A session's entry; gone when dropped.
#[derive(Debug)]
pub(super) struct Registration {
    rendezvous: Arc<Rendezvous>,
    session: SessionId,
}

/// What becomes of a stream that wants to attach.
#[derive(Debug)]
pub(super) enum Offer {
    /// The session waits for it: deliver it here.
    Taken(Deliver),
    /// No such session yet: keep the stream until one asks for it.
    Parked(Parked),
    /// The session takes its steps from elsewhere.
    Wrong(&'static str),
}

/// A parked stream's entry; gone when dropped.
#[derive(Debug)]
pub(super) struct Parked {
    rendezvous: Arc<Rendezvous>,
    key: (SessionId, NodeId),
    /// Yields where to deliver.
    pub(super) claimed: oneshot::Receiver<Deliver>,
}

impl Rendezvous {
    /// Enters a session whose steps come from `upstream` (`None`: from its coordinator). The receiver yields the stream.
    /// `None` when a session of that name is open here.
    pub(super) fn register(
        self: &Arc<Self>,
        session: SessionId,
        upstream: Option<NodeId>,
    ) -> Option<(Registration, oneshot::Receiver<Link>)> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let State { sessions, parked } = &mut *state;
        let Entry::Vacant(entry) = sessions.entry(session) else { return None };
        let (deliver, delivered) = oneshot::channel();
        let claim = upstream.and_then(|node| parked.remove(&(session, node)));
        let deliver = match claim {
            // The stream is gone again if nobody receives the claim; the session then sees its receiver end.
            Some(claim) => {
                let _ = claim.send(deliver);
                None
            }
            None => upstream.is_some().then_some(deliver),
        };
        entry.insert(Awaited { upstream, deliver });
        Some((Registration { rendezvous: Arc::clone(self), session }, delivered))
    }

    /// Finds the session for a stream that `peer` attached.
    pub(super) fn offer(self: &Arc<Self>, session: SessionId, peer: NodeId) -> Offer {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match state.sessions.get_mut(&session) {
            Some(awaited) if awaited.upstream != Some(peer) => {
                Offer::Wrong("the session takes its steps from another node")
            }
            Some(awaited) => match awaited.deliver.take() {
                Some(deliver) => Offer::Taken(deliver),
                None => Offer::Wrong("a stream is attached to the session already"),
            },
            None => {
                let key = (session, peer);
                let Entry::Vacant(entry) = state.parked.entry(key) else {
                    return Offer::Wrong("a stream waits for the session already");
                };
                let (claim, claimed) = oneshot::channel();
                entry.insert(claim);
                Offer::Parked(Parked { rendezvous: Arc::clone(self), key, claimed })
            }
        }
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        let mut state = self.rendezvous.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.sessions.remove(&self.session);
    }
}

impl Drop for Parked {
    fn drop(&mut self) {
        self.claimed.close();
        let mut state = self.rendezvous.state.lock().unwrap_or_else(PoisonError::into_inner);
        // After a claim another stream of the same name may have been parked: that one is still waiting for its own.
        if let Entry::Occupied(entry) = state.parked.entry(self.key)
            && entry.get().is_closed()
        {
            entry.remove();
        }
    }
}
