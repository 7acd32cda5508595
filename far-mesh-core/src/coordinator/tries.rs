//! What a request has learned from routes that did not open: pure, so that it can be tried without a mesh.

use std::time::Duration;

use crate::{
    hop::HopError,
    id::NodeId,
    limits::{MAX_HOPS, OPEN_DEADLINE},
    route::{Offer, PlanError},
};

/// Most routes tried for a request. Each try without luck takes a node out, so they end anyway; the bound is for a mesh
/// that lies.
const MAX_TRIES: usize = MAX_HOPS;

/// How long a request is tried anew: nodes that accept a session and then say nothing cost [`OPEN_DEADLINE`] each, and
/// nobody waits for many of them.
const PATIENCE: Duration = OPEN_DEADLINE.saturating_mul(2);

/// The tries of one request.
#[derive(Debug, Default)]
pub(super) struct Tries {
    made: usize,
    declined: Vec<NodeId>,
    /// What the last node said that declined.
    said: Option<HopError>,
}

/// Whom to go on without.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Without {
    /// A node that is gone, for every request.
    Lost(NodeId),
    /// A node that does not take this request, for this one alone: its advert told of more room than it has, or it was
    /// started anew with other layers.
    Declined(NodeId),
}

impl Tries {
    /// The offers of nodes that did not decline.
    pub(super) fn usable(&self, mut offers: Vec<Offer>) -> Vec<Offer> {
        offers.retain(|offer| !self.declined.contains(&offer.node));
        offers
    }

    /// Whom to plan without after a route failed to open, `spent` after the first try began.
    ///
    /// # Errors
    /// `error` itself where another route would not help, or enough were tried.
    pub(super) fn after(&mut self, error: HopError, spent: Duration) -> Result<Without, HopError> {
        self.made += 1;
        if self.made >= MAX_TRIES || spent >= PATIENCE {
            return Err(error);
        }
        match error {
            HopError::PeerLost { node, .. } => Ok(Without::Lost(node)),
            HopError::Declined { node, .. } => {
                self.declined.push(node);
                self.said = Some(error);
                Ok(Without::Declined(node))
            }
            other => Err(other),
        }
    }

    /// What the caller hears when no route is left: where nodes declined, their word says more than the plan's.
    pub(super) fn exhausted(&mut self, error: PlanError) -> HopError {
        self.said.take().unwrap_or(HopError::NoRoute(error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{activation::Dtype, id::Span};

    fn offer(node: NodeId) -> Offer {
        Offer {
            node,
            addrs: vec![],
            span: Span::new(0, 10).unwrap(),
            dtype: Dtype::F32,
            kernel_class: "cpu".into(),
            layer_time_ns: 1,
            prefill_layer_time_ns: 1,
            region: String::new(),
            region_refuted: false,
            links: vec![],
            queue_ns: 0,
            bandwidth_kib_s: 0,
            slowdown_percent: 100,
            free_tokens: 100,
            price_nano_far: 0,
            rtt: None,
        }
    }

    fn full(node: NodeId) -> HopError {
        let source = Box::new(HopError::Full { needed_tokens: 9, free_tokens: 1 });
        HopError::Declined { node, span: Span::new(0, 10).unwrap(), source }
    }

    fn lost(node: NodeId) -> HopError {
        HopError::PeerLost { node, span: Span::new(0, 10).unwrap(), reason: "silent".into() }
    }

    fn uncovered() -> PlanError {
        PlanError::Uncovered { model: "m".into(), missing: vec![Span::new(0, 10).unwrap()] }
    }

    #[test]
    fn a_node_that_declines_is_left_out_and_quoted_when_nobody_is_left() {
        let (one, other) = (NodeId::random(), NodeId::random());
        let offers = || vec![offer(one), offer(other)];
        let mut tries = Tries::default();
        assert_eq!(tries.usable(offers()).len(), 2);
        assert_eq!(tries.after(full(one), Duration::ZERO).unwrap(), Without::Declined(one));
        assert_eq!(tries.usable(offers()).iter().map(|offer| offer.node).collect::<Vec<_>>(), [other]);
        assert_eq!(tries.after(full(other), Duration::ZERO).unwrap(), Without::Declined(other));
        assert!(tries.usable(offers()).is_empty());
        let told = tries.exhausted(uncovered());
        assert!(matches!(&told, HopError::Declined { node, .. } if *node == other), "{told}");
        assert!(matches!(told.cause(), HopError::Full { free_tokens: 1, .. }));
    }

    #[test]
    fn a_lost_node_is_for_the_table_to_leave_out() {
        let node = NodeId::random();
        let mut tries = Tries::default();
        assert_eq!(tries.after(lost(node), Duration::ZERO).unwrap(), Without::Lost(node));
        assert_eq!(tries.usable(vec![offer(node)]).len(), 1);
        assert!(matches!(tries.exhausted(uncovered()), HopError::NoRoute(_)));
    }

    #[test]
    fn what_no_other_route_mends_ends_the_request() {
        let bad = HopError::BadStep { reason: "shape".into() };
        assert!(matches!(Tries::default().after(bad, Duration::ZERO), Err(HopError::BadStep { .. })));
    }

    #[test]
    fn a_mesh_that_lies_is_given_up() {
        let mut tries = Tries::default();
        let given_up = (1..=MAX_TRIES).find(|_| tries.after(full(NodeId::random()), Duration::ZERO).is_err());
        assert_eq!(given_up, Some(MAX_TRIES));
    }

    #[test]
    fn silent_nodes_are_not_waited_for_one_after_the_other() {
        let mut tries = Tries::default();
        assert!(tries.after(lost(NodeId::random()), OPEN_DEADLINE).is_ok());
        let given_up = tries.after(lost(NodeId::random()), 2 * OPEN_DEADLINE);
        assert!(matches!(given_up, Err(HopError::PeerLost { .. })), "{given_up:?}");
    }
}
