//! Where the account is kept: the trait [`Store`], its errors, and [`Ledger`], which keeps it in a SQLite file or in a
//! PostgreSQL database.
//!
//! [`contract`] says what a store does, [`error`] what may go wrong and what to do about it, [`location`] where a ledger
//! is; `database` runs one set of SQL on both databases and says how writers are kept apart, `sessions` and `nodes` are
//! the operations, `rows` reads what they stored. The tables and views are in `migrations/`.

pub mod contract;
pub(crate) mod database;
pub mod error;
mod ledger;
pub mod location;
mod nodes;
mod rows;
mod sessions;

pub use contract::{Finalized, Health, Store};
pub use error::{BackendError, BeginError, FailError, FinalizeError, NodeError, OpenError, ReadError};
pub use ledger::Ledger;
pub use location::{Location, PostgresUrl};
