//! A span on a device: loader, KV pages, the worker that owns both, and the local hop.
//!
//! ```text
//! LocalHop::open -> pages::Arena          LocalSession::submit, LocalHead::logits
//!        |  (a lease of pages)                  |  checked jobs, bounded channel
//!        v                                      v
//!   LocalSession  <---- results -----  dispatch: worker thread (queue), or at once when short and alone
//!                                               -> device (one engine: model, cache, kernel threads)
//! ```
//!
//! One thread uses the device at a time. Steps that wait are served in turn: a step of one position of every session together,
//! then one longer step of one session, so that a decoding session waits for at most one chunk of somebody's prompt.
//!
//! Invariants: a session has its pages for all positions it may reach from the moment it is open until it is dropped;
//! whatever arrives is checked before it is queued, so the engine sees only what fits the model.

mod config;
mod device;
mod dispatch;
mod engine;
mod handle;
mod local_head;
mod local_hop;
mod pages;
mod plan;
mod queue;
mod seat;
#[cfg(test)]
mod tests;
mod worker;

pub use config::{Config, Info, LoadError};
pub use handle::Shard;
pub use local_head::LocalHead;
pub use local_hop::LocalHop;
pub use plan::{PlanError, plan_span};
