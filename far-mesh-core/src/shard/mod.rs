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
//! One thread uses the device at a time. A forward takes the steps of all sessions that decode and fills up with parts of
//! prompts, to at most [`Batching::step_tokens`] positions: whoever decodes waits for one such forward at most (`line`).
//!
//! Pages that are full and alike are kept once: a session whose prompt begins like another's reads that one's pages, and
//! does not compute what is in them again unless somebody needs what comes out ([`PrefixSharing`], `prefix`, `pages`).
//!
//! Invariants: a session has its pages for all positions it may reach from the moment it is open until it is dropped;
//! whatever arrives is checked before it is queued, so the engine sees only what fits the model.

mod batching;
mod config;
mod cuda;
mod device;
mod dispatch;
mod engine;
mod footprint;
mod gather;
#[cfg(test)]
#[cfg(feature = "cuda")]
mod gpu_tests;
mod handle;
mod job;
mod line;
mod local_head;
mod local_hop;
mod outputs;
mod pages;
mod plan;
mod prefix;
mod queue;
mod seat;
#[cfg(test)]
mod sharing_tests;
#[cfg(test)]
mod tests;
mod worker;

pub use batching::{Batching, PrefixSharing};
pub use config::{Config, DeviceChoice, Info, LoadError};
pub use footprint::Load;
pub use handle::Shard;
pub use local_head::LocalHead;
pub use local_hop::LocalHop;
pub use plan::{PlanError, plan_span};
