//! Why a receipt is not accepted.

use super::Commitment;
use crate::{
    id::{ModelHash, NodeId, SessionId, Span},
    limits::MAX_RECEIPT_TOKENS,
};

/// What is wrong with a receipt. Each variant is one thing that a liar may try, or an honest node may have met.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// The bytes are not those of a receipt.
    #[error("receipt cannot be read: {reason}")]
    Malformed {
        /// What is wrong, and where.
        reason: &'static str,
    },
    /// A field has a value that no honest work has; more tokens than [`MAX_RECEIPT_TOKENS`] among them.
    #[error("{field} of a receipt is {value}: a receipt tells of 1 to {MAX_RECEIPT_TOKENS} tokens of one cell")]
    Field {
        /// Which.
        field: &'static str,
        /// Its value.
        value: u64,
    },
    /// One of the two did not sign this.
    #[error("receipt is not signed by node {node}")]
    Signature {
        /// Who did not.
        node: NodeId,
    },
    /// It belongs to another session.
    #[error("receipt is of session {got}, not of {want}")]
    Session {
        /// Its session.
        got: SessionId,
        /// Ours.
        want: SessionId,
    },
    /// It is of another model.
    #[error("receipt is of model {got}, not of {want}")]
    Model {
        /// Its model.
        got: ModelHash,
        /// Ours.
        want: ModelHash,
    },
    /// The same node told of the same layers and positions before.
    #[error("node {node} handed in a receipt for layers {span} from position {position} before")]
    Replayed {
        /// Who.
        node: NodeId,
        /// The layers.
        span: Span,
        /// The first position.
        position: u32,
    },
    /// More receipts than the session can have.
    #[error("more than {limit} receipts of one session")]
    TooMany {
        /// As many as it can have.
        limit: usize,
    },
    /// The node had no part in the session with these layers.
    #[error("node {node} was not asked to run layers {span}")]
    Stranger {
        /// Who.
        node: NodeId,
        /// The layers it tells of.
        span: Span,
    },
    /// It ran in another kernel class than the route was planned with.
    #[error("kernel class {got:?} ran, {want:?} was planned")]
    Class {
        /// Its class.
        got: String,
        /// The planned one.
        want: String,
    },
    /// None of its positions were counted for this node.
    #[error("positions {position}..{end} of node {node} are not in the coordinator's count")]
    NotCounted {
        /// Who.
        node: NodeId,
        /// First position.
        position: u32,
        /// Position after the last.
        end: u32,
    },
    /// It leaves out positions of its cell that were counted: a cell has one receipt.
    #[error("positions {position}..{end} of node {node} are less than were counted up to {counted}")]
    Partial {
        /// Who.
        node: NodeId,
        /// First position.
        position: u32,
        /// Position after the last.
        end: u32,
        /// Position after the last that was counted.
        counted: u32,
    },
    /// The witness is not the neighbour that received the results.
    #[error("node {witness} is no neighbour behind layers {span}: it cannot be their witness")]
    Witness {
        /// The layers.
        span: Span,
        /// Who is named as witness.
        witness: NodeId,
    },
    /// What went in is not what its upstream neighbour gave.
    #[error("node {node} says {got} went in, its neighbour gave another: the bits on the link differ")]
    Input {
        /// Who.
        node: NodeId,
        /// Its commitment.
        got: Commitment,
    },
    /// What came out is not what was received.
    #[error("node {node} says {got} came out, another was received: the bits on the link differ")]
    Output {
        /// Who.
        node: NodeId,
        /// Its commitment.
        got: Commitment,
    },
}
