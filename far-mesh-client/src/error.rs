//! Why a call failed, named by what the caller does about it.

use std::time::Duration;

use crate::{schema::ErrorDetail, sse};

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The address is not one of a coordinator.
    #[error("{url:?} is not the address of a coordinator: write http://HOST:PORT")]
    BaseUrl {
        /// The address.
        url: String,
    },
    /// No connection; nothing was sent.
    #[error("no connection to {url}: is a coordinator running there?")]
    Connect {
        /// Whom.
        url: String,
        /// Why.
        #[source]
        source: reqwest::Error,
    },
    /// The connection failed on the way; whether the request was run is not known.
    #[error("the connection to the coordinator failed")]
    Transport(#[source] reqwest::Error),
    /// Nothing came for too long.
    #[error("the coordinator was silent for {} s; ask again or raise the timeout", after.as_secs_f32())]
    Timeout {
        /// How long.
        after: Duration,
    },
    /// The coordinator refused the request.
    #[error("the coordinator answered {status}: {}", detail.message)]
    Refused {
        /// HTTP status.
        status: u16,
        /// What it said.
        detail: ErrorDetail,
        /// When it asks to be called again.
        retry_after: Option<Duration>,
    },
    /// The generation failed after it had begun; the tokens before are good.
    #[error("the generation failed: {}", .0.message)]
    Generation(ErrorDetail),
    /// The stream ended without its final event; the tokens before are good.
    #[error("the stream ended before its final event; what came is good, ask again for the rest")]
    Truncated,
    /// An answer that no coordinator gives.
    #[error("the answer is not a coordinator's: {reason}")]
    Protocol {
        /// What was wrong.
        reason: String,
    },
    /// An event passed the bound.
    #[error(transparent)]
    TooLong(#[from] sse::TooLong),
}
