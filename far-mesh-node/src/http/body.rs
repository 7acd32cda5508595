//! Request bodies: JSON, of bounded size and time, with errors that name the place.

use std::sync::Arc;

use axum::{
    extract::{FromRequest, Request},
    http::{HeaderMap, StatusCode, header},
};
use futures::StreamExt;
use serde::de::DeserializeOwned;

use super::{app::App, error::ApiError, options::Options};

/// A body over the bound is still read, and dropped, up to this many times it: a client that is busy writing would
/// see a reset instead of the answer.
const DRAINED_BOUNDS: usize = 8;

/// A body read from JSON.
#[derive(Debug)]
pub(super) struct JsonBody<T>(pub(super) T);

impl<T: DeserializeOwned> FromRequest<Arc<App>> for JsonBody<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, app: &Arc<App>) -> Result<Self, ApiError> {
        check_type(request.headers())?;
        let bytes =
            tokio::time::timeout(app.options.body_timeout, read(request, &app.options)).await.map_err(|_| {
                let message = format!("the body took longer than {} s to arrive", app.options.body_timeout.as_secs());
                ApiError::new(StatusCode::REQUEST_TIMEOUT, "body_timeout", message)
            })??;
        parse(&bytes).map(Self)
    }
}

/// A strict type also keeps web pages of other origins from posting here without being asked.
fn check_type(headers: &HeaderMap) -> Result<(), ApiError> {
    let value = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = value.split(';').next().unwrap_or_default().trim();
    if essence.eq_ignore_ascii_case("application/json") {
        return Ok(());
    }
    let message = format!("content type is {value:?}: send JSON with `Content-Type: application/json`");
    Err(ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", message))
}

async fn read(request: Request, options: &Options) -> Result<Vec<u8>, ApiError> {
    let limit = options.max_body_bytes;
    let mut stream = request.into_body().into_data_stream();
    let (mut bytes, mut total) = (Vec::new(), 0usize);
    while let Some(chunk) = stream.next().await {
        let chunk = chunk.map_err(|error| {
            ApiError::new(StatusCode::BAD_REQUEST, "body_incomplete", format!("the body did not arrive: {error}"))
        })?;
        total = total.saturating_add(chunk.len());
        if total <= limit {
            bytes.extend_from_slice(&chunk);
        } else if total > limit.saturating_mul(DRAINED_BOUNDS) {
            break;
        }
    }
    if total > limit {
        let message = format!("the body passes {limit} bytes: shorten the prompt");
        return Err(ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", message));
    }
    Ok(bytes)
}

fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ApiError> {
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let value = serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let path = error.path().to_string();
        let inner = error.into_inner();
        match inner.classify() {
            serde_json::error::Category::Data if path != "." => {
                ApiError::field("invalid_type", path.clone(), format!("{path}: {inner}"))
            }
            serde_json::error::Category::Data => {
                ApiError::new(StatusCode::BAD_REQUEST, "invalid_request", inner.to_string())
            }
            _ => malformed(&inner),
        }
    })?;
    json.end().map_err(|error| malformed(&error))?;
    // serde would take an array's values for the fields, in their order.
    if bytes.trim_ascii_start().first() != Some(&b'{') {
        let message = "the body is not a JSON object: send {\"prompt\": ...}";
        return Err(ApiError::new(StatusCode::BAD_REQUEST, "invalid_request", message));
    }
    Ok(value)
}

fn malformed(error: &serde_json::Error) -> ApiError {
    ApiError::new(StatusCode::BAD_REQUEST, "invalid_json", format!("the body is not JSON: {error}"))
}
