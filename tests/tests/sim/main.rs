//! The shard protocol in a simulated network: faults that strike at chosen moments, on a clock that nobody waits for.
//!
//! ```text
//! cluster (hosts, faults between two ticks) -> client: drive (greedy generation) -> RemoteRoute --net--> serve -> mock hop
//! ```
//!
//! [turmoil](https://docs.rs/turmoil) runs every host on one thread, with its own paused clock, and carries what they
//! send. The protocol stands on streams and not on libp2p, so the simulation gives it turmoil's TCP: connections,
//! handshakes and multiplexing of libp2p are not simulated; the tests of suite `mesh` and `tests/faults` run those, in real
//! processes. A seed decides everything: the same seed gives the same events at the same times.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod cluster;
mod drive;
mod fault;
mod matrix;
mod mock;
mod net;
mod petals;
mod report;
mod timeouts;
