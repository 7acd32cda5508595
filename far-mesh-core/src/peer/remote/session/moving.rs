//! Control streams that began over a relay go over to a direct connection once there is one, between two steps.
//!
//! ```text
//! open another stream, Resume over it --> between two steps: Switch over the old one --> hop: its last frames, Switch
//!                                     --> the rest of the session goes over the new one
//! ```

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures::future::BoxFuture;
use tokio::time::{Sleep, sleep};

use super::RemoteSession;
use crate::{
    hop::HopError,
    id::NodeId,
    peer::wire::{Attach, Frame, Link, reopen},
};

/// How long a hop may take to end the old stream, beyond its patience.
const SWITCH_DEADLINE: Duration = Duration::from_secs(2);

/// A stream that is to take the place of a relayed one.
pub(super) struct Moving {
    node: NodeId,
    stage: Stage,
}

enum Stage {
    Opening(BoxFuture<'static, Result<Link, String>>),
    /// It waits for a moment between two steps.
    Open(Link),
    /// The old stream is ended by this side; the hop is to end it too, before it is too late.
    Switching(Link, Pin<Box<Sleep>>),
}

impl RemoteSession {
    /// Whether steps wait for a stream to be replaced.
    pub(super) fn is_switching(&self) -> bool {
        matches!(&self.moving, Some(Moving { stage: Stage::Switching(..), .. }))
    }

    /// Brings the next relayed stream further on its way. True when there is something to send, or a hop was lost.
    pub(super) fn poll_moving(&mut self, cx: &mut Context<'_>) -> Result<bool, HopError> {
        if self.moving.is_none() {
            let dialer = &self.route.dialer;
            let relayed = self.places.iter_mut().find(|place| place.relayed && dialer.is_direct(place.hop.node));
            let Some(place) = relayed else { return Ok(false) };
            // Tried once: a relayed stream serves too.
            place.relayed = false;
            let (node, session) = (place.hop.node, self.request.session);
            let opening = reopen(Arc::clone(dialer), node, session, Frame::Resume(Attach { session }));
            self.moving = Some(Moving { node, stage: Stage::Opening(opening) });
        }
        let Some(Moving { node, stage }) = &mut self.moving else { return Ok(false) };
        let node = *node;
        // It may have left the route.
        let Some(at) = self.places.iter().position(|place| place.hop.node == node && place.link.is_some()) else {
            self.moving = None;
            // What waited for it goes on.
            return Ok(true);
        };
        match stage {
            Stage::Opening(opening) => {
                let Poll::Ready(opened) = opening.as_mut().poll(cx) else { return Ok(false) };
                match opened {
                    Ok(link) => *stage = Stage::Open(link),
                    Err(reason) => {
                        tracing::debug!(%node, reason, "the relayed stream is kept");
                        self.moving = None;
                    }
                }
                Ok(true)
            }
            Stage::Open(link) => {
                // Nothing is said before the hop is asked to go over: it gave the stream up.
                if link.poll_next(cx).is_ready() {
                    tracing::debug!(%node, "the relayed stream is kept: the new one did not last");
                    self.moving = None;
                    return Ok(true);
                }
                match self.in_flight.is_empty() && !self.mending.is_under_way() {
                    true => self.switch(at),
                    false => Ok(false),
                }
            }
            Stage::Switching(_, deadline) => {
                if deadline.as_mut().poll(cx).is_pending() {
                    return Ok(false);
                }
                self.moving = None;
                self.lose(at, self.places[at].hop.lost("it did not go over to the direct connection in time"))?;
                Ok(true)
            }
        }
    }

    /// Ends the old stream: the hop is told, and nothing is sent until it has ended it too.
    fn switch(&mut self, at: usize) -> Result<bool, HopError> {
        let Some(Moving { node, stage: Stage::Open(link) }) = self.moving.take() else { return Ok(false) };
        let patience = self.route.patience(node) + SWITCH_DEADLINE;
        let place = &mut self.places[at];
        if let Some(Err(error)) = place.link.as_mut().map(|old| old.queue(Frame::Switch)) {
            let error = place.hop.lost(error.to_string());
            self.lose(at, error)?;
        } else {
            self.moving = Some(Moving { node, stage: Stage::Switching(link, Box::pin(sleep(patience))) });
        }
        Ok(true)
    }

    /// The stream that is to take the place of the one to `node`, where that is ended by this side already.
    pub(super) fn take_switching(&mut self) -> Option<(NodeId, Link)> {
        match self.moving.take()? {
            Moving { node, stage: Stage::Switching(link, _) } => Some((node, link)),
            Moving { .. } => None,
        }
    }

    /// The hop at `at` has ended the old stream.
    pub(super) fn on_switched(&mut self, at: usize) -> Result<(), HopError> {
        let node = self.places[at].hop.node;
        match self.moving.take() {
            Some(Moving { node: moved, stage: Stage::Switching(link, _) }) if moved == node => {
                self.places[at].link = Some(link);
                self.bound_results();
                tracing::debug!(session = %self.request.session, %node, "the stream to a hop goes directly");
                Ok(())
            }
            moving => {
                self.moving = moving;
                self.lose(at, self.places[at].hop.lost("it sent a Switch frame out of place"))
            }
        }
    }
}
