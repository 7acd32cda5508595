//! Nodes in real processes on loopback: bits, failures, hostile peers, memory, discovery.
//!
//! One mesh runs at a time (see [`net::Mesh`]): two would share the cores, and neither their deadlines nor their memory
//! would say anything.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod bits;
mod discovery;
mod drive;
mod hostile;
mod memory;
mod moves;
mod net;
mod process;
mod vanish;
