//! A hop that can be exchanged for another while its sessions run.
//!
//! While a provider moves it holds two shards. New sessions go to whichever covers their layers, the newer first; those
//! that run stay where they are. A shard that is to go takes no new ones, and goes when its last session has ended.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures::future::BoxFuture;
use tokio::{sync::watch, time::timeout};

use crate::{
    hop::{Account, Done, Hop, HopError, HopSession, OpenSession, Step},
    id::{NodeId, Span},
};

/// The shards of a provider as one hop.
#[derive(Debug)]
pub(super) struct Shifting {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// From the first layer of all shards to the last.
    hull: Span,
    /// The newest first.
    held: Vec<Held>,
}

/// One of them.
#[derive(Clone)]
struct Held {
    hop: Arc<dyn Hop>,
    leaves: bool,
    sessions: watch::Sender<usize>,
}

/// A session at one of the shards; counted until it is closed or dropped.
struct Seated {
    inner: Box<dyn HopSession>,
    counted: Counted,
}

struct Counted(watch::Sender<usize>);

impl Shifting {
    pub(super) fn new(hop: Arc<dyn Hop>) -> Self {
        Self { state: Mutex::new(State { hull: hop.span(), held: vec![Held::new(hop)] }) }
    }

    /// Takes new sessions for the layers of `hop` too.
    pub(super) fn add(&self, hop: Arc<dyn Hop>) {
        self.with(|held| held.insert(0, Held::new(hop)));
    }

    /// Takes no new sessions for `hop`, waits until those it has are over, at most for `patience`, and forgets it. Gives
    /// back how many are left: their next step finds the shard closed once its owner has shut it down.
    pub(super) async fn remove(&self, hop: &Arc<dyn Hop>, patience: Duration) -> usize {
        let leaving = self.with(|held| {
            let found = held.iter_mut().find(|held| Arc::ptr_eq(&held.hop, hop))?;
            found.leaves = true;
            Some(found.sessions.clone())
        });
        let Some(sessions) = leaving else { return 0 };
        let mut count = sessions.subscribe();
        // Whoever stays longer is not waited for.
        let _ = timeout(patience, count.wait_for(|count| *count == 0)).await;
        self.with(|held| held.retain(|held| !Arc::ptr_eq(&held.hop, hop)));
        *sessions.borrow()
    }

    /// The shard that takes a session of these layers, and the session's place in its count.
    fn seat(&self, span: Span) -> Result<(Arc<dyn Hop>, Counted), HopError> {
        self.with(|held| {
            let able = held.iter().filter(|held| held.hop.span().covers(span));
            match able.clone().find(|held| !held.leaves) {
                // Counted before it is open: a shard never leaves in between.
                Some(held) => Ok((Arc::clone(&held.hop), Counted::one_more(&held.sessions))),
                None if able.count() > 0 => Err(HopError::Closed),
                None => {
                    let spans: Vec<_> = held.iter().map(|held| held.hop.span().to_string()).collect();
                    let reason = format!("layers {span} were asked for, this node serves {}", spans.join(" and "));
                    Err(HopError::Refused { reason })
                }
            }
        })
    }

    fn with<T>(&self, act: impl FnOnce(&mut Vec<Held>) -> T) -> T {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let result = act(&mut state.held);
        let hull = |a: Span, b: Span| Span::new(a.start().min(b.start()), a.end().max(b.end())).ok();
        let mut spans = state.held.iter().map(|held| held.hop.span());
        let first = spans.next();
        state.hull = first.and_then(|first| spans.try_fold(first, hull)).unwrap_or(state.hull);
        result
    }

    async fn open_at(&self, owner: Option<NodeId>, request: OpenSession) -> Result<Box<dyn HopSession>, HopError> {
        let (hop, counted) = self.seat(request.span)?;
        let inner = match owner {
            Some(owner) => hop.open_for(owner, request).await?,
            None => hop.open(request).await?,
        };
        Ok(Box::new(Seated { inner, counted }))
    }
}

impl Hop for Shifting {
    /// From the first layer of all shards to the last: what lies between two of them is refused when it is asked for.
    fn span(&self) -> Span {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).hull
    }

    fn hidden(&self) -> Option<usize> {
        self.with(|held| held.first().and_then(|held| held.hop.hidden()))
    }

    /// Of the newest shard: all of them are on one device.
    fn kernel_class(&self) -> String {
        self.with(|held| held.last().map(|held| held.hop.kernel_class()).unwrap_or_default())
    }

    fn merges_steps(&self) -> bool {
        self.with(|held| held.iter().all(|held| held.hop.merges_steps()))
    }

    fn open(&self, request: OpenSession) -> BoxFuture<'_, Result<Box<dyn HopSession>, HopError>> {
        Box::pin(self.open_at(None, request))
    }

    fn open_for(&self, owner: NodeId, request: OpenSession) -> BoxFuture<'_, Result<Box<dyn HopSession>, HopError>> {
        Box::pin(self.open_at(Some(owner), request))
    }
}

impl HopSession for Seated {
    fn submit(&mut self, step: Step) -> BoxFuture<'_, Result<(), HopError>> {
        self.inner.submit(step)
    }

    fn next(&mut self) -> BoxFuture<'_, Result<Done, HopError>> {
        self.inner.next()
    }

    fn close(self: Box<Self>) -> BoxFuture<'static, Result<Vec<Account>, HopError>> {
        let Self { inner, counted } = *self;
        Box::pin(async move {
            let accounts = inner.close().await;
            drop(counted);
            accounts
        })
    }
}

impl Held {
    fn new(hop: Arc<dyn Hop>) -> Self {
        Self { hop, leaves: false, sessions: watch::Sender::new(0) }
    }
}

impl Counted {
    fn one_more(sessions: &watch::Sender<usize>) -> Self {
        sessions.send_modify(|count| *count += 1);
        Self(sessions.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}

impl fmt::Debug for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Held").field("hop", &self.hop).field("leaves", &self.leaves).finish_non_exhaustive()
    }
}

#[cfg(test)]
#[path = "shift_tests.rs"]
mod tests;
