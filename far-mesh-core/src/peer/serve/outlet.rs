//! Where a hop's results go: the next hop's stream with what is on its way there, or the coordinator.

use std::{
    fmt,
    sync::Arc,
    task::{Context, Poll},
};

use futures::future::BoxFuture;

use super::{kept::Kept, works::Works};
use crate::{
    hop::Step,
    id::{NodeId, SessionId},
    peer::wire::{Attach, Dialer, Fault, Frame, Link, Rerouted, reopen},
};

/// A hop's way out, and the results that a new next hop would need again.
pub(super) struct Outlet {
    pub(super) sink: Sink,
    kept: Kept,
    /// The first step that the next hop was not sent.
    unsent: u64,
    /// The next hop was told that nothing more comes.
    closed: bool,
    session: SessionId,
    dialer: Arc<dyn Dialer>,
    /// The stream was opened over a relay.
    relayed: bool,
    moving: Option<Moving>,
}

/// A stream that is to take the place of a relayed one.
enum Moving {
    Opening(BoxFuture<'static, Result<Link, String>>),
    /// It waits for a moment between two steps.
    Open(Link),
    /// The old stream has ended, and the node is to say from where on the new one goes.
    Switching(Link),
}

/// Where results go.
pub(super) enum Sink {
    /// The control stream: this is the last hop.
    Coordinator,
    /// A data stream that is being attached.
    Attaching {
        /// To whom.
        node: NodeId,
        /// The reroute that asked for it.
        number: Option<u64>,
        /// The stream, and the first step that the node lacks.
        attached: BoxFuture<'static, Result<(Link, u64), String>>,
    },
    /// A data stream.
    Peer(NodeId, Box<Link>),
    /// A node that is gone, until another is named.
    Lost,
}

impl Outlet {
    pub(super) fn new(session: SessionId, sink: Sink, kept: Kept, dialer: Arc<dyn Dialer>) -> Self {
        Self { sink, kept, unsent: 0, closed: false, session, dialer, relayed: false, moving: None }
    }

    /// Keeps the result of the next step, to be sent at the next poll.
    pub(super) fn push(&mut self, step: Step) {
        self.kept.push(step, self.unsent);
    }

    /// Whether results can go.
    pub(super) fn is_attached(&self) -> bool {
        matches!(self.sink, Sink::Coordinator | Sink::Peer(..))
    }

    /// Whether the next hop has all it will get from a session that ends.
    pub(super) fn is_over(&self) -> bool {
        match &self.sink {
            Sink::Peer(_, link) => self.closed && link.is_drained(),
            Sink::Coordinator | Sink::Attaching { .. } | Sink::Lost => true,
        }
    }

    /// Attaches the next hop, and sends it what there is; says when it was attached after a [`Rerouted`]'s asking. `closing`
    /// says that nothing is added any more.
    ///
    /// # Errors
    /// The next hop, and why it is of no more use.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        works: &mut Works,
        closing: bool,
    ) -> Result<Option<Rerouted>, (NodeId, String)> {
        let rerouted = self.poll_attached(cx, works)?;
        if let Sink::Peer(node, _) = &self.sink {
            let node = *node;
            let switching = |outlet: &Self| matches!(outlet.moving, Some(Moving::Switching(_)));
            loop {
                self.poll_moving(cx, node).map_err(|reason| (node, reason))?;
                if switching(self) {
                    break;
                }
                self.poll_peer(cx, works, closing).map_err(|reason| (node, reason))?;
                // Where it goes over just now, the first word on the new stream is to wake this task.
                if !switching(self) {
                    break;
                }
            }
        }
        Ok(rerouted)
    }

    fn poll_attached(&mut self, cx: &mut Context<'_>, works: &mut Works) -> Result<Option<Rerouted>, (NodeId, String)> {
        let Sink::Attaching { node, number, attached } = &mut self.sink else { return Ok(None) };
        let Poll::Ready(attached) = attached.as_mut().poll(cx) else { return Ok(None) };
        let (node, number) = (*node, *number);
        let (link, next_seq) = attached.map_err(|reason| (node, reason))?;
        let attached = self.kept.reaches(next_seq);
        if attached {
            (self.sink, self.unsent) = (Sink::Peer(node, Box::new(link)), next_seq);
            (self.relayed, self.moving) = (!self.dialer.is_direct(node), None);
            works.renew();
        } else {
            self.sink = Sink::Lost;
        }
        Ok(number.map(|number| Rerouted { number, attached }))
    }

    /// Opens a stream in the place of a relayed one once that goes directly, and goes over to it when the next hop is ready.
    fn poll_moving(&mut self, cx: &mut Context<'_>, node: NodeId) -> Result<(), String> {
        if self.relayed && self.moving.is_none() && self.dialer.is_direct(node) {
            let greeting = Frame::Attach(Attach { session: self.session });
            self.moving = Some(Moving::Opening(reopen(Arc::clone(&self.dialer), node, self.session, greeting)));
        }
        let Sink::Peer(_, old) = &mut self.sink else { return Ok(()) };
        match &mut self.moving {
            Some(Moving::Opening(opening)) => {
                let Poll::Ready(opened) = opening.as_mut().poll(cx) else { return Ok(()) };
                self.relayed = false;
                self.moving = match opened {
                    Ok(link) => Some(Moving::Open(link)),
                    Err(reason) => {
                        tracing::debug!(%node, reason, "the relayed stream is kept");
                        None
                    }
                };
            }
            Some(Moving::Switching(new)) => {
                if let Poll::Ready(Err(error)) = old.poll_drain(cx) {
                    return Err(error.to_string());
                }
                let Poll::Ready(frame) = new.poll_next(cx) else { return Ok(()) };
                match (frame.map_err(|error| error.to_string())?, self.moving.take()) {
                    (Frame::Attached { next_seq }, Some(Moving::Switching(new))) if self.kept.reaches(next_seq) => {
                        tracing::debug!(session = %self.session, %node, "the stream to the next hop goes directly");
                        (self.sink, self.unsent) = (Sink::Peer(node, Box::new(new)), next_seq);
                    }
                    (frame, _) => return Err(format!("{:?} frame where Attached was due", frame.kind())),
                }
            }
            // Nothing is said before the node is asked to go over: it gave the stream up.
            Some(Moving::Open(new)) => {
                let ended = new.poll_next(cx).is_ready();
                if ended {
                    tracing::debug!(%node, "the relayed stream is kept: the new one did not last");
                    self.moving = None;
                }
            }
            None => {}
        }
        Ok(())
    }

    /// Results, works of theirs behind them, and at the end that nothing more comes.
    fn poll_peer(&mut self, cx: &mut Context<'_>, works: &mut Works, closing: bool) -> Result<(), String> {
        let Sink::Peer(node, link) = &mut self.sink else { return Ok(()) };
        let text = |error: crate::peer::wire::LinkError| error.to_string();
        loop {
            while link.has_room()
                && let Some(step) = self.kept.get(self.unsent)
            {
                link.queue(Frame::Step(step.clone())).map_err(text)?;
                self.unsent += 1;
            }
            self.kept.sent(self.unsent);
            while link.has_room_to_spare()
                && let Some(signed) = works.next(*node, self.unsent)
            {
                link.queue(Frame::Work(Box::new(signed))).map_err(text)?;
            }
            let waits = |seq| self.kept.get(seq).is_some();
            if closing && !self.closed && !waits(self.unsent) && !works.is_due(u64::MAX) {
                link.queue(Frame::Close).map_err(text)?;
                self.closed = true;
            }
            match link.poll_drain(cx) {
                Poll::Ready(Err(error)) => return Err(text(error)),
                // A replay has more than fits the queue at once.
                Poll::Ready(Ok(())) if waits(self.unsent) || works.is_due(self.unsent) => {}
                _ => break,
            }
        }
        if !closing && link.is_drained() && self.kept.get(self.unsent).is_none() {
            self.moving = match self.moving.take() {
                Some(Moving::Open(new)) => {
                    link.queue(Frame::Switch).map_err(text)?;
                    Some(Moving::Switching(new))
                }
                moving => moving,
            };
        }
        let Poll::Ready(frame) = link.poll_next(cx) else { return Ok(()) };
        Err(match frame {
            Ok(Frame::Fault(Fault::PeerLost { reason, .. } | Fault::Refused(reason) | Fault::BadStep(reason))) => {
                reason
            }
            Ok(frame) => format!("{:?} frame where none was due", frame.kind()),
            Err(error) => error.to_string(),
        })
    }
}

impl fmt::Debug for Outlet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outlet").field("unsent", &self.unsent).finish_non_exhaustive()
    }
}
