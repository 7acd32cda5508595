//! Where the account is kept: the trait [`Store`], its errors, and [`Ledger`], which keeps it in a SQLite file or in a
//! PostgreSQL database.
//!
//! [`contract`] says what a store does for sessions and nodes, [`error`] what may go wrong and what to do about it,
//! [`location`] where a ledger is. `database` runs one set of SQL on both databases and says how writers are kept apart;
//! `rows` reads what they stored. `sessions`, `nodes`, `accounts`, `keys`, `deposits` and `receipts` are the operations;
//! `settle` finalizes sessions over the locked balances of `books`, which also posts to the journal. `metrics`,
//! `retention`, `export` and `audit` look after the whole, and `upkeep` does what is due every minute. The tables and views are in `migrations/`.

mod accounts;
mod audit;
pub(crate) mod books;
pub mod contract;
pub(crate) mod database;
mod deposits;
pub mod error;
mod export;
mod keys;
mod ledger;
pub mod location;
mod metrics;
mod nodes;
mod receipts;
mod retention;
mod rows;
mod sessions;
pub(crate) mod settle;
mod upkeep;

pub use accounts::{AccountError, TopUp, TopUpError};
pub use audit::{Difference, Subject};
pub use books::{MoveError, PostError};
pub use contract::{Finalized, Health, Store};
pub use deposits::{Deposit, DepositError};
pub use error::{BackendError, BeginError, FailError, FinalizeError, NodeError, OpenError, ReadError};
pub use export::{Earnings, ExportError};
pub use keys::KeyError;
pub use ledger::Ledger;
pub use location::{Location, PostgresUrl};
pub use metrics::{Metrics, Period, RollUp, SIGN_OF_LIFE};
pub use receipts::{MAX_RECEIPTS, ReceiptError, ReceiptRow};
pub use retention::{Kept, Removed};
pub use upkeep::{Upkeep, UpkeepError};
