//! Errors as clients see them: OpenAI's shape, and a status that says who can mend it.

use std::time::Duration;

use axum::{
    Json,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use far_mesh_client::schema::{ErrorBody, ErrorDetail};
use far_mesh_core::{hop::HopError, route::PlanError, session::GenerateError};

use super::engine::EngineError;

/// When to come back where a route failed: the time in which a lost node's advert is passed over.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// An answer that is not a success.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiError {
    /// HTTP status.
    pub status: StatusCode,
    /// For a program.
    pub code: &'static str,
    /// For a person.
    pub message: String,
    /// The field to blame.
    pub param: Option<String>,
    /// When to come back.
    pub retry_after: Option<Duration>,
}

impl ApiError {
    /// An error without a field to blame.
    pub fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into(), param: None, retry_after: None }
    }

    /// 400: a field is missing, of the wrong type, or not supported.
    pub fn field(code: &'static str, param: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, message).about(param)
    }

    /// 422: a field's value is out of range.
    pub fn range(param: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "out_of_range", message).about(param)
    }

    /// Names the field to blame.
    #[must_use]
    pub fn about(mut self, param: impl Into<String>) -> Self {
        self.param = Some(param.into());
        self
    }

    /// Says when to come back.
    #[must_use]
    pub fn retry_after(mut self, after: Duration) -> Self {
        self.retry_after = Some(after);
        self
    }

    /// The body, also the event that ends a failed stream.
    pub fn body(&self) -> ErrorBody {
        let kind = match self.status.as_u16() {
            402 => "insufficient_quota",
            429 => "rate_limit_error",
            400..=499 => "invalid_request_error",
            _ => "server_error",
        };
        ErrorBody {
            error: ErrorDetail {
                message: self.message.clone(),
                kind: kind.to_owned(),
                code: Some(self.code.to_owned()),
                param: self.param.clone(),
            },
        }
    }

    /// What an engine's error means to the client; `prompt` is the field that holds the prompt.
    pub(super) fn from_engine(error: EngineError, prompt: &str) -> Self {
        let message = error.to_string();
        match error {
            EngineError::Gone { .. } => Self::unserved(message),
            EngineError::Template { .. } => Self::field("chat_template", prompt, message),
            EngineError::Generate(error) => Self::from_generation(&error, prompt),
        }
    }

    fn from_hop(error: &HopError, message: String) -> Self {
        match error {
            HopError::NoRoute(PlanError::Uncovered { .. }) => Self::unserved(message),
            HopError::NoRoute(PlanError::Region { .. }) => {
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "region_not_served", message)
                    .about("region")
                    .retry_after(RETRY_AFTER)
            }
            // Busy, not broken: the client may come back.
            HopError::Full { .. } | HopError::NoRoute(PlanError::NoRoom { .. }) => {
                Self::new(StatusCode::TOO_MANY_REQUESTS, "mesh_full", message).retry_after(RETRY_AFTER)
            }
            HopError::PeerLost { .. } => {
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "node_lost", message).retry_after(RETRY_AFTER)
            }
            HopError::BadStep { .. } => Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal_error", message),
            _ => Self::new(StatusCode::SERVICE_UNAVAILABLE, "route_failed", message).retry_after(RETRY_AFTER),
        }
    }

    /// The ledger does not write or read: the request may be repeated.
    pub(super) fn ledger_failed(message: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "ledger_failed", message).retry_after(RETRY_AFTER)
    }

    fn unserved(message: String) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "layers_not_served", message).retry_after(RETRY_AFTER)
    }

    /// What a failed generation means to the client; `prompt` is the field that holds the prompt.
    pub(super) fn from_generation(error: &GenerateError, prompt: &str) -> Self {
        let message = error.to_string();
        match error {
            GenerateError::EmptyPrompt => Self::range(prompt, message),
            GenerateError::TooLong { .. } => {
                Self::new(StatusCode::PAYLOAD_TOO_LARGE, "context_length_exceeded", message).about(prompt)
            }
            GenerateError::Parameter { name: "prompt", .. } => Self::range(prompt, message),
            GenerateError::Parameter { name, .. } => Self::range(*name, message),
            GenerateError::Hop(hop) => Self::from_hop(hop.cause(), message),
            _ => Self::new(StatusCode::SERVICE_UNAVAILABLE, "route_failed", message).retry_after(RETRY_AFTER),
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(self.body())).into_response();
        if let Some(after) = self.retry_after {
            let seconds = after.as_secs() + u64::from(after.subsec_nanos() > 0);
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}
