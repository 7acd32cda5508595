//! The shard protocol `/far-mesh/shard/1`: what goes over a stream between two nodes that share a session.
//!
//! ```text
//!              control (steps in)                               control (outputs back)
//! coordinator ====================> hop 0 ----> hop 1 ----> hop 2 ===================> coordinator
//!       \______________ control ______________/
//! ```
//!
//! When a hop is lost, the others keep their session. The coordinator opens a new hop in its place and tells the
//! neighbours with `Reroute`. Whoever is attached to says with `Attached` from which step on it lacks results: a new hop
//! lacks all, so the hop before it sends all it kept; the hop after it lacks only what was on its way. So a replay is
//! nothing but the same steps again, known by session and number, and one that comes twice changes nothing.
//!
//! Where a stream began over a relay and there is a direct connection by now, who opened it opens another: `Attach` or `Resume`
//! over that one, then, between two steps, `Switch` over the old one, and the rest goes over the new.
//!
//! Every hop has one *control* stream, opened by the coordinator: `Open`, then probes, then `Close`. The first hop's
//! also carries the steps, the last hop's the outputs. Between neighbours runs one *data* stream, opened by the
//! upstream hop with `Attach`. A step therefore crosses N+1 links, one frame each. Behind every 32 positions goes the hop's signed
//! [`Work`](crate::receipt::Work), which its neighbour signs too and sends the coordinator as a `Receipt`; at the end `Close`
//! makes every hop hand on what is left.
//!
//! - `header`: the fixed part of a frame, checked by hand before anything is allocated.
//! - `frame`: what nodes say to each other.
//! - `control`: bodies of the frames that are not on the hot path.
//! - `meter`: how much a peer may send.
//! - `link`: one stream with its read and write state, polled by the task that owns the session.
//! - `dial`: what this protocol needs from the network below.

mod control;
mod dial;
mod frame;
mod header;
mod link;
mod meter;

pub(crate) use control::MAX_ADDRS;
pub use control::{Attach, Fault, Lost, Next, Open, Reroute, Rerouted, Source, State, Tally};
pub(super) use dial::reopen;
pub use dial::{BoxedStream, DialError, Dialer, Duplex};
pub use frame::Frame;
pub use header::{FrameError, HEADER_BYTES, Header, Kind};
pub use link::{Link, LinkError};
pub(crate) use meter::{Allowance, Meter};

#[cfg(test)]
pub(crate) use header::session_tag;

/// Version of the frames and of their order; a node refuses every other.
pub const PROTOCOL_VERSION: u8 = 1;

/// Name under which libp2p negotiates the protocol.
pub const PROTOCOL: libp2p::StreamProtocol = libp2p::StreamProtocol::new("/far-mesh/shard/1");

/// Build of this node. Two builds may round differently, so hops of one session share it.
pub const BUILD: &str = env!("CARGO_PKG_VERSION");
