//! Connections: accepted up to a bound, served, and ended in good order.

use std::{io, sync::Arc, time::Duration};

use axum::{
    Router,
    http::{Method, StatusCode, Uri},
    middleware,
    routing::{get, post},
};
use far_mesh_core::task::Tasks;
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
};
use tokio_util::sync::CancellationToken;

use super::{
    access::{self, Access},
    account,
    app::App,
    engine::Engine,
    error::ApiError,
    far, mesh, openai,
    options::Options,
    payments, sse,
    stall::StallGuard,
};
use crate::metering::Meter;

/// How long a connection may take to say its last words once the server's patience is over.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// Pause after a connection could not be accepted (no file left, say): the next try would fail as well.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The coordinator's HTTP server.
#[derive(Debug)]
pub struct Server {
    app: Arc<App>,
    more: Router,
}

impl Server {
    /// A server of `engine`'s models that records sessions with `meter`.
    pub fn new(engine: Arc<dyn Engine>, meter: Meter, access: Arc<dyn Access>, options: Options) -> Self {
        Self { app: Arc::new(App::new(engine, meter, access, options)), more: Router::new() }
    }

    /// Adds routes of other parts.
    #[must_use]
    pub fn merge(mut self, routes: Router) -> Self {
        self.more = self.more.merge(routes);
        self
    }

    /// Serves until `shutdown` fires: then no connection is accepted any more, live streams may go on for
    /// [`Options::drain`], and those that do not end by then are told so.
    ///
    /// Not cancel-safe: a dropped future leaves sessions running until their clients go.
    pub async fn serve(self, listener: TcpListener, shutdown: CancellationToken) {
        let Self { app, more } = self;
        let router = router(app.clone()).merge(more);
        let slots = Arc::new(Semaphore::new(app.options.max_connections));
        let connections = Tasks::new();
        loop {
            let accepted = tokio::select! {
                biased;
                () = shutdown.cancelled() => break,
                accepted = listener.accept() => accepted,
            };
            match (accepted, slots.clone().try_acquire_owned()) {
                (Ok((stream, _)), Ok(slot)) => {
                    let connection = Connection {
                        app: app.clone(),
                        drain: connections.cancelled(),
                        router: router.clone(),
                        _slot: slot,
                    };
                    connections.spawn_graceful(connection.serve(stream));
                }
                // A fresh connection has room for so few bytes.
                (Ok((stream, _)), Err(_)) => drop(refuse(&stream).await),
                (Err(error), _) => {
                    tracing::warn!(%error, "a connection was not accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
        drop(listener);
        let ended = connections.shutdown();
        tokio::pin!(ended);
        if tokio::time::timeout(app.options.drain, &mut ended).await.is_err() {
            tracing::warn!("live sessions are ended: they took longer than {} s", app.options.drain.as_secs());
            tokio::join!(app.tasks.shutdown(), ended);
        }
        app.tasks.shutdown().await;
    }
}

/// Answers a connection over the bound without reading its request.
async fn refuse(stream: &TcpStream) -> io::Result<()> {
    let message = "too many connections: come back in a second";
    let body = ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "too_many_connections", message).body();
    let body = sse::line(&body);
    let answer = format!(
        "HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\nretry-after: 1\r\nconnection: close\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.writable().await?;
    stream.try_write(answer.as_bytes()).map(drop)
}

fn router(app: Arc<App>) -> Router {
    let costly = Router::new()
        .route("/inference/generate", post(far::generate))
        .route("/api/inference/chat", post(far::chat))
        .route("/v1/chat/completions", post(openai::chat))
        .route("/v1/completions", post(openai::completion))
        .route("/v1/models", get(openai::models))
        .route("/v1/models/{*id}", get(openai::model))
        .route("/sessions/{id}", get(mesh::session))
        .route("/account", get(account::account))
        .route_layer(middleware::from_fn_with_state(app.clone(), access::check));
    Router::new()
        .route("/health", get(mesh::health))
        .route("/mesh/status", get(mesh::status))
        .route("/models", get(mesh::models))
        .route("/models/{id}/nodes", get(mesh::nodes))
        .route("/nodes/{node_id}/payments", get(payments::payments))
        .merge(costly)
        .method_not_allowed_fallback(wrong_method)
        .fallback(no_route)
        .with_state(app)
}

async fn wrong_method(method: Method, uri: Uri) -> ApiError {
    let message = format!("{} does not take {method}: see the header allow", uri.path());
    ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", message)
}

async fn no_route(method: Method, uri: Uri) -> ApiError {
    ApiError::new(StatusCode::NOT_FOUND, "route_not_found", format!("there is no route {method} {}", uri.path()))
}

/// What the task of a connection holds.
struct Connection {
    app: Arc<App>,
    router: Router,
    /// Fires when no more requests are wanted.
    drain: CancellationToken,
    _slot: OwnedSemaphorePermit,
}

impl Connection {
    async fn serve(self, stream: TcpStream) {
        let options = &self.app.options;
        // Tokens are small and must not wait for each other.
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "tokens of a connection may wait for each other");
        }
        let io = TokioIo::new(StallGuard::new(stream, options.write_timeout));
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(options.header_timeout)
            .serve_connection(io, TowerToHyperService::new(self.router));
        tokio::pin!(connection);
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = self.drain.cancelled() => {
                connection.as_mut().graceful_shutdown();
                let last_words = async {
                    self.app.tasks.cancelled().cancelled().await;
                    tokio::time::sleep(LAST_WORDS).await;
                };
                tokio::select! {
                    ended = connection.as_mut() => ended,
                    () = last_words => Ok(()),
                }
            }
        };
        if let Err(error) = ended {
            tracing::debug!(%error, "a connection failed");
        }
    }
}
