//! [`SqliteStore`]: the trait [`Store`] over a file.

use std::{path::Path, sync::Arc};

use futures::future::{BoxFuture, FutureExt};
use sqlx::SqlitePool;

use crate::{
    contribution::ContributionRow,
    node::{Node, NodeEarnings, NodeModel, NodeRow},
    session::{NewSession, Outcome, Session},
    store::{
        contract::{Finalized, Health, Store},
        error::{BackendError, BeginError, FailError, FinalizeError, NodeError, OpenError, ReadError},
        sqlite::{nodes, open, sessions, writer::Writer},
    },
    time::UnixMillis,
};

/// The ledger in a SQLite file. Cloning shares it.
///
/// Several processes may open one file; writers wait for each other for up to five seconds.
#[derive(Clone, Debug)]
pub struct SqliteStore {
    path: Arc<Path>,
    writer: Writer,
    readers: SqlitePool,
}

impl SqliteStore {
    /// Opens the ledger at `path`, makes it where there is none, and brings its schema up to date.
    ///
    /// # Errors
    /// [`OpenError`]: a file that is not a ledger, or one of a newer version, is left as it is.
    pub async fn open(path: impl AsRef<Path>) -> Result<Self, OpenError> {
        let open::Opened { path, writer, readers } = open::open(path.as_ref()).await?;
        Ok(Self { path: path.into(), writer, readers })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    async fn check_health(&self) -> Result<Health, BackendError> {
        let schema_version =
            sqlx::query_scalar("SELECT MAX(version) FROM _sqlx_migrations").fetch_one(&self.readers).await?;
        // Taking the lock of the writer and giving it back writes nothing and fails where a write would.
        self.writer.begin().await?.rollback().await?;
        Ok(Health { schema_version })
    }
}

impl Store for SqliteStore {
    fn upsert_node<'a>(&'a self, node: &'a Node) -> BoxFuture<'a, Result<(), NodeError>> {
        nodes::upsert(&self.writer, node).boxed()
    }

    fn upsert_node_model<'a>(&'a self, model: &'a NodeModel) -> BoxFuture<'a, Result<(), NodeError>> {
        nodes::upsert_model(&self.writer, model).boxed()
    }

    fn withdraw_node_models<'a>(&'a self, node_id: &'a str) -> BoxFuture<'a, Result<(), NodeError>> {
        nodes::withdraw(&self.writer, node_id).boxed()
    }

    fn update_node_last_seen<'a>(&'a self, node_id: &'a str, seen: UnixMillis) -> BoxFuture<'a, Result<(), NodeError>> {
        nodes::seen(&self.writer, node_id, seen).boxed()
    }

    fn begin_session<'a>(&'a self, session: &'a NewSession) -> BoxFuture<'a, Result<(), BeginError>> {
        sessions::begin(&self.writer, session).boxed()
    }

    fn finalize_session<'a>(
        &'a self,
        session_id: &'a str,
        outcome: &'a Outcome,
    ) -> BoxFuture<'a, Result<Finalized, FinalizeError>> {
        sessions::finalize(&self.writer, session_id, outcome).boxed()
    }

    fn fail_session<'a>(
        &'a self,
        session_id: &'a str,
        reason: &'a str,
        at: UnixMillis,
    ) -> BoxFuture<'a, Result<(), FailError>> {
        sessions::fail(&self.writer, session_id, reason, at).boxed()
    }

    fn session<'a>(&'a self, session_id: &'a str) -> BoxFuture<'a, Result<Option<Session>, ReadError>> {
        sessions::get(&self.readers, session_id).boxed()
    }

    fn contributions<'a>(&'a self, session_id: &'a str) -> BoxFuture<'a, Result<Vec<ContributionRow>, ReadError>> {
        sessions::contributions(&self.readers, session_id).boxed()
    }

    fn active_nodes(&self, since: UnixMillis) -> BoxFuture<'_, Result<Vec<NodeRow>, ReadError>> {
        nodes::active(&self.readers, since).boxed()
    }

    fn node_earnings<'a>(&'a self, node_id: &'a str) -> BoxFuture<'a, Result<Option<NodeEarnings>, ReadError>> {
        nodes::earnings(&self.readers, node_id).boxed()
    }

    fn health(&self) -> BoxFuture<'_, Result<Health, BackendError>> {
        self.check_health().boxed()
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        async {
            // Readers first: the last connection to close folds the log into the file.
            self.readers.close().await;
            self.writer.close().await;
        }
        .boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::sqlite::writer::Writer;

    /// Compiles only where a task of a multi-threaded runtime may open a ledger.
    #[test]
    fn opening_can_be_spawned() {
        fn spawnable<F: Future + Send + 'static>(_: F) {}
        spawnable(SqliteStore::open("never opened"));
    }

    #[tokio::test]
    async fn every_connection_is_durable_and_waits() {
        let dir = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(dir.path().join("ledger.db")).await.unwrap();
        let mut writing = store.writer.begin().await.unwrap();
        let mut reading = store.readers.acquire().await.unwrap();
        for (pragma, value) in [
            ("SELECT journal_mode FROM pragma_journal_mode", "wal"),
            ("SELECT CAST(synchronous AS TEXT) FROM pragma_synchronous", "2"),
            ("SELECT CAST(foreign_keys AS TEXT) FROM pragma_foreign_keys", "1"),
            ("SELECT CAST(timeout AS TEXT) FROM pragma_busy_timeout", "5000"),
        ] {
            for connection in [&mut *writing, &mut *reading] {
                let found: String = sqlx::query_scalar(pragma).fetch_one(connection).await.unwrap();
                assert_eq!(found, value, "{pragma}");
            }
        }
        assert!(sqlx::query("DELETE FROM far_nodes").execute(&mut *reading).await.is_err());
    }

    /// A full disk fails the write, leaves what was there, and once there is room the store goes on.
    #[tokio::test]
    async fn a_full_disk_is_named_and_gets_over() {
        let dir = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(dir.path().join("ledger.db")).await.unwrap();
        fill_up(&store.writer).await;
        let now = UnixMillis::default();
        let big = |index: usize| NewSession {
            prompt_text: Some("x".repeat(100_000)),
            ..NewSession::new(format!("s{index}"), "model", now)
        };
        let full = store.begin_session(&big(0)).await;
        assert!(matches!(full, Err(BeginError::Backend(BackendError::Full(_)))), "{full:?}");
        // The connection with the bound on its pages was replaced: a disk with room again.
        for index in 0..3 {
            store.begin_session(&big(index)).await.unwrap();
            assert!(store.session(&format!("s{index}")).await.unwrap().is_some());
        }
    }

    /// Allows this connection no more pages than the file has.
    async fn fill_up(writer: &Writer) {
        let mut transaction = writer.begin().await.unwrap();
        sqlx::query("PRAGMA max_page_count = 1").execute(&mut *transaction).await.unwrap();
        transaction.commit().await.unwrap();
    }
}
