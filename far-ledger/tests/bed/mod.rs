//! A database of its own for each test: a SQLite file in a fresh folder, or a fresh database of a PostgreSQL server.

pub(crate) mod server;

use std::{
    str::FromStr,
    sync::atomic::{AtomicU32, Ordering},
};

use far_ledger::{Ledger, store::Location};
use sqlx::{
    AssertSqlSafe, ConnectOptions, Connection, PgConnection, SqliteConnection, postgres::PgConnectOptions,
    sqlite::SqliteConnectOptions,
};
use tempfile::TempDir;

/// URL of a server on which the user may create databases. `tests/run ledger` starts one.
pub(crate) const SERVER: &str = "FAR_MESH_TEST_POSTGRES";

/// A database that ends with the test.
#[derive(Debug)]
pub(crate) enum Bed {
    Sqlite(TempDir),
    Postgres { server: String, name: String },
}

/// A connection beside the ledger's own.
#[derive(Debug)]
pub(crate) enum Other {
    Sqlite(SqliteConnection),
    Postgres(PgConnection),
}

impl Bed {
    pub(crate) async fn sqlite() -> Self {
        Self::Sqlite(tempfile::tempdir().unwrap())
    }

    pub(crate) async fn postgres() -> Self {
        let server = std::env::var(SERVER).unwrap_or_else(|_| {
            panic!("{SERVER} names no PostgreSQL server to test with: use tests/run ledger, which starts one")
        });
        Self::create(server, "").await
    }

    async fn create(server: String, as_what: &str) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("far_test_{}_{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let mut connection = PgConnectOptions::from_str(&server).unwrap().connect().await.unwrap();
        let create = format!("CREATE DATABASE {name}{as_what}");
        sqlx::raw_sql(AssertSqlSafe(create)).execute(&mut connection).await.unwrap();
        connection.close().await.unwrap();
        Self::Postgres { server, name }
    }

    pub(crate) fn location(&self) -> Location {
        self.url().into()
    }

    /// The location as a text that another process can open.
    pub(crate) fn url(&self) -> String {
        match self {
            Self::Sqlite(dir) => dir.path().join("ledger.db").display().to_string(),
            Self::Postgres { server, name } => url(server, name),
        }
    }

    /// Another database with the same content. Nobody may be connected to this one.
    #[allow(dead_code, reason = "of use to the crash matrix alone")]
    pub(crate) async fn copy(&self) -> Self {
        match self {
            Self::Sqlite(dir) => {
                let copy = tempfile::tempdir().unwrap();
                std::fs::copy(dir.path().join("ledger.db"), copy.path().join("ledger.db")).unwrap();
                Self::Sqlite(copy)
            }
            Self::Postgres { server, name } => Self::create(server.clone(), &format!(" TEMPLATE {name}")).await,
        }
    }

    pub(crate) async fn open(&self) -> Ledger {
        Ledger::open(self.location()).await.unwrap()
    }

    /// A connection beside the ledger's own.
    pub(crate) async fn other(&self) -> Other {
        match self {
            Self::Sqlite(dir) => {
                let options = SqliteConnectOptions::new().filename(dir.path().join("ledger.db"));
                Other::Sqlite(options.create_if_missing(true).connect().await.unwrap())
            }
            Self::Postgres { server, name } => {
                Other::Postgres(PgConnectOptions::from_str(&url(server, name)).unwrap().connect().await.unwrap())
            }
        }
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        let Self::Postgres { server, name } = self else { return };
        let (server, drop) = (server.clone(), format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)"));
        // A thread of its own: a test's runtime cannot wait in a destructor.
        let ended = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async move {
                let mut connection = PgConnectOptions::from_str(&server).unwrap().connect().await?;
                sqlx::raw_sql(AssertSqlSafe(drop)).execute(&mut connection).await
            })
        });
        if let Ok(Err(error)) = ended.join() {
            eprintln!("{name} stays on the server: {error}");
        }
    }
}

impl Other {
    /// Runs statements without values.
    pub(crate) async fn run(&mut self, sql: &str) -> Result<(), sqlx::Error> {
        let sql = AssertSqlSafe(sql.to_owned());
        match self {
            Self::Sqlite(connection) => sqlx::raw_sql(sql).execute(connection).await.map(drop),
            Self::Postgres(connection) => sqlx::raw_sql(sql).execute(connection).await.map(drop),
        }
    }

    /// The number a statement finds, where it finds a row.
    pub(crate) async fn number(&mut self, sql: &str) -> Option<i64> {
        let sql = AssertSqlSafe(sql.to_owned());
        match self {
            Self::Sqlite(connection) => sqlx::query_scalar(sql).fetch_optional(connection).await.unwrap(),
            Self::Postgres(connection) => sqlx::query_scalar(sql).fetch_optional(connection).await.unwrap(),
        }
    }
}

/// The URL of a database of a server: its path is replaced.
fn url(server: &str, name: &str) -> String {
    let (address, parameters) = server.split_once('?').unwrap_or((server, ""));
    let (scheme, rest) = address.split_once("://").unwrap();
    let host = rest.split_once('/').map_or(rest, |(host, _)| host);
    format!("{scheme}://{host}/{name}?{parameters}")
}
