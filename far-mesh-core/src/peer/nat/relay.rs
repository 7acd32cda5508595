//! Being a relay, and what one gives to whom.

use std::{num::NonZeroU32, time::Duration};

use libp2p::relay;

/// Whether a node passes the bytes of others on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RelayRole {
    /// Once it is known that the whole world reaches it.
    #[default]
    Auto,
    /// From the start: its listen addresses are what others reach it at.
    Always,
    /// Never.
    Never,
}

/// Nodes behind a NAT that may hold a place here: one costs a connection and a few hundred bytes.
const MAX_RESERVATIONS: usize = 256;

/// Circuits in all: each costs two streams and 16 KiB of buffers.
const MAX_CIRCUITS: usize = 512;

/// Circuits that one node opens: a coordinator has one to each provider behind a NAT.
const MAX_CIRCUITS_PER_PEER: usize = 64;

/// Longest life of a circuit; what runs on it then is repaired like any other lost hop.
const MAX_CIRCUIT_LIFE: Duration = Duration::from_secs(12 * 3600);

/// Most bytes of a circuit, in each direction: two million activations of a 4096-wide model in half precision.
const MAX_CIRCUIT_BYTES: u64 = 16 << 30;

/// How long a place is kept without being renewed; its holder renews it well before.
const RESERVATION_LIFE: Duration = Duration::from_secs(3600);

/// A peer, and an address, may ask for this many at once: all the nodes behind one NAT start together.
const BURST: NonZeroU32 = NonZeroU32::new(128).unwrap();

/// Time that gives one request back.
const REFILL: Duration = Duration::from_secs(2);

/// What this node gives as a relay.
pub(in crate::peer) fn limits() -> relay::Config {
    let limits = relay::Config {
        max_reservations: MAX_RESERVATIONS,
        max_reservations_per_peer: 2,
        reservation_duration: RESERVATION_LIFE,
        reservation_rate_limiters: Vec::new(),
        max_circuits: MAX_CIRCUITS,
        max_circuits_per_peer: MAX_CIRCUITS_PER_PEER,
        max_circuit_duration: MAX_CIRCUIT_LIFE,
        max_circuit_bytes: MAX_CIRCUIT_BYTES,
        circuit_src_rate_limiters: Vec::new(),
    };
    limits
        .reservation_rate_per_peer(BURST, REFILL)
        .reservation_rate_per_ip(BURST, REFILL)
        .circuit_src_per_peer(BURST, REFILL)
        .circuit_src_per_ip(BURST, REFILL)
}
