//! Who finds nodes for a route that lost some.

use std::fmt;

use futures::future::BoxFuture;

use super::RemoteHop;
use crate::{
    activation::Dtype,
    hop::HopError,
    id::{NodeId, Span},
};

/// Hops that are being looked for.
pub(super) type Found = BoxFuture<'static, Result<Vec<RemoteHop>, HopError>>;

/// Finds nodes that take the place of lost ones; knows the mesh, not the session.
pub trait Mender: Send + Sync + fmt::Debug {
    /// Hops that together run the lost layers, none of them on a node of `loss.without`.
    ///
    /// # Errors
    /// [`HopError::NoRoute`] when nobody serves them, [`HopError::Refused`] when those who do may not take them.
    fn replace(&self, loss: Loss) -> BoxFuture<'static, Result<Vec<RemoteHop>, HopError>>;

    /// A node takes `factor` times what its advert promises.
    fn slow(&self, node: NodeId, factor: f64);

    /// A node of the route is lost, for `error`.
    fn lost(&self, node: NodeId, error: &HopError);
}

/// Layers of a session that need others to run them.
#[derive(Clone, Debug)]
pub struct Loss {
    /// The layers.
    pub span: Span,
    /// The node that runs the layers before; `None` for the coordinator.
    pub before: Option<NodeId>,
    /// The node that runs the layers after; `None` for the coordinator.
    pub after: Option<NodeId>,
    /// Nodes that run other layers of the session, or were just tried.
    pub without: Vec<NodeId>,
    /// Nodes of the session that run some of the layers and would give up their places: what they keep for it is free then.
    pub leaving: Vec<NodeId>,
    /// Most hops that may take the places.
    pub max_hops: usize,
    /// Kernel class of the nodes that ran the layers first; another gives other bits. `None` where they were of several.
    pub kernel_class: Option<String>,
    /// Element type of the session's activations.
    pub dtype: Dtype,
    /// Positions to keep room for.
    pub context_tokens: u32,
    /// Positions that will be sent again.
    pub done_tokens: u32,
    /// Nobody was found before: it may be waited for a node to come.
    pub wait: bool,
}
