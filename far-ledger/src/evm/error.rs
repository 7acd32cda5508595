//! What may go wrong between this program and a node.

/// Longest text of a node that an error repeats.
pub(super) const SHOWN_CHARS: usize = 160;

/// Why a node did not answer a request, or not with an answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RpcError {
    /// The address of the node is not one.
    #[error("the address of the node is not an http or https address: set rpc_url to one")]
    Address,
    /// The node cannot be reached, or the answer was cut off. Whether it did what it was asked is not known.
    #[error("the node did not answer {method}: {reason}")]
    Unreachable {
        /// The method.
        method: &'static str,
        /// What failed, without the node's address.
        reason: String,
    },
    /// The node answered with an HTTP error.
    #[error("the node answered {method} with HTTP status {status}: {body}")]
    Status {
        /// The method.
        method: &'static str,
        /// The status.
        status: u16,
        /// Start of the body.
        body: String,
    },
    /// The answer is longer than this program reads.
    #[error(
        "the node's answer to {method} is longer than {limit} bytes: it is not a JSON-RPC node, or the query is too wide"
    )]
    TooLarge {
        /// The method.
        method: &'static str,
        /// Most bytes read.
        limit: usize,
    },
    /// The answer is not JSON-RPC.
    #[error("the node's answer to {method} is not JSON-RPC: {body:?}; is the address that of a node?")]
    NotJsonRpc {
        /// The method.
        method: &'static str,
        /// Start of the body.
        body: String,
    },
    /// The node refused.
    #[error("the node refused {method}: {message} (code {code})")]
    Refused {
        /// The method.
        method: &'static str,
        /// Its code.
        code: i64,
        /// Its message, cut where it is long.
        message: String,
        /// Data of a revert.
        data: Option<Vec<u8>>,
    },
    /// The answer holds a value that cannot be.
    #[error("the node's answer to {method} has {field} {value}: it is broken or lies, use another node")]
    BadAnswer {
        /// The method.
        method: &'static str,
        /// What is wrong.
        field: &'static str,
        /// The value, cut where it is long.
        value: String,
    },
    /// The node has no such block (yet, or any more).
    #[error("the node has no block {block}: it is behind, or keeps too little history")]
    NoBlock {
        /// The block.
        block: String,
    },
}

impl RpcError {
    /// Whether the call was executed and reverted.
    pub fn is_revert(&self) -> bool {
        matches!(self, Self::Refused { code, message, data, .. }
            if *code == 3 || data.is_some() || message.contains("revert"))
    }

    /// Whether the same request may be answered a moment later.
    pub(super) fn may_pass(&self) -> bool {
        matches!(self, Self::Unreachable { .. } | Self::Status { status: 429 | 500..=599, .. }) || self.is_too_often()
    }

    /// Whether the node was asked too often; whoever asks for less at a time asks more often still.
    fn is_too_often(&self) -> bool {
        let Self::Refused { code, message, .. } = self else { return false };
        let message = message.to_ascii_lowercase();
        *code == 429 || ["rate limit", "too many requests", "per second"].iter().any(|told| message.contains(told))
    }

    /// Whether a narrower query may be answered.
    pub(super) fn may_be_too_wide(&self) -> bool {
        let wide =
            matches!(self, Self::Refused { .. } | Self::TooLarge { .. } | Self::Status { status: 400 | 413 | 504, .. });
        wide && !self.is_too_often()
    }

    pub(super) fn bad(method: &'static str, field: &'static str, value: impl ToString) -> Self {
        Self::BadAnswer { method, field, value: shown(&value.to_string()) }
    }
}

/// As much of a foreign text as an error repeats.
pub(super) fn shown(text: &str) -> String {
    text.chars().take(SHOWN_CHARS).map(|c| if c.is_control() { ' ' } else { c }).collect()
}
