//! The ledger in one SQLite file.
//!
//! One connection writes and a few read beside it (WAL). Every write is durable when it returns (`synchronous=FULL`) and
//! starts with `BEGIN IMMEDIATE`: a transaction that reads first and writes later would fail at once when another process
//! wrote in between. `open` checks whose file it is before it changes anything, `writer` holds the one writing
//! connection, `sessions` and `nodes` are the operations, `row` reads what they stored.

mod nodes;
mod open;
mod row;
mod sessions;
mod store;
mod writer;

pub use store::SqliteStore;
