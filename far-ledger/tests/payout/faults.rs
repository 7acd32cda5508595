//! What goes wrong between a payer and the world: decorators of its only way to the chain, and a watcher of its statements.

use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicU64, Ordering},
};

use far_ledger::evm::{HttpTransport, RpcError, Transport};
use futures::future::{BoxFuture, FutureExt};
use serde_json::Value;
use tracing_subscriber::{Layer, layer::SubscriberExt};

/// Ends the process at one of its points: before and after each request to the chain, and after each statement to the
/// database. (A commit stands between a statement and the next point, so both sides of each commit are among them.)
#[derive(Debug)]
pub(crate) struct Points {
    passed: AtomicU64,
    statements: AtomicU64,
    ends_at: u64,
}

impl Points {
    fn pass(&self) {
        if self.passed.fetch_add(1, Ordering::SeqCst) + 1 == self.ends_at {
            // Nothing is flushed, closed or rolled back.
            std::process::abort();
        }
    }

    /// All points so far, and those after statements.
    pub(crate) fn passed(&self) -> (u64, u64) {
        (self.passed.load(Ordering::SeqCst), self.statements.load(Ordering::SeqCst))
    }

    /// The points of this process. Statements are seen where the driver of the database logs them.
    pub(crate) fn of_this_process(ends_at: u64) -> &'static Self {
        static POINTS: OnceLock<Points> = OnceLock::new();
        let points = POINTS.get_or_init(|| Self { passed: AtomicU64::new(0), statements: AtomicU64::new(0), ends_at });
        tracing::subscriber::set_global_default(tracing_subscriber::registry().with(Statements(points))).unwrap();
        points
    }
}

struct Statements(&'static Points);

impl<S: tracing::Subscriber> Layer<S> for Statements {
    fn on_event(&self, event: &tracing::Event<'_>, _: tracing_subscriber::layer::Context<'_, S>) {
        if event.metadata().target() == "sqlx::query" {
            self.0.statements.fetch_add(1, Ordering::SeqCst);
            self.0.pass();
        }
    }
}

/// A transport whose process ends at a point.
#[derive(Debug)]
pub(crate) struct Crashing {
    pub(crate) inner: HttpTransport,
    pub(crate) points: &'static Points,
}

impl Transport for Crashing {
    fn request(&self, method: &'static str, params: Value) -> BoxFuture<'_, Result<Value, RpcError>> {
        async move {
            self.points.pass();
            let answer = self.inner.request(method, params).await;
            self.points.pass();
            answer
        }
        .boxed()
    }
}

/// A transport that loses answers: the request arrives, and nobody learns what became of it.
#[derive(Debug)]
pub(crate) struct Lossy {
    pub(crate) inner: HttpTransport,
    /// One answer in so many; of `only`, where a method is named.
    pub(crate) every: u64,
    pub(crate) only: Option<&'static str>,
    pub(crate) counted: AtomicU64,
    pub(crate) lost: Arc<AtomicU64>,
}

impl Transport for Lossy {
    fn request(&self, method: &'static str, params: Value) -> BoxFuture<'_, Result<Value, RpcError>> {
        async move {
            let answer = self.inner.request(method, params).await;
            if self.only.is_none_or(|only| only == method)
                && self.counted.fetch_add(1, Ordering::SeqCst).is_multiple_of(self.every)
            {
                self.lost.fetch_add(1, Ordering::SeqCst);
                return Err(RpcError::Unreachable { method, reason: "lost by the test".into() });
            }
            answer
        }
        .boxed()
    }
}

/// A transport that does not get transactions through: requests to send them are lost before they arrive.
#[derive(Debug)]
pub(crate) struct Mute(pub(crate) HttpTransport);

impl Transport for Mute {
    fn request(&self, method: &'static str, params: Value) -> BoxFuture<'_, Result<Value, RpcError>> {
        if method == "eth_sendRawTransaction" {
            return async move { Err(RpcError::Unreachable { method, reason: "lost by the test".into() }) }.boxed();
        }
        self.0.request(method, params)
    }
}

/// A node that tells events of no more than `most` blocks at a time.
#[derive(Debug)]
pub(crate) struct Narrow {
    pub(crate) inner: HttpTransport,
    pub(crate) most: Arc<AtomicU64>,
}

impl Transport for Narrow {
    fn request(&self, method: &'static str, params: Value) -> BoxFuture<'_, Result<Value, RpcError>> {
        if method == "eth_getLogs" {
            let block = |name: &str| u64::from_str_radix(&params[0][name].as_str().unwrap()[2..], 16).unwrap();
            if block("toBlock") - block("fromBlock") >= self.most.load(Ordering::SeqCst) {
                let message = "query exceeds max block range".to_owned();
                return async move { Err(RpcError::Refused { method, code: -32602, message, data: None }) }.boxed();
            }
        }
        self.inner.request(method, params)
    }
}
