//! A database of its own for each test: a SQLite file in a fresh folder, or a fresh database of a PostgreSQL server.

pub(crate) mod server;

use std::{
    path::PathBuf,
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

/// All tables, in a schema of their own.
const KEEP: &str = "
DO $$
DECLARE name TEXT;
BEGIN
    CREATE SCHEMA kept;
    FOR name IN SELECT tablename FROM pg_tables WHERE schemaname = 'public' LOOP
        EXECUTE format('CREATE TABLE kept.%I AS TABLE public.%I', name, name);
    END LOOP;
END $$";

/// The other way: a table whose rows refer to those of another waits for it.
const RESTORE: &str = "
DO $$
DECLARE
    waiting TEXT[] := ARRAY(SELECT CAST(tablename AS TEXT) FROM pg_tables WHERE schemaname = 'public');
    later TEXT[];
    name TEXT;
BEGIN
    EXECUTE 'TRUNCATE ' || (SELECT string_agg(format('public.%I', t), ', ') FROM UNNEST(waiting) t);
    WHILE cardinality(waiting) > 0 LOOP
        later := '{}';
        FOREACH name IN ARRAY waiting LOOP
            BEGIN
                EXECUTE format('INSERT INTO public.%I SELECT * FROM kept.%I', name, name);
            EXCEPTION WHEN foreign_key_violation THEN
                later := later || name;
            END;
        END LOOP;
        IF cardinality(later) = cardinality(waiting) THEN
            RAISE EXCEPTION 'tables that refer to each other: %', waiting;
        END IF;
        waiting := later;
    END LOOP;
END $$";

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
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("far_test_{}_{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let mut connection = PgConnectOptions::from_str(&server).unwrap().connect().await.unwrap();
        let create = format!("CREATE DATABASE {name}");
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
            Self::Sqlite(dir) => file(dir).display().to_string(),
            Self::Postgres { server, name } => url(server, name),
        }
    }

    /// Keeps a copy of all that is stored. Nobody may write meanwhile.
    #[allow(dead_code, reason = "of use to the crash matrix alone")]
    pub(crate) async fn keep(&self) {
        match self {
            Self::Sqlite(dir) => drop(std::fs::copy(file(dir), file(dir).with_extension("kept")).unwrap()),
            Self::Postgres { .. } => self.other().await.run(KEEP).await.unwrap(),
        }
    }

    /// Goes back to what was kept. Nobody may have it open, but for what is left of a process that crashed.
    #[allow(dead_code, reason = "of use to the crash matrix alone")]
    pub(crate) async fn restore(&self) {
        match self {
            Self::Sqlite(dir) => {
                for log in ["sqlite-wal", "sqlite-shm"] {
                    let _ = std::fs::remove_file(file(dir).with_extension(log));
                }
                std::fs::copy(file(dir).with_extension("kept"), file(dir)).unwrap();
            }
            // A fresh database from a template costs a second: a server writes all it has to the disk to drop one.
            Self::Postgres { .. } => self.other().await.run(RESTORE).await.unwrap(),
        }
    }

    pub(crate) async fn open(&self) -> Ledger {
        Ledger::open(self.location()).await.unwrap()
    }

    /// A connection beside the ledger's own.
    pub(crate) async fn other(&self) -> Other {
        match self {
            Self::Sqlite(dir) => {
                let options = SqliteConnectOptions::new().filename(file(dir));
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

fn file(dir: &TempDir) -> PathBuf {
    dir.path().join("ledger.sqlite")
}

/// The URL of a database of a server: its path is replaced.
fn url(server: &str, name: &str) -> String {
    let (address, parameters) = server.split_once('?').unwrap_or((server, ""));
    let (scheme, rest) = address.split_once("://").unwrap();
    let host = rest.split_once('/').map_or(rest, |(host, _)| host);
    format!("{scheme}://{host}/{name}?{parameters}")
}
