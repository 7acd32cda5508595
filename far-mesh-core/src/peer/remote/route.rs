//! The nodes of a route and what may be expected of them.

use std::{fmt, sync::Arc, time::Duration};

use futures::{FutureExt, future::BoxFuture};
use libp2p::Multiaddr;

use super::{mender::Mender, open::open};
use crate::{
    hop::{Hop, HopError, HopSession, OpenSession},
    id::{NodeId, Span},
    limits::{HOP_DEADLINE_FLOOR, MAX_HOPS},
    peer::wire::Dialer,
};

/// Round trip assumed to a node to which it was never measured: to the other side of the earth.
const UNKNOWN_RTT: Duration = Duration::from_millis(300);

/// More than this a node does not get, however long it makes pings wait: over a satellite and back.
const LONGEST_RTT: Duration = Duration::from_secs(1);

/// One node's place in a route.
#[derive(Clone, Debug)]
pub struct RemoteHop {
    /// Who.
    pub node: NodeId,
    /// Where it listens.
    pub addrs: Vec<Multiaddr>,
    /// Layers it runs.
    pub span: Span,
    /// Equal classes give equal bits.
    pub kernel_class: String,
    /// How long its part of a step should take. An estimate that is too short costs only a probe.
    pub expected: StepTime,
    /// What a step of one token takes there, as its advert says; zero where that is not known. Who takes several times as
    /// long loses its place.
    pub promised: Duration,
}

/// Expected compute of a step at one hop.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StepTime {
    /// Of any step.
    pub base: Duration,
    /// For each of its positions.
    pub per_token: Duration,
}

/// Hops on other nodes that together run consecutive layers, as one hop.
#[derive(Clone)]
pub struct RemoteRoute {
    pub(super) dialer: Arc<dyn Dialer>,
    pub(super) hops: Arc<[RemoteHop]>,
    pub(super) mender: Option<Arc<dyn Mender>>,
    span: Span,
}

/// Hops that are not a route.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RouteError {
    /// None, or absurdly many.
    #[error("a route of {got} hops, must be 1 to {MAX_HOPS}")]
    Hops {
        /// Their number.
        got: usize,
    },
    /// Layers between two hops are missing or served twice.
    #[error("layers {after} cannot follow layers {before}: a route covers each layer once")]
    Gap {
        /// Of a hop.
        before: Span,
        /// Of the next.
        after: Span,
    },
    /// A node stands twice in the route.
    #[error("node {node} stands twice in the route: give it one span")]
    Twice {
        /// Which.
        node: NodeId,
    },
}

impl RemoteRoute {
    /// A route through `hops`, in this order.
    ///
    /// # Errors
    /// [`RouteError`] when their layers do not follow each other.
    pub fn new(dialer: Arc<dyn Dialer>, hops: Vec<RemoteHop>) -> Result<Self, RouteError> {
        let (Some(first), Some(last), true) = (hops.first(), hops.last(), hops.len() <= MAX_HOPS) else {
            return Err(RouteError::Hops { got: hops.len() });
        };
        for pair in hops.windows(2) {
            if pair[0].span.end() != pair[1].span.start() {
                return Err(RouteError::Gap { before: pair[0].span, after: pair[1].span });
            }
        }
        if let Some((_, twice)) =
            hops.iter().enumerate().find(|(at, hop)| hops[..*at].iter().any(|h| h.node == hop.node))
        {
            return Err(RouteError::Twice { node: twice.node });
        }
        let span = Span::new(first.span.start(), last.span.end())
            .map_err(|_| RouteError::Gap { before: first.span, after: last.span })?;
        Ok(Self { dialer, hops: hops.into(), mender: None, span })
    }

    /// The route, mended by `mender` when nodes of it are lost: sessions go on where they would have failed.
    #[must_use]
    pub fn mended_by(self, mender: Arc<dyn Mender>) -> Self {
        Self { mender: Some(mender), ..self }
    }

    /// The hops, in order.
    pub fn hops(&self) -> &[RemoteHop] {
        &self.hops
    }

    /// How long a node may take to answer a probe: the floor, or four round trips.
    pub(super) fn patience(&self, node: NodeId) -> Duration {
        HOP_DEADLINE_FLOOR.max(self.round_trip(node).saturating_mul(4))
    }

    /// The way to a node and back.
    pub(super) fn round_trip(&self, node: NodeId) -> Duration {
        self.dialer.rtt(node).unwrap_or(UNKNOWN_RTT).min(LONGEST_RTT)
    }
}

impl RemoteHop {
    /// The error that names this hop.
    pub(super) fn lost(&self, reason: impl Into<String>) -> HopError {
        HopError::PeerLost { node: self.node, span: self.span, reason: reason.into() }
    }

    /// The error of this hop in its own words.
    pub(super) fn declined(&self, source: HopError) -> HopError {
        HopError::Declined { node: self.node, span: self.span, source: Box::new(source) }
    }
}

impl Hop for RemoteRoute {
    fn span(&self) -> Span {
        self.span
    }

    fn open(&self, request: OpenSession) -> BoxFuture<'_, Result<Box<dyn HopSession>, HopError>> {
        async move { Ok(Box::new(open(self.clone(), request).await?) as Box<dyn HopSession>) }.boxed()
    }
}

impl StepTime {
    /// Of a step of `tokens` positions.
    pub fn of(self, tokens: usize) -> Duration {
        let tokens = u32::try_from(tokens).unwrap_or(u32::MAX);
        self.base.saturating_add(self.per_token.saturating_mul(tokens))
    }
}

impl fmt::Debug for RemoteRoute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RemoteRoute").field("hops", &self.hops).finish_non_exhaustive()
    }
}
