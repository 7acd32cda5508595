//! One place in a route: a span that runs steps, here or far away.
//!
//! A [`Hop`] opens sessions; a [`HopSession`] is an ordered pipe of steps. [`crate::shard::LocalHop`] runs them on this
//! machine's device, [`crate::peer::RemoteRoute`] sends them through other nodes: a whole chain of remote hops looks
//! like one hop over all layers, so [`crate::session`] drives both alike.

use std::{fmt, time::Duration};

use futures::future::BoxFuture;

use crate::{
    activation::{Activation, Dtype},
    id::{ModelHash, NodeId, SessionId, Span},
    receipt::Receipt,
    route::PlanError,
};

/// Runs a span of layers for sessions.
pub trait Hop: Send + Sync + fmt::Debug {
    /// The layers this hop covers.
    fn span(&self) -> Span;

    /// Width of the hidden states it takes and gives, where it knows: a bound on what callers may send.
    fn hidden(&self) -> Option<usize> {
        None
    }

    /// Device family, element type and version of the kernels that compute: equal classes give equal bits. Empty where the
    /// hop has no kernels of its own.
    fn kernel_class(&self) -> String {
        String::new()
    }

    /// Whether several steps run as one give the same bits as each alone: who replays steps may then send them together.
    fn merges_steps(&self) -> bool {
        true
    }

    /// Makes room for a session. Dropping what is returned ends the session and frees the room.
    ///
    /// # Errors
    /// [`HopError::Refused`] when the request does not fit this hop, [`HopError::Full`] when there is no room now; where
    /// other nodes are on the way, [`HopError::Declined`] when one of them says so and [`HopError::PeerLost`] when one
    /// does not answer.
    fn open(&self, request: OpenSession) -> BoxFuture<'_, Result<Box<dyn HopSession>, HopError>>;

    /// As [`open`](Hop::open), on behalf of another node: a hop that shares work between sessions may keep those of one
    /// node apart from those of others.
    ///
    /// # Errors
    /// As [`open`](Hop::open).
    fn open_for(&self, owner: NodeId, request: OpenSession) -> BoxFuture<'_, Result<Box<dyn HopSession>, HopError>> {
        let _ = owner;
        self.open(request)
    }
}

/// A session at a hop: steps go in with [`submit`](HopSession::submit) and come out of [`next`](HopSession::next) in order.
///
/// Invariant: at most [`crate::limits::MAX_STEPS_IN_FLIGHT`] steps are between the two. Dropping a session cancels it.
pub trait HopSession: Send {
    /// Queues a step; returns as soon as it is on its way.
    ///
    /// Not cancel-safe: a dropped future may or may not have queued the step, so drop the session too.
    fn submit(&mut self, step: Step) -> BoxFuture<'_, Result<(), HopError>>;

    /// Waits for the oldest queued step. Cancel-safe: a dropped future loses nothing.
    fn next(&mut self) -> BoxFuture<'_, Result<Done, HopError>>;

    /// Ends the session and says what each hop did, in the order of the route.
    fn close(self: Box<Self>) -> BoxFuture<'static, Result<Vec<Account>, HopError>>;
}

/// Turns last hidden states into logits: final norm and output matrix.
pub trait Head: Send + Sync + fmt::Debug {
    /// # Shapes
    /// `[tokens, hidden]` in, `tokens * vocabulary` f32 logits out, row-major.
    ///
    /// # Errors
    /// [`HopError::BadStep`] when the activation's width is not the model's.
    fn logits(&self, hidden: Activation) -> BoxFuture<'_, Result<Vec<f32>, HopError>>;

    /// Number of tokens the head tells apart.
    fn vocabulary(&self) -> usize;
}

/// What a session asks of a hop.
#[derive(Clone, Debug)]
pub struct OpenSession {
    /// The session.
    pub session: SessionId,
    /// The model it runs.
    pub model: ModelHash,
    /// The layers it needs from this hop.
    pub span: Span,
    /// Element type of the activations it sends and expects.
    pub dtype: Dtype,
    /// Greatest number of positions it will reach, prompt included. Room is kept for all of them.
    pub context_tokens: u32,
}

/// One forward of consecutive positions of a session.
#[derive(Clone, Debug)]
pub struct Step {
    /// Counts a session's steps from 0 without gaps.
    pub seq: u64,
    /// Position of the first row; must be the number of positions done so far.
    pub position: u32,
    /// Rows: token ids into a hop that starts at layer 0, hidden states into any other.
    pub input: Input,
    /// What to give back.
    pub output: Rows,
}

/// What goes into a step.
#[derive(Clone, Debug, PartialEq)]
pub enum Input {
    /// Token ids, one a position.
    Tokens(Vec<u32>),
    /// Hidden states, one row a position.
    Activation(Activation),
}

/// Rows of a step's result that somebody needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Rows {
    /// None: an inner chunk of a prompt at the end of a route.
    None = 0,
    /// The last: what the next token is sampled from.
    Last = 1,
    /// All: the input of a following hop.
    All = 2,
}

/// A finished step.
#[derive(Clone, Debug)]
pub struct Done {
    /// The step's number.
    pub seq: u64,
    /// The rows asked for; `None` with [`Rows::None`].
    pub output: Option<Activation>,
}

/// What one hop did for a session.
#[derive(Clone, Debug, PartialEq)]
pub struct Account {
    /// Who; `None` on this machine.
    pub node: Option<NodeId>,
    /// The layers it ran.
    pub span: Span,
    /// Positions it ran them for: on another node those that it and its neighbour have signed a receipt for.
    pub tokens: u64,
    /// Positions it was asked to run them for. Where it is more than `tokens`, receipts are missing or were refused.
    pub counted: u64,
    /// Time its device spent on them, as the node says itself.
    pub compute: Duration,
    /// False where it took the place of a lost hop of another kernel class: from there on the session's bits are not those
    /// of the undisturbed run.
    pub exact: bool,
    /// The receipts behind `tokens`, at most some for each run of positions; none of a hop on this machine.
    pub receipts: Vec<Receipt>,
}

/// Why a hop cannot serve, named by what the caller does about it.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum HopError {
    /// The hop will never take this request: choose another or mend the request.
    #[error("hop refused the session: {reason}")]
    Refused {
        /// Both values that differ, or the limit that was passed.
        reason: String,
    },
    /// No room at the moment: choose another hop or come back.
    #[error("hop is full: {needed_tokens} tokens asked for, {free_tokens} free; wait for a session to end")]
    Full {
        /// Positions asked for.
        needed_tokens: u64,
        /// Positions free.
        free_tokens: u64,
    },
    /// A step broke the protocol: its number, position, shape or type is wrong. The session is over.
    #[error("step is not acceptable: {reason}")]
    BadStep {
        /// The value and what it should have been.
        reason: String,
    },
    /// A node stopped answering or hung up: repair the route.
    #[error("node {node} with layers {span} is lost: {reason}")]
    PeerLost {
        /// Who.
        node: NodeId,
        /// The layers it was to run.
        span: Span,
        /// What was seen.
        reason: String,
    },
    /// A node of a route does not take the session: plan without it.
    #[error("node {node} with layers {span} declines: {source}")]
    Declined {
        /// Who.
        node: NodeId,
        /// The layers it was to run.
        span: Span,
        /// What it said.
        source: Box<HopError>,
    },
    /// No route covers the layers with room to spare: start a provider, wait, or ask for less.
    #[error(transparent)]
    NoRoute(#[from] PlanError),
    /// The device failed: the shard is of no more use.
    #[error("device failed: {reason}")]
    Device {
        /// What the backend said.
        reason: String,
    },
    /// The hop is shutting down or the session was ended.
    #[error("session is closed")]
    Closed,
}

impl HopError {
    /// What is at the bottom of it: the words of the node that declined, else the error itself.
    pub fn cause(&self) -> &Self {
        match self {
            Self::Declined { source, .. } => source.cause(),
            other => other,
        }
    }
}

impl Input {
    /// Number of positions.
    pub fn tokens(&self) -> usize {
        match self {
            Self::Tokens(ids) => ids.len(),
            Self::Activation(activation) => activation.tokens(),
        }
    }
}

impl Rows {
    /// The choice with this number on the wire.
    pub fn from_wire(number: u8) -> Option<Self> {
        [Self::None, Self::Last, Self::All].into_iter().find(|rows| *rows as u8 == number)
    }
}
