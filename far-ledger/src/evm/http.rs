//! JSON-RPC over HTTP.

use std::{
    fmt,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use futures::future::{BoxFuture, FutureExt};
use reqwest::{Client, Url};
use serde_json::{Value, json};

use crate::evm::{
    error::{RpcError, shown},
    transport::Transport,
};

/// How requests are made.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct HttpOptions {
    /// How long connecting may take.
    pub connect_timeout: Duration,
    /// How long a whole request may take.
    pub timeout: Duration,
    /// Most bytes of an answer that are read. The largest answers are receipts of full batches: 500 transfers make about
    /// 400 KiB.
    pub max_answer_bytes: usize,
}

impl Default for HttpOptions {
    fn default() -> Self {
        Self { connect_timeout: Duration::from_secs(5), timeout: Duration::from_secs(20), max_answer_bytes: 8 << 20 }
    }
}

/// A node at an HTTP address.
pub struct HttpTransport {
    client: Client,
    url: Url,
    options: HttpOptions,
    next_id: AtomicU64,
}

impl HttpTransport {
    /// A transport to the node at `url`. Nothing is sent yet.
    ///
    /// # Errors
    /// [`RpcError::Address`] when `url` is not an http or https address.
    pub fn new(url: &str, options: HttpOptions) -> Result<Self, RpcError> {
        let url: Url = url.parse().map_err(|_| RpcError::Address)?;
        if !matches!(url.scheme(), "http" | "https") || url.host().is_none() {
            return Err(RpcError::Address);
        }
        let client = Client::builder()
            .connect_timeout(options.connect_timeout)
            .timeout(options.timeout)
            // A node that sends its callers elsewhere is not one to send a transaction to.
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(|error| unreachable_node("connect", error))?;
        Ok(Self { client, url, options, next_id: AtomicU64::new(1) })
    }

    async fn ask(&self, method: &'static str, params: Value) -> Result<Value, RpcError> {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let request = json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params });
        let sent = self.client.post(self.url.clone()).json(&request).send().await;
        let mut response = sent.map_err(|error| unreachable_node(method, error))?;
        let status = response.status();
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| unreachable_node(method, error))? {
            if chunk.len() > self.options.max_answer_bytes.saturating_sub(body.len()) {
                return Err(RpcError::TooLarge { method, limit: self.options.max_answer_bytes });
            }
            body.extend_from_slice(&chunk);
        }
        let text = || shown(&String::from_utf8_lossy(&body));
        // Whatever its body says: asked again a moment later it answers.
        if status == reqwest::StatusCode::TOO_MANY_REQUESTS {
            return Err(RpcError::Status { method, status: status.as_u16(), body: text() });
        }
        // Some nodes answer an error of JSON-RPC with an HTTP status of its own, so the body is read first.
        let answer: Option<Value> = serde_json::from_slice(&body).ok().filter(Value::is_object);
        let Some(answer) = answer else {
            return Err(if status.is_success() {
                RpcError::NotJsonRpc { method, body: text() }
            } else {
                RpcError::Status { method, status: status.as_u16(), body: text() }
            });
        };
        if let Some(error) = answer.get("error").filter(|error| !error.is_null()) {
            return Err(refused(method, error));
        }
        if !status.is_success() {
            return Err(RpcError::Status { method, status: status.as_u16(), body: text() });
        }
        if answer.get("id").and_then(Value::as_u64) != Some(id) {
            return Err(RpcError::bad(method, "the id of another request,", answer.get("id").unwrap_or(&Value::Null)));
        }
        answer.get("result").cloned().ok_or_else(|| RpcError::NotJsonRpc { method, body: text() })
    }
}

impl Transport for HttpTransport {
    fn request(&self, method: &'static str, params: Value) -> BoxFuture<'_, Result<Value, RpcError>> {
        self.ask(method, params).boxed()
    }
}

/// Without the address, which may hold a key.
impl fmt::Debug for HttpTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpTransport").field("host", &self.url.host_str()).finish_non_exhaustive()
    }
}

fn unreachable_node(method: &'static str, error: reqwest::Error) -> RpcError {
    let error = error.without_url();
    let mut reason = error.to_string();
    let mut source = std::error::Error::source(&error);
    while let Some(cause) = source {
        reason = format!("{reason}: {cause}");
        source = cause.source();
    }
    RpcError::Unreachable { method, reason: shown(&reason) }
}

fn refused(method: &'static str, error: &Value) -> RpcError {
    let data = error.get("data").and_then(Value::as_str).and_then(|data| data.strip_prefix("0x"));
    RpcError::Refused {
        method,
        code: error.get("code").and_then(Value::as_i64).unwrap_or_default(),
        message: shown(error.get("message").and_then(Value::as_str).unwrap_or("without a reason")),
        data: data.and_then(|data| hex::decode(data).ok()).filter(|data| !data.is_empty()),
    }
}
