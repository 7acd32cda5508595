//! Opens a database of a PostgreSQL server: looks whose it is and brings its schema up to date, under one lock.
//!
//! A connection is tested before it is lent, so one that a restart of the server cut is replaced, and a server that is
//! starting is waited for. TLS is by rustls, as `sslmode` in the URL asks.

use std::{str::FromStr, time::Duration};

use sqlx::{
    PgConnection, PgPool,
    postgres::{PgConnectOptions, PgPoolOptions},
};

use crate::store::{
    database::{Database, Runs, Topic, Transaction, migrate, pool::Handle, query},
    error::{BackendError, OpenError},
    location::{Location, PostgresUrl},
};

/// Connections of one process. A server allows 100 by default, which several coordinators share.
const CONNECTIONS: u32 = 16;

/// How long to wait for a free connection, or for a server that is starting.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(10);

/// What every session of ours is set to. What was acknowledged must be on the disk of the server, so `off`, the one
/// setting of `synchronous_commit` that gives this up, is turned on; stricter ones of an operator with replicas stay.
/// A statement, a wait for a lock and a transaction left open end in an error before anybody waits for a minute.
const SETTINGS: &str = "
SELECT set_config('synchronous_commit',
                  CASE current_setting('synchronous_commit') WHEN 'off' THEN 'on'
                       ELSE current_setting('synchronous_commit') END, false),
       set_config('lock_timeout', '10s', false),
       set_config('statement_timeout', '30s', false),
       set_config('idle_in_transaction_session_timeout', '30s', false)";

/// Tables of the schema that new tables would go to.
const TABLES: &str = "
SELECT CAST(table_name AS TEXT) AS table_name FROM information_schema.tables
WHERE table_schema = current_schema() ORDER BY table_name LIMIT 1000";

pub(super) async fn open(location: &Location, url: &PostgresUrl) -> Result<Database, OpenError> {
    let unreachable = |source| OpenError::Server { ledger: location.clone(), source: Box::new(source) };
    let options = PgConnectOptions::from_str(url.expose()).map_err(unreachable)?.application_name("far-mesh");
    let pool = PgPoolOptions::new()
        .max_connections(CONNECTIONS)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        .after_connect(|connection, _| Box::pin(set_up(connection)))
        .connect_lazy_with(options);
    let database = Database::Postgres(pool.clone());
    let opened = migrate(location, &database, &pool).await;
    if opened.is_err() {
        pool.close().await;
    }
    opened.map(|()| database)
}

async fn set_up(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    sqlx::query(SETTINGS).persistent(false).execute(connection).await?;
    Ok(())
}

async fn migrate(location: &Location, database: &Database, pool: &PgPool) -> Result<(), OpenError> {
    let unreachable = |source| OpenError::Server { ledger: location.clone(), source: Box::new(source) };
    let failed = |source| OpenError::Backend(BackendError::from(source));
    // The first connection tells whether there is a server at all, and why it does not let us in.
    drop(pool.acquire().await.map_err(unreachable)?);
    let mut transaction = database.begin().await.map_err(failed)?;
    transaction.unhurried().await.map_err(failed)?;
    transaction.exclusive(Topic::Migrations).await.map_err(failed)?;
    if migrate::examine(location, tables(&mut transaction).await.map_err(failed)?)? {
        let newest = query("SELECT MAX(version) AS version FROM _sqlx_migrations").fetch_one(&mut transaction).await;
        let found: Option<i64> = newest
            .map_err(failed)?
            .get("version")
            .map_err(|_| OpenError::Foreign { ledger: location.clone(), table: "_sqlx_migrations".into() })?;
        migrate::known(location, found.unwrap_or_default())?;
    }
    if let Handle::Postgres(connection) = transaction.handle() {
        migrate::migrate(connection, location, failed).await?;
    }
    transaction.commit().await.map_err(failed)
}

async fn tables(transaction: &mut Transaction) -> Result<Vec<String>, sqlx::Error> {
    let rows = query(TABLES).fetch_all(transaction).await?;
    Ok(rows.iter().filter_map(|row| row.get("table_name").ok()).collect())
}
