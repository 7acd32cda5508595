//! The one connection that writes.

use sqlx::{
    Connection, Sqlite, SqlitePool, Transaction,
    sqlite::{SqliteConnectOptions, SqlitePoolOptions},
};

use crate::store::sqlite::open::LOCK_TIMEOUT;

/// Begins transactions one after another, in the order in which they are asked for.
#[derive(Clone, Debug)]
pub(super) struct Writer(SqlitePool);

impl Writer {
    /// Connects when the first transaction begins.
    pub(super) fn new(options: SqliteConnectOptions) -> Self {
        let pool = SqlitePoolOptions::new()
            .max_connections(1)
            .idle_timeout(None)
            .max_lifetime(None)
            // Others of this process may wait in the queue while the first waits for another process.
            .acquire_timeout(LOCK_TIMEOUT.saturating_mul(6))
            .test_before_acquire(false)
            // On a full disk SQLite rolls back on its own and the driver does not see it: it would count a transaction
            // that is over and refuse every later one. Such a connection is replaced.
            .before_acquire(|connection, _| {
                Box::pin(async move {
                    connection.ping().await?;
                    Ok(!connection.is_in_transaction())
                })
            })
            .connect_lazy_with(options);
        Self(pool)
    }

    /// Begins a transaction. What is not committed is rolled back when it is dropped.
    pub(super) async fn begin(&self) -> Result<Transaction<'static, Sqlite>, sqlx::Error> {
        self.0.begin_with("BEGIN IMMEDIATE").await
    }

    pub(super) async fn close(&self) {
        self.0.close().await;
    }
}
