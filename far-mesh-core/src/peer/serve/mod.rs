//! The provider's side of the shard protocol: streams in, steps through the local hop, results to the next node.
//!
//! ```text
//! incoming -> server (accept, greet) -> rendezvous: Attach meets Open
//!                     |                      |
//!                  admission            session task: links <-> HopSession
//! ```
//!
//! One task owns each session: its streams, its place at the local hop and its end. It ends when the coordinator
//! closes its stream or says so, or when the server stops; whatever the way, the room at the hop is free again. When a
//! neighbour is lost it waits for the coordinator to name another, and sends that one what was [`kept`] for it. What it did
//! it signs for its neighbours (`works`). What a stranger can hold is bounded by [`ServeConfig`], each bound per node and in all.

mod admission;
mod config;
mod control;
mod event;
mod intake;
mod kept;
mod links;
mod meters;
mod outlet;
mod rendezvous;
mod server;
mod session;
mod works;

pub use config::ServeConfig;
pub use server::{Server, serve};
