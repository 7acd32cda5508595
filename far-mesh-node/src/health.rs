//! The small HTTP server of nodes that are not coordinators: `GET /health`, for supervisors and load balancers.

use std::sync::Arc;

use axum::{Json, Router, routing::get};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// Answers `/health` with what `state` says, until `shutdown` fires.
pub async fn serve(
    listener: TcpListener,
    shutdown: CancellationToken,
    state: impl Fn() -> Value + Send + Sync + 'static,
) {
    let state = Arc::new(state);
    let health = move || {
        let state = Arc::clone(&state);
        async move { Json(state()) }
    };
    let router = Router::new().route("/health", get(health));
    let served = axum::serve(listener, router).with_graceful_shutdown(shutdown.cancelled_owned()).await;
    if let Err(error) = served {
        tracing::warn!(%error, "health is no longer served");
    }
}
