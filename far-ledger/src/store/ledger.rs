//! [`Ledger`]: the trait [`Store`] over a database.

use futures::future::{BoxFuture, FutureExt};

use crate::{
    contribution::ContributionRow,
    node::{Node, NodeEarnings, NodeModel, NodeRow},
    session::{NewSession, Outcome, Session},
    store::{
        contract::{Finalized, Health, Store},
        database::{Database, query, retry},
        error::{BackendError, BeginError, FailError, FinalizeError, NodeError, OpenError, ReadError},
        location::Location,
        nodes, sessions, settle,
    },
    time::UnixMillis,
    wallet::WalletAddress,
};

/// The ledger in a SQLite file or in a PostgreSQL database. Cloning shares it.
///
/// Several processes may open one ledger; writers wait for each other for some seconds.
#[derive(Clone, Debug)]
pub struct Ledger {
    location: Location,
    database: Database,
}

impl Ledger {
    /// Opens the ledger at a path or a URL, makes it where there is none, and brings its schema up to date.
    ///
    /// # Errors
    /// [`OpenError`]: a database that is not a ledger, or one of a newer version, is left as it is.
    pub async fn open(location: impl Into<Location>) -> Result<Self, OpenError> {
        let location = location.into();
        let database = Database::open(&location).await?;
        Ok(Self { location, database })
    }

    /// Where it is.
    pub fn location(&self) -> &Location {
        &self.location
    }

    /// The database, for the operations of this crate.
    pub(crate) fn database(&self) -> &Database {
        &self.database
    }

    /// What each of a wallet's nodes earned.
    ///
    /// # Errors
    /// [`ReadError`].
    pub async fn wallet_earnings(&self, wallet: WalletAddress) -> Result<Vec<NodeEarnings>, ReadError> {
        retry(|| nodes::earnings_of_wallet(&self.database, wallet)).await
    }

    async fn check_health(&self) -> Result<Health, BackendError> {
        let newest = query("SELECT MAX(version) AS version FROM _sqlx_migrations");
        let row = newest.fetch_one(&mut self.database.read().await?).await?;
        let schema_version = row.get("version").map_err(|error| match error {
            ReadError::Backend(error) => error,
            error => BackendError::Failed(sqlx::Error::Decode(error.into())),
        })?;
        // Taking the lock of a writer and giving it back writes nothing and fails where a write would.
        self.database.begin().await?.rollback().await?;
        Ok(Health { schema_version })
    }
}

impl Store for Ledger {
    fn upsert_node<'a>(&'a self, node: &'a Node) -> BoxFuture<'a, Result<(), NodeError>> {
        retry(move || nodes::upsert(&self.database, node)).boxed()
    }

    fn upsert_node_model<'a>(&'a self, model: &'a NodeModel) -> BoxFuture<'a, Result<(), NodeError>> {
        retry(move || nodes::upsert_model(&self.database, model)).boxed()
    }

    fn withdraw_node_models<'a>(&'a self, node_id: &'a str) -> BoxFuture<'a, Result<(), NodeError>> {
        retry(move || nodes::withdraw(&self.database, node_id)).boxed()
    }

    fn update_node_last_seen<'a>(&'a self, node_id: &'a str, seen: UnixMillis) -> BoxFuture<'a, Result<(), NodeError>> {
        retry(move || nodes::seen(&self.database, node_id, seen)).boxed()
    }

    fn begin_session<'a>(&'a self, session: &'a NewSession) -> BoxFuture<'a, Result<(), BeginError>> {
        self.begin_sessions(std::slice::from_ref(session)).boxed()
    }

    fn finalize_session<'a>(
        &'a self,
        session_id: &'a str,
        outcome: &'a Outcome,
    ) -> BoxFuture<'a, Result<Finalized, FinalizeError>> {
        retry(move || settle::finalize(&self.database, session_id, outcome)).boxed()
    }

    fn fail_session<'a>(
        &'a self,
        session_id: &'a str,
        reason: &'a str,
        at: UnixMillis,
    ) -> BoxFuture<'a, Result<(), FailError>> {
        retry(move || sessions::fail(&self.database, session_id, reason, at)).boxed()
    }

    fn session<'a>(&'a self, session_id: &'a str) -> BoxFuture<'a, Result<Option<Session>, ReadError>> {
        retry(move || async move { sessions::get(&mut self.database.read().await?, session_id).await }).boxed()
    }

    fn contributions<'a>(&'a self, session_id: &'a str) -> BoxFuture<'a, Result<Vec<ContributionRow>, ReadError>> {
        retry(move || async move { sessions::contributions(&mut self.database.read().await?, session_id).await })
            .boxed()
    }

    fn active_nodes(&self, since: UnixMillis) -> BoxFuture<'_, Result<Vec<NodeRow>, ReadError>> {
        retry(move || nodes::active(&self.database, since)).boxed()
    }

    fn node_earnings<'a>(&'a self, node_id: &'a str) -> BoxFuture<'a, Result<Option<NodeEarnings>, ReadError>> {
        retry(move || nodes::earnings(&self.database, node_id)).boxed()
    }

    fn health(&self) -> BoxFuture<'_, Result<Health, BackendError>> {
        retry(move || self.check_health()).boxed()
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        self.database.close().boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Compiles only where a task of a multi-threaded runtime may open a ledger.
    #[test]
    fn opening_can_be_spawned() {
        fn spawnable<F: Future + Send + 'static>(_: F) {}
        spawnable(Ledger::open("never opened"));
    }

    #[tokio::test]
    async fn every_connection_to_a_file_is_durable_and_waits() {
        let dir = tempfile::tempdir().unwrap();
        let ledger = Ledger::open(dir.path().join("ledger.db")).await.unwrap();
        let mut writing = ledger.database().begin().await.unwrap();
        let mut reading = ledger.database().read().await.unwrap();
        for (pragma, value) in [
            ("SELECT journal_mode AS value FROM pragma_journal_mode", "wal"),
            ("SELECT CAST(synchronous AS TEXT) AS value FROM pragma_synchronous", "2"),
            ("SELECT CAST(foreign_keys AS TEXT) AS value FROM pragma_foreign_keys", "1"),
            ("SELECT CAST(timeout AS TEXT) AS value FROM pragma_busy_timeout", "5000"),
        ] {
            let found = query(pragma).fetch_one(&mut writing).await.unwrap();
            assert_eq!(found.get::<String>("value").unwrap(), value, "{pragma}");
            let found = query(pragma).fetch_one(&mut reading).await.unwrap();
            assert_eq!(found.get::<String>("value").unwrap(), value, "{pragma}");
        }
        assert!(query("DELETE FROM far_nodes").execute(&mut reading).await.is_err());
    }

    /// A full disk fails the write, leaves what was there, and once there is room the ledger goes on.
    #[tokio::test]
    async fn a_full_disk_is_named_and_gets_over() {
        let dir = tempfile::tempdir().unwrap();
        let ledger = Ledger::open(dir.path().join("ledger.db")).await.unwrap();
        fill_up(ledger.database()).await;
        let now = UnixMillis::default();
        let big = |index: usize| NewSession {
            prompt_text: Some("x".repeat(100_000)),
            ..NewSession::new(format!("s{index}"), "model", now)
        };
        let full = ledger.begin_session(&big(0)).await;
        assert!(matches!(full, Err(BeginError::Backend(BackendError::Full(_)))), "{full:?}");
        // The connection with the bound on its pages was replaced: a disk with room again.
        for index in 0..3 {
            ledger.begin_session(&big(index)).await.unwrap();
            assert!(ledger.session(&format!("s{index}")).await.unwrap().is_some());
        }
    }

    /// Allows the writing connection no more pages than the file has.
    async fn fill_up(database: &Database) {
        let mut transaction = database.begin().await.unwrap();
        query("PRAGMA max_page_count = 1").execute(&mut transaction).await.unwrap();
        transaction.commit().await.unwrap();
    }
}
