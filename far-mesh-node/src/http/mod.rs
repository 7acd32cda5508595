//! The coordinator's HTTP: the Far routes and OpenAI's, over any [`Engine`].
//!
//! The way of a request: `server` (connections) -> `access` (key) -> `body` (JSON) -> `params` (ranges) -> `far` or
//! `openai` (wire format) -> `open` (what it may cost is held) -> `live` (the session's task, its price and its record)
//! -> `sse` or one answer. `mesh` says how things stand, `account` what is paid in and used. Every error has OpenAI's shape,
//! see [`ApiError`].
//!
//! What comes with a key is charged to its account: before anything is computed what it may cost is held there, or the
//! answer is 402; at the end what it cost is taken and the rest given back.
//!
//! Invariants: everything a client can make us hold is bounded ([`Options`]); a client that goes away cancels its
//! sessions on every hop; an answer says "done" only after the ledger holds its account; a stream never ends silently.

mod access;
mod account;
mod app;
mod body;
mod engine;
mod error;
mod far;
mod live;
mod mesh;
mod open;
mod openai;
mod options;
mod params;
mod payments;
mod rate;
mod server;
mod sse;
mod stall;
#[cfg(test)]
mod tests;

pub use access::{Access, Denied, KeyAccess, OpenAccess};
pub use engine::{
    DEFAULT_MAX_TOKENS, Engine, EngineError, GenerateCall, Generation, Offer, Prepared, ServedModel, Vocabulary,
};
pub use error::ApiError;
pub use options::Options;
pub use server::Server;
