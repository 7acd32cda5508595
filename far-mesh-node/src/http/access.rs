//! Who may generate: a check before every request that costs something.

use std::{fmt, sync::Arc, time::Duration};

use axum::{
    extract::{Request, State},
    http::{HeaderMap, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use futures::future::BoxFuture;

use far_ledger::{Amount, Ledger, Secret, UnixMillis};

use super::{app::App, error::ApiError};
use crate::metering::Holder;

/// Decides who may generate.
pub trait Access: Send + Sync + fmt::Debug {
    /// Admits the holder of `key`, or of none, and says who is charged: nobody where no account is behind it.
    ///
    /// # Errors
    /// [`Denied`].
    fn admit<'a>(&'a self, key: Option<&'a str>) -> BoxFuture<'a, Result<Option<Holder>, Denied>>;
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
    /// The key's account has less than the request may cost.
    #[error(
        "the account has {available} FAR free and the request may cost {needed} FAR: top it up, or ask for fewer tokens \
         (max_tokens)"
    )]
    NoBalance {
        /// What it has and does not hold for other requests.
        available: Amount,
        /// The most the request may cost.
        needed: Amount,
    },
    /// Too many requests of this key.
    #[error("too many requests: come back in {} s", retry_after.as_secs())]
    TooFast {
        /// When to come back.
        retry_after: Duration,
    },
    /// Nobody can say whose the key is.
    #[error("the key cannot be looked up: {reason}")]
    Unavailable {
        /// What is in the way.
        reason: String,
    },
}

/// Admits whoever has a key of an account in the ledger, and who has none where keys are not required.
///
/// Every request asks the ledger, one row by its index, so a key that is revoked is refused at once; it writes that a key was
/// used once a minute.
#[derive(Debug)]
pub struct KeyAccess {
    ledger: Ledger,
    required: bool,
}

/// Who a request is charged to, for its route.
#[derive(Clone, Debug)]
pub(super) struct Caller(pub(super) Option<Holder>);

/// Admits everyone: a mesh of one's own.
#[derive(Clone, Copy, Debug, Default)]
pub struct OpenAccess;

impl Access for OpenAccess {
    fn admit<'a>(&'a self, _key: Option<&'a str>) -> BoxFuture<'a, Result<Option<Holder>, Denied>> {
        Box::pin(async { Ok(None) })
    }
}

impl KeyAccess {
    /// Asks `ledger`. Where keys are not `required`, a text that cannot be one of ours is none: clients that insist on
    /// sending something are served.
    pub fn new(ledger: Ledger, required: bool) -> Self {
        Self { ledger, required }
    }

    async fn holder(&self, key: Option<&str>) -> Result<Option<Holder>, Denied> {
        let secret = match key.filter(|key| !key.is_empty()).map(Secret::parse) {
            Some(Ok(secret)) => secret,
            _ if !self.required => return Ok(None),
            Some(Err(_)) => return Err(Denied::UnknownKey),
            None => return Err(Denied::MissingKey),
        };
        let found = self.ledger.authenticate(&secret, UnixMillis::now()).await;
        let found = found.map_err(|error| Denied::Unavailable { reason: error.to_string() })?;
        let key = found.ok_or(Denied::UnknownKey)?;
        Ok(Some(Holder { account: key.account, key: key.id }))
    }
}

impl Access for KeyAccess {
    fn admit<'a>(&'a self, key: Option<&'a str>) -> BoxFuture<'a, Result<Option<Holder>, Denied>> {
        Box::pin(self.holder(key))
    }
}

impl From<Denied> for ApiError {
    fn from(denied: Denied) -> Self {
        let message = denied.to_string();
        match denied {
            Denied::MissingKey | Denied::UnknownKey => Self::new(StatusCode::UNAUTHORIZED, "invalid_api_key", message),
            Denied::Unavailable { .. } => Self::ledger_failed(message),
            Denied::NoBalance { .. } => Self::new(StatusCode::PAYMENT_REQUIRED, "insufficient_balance", message),
            Denied::TooFast { retry_after } => {
                Self::new(StatusCode::TOO_MANY_REQUESTS, "rate_limit_exceeded", message).retry_after(retry_after)
            }
        }
    }
}

/// Lets a request through to its route, with its [`Caller`], or not.
pub(super) async fn check(State(app): State<Arc<App>>, mut request: Request, next: Next) -> Response {
    let key = bearer(request.headers()).map(str::to_owned);
    match app.access.admit(key.as_deref()).await {
        Ok(holder) => {
            request.extensions_mut().insert(Caller(holder));
            next.run(request).await
        }
        Err(denied) => ApiError::from(denied).into_response(),
    }
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, key) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| key.trim())
}
