//! Opens a session at hops, all at once.

use std::{sync::Arc, time::Duration};

use futures::{FutureExt, StreamExt, future::BoxFuture, stream::FuturesUnordered};
use tokio::time::{Instant, timeout_at};

use super::{
    route::{RemoteHop, RemoteRoute},
    session::RemoteSession,
};
use crate::{
    hop::{HopError, OpenSession},
    id::NodeId,
    limits::OPEN_DEADLINE,
    peer::wire::{BUILD, Dialer, Fault, Frame, Link, MAX_ADDRS, Next, Open, PROTOCOL_VERSION, Source},
};

/// How long a node gets to say itself what its neighbour says of it.
const GRACE: Duration = Duration::from_millis(250);

/// A hop's number among those that are opened together, and its control stream or why there is none.
pub(super) type Opened = (usize, Result<Link, Refusal>);

/// Why a hop is not open.
#[derive(Debug)]
pub(super) enum Refusal {
    /// Nobody answers where it is said to be.
    Unreached(HopError),
    /// Its own word, or what was seen of it.
    Own(HopError),
    /// Its word on a neighbour.
    Neighbour {
        /// Whom it cannot reach.
        node: NodeId,
        /// What it saw.
        reason: String,
    },
}

/// Opens `request` at every hop; ready when all are, so no step ever waits for a hop to open.
///
/// # Errors
/// What the hop that failed says. Where a hop cannot reach the next one, the next one's own words are preferred.
pub(super) async fn open(route: RemoteRoute, request: OpenSession) -> Result<RemoteSession, HopError> {
    let span = crate::hop::Hop::span(&route);
    if request.span != span {
        let reason = format!("layers {} were asked for, this route covers {span}", request.span);
        return Err(HopError::Refused { reason });
    }
    let mut deadline = Instant::now() + OPEN_DEADLINE;
    let invitations = invitations(&route.hops, &request, (0, 0), None, None);
    let opening = invitations.into_iter().enumerate();
    let opening = opening.map(|(at, open)| open_hop(Arc::clone(&route.dialer), at, route.hops[at].clone(), open));
    let mut opening: FuturesUnordered<_> = opening.collect();
    let mut links: Vec<Option<Link>> = route.hops.iter().map(|_| None).collect();
    let mut hearsay = None;
    while let Ok(Some((at, opened))) = timeout_at(deadline, opening.next()).await {
        match opened {
            Ok(link) => links[at] = Some(link),
            Err(Refusal::Unreached(error) | Refusal::Own(error)) => return Err(error),
            Err(Refusal::Neighbour { node, reason }) => {
                hearsay.get_or_insert_with(|| blame_neighbour(&route.hops, at, node, &reason));
                deadline = deadline.min(Instant::now() + GRACE);
            }
        }
    }
    drop(opening);
    if let Some(error) = hearsay {
        return Err(error);
    }
    // Each hop waits for the one after it, so of those that are silent the last is the one that holds up the others.
    if let Some(silent) = links.iter().rposition(Option::is_none) {
        return Err(route.hops[silent].lost(format!("it did not open within {OPEN_DEADLINE:?}")));
    }
    Ok(RemoteSession::new(route, links.into_iter().flatten().collect(), request))
}

/// What each of `hops` is asked, when so many steps were answered and so many submitted; `before` and `after` are the nodes beside them, where it is not the coordinator.
pub(super) fn invitations(
    hops: &[RemoteHop],
    request: &OpenSession,
    (answered, submitted): (u64, u64),
    before: Option<NodeId>,
    after: Option<&RemoteHop>,
) -> Vec<Open> {
    let sources = std::iter::once(before).chain(hops.iter().map(|hop| Some(hop.node)));
    let nexts = hops.iter().skip(1).map(Some).chain([after]);
    let ends = sources.zip(nexts);
    let invitation = |(hop, (source, next)): (&RemoteHop, (Option<NodeId>, Option<&RemoteHop>))| Open {
        protocol: PROTOCOL_VERSION,
        build: BUILD.to_owned(),
        session: request.session,
        model: request.model,
        span: hop.span,
        dtype: request.dtype,
        context_tokens: request.context_tokens,
        source: source.map_or(Source::Coordinator, Source::Peer),
        next: next.map(RemoteHop::as_next),
        answered,
        submitted,
    };
    hops.iter().zip(ends).map(invitation).collect()
}

/// Opens one hop.
pub(super) fn open_hop(dialer: Arc<dyn Dialer>, at: usize, hop: RemoteHop, open: Open) -> BoxFuture<'static, Opened> {
    let opened = async move {
        let lost = |reason: String| Refusal::Own(hop.lost(reason));
        let stream = dialer.open(hop.node, hop.addrs.clone()).await;
        let stream = stream.map_err(|error| Refusal::Unreached(hop.lost(error.to_string())))?;
        let mut link = Link::new(stream, open.session);
        link.limit_payload(0);
        link.send(Frame::Open(Box::new(open))).await.map_err(|error| lost(error.to_string()))?;
        match link.recv().await {
            Ok(Frame::Opened) => Ok(link),
            Ok(Frame::Fault(Fault::PeerLost { node, reason })) => Err(Refusal::Neighbour { node, reason }),
            Ok(Frame::Fault(fault)) => Err(Refusal::Own(hop.at_fault(fault))),
            Ok(frame) => Err(lost(format!("{:?} frame where Opened was due", frame.kind()))),
            Err(error) => Err(lost(error.to_string())),
        }
    };
    async move { (at, opened.await) }.boxed()
}

/// What hop `at` says of a neighbour, as an error of the route. A hop is believed about itself and its neighbours only.
pub(super) fn blame_neighbour(hops: &[RemoteHop], at: usize, node: NodeId, reason: &str) -> HopError {
    let accuser = &hops[at];
    let neighbours = [at.checked_sub(1), Some(at + 1)];
    match neighbours.into_iter().flatten().filter_map(|at| hops.get(at)).find(|hop| hop.node == node) {
        Some(hop) => hop.lost(format!("{reason} (seen by node {} with layers {})", accuser.node, accuser.span)),
        None => accuser.lost(format!("it blames node {node}, which is not beside it: {reason}")),
    }
}

impl RemoteHop {
    /// This hop as another's next.
    pub(super) fn as_next(&self) -> Next {
        Next { node: self.node, addrs: self.addrs.iter().take(MAX_ADDRS).cloned().collect() }
    }

    /// What this hop says of itself, as an error of the route.
    pub(super) fn at_fault(&self, fault: Fault) -> HopError {
        match fault {
            Fault::Refused(reason) => self.declined(HopError::Refused { reason }),
            Fault::Full { needed_tokens, free_tokens } => self.declined(HopError::Full { needed_tokens, free_tokens }),
            // Every step was checked before it was sent: whoever finds fault with one is broken or lies.
            Fault::BadStep(reason) => self.lost(format!("it finds fault with a step: {reason}")),
            Fault::Device(reason) => self.lost(format!("device failed: {reason}")),
            Fault::Closed => self.lost("it is shutting down"),
            Fault::PeerLost { node, reason } => self.lost(format!("it cannot go on without node {node}: {reason}")),
        }
    }
}
