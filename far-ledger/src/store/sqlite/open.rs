//! Opens a file: first looks whose it is, then brings its schema up to date.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use sqlx::{
    ConnectOptions, Connection, SqliteConnection, SqlitePool,
    migrate::{MigrateError, Migrator},
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};
use tokio::time::{Instant, sleep};

use crate::store::{
    error::{BackendError, OpenError, sqlite_code},
    sqlite::writer::Writer,
};

/// How long a connection waits for another that holds the lock. A transaction takes milliseconds; seconds mean that
/// somebody holds the file from outside.
pub(super) const LOCK_TIMEOUT: Duration = Duration::from_secs(5);

/// Readers beside the writer. Reads are short, so a few serve many.
const READERS: u32 = 4;

/// How long between two tries to put a fresh file into WAL mode, a lock that SQLite does not wait for.
const WAL_RETRY: Duration = Duration::from_millis(10);

/// Every change of the schema up to this version.
static MIGRATIONS: Migrator = sqlx::migrate!("./migrations");

pub(super) struct Opened {
    pub(super) path: PathBuf,
    pub(super) writer: Writer,
    pub(super) readers: SqlitePool,
}

pub(super) async fn open(path: &Path) -> Result<Opened, OpenError> {
    // An absolute path is never taken for `:memory:` or for a URI.
    let path = std::path::absolute(path)
        .map_err(|source| OpenError::Path { path: path.to_owned(), source: Box::new(source.into()) })?;
    let file = File(&path);
    file.inspect().await?;
    let options = options(&path);
    let mut connection = file.connect(&options.clone().create_if_missing(true)).await?;
    file.migrate(&mut connection).await?;
    let readers = SqlitePoolOptions::new()
        .max_connections(READERS)
        .acquire_timeout(LOCK_TIMEOUT)
        .test_before_acquire(false)
        .connect_lazy_with(options.clone().pragma("query_only", "ON"));
    let writer = Writer::new(options);
    // The pools have the file before this connection lets it go.
    writer.begin().await.map_err(|source| file.error(source))?;
    connection.close().await.map_err(|source| file.error(source))?;
    Ok(Opened { path, writer, readers })
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

struct File<'a>(&'a Path);

impl File<'_> {
    /// Refuses what is not ours, without a change to it.
    async fn inspect(&self) -> Result<(), OpenError> {
        if std::fs::metadata(self.0).map_or(true, |file| file.is_file() && file.len() == 0) {
            return Ok(());
        }
        // No journal mode here: that would be a change.
        let options = SqliteConnectOptions::new().filename(self.0).busy_timeout(LOCK_TIMEOUT);
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
        let has = |name: &str| tables.iter().any(|table| table == name);
        if has("_sqlx_migrations") && has("far_mesh_sessions") {
            let found: Option<i64> = sqlx::query_scalar("SELECT MAX(version) FROM _sqlx_migrations")
                .fetch_one(&mut *connection)
                .await
                .map_err(|source| self.error(source))?;
            return self.known(found.unwrap_or_default());
        }
        match tables.into_iter().next() {
            Some(table) => Err(OpenError::Foreign { path: self.0.to_owned(), table }),
            None => Ok(()),
        }
    }

    fn known(&self, found: i64) -> Result<(), OpenError> {
        let known = MIGRATIONS.iter().map(|migration| migration.version).max().unwrap_or_default();
        if found > known {
            return Err(OpenError::NewerSchema { path: self.0.to_owned(), found, known });
        }
        Ok(())
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

    /// All missing migrations in one transaction, so that nobody sees half a schema and two programs that start at once
    /// migrate one after the other.
    async fn migrate(&self, connection: &mut SqliteConnection) -> Result<(), OpenError> {
        let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await.map_err(|source| self.error(source))?;
        // `run_direct` is `run` without the trait `Acquire`, whose lifetimes would keep this future from being `Send`.
        MIGRATIONS.run_direct(None, &mut *transaction, false).await.map_err(|error| match error {
            MigrateError::VersionMissing(found) => match self.known(found) {
                Err(newer) => newer,
                Ok(()) => OpenError::OtherSchema { path: self.0.to_owned(), version: found },
            },
            MigrateError::VersionMismatch(version) => OpenError::OtherSchema { path: self.0.to_owned(), version },
            MigrateError::Execute(source) => self.error(source),
            error => OpenError::Migrate { path: self.0.to_owned(), source: Box::new(error) },
        })?;
        transaction.commit().await.map_err(|source| self.error(source))
    }

    fn error(&self, source: sqlx::Error) -> OpenError {
        let path = self.0.to_owned();
        match sqlite_code(&source) {
            Some(14) => OpenError::Path { path, source: Box::new(source) },
            Some(11 | 26) => OpenError::NotADatabase { path, source: Box::new(source) },
            _ if matches!(source, sqlx::Error::Io(_)) => OpenError::Path { path, source: Box::new(source) },
            _ => OpenError::Backend(BackendError::from(source)),
        }
    }
}
