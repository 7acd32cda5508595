//! Errors, in the shape that OpenAI's clients know.

use serde::{Deserialize, Serialize};

/// Body of every answer that is not a success, and of the event that ends a failed stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorBody {
    /// The error.
    pub error: ErrorDetail,
}

/// What went wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorDetail {
    /// For a person: the value, and what to do about it.
    pub message: String,
    /// Family: `invalid_request_error`, `rate_limit_error`, `insufficient_quota` or `server_error`.
    #[serde(rename = "type")]
    pub kind: String,
    /// For a program, for example `model_not_found`.
    #[serde(default)]
    pub code: Option<String>,
    /// The field of the request that is to blame, as a path such as `messages[0].content`.
    #[serde(default)]
    pub param: Option<String>,
}
