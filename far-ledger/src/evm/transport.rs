//! One request to a node.

use std::fmt;

use futures::future::BoxFuture;
use serde_json::Value;

use crate::evm::error::RpcError;

/// Carries a JSON-RPC request to a node and its result back.
///
/// Everything this program asks of a chain goes through this one method, so a test that wraps it sees, loses or breaks
/// off any of it.
pub trait Transport: Send + Sync + fmt::Debug {
    /// The result of `method` with `params`, whatever it is; [`Chain`](crate::evm::Chain) checks it.
    ///
    /// # Errors
    /// [`RpcError`]. An error does not mean that the node did nothing.
    fn request(&self, method: &'static str, params: Value) -> BoxFuture<'_, Result<Value, RpcError>>;
}
