//! Bodies of control frames, in postcard. They open, watch and end a session and are never part of a step.
//!
//! Every body is at most [`MAX_CONTROL_BYTES`](crate::limits::MAX_CONTROL_BYTES) long before it is decoded, so no field
//! can make the decoder allocate more than that.

use libp2p::Multiaddr;
use serde::{Deserialize, Serialize};

use crate::{
    activation::Dtype,
    hop::HopError,
    id::{ModelHash, NodeId, SessionId, Span},
};

/// Most addresses of a next hop that are tried.
pub(crate) const MAX_ADDRS: usize = 16;

/// Longest text a node may put into an error.
const MAX_REASON_BYTES: usize = 1024;

/// First frame of a control stream: what the coordinator wants of this hop.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Open {
    /// [`super::PROTOCOL_VERSION`] of the coordinator.
    pub protocol: u8,
    /// [`super::BUILD`] of the coordinator.
    pub build: String,
    /// The session.
    pub session: SessionId,
    /// The model.
    pub model: ModelHash,
    /// Layers this hop is to run.
    pub span: Span,
    /// Element type of activations on every link of the route.
    pub dtype: Dtype,
    /// Positions to keep room for.
    pub context_tokens: u32,
    /// Where steps come from.
    pub source: Source,
    /// Where results go; `None` sends them to the coordinator.
    pub next: Option<Next>,
    /// Steps whose results the coordinator has: more than 0 where this hop takes the place of a lost one. They come again,
    /// are run again for the caches they fill, and may be run together where that changes no bit.
    pub answered: u64,
    /// Steps that were on the route when this hop was asked: more than 0 where it takes the place of a lost one. Results
    /// of theirs may still come to the coordinator past it.
    pub submitted: u64,
}

/// Coordinator to a hop whose neighbour was lost or changes: who stands beside it from now on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reroute {
    /// Repeated in the answer.
    pub number: u64,
    /// The node that attaches from now on; `None` leaves the steps' source as it is.
    pub source: Option<NodeId>,
    /// The node to attach to from now on; `None` leaves the results' way as it is.
    pub next: Option<Next>,
}

/// A hop's answer to a [`Reroute`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rerouted {
    /// Of the [`Reroute`].
    pub number: u64,
    /// False: the next hop lacks results that this one no longer has, so nothing is attached.
    pub attached: bool,
}

/// A hop's word on a neighbour that does not answer, hung up or broke the protocol. Its own session goes on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lost {
    /// Which.
    pub node: NodeId,
    /// What was seen.
    pub reason: String,
    /// The last [`Reroute`] that this hop had acted on, 0 without one: older news is of no use.
    pub number: u64,
}

/// Where a hop's steps come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Source {
    /// From the control stream: this is the first hop.
    Coordinator,
    /// From a data stream which this node, and no other, will attach.
    Peer(NodeId),
}

/// The following hop of a route.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Next {
    /// Who.
    pub node: NodeId,
    /// Where it listens.
    pub addrs: Vec<Multiaddr>,
}

/// First frame of a data stream, and of a control stream that takes another's place: the session it belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attach {
    /// The session.
    pub session: SessionId,
}

/// A hop's answer to a probe, sent at once even while its shard computes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// Number of the probe.
    pub probe: u64,
    /// Steps that arrived whole.
    pub received: u64,
    /// Steps that were computed and queued for the next link.
    pub finished: u64,
    /// Bytes that arrived on the link the steps come from: grows while a long frame is still arriving.
    pub received_bytes: u64,
    /// Steps that wait for the device or are on it.
    pub busy: u64,
}

/// What a hop says it did for a session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// Positions computed.
    pub tokens: u64,
    /// Steps computed.
    pub steps: u64,
    /// Microseconds its device spent on them.
    pub compute_us: u64,
}

/// Why a hop ends a session or does not begin it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Fault {
    /// The request does not fit this hop.
    Refused(String),
    /// No room now.
    Full {
        /// Positions asked for.
        needed_tokens: u64,
        /// Positions free.
        free_tokens: u64,
    },
    /// A step broke the protocol.
    BadStep(String),
    /// A neighbour in the route does not answer, hung up or broke the protocol.
    PeerLost {
        /// Which.
        node: NodeId,
        /// What was seen.
        reason: String,
    },
    /// The device failed.
    Device(String),
    /// The node is shutting down.
    Closed,
}

impl Fault {
    /// The fault with its text cut to a length that always fits a frame, without control characters.
    #[must_use]
    pub fn bounded(mut self) -> Self {
        if let Self::Refused(text) | Self::BadStep(text) | Self::PeerLost { reason: text, .. } | Self::Device(text) =
            &mut self
        {
            bound(text);
        }
        self
    }
}

impl Lost {
    /// As [`Fault::bounded`].
    #[must_use]
    pub fn bounded(mut self) -> Self {
        bound(&mut self.reason);
        self
    }
}

fn bound(text: &mut String) {
    let end = text.floor_char_boundary(MAX_REASON_BYTES);
    text.truncate(end);
    if text.contains(char::is_control) {
        *text = text.replace(char::is_control, " ");
    }
}

impl From<HopError> for Fault {
    fn from(error: HopError) -> Self {
        match error {
            HopError::Declined { source, .. } => return Self::from(*source),
            error @ HopError::NoRoute(_) => Self::Refused(error.to_string()),
            HopError::Refused { reason } => Self::Refused(reason),
            HopError::Full { needed_tokens, free_tokens } => Self::Full { needed_tokens, free_tokens },
            HopError::BadStep { reason } => Self::BadStep(reason),
            HopError::PeerLost { node, reason, .. } => Self::PeerLost { node, reason },
            HopError::Device { reason } => Self::Device(reason),
            HopError::Closed => Self::Closed,
        }
        .bounded()
    }
}
