//! Why a member list is not used.

use std::{io, path::PathBuf};

use super::MAX_MEMBERS;
use crate::id::NodeId;

/// Why a member list is not used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MembersError {
    /// The file cannot be read.
    #[error("cannot read member list {path}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// A line is not what must stand there.
    #[error("line {line} of the member list is {got:?}, must be {want}")]
    Line {
        /// Counted from 1.
        line: usize,
        /// What stands there, shortened.
        got: String,
        /// What must.
        want: &'static str,
    },
    /// Too long.
    #[error("the member list has more than {MAX_MEMBERS} nodes")]
    TooMany,
    /// Somebody else signed it, or it was changed.
    #[error("the signature of operator {operator} does not fit the member list: it was changed after it was signed")]
    Signature {
        /// Who is said to have signed.
        operator: NodeId,
    },
    /// The operator's key is of the wrong kind.
    #[error("the operator's key cannot sign: it must be ed25519")]
    Key,
    /// Another operator's list lies where one is in force.
    #[error(
        "the member list is signed by another operator, {got}, than the one before: start anew to change operators"
    )]
    Operator {
        /// Who signed this one.
        got: NodeId,
    },
    /// A list that was replaced is back.
    #[error("the member list has version {got}, {held} is in force: sign with a higher version")]
    Older {
        /// The version in force.
        held: u64,
        /// Of this list.
        got: u64,
    },
}
