//! Files that are a ledger, that become one, and that are none.

use std::{fs, path::Path};

use far_ledger::{
    SqliteStore, Status, Store,
    store::{FinalizeError, Finalized, OpenError, ReadError},
};
use sqlx::{ConnectOptions, Connection, SqliteConnection, sqlite::SqliteConnectOptions};

use crate::{assert_balanced, at, ledger, outcome, session};

async fn connect(path: &Path) -> SqliteConnection {
    SqliteConnectOptions::new().filename(path).create_if_missing(true).connect().await.unwrap()
}

async fn run(path: &Path, sql: &'static str) {
    let mut connection = connect(path).await;
    sqlx::raw_sql(sql).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
}

#[tokio::test]
async fn a_ledger_survives_closing() {
    let (_dir, store) = ledger().await;
    store.begin_session(&session("done")).await.unwrap();
    store.finalize_session("done", &outcome()).await.unwrap();
    store.begin_session(&session("running")).await.unwrap();
    store.close().await;
    let store = SqliteStore::open(store.path()).await.unwrap();
    assert_eq!(store.session("done").await.unwrap().unwrap().status, Status::Completed);
    assert_eq!(store.finalize_session("done", &outcome()).await.unwrap(), Finalized::Before);
    assert_eq!(store.finalize_session("running", &outcome()).await.unwrap(), Finalized::Now);
    assert_balanced(&store, &["done".into(), "running".into()]).await;
}

#[tokio::test]
async fn what_returned_is_in_the_file_without_closing() {
    let (dir, store) = ledger().await;
    store.begin_session(&session("s")).await.unwrap();
    store.finalize_session("s", &outcome()).await.unwrap();
    // What a crash would leave: the file and its log as they are now.
    let copy = dir.path().join("copy.db");
    fs::copy(store.path(), &copy).unwrap();
    fs::copy(dir.path().join("ledger.db-wal"), dir.path().join("copy.db-wal")).unwrap();
    let copy = SqliteStore::open(copy).await.unwrap();
    assert_balanced(&copy, &["s".into()]).await;
    assert_eq!(copy.finalize_session("s", &outcome()).await.unwrap(), Finalized::Before);
}

#[tokio::test]
async fn an_empty_file_becomes_a_ledger() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("empty.db");
    fs::write(&path, "").unwrap();
    SqliteStore::open(&path).await.unwrap().close().await;
    // Names that SQLite itself would take for something else are plain files.
    let odd = dir.path().join(":memory:");
    SqliteStore::open(&odd).await.unwrap().close().await;
    assert!(odd.is_file());
}

#[tokio::test]
async fn what_is_no_database_is_refused_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("notes.txt");
    let text = "these are my notes\n".repeat(400);
    fs::write(&path, &text).unwrap();
    let refused = SqliteStore::open(&path).await;
    assert!(matches!(refused, Err(OpenError::NotADatabase { .. })), "{refused:?}");
    assert_eq!(fs::read_to_string(&path).unwrap(), text);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[tokio::test]
async fn a_damaged_ledger_is_refused_or_reported() {
    let (dir, store) = ledger().await;
    store.begin_session(&session("s")).await.unwrap();
    store.close().await;
    let intact = fs::read(store.path()).unwrap();
    let broken = dir.path().join("broken.db");
    for (name, bytes) in [
        ("header", [&[0xff; 100], &intact[100..]].concat()),
        ("first page", [&intact[..100], &vec![0xff; 3996][..], &intact[4096..]].concat()),
        ("cut", intact[..5000].to_vec()),
        ("page size", [&intact[..16], &[0x12, 0x34], &intact[18..]].concat()),
    ] {
        fs::write(&broken, bytes).unwrap();
        let refused = SqliteStore::open(&broken).await;
        assert!(matches!(refused, Err(OpenError::NotADatabase { .. })), "{name}: {refused:?}");
    }
}

#[tokio::test]
async fn the_database_of_another_program_is_refused_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("photos.db");
    run(&path, "CREATE TABLE photos (id INTEGER)").await;
    let before = fs::read(&path).unwrap();
    match SqliteStore::open(&path).await {
        Err(OpenError::Foreign { table, .. }) => assert_eq!(table, "photos"),
        other => panic!("{other:?}"),
    }
    assert_eq!(fs::read(&path).unwrap(), before);
}

#[tokio::test]
async fn a_newer_schema_is_refused() {
    let (_dir, store) = ledger().await;
    store.close().await;
    run(
        store.path(),
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
         VALUES (4711, 'from the future', 1, x'00', 0)",
    )
    .await;
    match SqliteStore::open(store.path()).await {
        Err(error @ OpenError::NewerSchema { found: 4711, known: 2, .. }) => {
            assert!(error.to_string().contains("use the newer version"), "{error}");
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_schema_of_another_build_is_refused() {
    let (_dir, store) = ledger().await;
    store.close().await;
    run(store.path(), "UPDATE _sqlx_migrations SET checksum = x'00'").await;
    let refused = SqliteStore::open(store.path()).await;
    assert!(matches!(refused, Err(OpenError::OtherSchema { version: 1, .. })), "{refused:?}");
}

#[tokio::test]
async fn a_path_that_cannot_be_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    for path in [dir.path().join("missing").join("ledger.db"), dir.path().to_owned()] {
        let refused = SqliteStore::open(&path).await;
        assert!(matches!(refused, Err(OpenError::Path { .. })), "{refused:?}");
    }
}

#[tokio::test]
async fn the_schema_keeps_out_what_the_types_keep_out() {
    let (_dir, store) = ledger().await;
    store.begin_session(&session("s")).await.unwrap();
    let mut other = connect(store.path()).await;
    for sql in [
        "UPDATE far_mesh_sessions SET total_cost_far = -1",
        "UPDATE far_nodes SET total_earned_far = -1",
        "UPDATE far_nodes SET is_active = 2",
        "UPDATE far_mesh_sessions SET status = 'completed'",
        "INSERT INTO far_session_contributions VALUES ('s', 'a', 0, 1, 1, 1, 1, -1, NULL, NULL, 1)",
        "INSERT INTO far_session_contributions VALUES ('s', 'a', 1, 1, 1, 1, 1, 1, NULL, NULL, 1)",
        "INSERT INTO far_session_contributions VALUES ('nobody', 'a', 0, 1, 1, 1, 1, 1, NULL, NULL, 1)",
        "INSERT INTO far_session_contributions VALUES ('s', 'a', 0, 1, 1, 1, 1, 1, NULL, NULL, 2)",
        "INSERT INTO far_session_contributions VALUES ('s', 'nobody', 0, 1, 1, 1, 1, 1, NULL, NULL, 1)",
        "INSERT INTO far_payment_batches VALUES ('b', -1, 0, NULL, NULL, 'planned', 0, NULL)",
    ] {
        assert!(sqlx::raw_sql(sql).execute(&mut other).await.is_err(), "{sql}");
    }
    sqlx::raw_sql("INSERT INTO far_session_contributions VALUES ('s', 'a', 0, 1, 1, 1, 1, 1, NULL, NULL, 1)")
        .execute(&mut other)
        .await
        .unwrap();
    let twice = "INSERT INTO far_session_contributions VALUES ('s', 'a', 0, 9, 1, 1, 1, 1, NULL, NULL, 1)";
    assert!(sqlx::raw_sql(twice).execute(&mut other).await.is_err());
}

#[tokio::test]
async fn a_row_changed_by_hand_is_an_error_not_a_guess() {
    let (_dir, store) = ledger().await;
    store.begin_session(&session("s")).await.unwrap();
    let mut other = connect(store.path()).await;
    for (sql, column) in [
        ("UPDATE far_mesh_sessions SET status = 'paused', completed_at = 1", "status"),
        ("UPDATE far_mesh_sessions SET status = 'failed', total_cost_far = 0.5", "total_cost_far"),
        ("UPDATE far_mesh_sessions SET total_cost_far = 1, user_wallet = 'me'", "user_wallet"),
    ] {
        sqlx::raw_sql(sql).execute(&mut other).await.unwrap();
        match store.session("s").await {
            Err(ReadError::BadRow { column: found, .. }) => assert_eq!(found, column),
            unexpected => panic!("{unexpected:?}"),
        }
        let refused = store.finalize_session("s", &outcome()).await;
        assert!(matches!(refused, Err(FinalizeError::Read(ReadError::BadRow { .. }))), "{refused:?}");
    }
    assert_eq!(store.active_nodes(at(0)).await.unwrap().len(), 3);
}
