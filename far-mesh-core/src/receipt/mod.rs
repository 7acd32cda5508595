//! Receipts: accounts of a hop's work in a session, signed by the hop and by the neighbour that took its results. Pure:
//! no I/O and no clock.
//!
//! ```text
//! hop:         Worklog (rows in, rows out) -> Work (one cell) -- signs --> Signed --> the neighbour downstream
//! neighbour:   Committer (rows that came)  -- compares, signs ----------> Receipt --> the coordinator
//! coordinator: Tally (every receipt, once) -- Count (what it knows itself) -> Settlement
//! ```
//!
//! # What is signed
//! The positions of a session are cut into *cells* of [`MAX_RECEIPT_TOKENS`](crate::limits::MAX_RECEIPT_TOKENS): 0..32,
//! 32..64 and so on. Everybody knows where one ends, whatever the steps were, and a hop that takes over in mid-session
//! cuts where the others do. A [`Work`] tells of one cell: session, steps, positions, layers, model, kernel class, and a
//! [`Commitment`] to the rows that went in and to those that came out.
//!
//! Two sign it, so that neither can make it up alone:
//!
//! - the *hop*: "I ran these layers; this went in, that came out";
//! - the *witness*, the neighbour that received the results (the next hop, or the coordinator behind the last): "that is
//!   what came to me". It signs only what equals its own commitment, over the hop's signature too.
//!
//! The hop is in turn the witness of the hop before it, so both sides of every link have signed what crossed it:
//!
//! ```text
//! coordinator --tokens--> A --rows--> B --rows--> coordinator
//!   knows in(A)     out(A) == in(B)     out(B) == what it received
//! ```
//!
//! [`Tally::settle`] checks exactly this: `in` of the first hop against the token ids that the coordinator sent, `out` of
//! the last against what it received, and between two hops that the one's output is the other's input. No more is
//! accepted than the coordinator counted itself, so two neighbours that lie together gain nothing beyond work that was
//! done; whether its *values* are right is not for receipts to say.
//!
//! # Replays
//! Commitments are made row by row: positions that are run again in other chunks have the same commitment if they have
//! the same bits, which one kernel class gives. A cell whose rows come from two classes (a repaired route) matches
//! neither claim and gets one signature only: at most one cell of such a takeover goes unpaid.
//!
//! # Cost
//! A row costs one SHA-256 over its bytes, without a copy; a cell one signature of the hop, one of the witness and two
//! verifications at the coordinator. See `tests.rs`, which measures both.

mod commitment;
mod encoding;
mod refusal;
mod signed;
mod tally;
mod work;
mod worklog;

#[cfg(test)]
mod tests;

pub use self::{
    commitment::{Cell, Commitment, Committer, GapError},
    encoding::{MAX_RECEIPT_BYTES, MAX_SIGNED_BYTES, SIGNATURE_BYTES},
    refusal::Refusal,
    signed::{Receipt, SignError, Signed},
    tally::{Accepted, Count, Counted, Refused, Settlement, Tally},
    work::{MAX_CLASS_BYTES, Work},
    worklog::Worklog,
};
