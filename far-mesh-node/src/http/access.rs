//! Who may generate: a check before every request that costs something.

use std::{fmt, sync::Arc, time::Duration};

use axum::{
    extract::{Request, State},
    http::{HeaderMap, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use futures::future::BoxFuture;

use super::{app::App, error::ApiError};

/// Decides who may generate.
pub trait Access: Send + Sync + fmt::Debug {
    /// Admits the holder of `key`, or of none.
    ///
    /// # Errors
    /// [`Denied`].
    fn admit<'a>(&'a self, key: Option<&'a str>) -> BoxFuture<'a, Result<(), Denied>>;
}

/// Why someone may not generate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Denied {
    /// No key was sent.
    #[error("a key is needed: send it as `Authorization: Bearer fl_...`")]
    MissingKey,
    /// The key is not one of ours, or was revoked.
    #[error("the key is not valid: check it, or ask the operator for one")]
    UnknownKey,
    /// The key's account is empty.
    #[error("the balance is used up: top up the account")]
    NoBalance,
    /// Too many requests of this key.
    #[error("too many requests: come back in {} s", retry_after.as_secs())]
    TooFast {
        /// When to come back.
        retry_after: Duration,
    },
}

/// Admits everyone: a mesh of one's own.
#[derive(Clone, Copy, Debug, Default)]
pub struct OpenAccess;

impl Access for OpenAccess {
    fn admit<'a>(&'a self, _key: Option<&'a str>) -> BoxFuture<'a, Result<(), Denied>> {
        Box::pin(async { Ok(()) })
    }
}

impl From<Denied> for ApiError {
    fn from(denied: Denied) -> Self {
        let message = denied.to_string();
        match denied {
            Denied::MissingKey | Denied::UnknownKey => Self::new(StatusCode::UNAUTHORIZED, "invalid_api_key", message),
            Denied::NoBalance => Self::new(StatusCode::PAYMENT_REQUIRED, "insufficient_balance", message),
            Denied::TooFast { retry_after } => {
                Self::new(StatusCode::TOO_MANY_REQUESTS, "rate_limit_exceeded", message).retry_after(retry_after)
            }
        }
    }
}

/// Lets a request through to its route, or not.
pub(super) async fn check(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let key = bearer(request.headers()).map(str::to_owned);
    match app.access.admit(key.as_deref()).await {
        Ok(()) => next.run(request).await,
        Err(denied) => ApiError::from(denied).into_response(),
    }
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, key) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| key.trim())
}
