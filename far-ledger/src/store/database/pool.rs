//! Connections and transactions of either database.

use sqlx::{PgConnection, PgPool, Postgres, Sqlite, SqliteConnection, SqlitePool, pool::PoolConnection};

use crate::store::{
    database::{postgres, query::query, sqlite},
    error::OpenError,
    location::Location,
};

/// Asked for by name: a server's default must not change what operations rely on. A standby refuses it at once.
const WRITE: &str = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE";

/// All statements see one moment.
const SNAPSHOT: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";

const UNHURRIED: &str = "SELECT set_config('statement_timeout', '0', true), set_config('lock_timeout', '0', true)";

/// A database with its connections. Cloning shares them.
#[derive(Clone, Debug)]
pub(crate) enum Database {
    Sqlite {
        /// One connection: transactions that write wait for each other here, in the order in which they are asked for.
        writer: SqlitePool,
        readers: SqlitePool,
    },
    Postgres(PgPool),
}

/// A transaction. What is not committed is rolled back when it is dropped.
#[derive(Debug)]
pub(crate) enum Transaction {
    Sqlite(sqlx::Transaction<'static, Sqlite>),
    Postgres(sqlx::Transaction<'static, Postgres>),
}

/// A connection for single reads.
#[derive(Debug)]
pub(crate) enum Connection {
    Sqlite(PoolConnection<Sqlite>),
    Postgres(PoolConnection<Postgres>),
}

/// What a statement runs on.
pub(crate) trait Runs: Send {
    fn handle(&mut self) -> Handle<'_>;
}

/// The driver's own connection.
pub(crate) enum Handle<'c> {
    Sqlite(&'c mut SqliteConnection),
    Postgres(&'c mut PgConnection),
}

/// Work that one transaction at a time may do in the whole database, where there is no row to lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Topic {
    /// The schema.
    Migrations,
    /// A minute's metrics, roll-ups and what retention removes.
    Upkeep,
    /// Which wallet is whose.
    Wallets,
    /// Epochs, batches and nonces of payouts.
    Payouts,
}

impl Database {
    pub(crate) async fn open(location: &Location) -> Result<Self, OpenError> {
        match location {
            Location::File(path) => sqlite::open(path).await,
            Location::Postgres(url) => postgres::open(location, url).await,
        }
    }

    /// Begins a transaction that writes: see the module for what it promises.
    pub(crate) async fn begin(&self) -> Result<Transaction, sqlx::Error> {
        match self {
            Self::Sqlite { writer, .. } => Ok(Transaction::Sqlite(writer.begin_with("BEGIN IMMEDIATE").await?)),
            Self::Postgres(pool) => Ok(Transaction::Postgres(pool.begin_with(WRITE).await?)),
        }
    }

    /// Begins a transaction that only reads, all of it from one moment. It holds up no writer.
    pub(crate) async fn snapshot(&self) -> Result<Transaction, sqlx::Error> {
        match self {
            Self::Sqlite { readers, .. } => Ok(Transaction::Sqlite(readers.begin_with("BEGIN DEFERRED").await?)),
            Self::Postgres(pool) => {
                let mut transaction = Transaction::Postgres(pool.begin_with(SNAPSHOT).await?);
                transaction.unhurried().await?;
                Ok(transaction)
            }
        }
    }

    /// A connection for single reads.
    pub(crate) async fn read(&self) -> Result<Connection, sqlx::Error> {
        match self {
            Self::Sqlite { readers, .. } => Ok(Connection::Sqlite(readers.acquire().await?)),
            Self::Postgres(pool) => Ok(Connection::Postgres(pool.acquire().await?)),
        }
    }

    pub(crate) async fn close(&self) {
        match self {
            Self::Sqlite { writer, readers } => {
                // Readers first: the last connection to close folds the log into the file.
                readers.close().await;
                writer.close().await;
            }
            Self::Postgres(pool) => pool.close().await,
        }
    }
}

impl Transaction {
    /// Waits until no other transaction is at this topic, and keeps them off it until this one ends.
    pub(crate) async fn exclusive(&mut self, topic: Topic) -> Result<(), sqlx::Error> {
        if let Self::Postgres(_) = self {
            query("SELECT pg_advisory_xact_lock($1)").bind(topic.key()).execute(self).await?;
        }
        Ok(())
    }

    /// Lets statements and waits of this transaction take as long as they take: a whole ledger is read, or a schema
    /// changed.
    pub(crate) async fn unhurried(&mut self) -> Result<(), sqlx::Error> {
        if let Self::Postgres(_) = self {
            query(UNHURRIED).execute(self).await?;
        }
        Ok(())
    }

    pub(crate) async fn commit(self) -> Result<(), sqlx::Error> {
        match self {
            Self::Sqlite(transaction) => transaction.commit().await,
            Self::Postgres(transaction) => transaction.commit().await,
        }
    }

    pub(crate) async fn rollback(self) -> Result<(), sqlx::Error> {
        match self {
            Self::Sqlite(transaction) => transaction.rollback().await,
            Self::Postgres(transaction) => transaction.rollback().await,
        }
    }
}

impl Topic {
    /// Number of the advisory lock: "far" and the topic, apart from what other programs may lock in this database.
    pub(super) const fn key(self) -> i64 {
        let topic = match self {
            Self::Migrations => 1,
            Self::Upkeep => 2,
            Self::Payouts => 3,
            Self::Wallets => 4,
        };
        0x0066_6172_0000_0000 | topic
    }
}

impl Runs for Transaction {
    fn handle(&mut self) -> Handle<'_> {
        match self {
            Self::Sqlite(transaction) => Handle::Sqlite(transaction),
            Self::Postgres(transaction) => Handle::Postgres(transaction),
        }
    }
}

impl Runs for Connection {
    fn handle(&mut self) -> Handle<'_> {
        match self {
            Self::Sqlite(connection) => Handle::Sqlite(connection),
            Self::Postgres(connection) => Handle::Postgres(connection),
        }
    }
}
