//! Opens a file: first looks whose it is, then brings its schema up to date.
//!
//! One connection writes and a few read beside it (WAL). Every write is durable when it returns (`synchronous=FULL`) and
//! starts with `BEGIN IMMEDIATE`: a transaction that reads first and writes later would fail at once when another process
//! wrote in between.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use sqlx::{
    ConnectOptions, Connection, SqliteConnection, SqlitePool,
    sqlite::{SqliteConnectOptions, SqliteError, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};
use tokio::time::{Instant, sleep};

use crate::store::{
    database::{Database, migrate},
    error::{BackendError, OpenError},
    location::Location,
};

/// How long a connection waits for another that holds the lock. A transaction takes milliseconds; seconds mean that
/// somebody holds the file from outside.
const LOCK_TIMEOUT: Duration = Duration::from_secs(5);

/// Readers beside the writer. Reads are short, so a few serve many.
const READERS: u32 = 4;

/// How long between two tries to put a fresh file into WAL mode, a lock that SQLite does not wait for.
const WAL_RETRY: Duration = Duration::from_millis(10);

pub(super) async fn open(path: &Path) -> Result<Database, OpenError> {
    // An absolute path is never taken for `:memory:` or for a URI.
    let path = std::path::absolute(path)
        .map_err(|source| OpenError::Path { path: path.to_owned(), source: Box::new(source.into()) })?;
    let file = File { location: Location::File(path.clone()), path };
    file.inspect().await?;
    let options = options(&file.path);
    let mut connection = file.connect(&options.clone().create_if_missing(true)).await?;
    file.migrate(&mut connection).await?;
    let readers = SqlitePoolOptions::new()
        .max_connections(READERS)
        .acquire_timeout(LOCK_TIMEOUT)
        .test_before_acquire(false)
        .connect_lazy_with(options.clone().pragma("query_only", "ON"));
    let database = Database::Sqlite { writer: writer(options), readers };
    // The pools have the file before this connection lets it go.
    database.begin().await.map_err(|source| file.error(source))?;
    connection.close().await.map_err(|source| file.error(source))?;
    Ok(database)
}

/// PRAGMAs hold for a connection, so each one gets them all.
fn options(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .busy_timeout(LOCK_TIMEOUT)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .foreign_keys(true)
}

/// The one connection that writes; it connects when the first transaction begins.
fn writer(options: SqliteConnectOptions) -> SqlitePool {
    SqlitePoolOptions::new()
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
        .connect_lazy_with(options)
}

/// Primary result code of SQLite (<https://www.sqlite.org/rescode.html>), without what extends it.
pub(crate) fn sqlite_code(error: &sqlx::Error) -> Option<i32> {
    let error = error.as_database_error()?;
    error.try_downcast_ref::<SqliteError>()?;
    let code: i32 = error.code()?.parse().ok()?;
    Some(code & 0xff)
}

struct File {
    location: Location,
    path: PathBuf,
}

impl File {
    /// Refuses what is not ours, without a change to it.
    async fn inspect(&self) -> Result<(), OpenError> {
        if std::fs::metadata(&self.path).map_or(true, |file| file.is_file() && file.len() == 0) {
            return Ok(());
        }
        // No journal mode here: that would be a change.
        let options = SqliteConnectOptions::new().filename(&self.path).busy_timeout(LOCK_TIMEOUT);
        let mut connection = options.connect().await.map_err(|source| self.error(source))?;
        let verdict = self.examine(&mut connection).await;
        connection.close().await.map_err(|source| self.error(source))?;
        verdict
    }

    async fn examine(&self, connection: &mut SqliteConnection) -> Result<(), OpenError> {
        let tables: Vec<String> =
            sqlx::query_scalar("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name LIMIT 1000")
                .fetch_all(&mut *connection)
                .await
                .map_err(|source| self.error(source))?;
        if !migrate::examine(&self.location, tables)? {
            return Ok(());
        }
        let found: Option<i64> = sqlx::query_scalar("SELECT MAX(version) FROM _sqlx_migrations")
            .fetch_one(connection)
            .await
            .map_err(|source| self.error(source))?;
        migrate::known(&self.location, found.unwrap_or_default())
    }

    /// Connects in WAL mode. Two processes that make the file at once get in each other's way here, and SQLite does not
    /// wait for this lock: so we do.
    async fn connect(&self, options: &SqliteConnectOptions) -> Result<SqliteConnection, OpenError> {
        let deadline = Instant::now().checked_add(LOCK_TIMEOUT);
        loop {
            match options.connect().await {
                Ok(connection) => return Ok(connection),
                Err(error) if sqlite_code(&error) == Some(5) && deadline.is_some_and(|end| Instant::now() < end) => {
                    sleep(WAL_RETRY).await;
                }
                Err(error) => return Err(self.error(error)),
            }
        }
    }

    async fn migrate(&self, connection: &mut SqliteConnection) -> Result<(), OpenError> {
        let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await.map_err(|source| self.error(source))?;
        migrate::migrate(&mut *transaction, &self.location, |source| self.error(source)).await?;
        transaction.commit().await.map_err(|source| self.error(source))
    }

    fn error(&self, source: sqlx::Error) -> OpenError {
        let path = self.path.clone();
        match sqlite_code(&source) {
            Some(14) => OpenError::Path { path, source: Box::new(source) },
            Some(11 | 26) => OpenError::NotADatabase { path, source: Box::new(source) },
            _ if matches!(source, sqlx::Error::Io(_)) => OpenError::Path { path, source: Box::new(source) },
            _ => OpenError::Backend(BackendError::from(source)),
        }
    }
}
