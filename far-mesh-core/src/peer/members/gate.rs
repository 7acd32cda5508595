//! Refuses connections before any protocol is spoken on them.

use std::{
    collections::HashMap,
    convert::Infallible,
    sync::Arc,
    task::{Context, Poll},
};

use libp2p::{
    Multiaddr,
    core::{Endpoint, transport::PortUse},
    swarm::{
        ConnectionClosed, ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, ToSwarm,
        behaviour::ConnectionEstablished, dummy,
    },
};

use super::Members;
use crate::{
    id::NodeId,
    peer::{
        address::{self, Scope},
        config::MAX_INCOMING_PER_ORIGIN,
        links::Links,
        nat::Way,
        origin::{Origin, origin},
    },
};

/// Somebody who is not on the list in force.
#[derive(Debug, Clone, thiserror::Error)]
#[error(
    "node {node} is not on the member list (version {version}): add it, sign the list anew and put it in place of the old one"
)]
pub(in crate::peer) struct NotAMember {
    pub(in crate::peer) node: NodeId,
    version: u64,
}

/// A node names an address for itself that leads nearer to us than it is: whoever is there did not ask for us.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{addr}, which node {node} names as its own, leads nearer than the node itself is")]
struct TooNear {
    node: NodeId,
    addr: Multiaddr,
}

/// A network that has as many connections here as it may.
#[derive(Debug, Clone, thiserror::Error)]
#[error("its network has {MAX_INCOMING_PER_ORIGIN} connections here, as many as it may")]
struct Crowded;

/// First of all behaviours: what it refuses, no other sees.
#[derive(Debug)]
pub(in crate::peer) struct Gate {
    members: Option<Members>,
    links: Arc<Links>,
    /// How near the mesh is that this node was told to join.
    nearest: Scope,
    /// Connections from each network of the open internet.
    incoming: HashMap<Origin, usize>,
}

impl Gate {
    pub(in crate::peer) fn new(members: Option<Members>, links: Arc<Links>, nearest: Scope) -> Self {
        Self { members, links, nearest, incoming: HashMap::new() }
    }

    /// Puts a list in force, for new connections.
    pub(in crate::peer) fn replace(&mut self, members: Members) {
        self.members = Some(members);
    }

    /// Whether a node may be connected.
    pub(in crate::peer) fn admits(&self, node: &NodeId) -> bool {
        self.members.as_ref().is_none_or(|members| members.contains(node))
    }

    fn check(&self, node: NodeId) -> Result<(), ConnectionDenied> {
        match &self.members {
            Some(members) if !members.contains(&node) => {
                Err(ConnectionDenied::new(NotAMember { node, version: members.version() }))
            }
            _ => Ok(()),
        }
    }
}

impl NetworkBehaviour for Gate {
    type ConnectionHandler = dummy::ConnectionHandler;
    type ToSwarm = Infallible;

    fn handle_pending_inbound_connection(
        &mut self,
        _: ConnectionId,
        _: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<(), ConnectionDenied> {
        let crowded = |origin| self.incoming.get(&origin).is_some_and(|count| *count >= MAX_INCOMING_PER_ORIGIN);
        if origin(remote).is_some_and(crowded) { Err(ConnectionDenied::new(Crowded)) } else { Ok(()) }
    }

    /// A node that is connected already is dialed again where it says it is: to tell it whether it can be reached, and to
    /// get through its NAT. It must not make us knock at doors that only we reach.
    fn handle_pending_outbound_connection(
        &mut self,
        _: ConnectionId,
        peer: Option<NodeId>,
        addrs: &[Multiaddr],
        _: Endpoint,
    ) -> Result<Vec<Multiaddr>, ConnectionDenied> {
        let Some(node) = peer else { return Ok(Vec::new()) };
        self.check(node)?;
        let nearest = match self.links.way(&node) {
            Some(Way::Direct) => self.links.scope(&node),
            // Whoever comes through a relay may be anywhere in the mesh.
            Some(Way::Relayed) => self.nearest,
            None => return Ok(Vec::new()),
        };
        match addrs.iter().find(|addr| address::scope(addr) < nearest) {
            Some(addr) => Err(ConnectionDenied::new(TooNear { node, addr: addr.clone() })),
            None => Ok(Vec::new()),
        }
    }

    fn handle_established_inbound_connection(
        &mut self,
        _: ConnectionId,
        peer: NodeId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<dummy::ConnectionHandler, ConnectionDenied> {
        self.check(peer).map(|()| dummy::ConnectionHandler)
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        peer: NodeId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<dummy::ConnectionHandler, ConnectionDenied> {
        self.check(peer).map(|()| dummy::ConnectionHandler)
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        match event {
            FromSwarm::ConnectionEstablished(ConnectionEstablished { endpoint, .. }) if endpoint.is_listener() => {
                if let Some(origin) = origin(endpoint.get_remote_address()) {
                    *self.incoming.entry(origin).or_default() += 1;
                }
            }
            FromSwarm::ConnectionClosed(ConnectionClosed { endpoint, .. }) if endpoint.is_listener() => {
                if let Some(origin) = origin(endpoint.get_remote_address())
                    && let Some(count) = self.incoming.get_mut(&origin)
                {
                    *count -= 1;
                    if *count == 0 {
                        self.incoming.remove(&origin);
                    }
                }
            }
            _ => {}
        }
    }

    fn on_connection_handler_event(&mut self, _: NodeId, _: ConnectionId, event: Infallible) {
        match event {}
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<Infallible, Infallible>> {
        Poll::Pending
    }
}
