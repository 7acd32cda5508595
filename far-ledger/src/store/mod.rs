//! Where the account is kept: the trait [`Store`], its errors, and SQLite behind it.
//!
//! [`contract`] says what a store does, [`error`] what may go wrong and what to do about it, [`sqlite`] does it in a file.
//! The tables and views are in `migrations/`, in SQL that SQLite and PostgreSQL read alike.

pub mod contract;
pub mod error;
pub mod sqlite;

pub use contract::{Finalized, Health, Store};
pub use error::{BackendError, BeginError, FailError, FinalizeError, NodeError, OpenError, ReadError};
pub use sqlite::SqliteStore;
