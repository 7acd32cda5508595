//! The shard protocol end to end, in one process: coordinators, providers and strangers over in-memory streams.

mod chain;
mod fabric;
mod faults;
mod liars;
mod mending;
mod mock;
mod moving;
mod neighbours;
mod receipts;
mod speed;
mod strangers;
