//! Brings the data stream of an upstream hop to the session that waits for it, whichever comes first, and a control stream that
//! takes another's place to its session.
//!
//! The coordinator opens all hops at once, so an upstream hop may attach before this node has read its own `Open`, and a new
//! one before this node has heard of it. Such a stream is parked until the session asks for it, for a bounded time and
//! within its node's greeting places.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

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
    coordinator: NodeId,
    upstream: Option<NodeId>,
    deliver: Option<Deliver>,
    /// Takes control streams in place of the first.
    resumed: mpsc::Sender<Link>,
    /// Fires when the coordinator opens the session anew.
    displaced: CancellationToken,
}

/// A session's entry; gone when dropped.
#[derive(Debug)]
pub(super) struct Registration {
    rendezvous: Arc<Rendezvous>,
    session: SessionId,
    displaced: CancellationToken,
}

/// What a session gets for its entry.
#[derive(Debug)]
pub(super) struct Registered {
    pub(super) registration: Registration,
    /// The stream of the node that steps come from.
    pub(super) attached: oneshot::Receiver<Link>,
    /// Control streams in place of the first.
    pub(super) resumed: mpsc::Receiver<Link>,
}

/// What becomes of a stream that wants to attach.
#[derive(Debug)]
pub(super) enum Offer {
    /// The session waits for it: deliver it here.
    Taken(Deliver),
    /// No session waits for it yet: keep the stream until one does.
    Parked(Parked),
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
    /// Enters a session of `coordinator` whose steps come from `upstream` (`None`: from its coordinator). The receiver yields
    /// the stream. `None` when a session of that name of another coordinator is open here; its own, of which it has lost
    /// hold, ends.
    pub(super) fn register(
        self: &Arc<Self>,
        session: SessionId,
        coordinator: NodeId,
        upstream: Option<NodeId>,
    ) -> Option<Registered> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(before) = state.sessions.get(&session) {
            if before.coordinator != coordinator {
                return None;
            }
            before.displaced.cancel();
        }
        let displaced = CancellationToken::new();
        // One at a time: the next is opened when this one is in use.
        let (resume, resumed) = mpsc::channel(1);
        let awaited = Awaited { coordinator, upstream, deliver: None, resumed: resume, displaced: displaced.clone() };
        state.sessions.insert(session, awaited);
        let registration = Registration { rendezvous: Arc::clone(self), session, displaced };
        Some(Registered { registration, attached: state.expect(session), resumed })
    }

    /// Where the session of `peer` takes a control stream that goes on for its own; `None` where there is no such session.
    pub(super) fn resumed(&self, session: SessionId, peer: NodeId) -> Option<mpsc::Sender<Link>> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let awaited = state.sessions.get(&session).filter(|awaited| awaited.coordinator == peer)?;
        Some(awaited.resumed.clone())
    }

    /// Finds the session for a stream that `peer` attached. Where none waits for it, one may soon: the coordinator's word
    /// can come after it.
    pub(super) fn offer(self: &Arc<Self>, session: SessionId, peer: NodeId) -> Offer {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let waiting = state.sessions.get_mut(&session).filter(|awaited| awaited.upstream == Some(peer));
        if let Some(deliver) = waiting.and_then(|awaited| awaited.deliver.take()) {
            return Offer::Taken(deliver);
        }
        let (claim, claimed) = oneshot::channel();
        let key = (session, peer);
        // Of two the later counts; the earlier sees its claim end.
        state.parked.insert(key, claim);
        Offer::Parked(Parked { rendezvous: Arc::clone(self), key, claimed })
    }
}

impl State {
    /// Where the stream of the session's upstream comes from now on; one that waits already is claimed.
    fn expect(&mut self, session: SessionId) -> oneshot::Receiver<Link> {
        let (deliver, delivered) = oneshot::channel();
        if let Some(awaited) = self.sessions.get_mut(&session)
            && let Some(node) = awaited.upstream
        {
            match self.parked.remove(&(session, node)) {
                // The stream is gone again if nobody receives the claim; the session then sees its receiver end.
                Some(claim) => {
                    awaited.deliver = None;
                    let _ = claim.send(deliver);
                }
                None => awaited.deliver = Some(deliver),
            }
        }
        delivered
    }
}

impl Registration {
    /// The session takes its steps from another node from now on. The receiver yields its stream.
    pub(super) fn expect(&self, upstream: NodeId) -> oneshot::Receiver<Link> {
        let mut state = self.rendezvous.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(awaited) = state.sessions.get_mut(&self.session).filter(|_| !self.displaced.is_cancelled()) {
            awaited.upstream = Some(upstream);
        }
        state.expect(self.session)
    }

    /// Waits until the coordinator opens the session anew.
    pub(super) async fn displaced(&self) {
        self.displaced.cancelled().await;
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        let mut state = self.rendezvous.state.lock().unwrap_or_else(PoisonError::into_inner);
        // Where it was displaced, the entry is another's.
        if !self.displaced.is_cancelled() {
            state.sessions.remove(&self.session);
        }
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
