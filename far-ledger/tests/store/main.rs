//! The ledger as a caller sees it, on each database: the same suite, and what a file or a server does besides.
//!
//! `tests/run ledger` starts the server; with a filter (`sqlite::`) the executable needs none.

#![expect(clippy::unwrap_used, reason = "a test ends where something unexpected happens")]
#![expect(clippy::duplicate_mod, reason = "one suite for two databases")]

#[path = "../bed/mod.rs"]
mod bed;
mod crash;
mod postgres;
mod sqlite;
