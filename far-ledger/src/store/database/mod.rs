//! One set of SQL on two databases.
//!
//! Every operation of the ledger is written once, against a [`Transaction`] and [`query`]: TEXT and BIGINT, parameters
//! `$1`, `$2`. Where the databases must differ (a row lock, a batch as arrays or as JSON) an operation names both texts
//! in one [`Sql`], side by side. `sqlite` and `postgres` know how to connect, `migrate` brings either schema up to date,
//! `pool` hands out transactions, `query`, `rows` and `row` carry values in and out, `retry` repeats what may be repeated.
//!
//! # How writers are kept apart
//!
//! On SQLite there is one: a writing transaction starts with `BEGIN IMMEDIATE`, and nobody else writes until it ends.
//!
//! On PostgreSQL a writing transaction runs at `READ COMMITTED`, asked for by name so that a server's default cannot
//! change it, and every operation is right there because it follows three rules:
//!
//! 1. **Lock, then look.** What an operation decides by, it reads with `FOR NO KEY UPDATE` before anything
//!    else. The lock waits for whoever is changing the row, and the row is then read as that transaction left it; it
//!    stays so until the end. (At `REPEATABLE READ` and above the same wait would end in an error instead, and the rows
//!    all sessions share, those of nodes and accounts, are waited for all the time.)
//! 2. **Check where you write.** Bounds stand in the statement that writes: `UPDATE ... WHERE balance >= $2` changes no
//!    row where the balance is too small, whatever was read before; `INSERT ... ON CONFLICT DO NOTHING` tells by its
//!    count whether the row is new.
//! 3. **One order.** Rows of several tables are locked in this order, and within a table by key: sessions, reservations,
//!    nodes, accounts. Nobody waits for a row while holding one that comes later, so there is no ring of waiters. What
//!    has no row yet to lock (an epoch that is to be closed, a minute's metrics) takes [`Transaction::exclusive`] first.
//!
//! Were a rule broken, PostgreSQL would end one of the transactions (`40P01`, `40001`): [`retry`] repeats it, a bounded
//! number of times. It also repeats after a lost connection, when nobody knows whether the commit arrived: every
//! operation of the ledger may be repeated and changes nothing then.
//!
//! A read that compares rows with each other takes [`Database::snapshot`]: one moment, `REPEATABLE READ READ ONLY` there,
//! a read transaction over the log here.

mod migrate;
mod pool;
mod postgres;
mod query;
mod retry;
mod row;
mod rows;
mod sql;
mod sqlite;

pub(crate) use pool::{Database, Runs, Topic, Transaction};
pub(crate) use query::{Query, query};
pub(crate) use retry::{Repeatable, of_the_database, reading, retry};
pub(crate) use row::{Row, bad};
pub(crate) use rows::{Batch, Kind, Rows, batch};
pub(crate) use sql::Sql;
pub(crate) use sqlite::sqlite_code;
