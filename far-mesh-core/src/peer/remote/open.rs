//! Opens a session at all hops of a route at once.

use std::time::Duration;

use futures::{StreamExt, stream::FuturesUnordered};
use tokio::time::{Instant, timeout_at};

use super::{route::RemoteRoute, session::RemoteSession};
use crate::{
    hop::{HopError, OpenSession},
    limits::OPEN_DEADLINE,
    peer::wire::{BUILD, Fault, Frame, Link, MAX_ADDRS, Next, Open, PROTOCOL_VERSION, Source},
};

/// How long a node gets to say itself what its neighbour says of it.
const GRACE: Duration = Duration::from_millis(250);

/// Why one hop is not open.
enum Refusal {
    /// Its own word, or what was seen of it.
    Own(HopError),
    /// A hop's word about its neighbour.
    Hearsay(HopError),
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
    let mut opening: FuturesUnordered<_> =
        (0..route.hops.len()).map(|at| open_hop(&route, at, invitation(&route, at, &request))).collect();
    let mut links: Vec<Option<Link>> = route.hops.iter().map(|_| None).collect();
    let mut hearsay = None;
    loop {
        match timeout_at(deadline, opening.next()).await {
            Ok(Some((at, Ok(link)))) => links[at] = Some(link),
            Ok(Some((_, Err(Refusal::Own(error))))) => return Err(error),
            Ok(Some((_, Err(Refusal::Hearsay(error))))) => {
                hearsay.get_or_insert(error);
                deadline = deadline.min(Instant::now() + GRACE);
            }
            Ok(None) => break,
            Err(_) => break,
        }
    }
    drop(opening);
    if let Some(error) = hearsay {
        return Err(error);
    }
    // Each hop waits for the one after it, so of those that are silent the last is the one that holds up the others.
    if let Some(silent) = links.iter().rposition(Option::is_none) {
        return Err(route.lost(silent, format!("it did not open within {OPEN_DEADLINE:?}")));
    }
    Ok(RemoteSession::new(route, links.into_iter().flatten().collect(), &request))
}

/// What hop `at` is asked.
fn invitation(route: &RemoteRoute, at: usize, request: &OpenSession) -> Open {
    Open {
        protocol: PROTOCOL_VERSION,
        build: BUILD.to_owned(),
        session: request.session,
        model: request.model,
        span: route.hops[at].span,
        dtype: request.dtype,
        context_tokens: request.context_tokens,
        source: at.checked_sub(1).map_or(Source::Coordinator, |before| Source::Peer(route.hops[before].node)),
        next: route.hops.get(at + 1).map(|next| {
            let addrs = next.addrs.iter().take(MAX_ADDRS).cloned().collect();
            Next { node: next.node, addrs }
        }),
    }
}

async fn open_hop(route: &RemoteRoute, at: usize, open: Open) -> (usize, Result<Link, Refusal>) {
    let hop = &route.hops[at];
    let opened = async {
        let lost = |reason: String| Refusal::Own(route.lost(at, reason));
        let stream = route.dialer.open(hop.node, hop.addrs.clone()).await.map_err(|error| lost(error.to_string()))?;
        let mut link = Link::new(stream, open.session);
        link.limit_payload(0);
        link.send(Frame::Open(Box::new(open))).await.map_err(|error| lost(error.to_string()))?;
        match link.recv().await {
            Ok(Frame::Opened) => Ok(link),
            Ok(Frame::Fault(fault)) => {
                let hearsay = matches!(fault, Fault::PeerLost { .. });
                let error = route.blame(at, fault);
                Err(if hearsay { Refusal::Hearsay(error) } else { Refusal::Own(error) })
            }
            Ok(frame) => Err(lost(format!("{:?} frame where Opened was due", frame.kind()))),
            Err(error) => Err(lost(error.to_string())),
        }
    };
    (at, opened.await)
}

impl RemoteRoute {
    /// What hop `at` reports, as an error of the route. A hop is believed about itself and its neighbours only.
    pub(super) fn blame(&self, at: usize, fault: Fault) -> HopError {
        let hop = &self.hops[at];
        let name = || format!("node {} with layers {}", hop.node, hop.span);
        match fault {
            Fault::Refused(reason) => self.declined(at, HopError::Refused { reason }),
            Fault::Full { needed_tokens, free_tokens } => {
                self.declined(at, HopError::Full { needed_tokens, free_tokens })
            }
            // Every step was checked before it was sent: whoever finds fault with one is broken or lies.
            Fault::BadStep(reason) => self.lost(at, format!("it finds fault with a step: {reason}")),
            Fault::Device(reason) => self.lost(at, format!("device failed: {reason}")),
            Fault::Closed => self.lost(at, "it is shutting down"),
            Fault::PeerLost { node, reason } => {
                let neighbours = [at.checked_sub(1), Some(at + 1)];
                match neighbours.into_iter().flatten().find(|&n| self.hops.get(n).is_some_and(|h| h.node == node)) {
                    Some(neighbour) => self.lost(neighbour, format!("{reason} (seen by {})", name())),
                    None => self.lost(at, format!("it blames node {node}, which is not beside it: {reason}")),
                }
            }
        }
    }
}
