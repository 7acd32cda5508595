//! Databases that are a ledger, that become one, and that are none.

use far_ledger::{
    Ledger, Status, Store,
    store::{FinalizeError, Finalized, OpenError, ReadError},
};

use super::{assert_balanced, at, ledger, outcome, session};

#[tokio::test]
async fn a_ledger_survives_closing() {
    let (bed, store) = ledger().await;
    store.begin_session(&session("done")).await.unwrap();
    store.finalize_session("done", &outcome()).await.unwrap();
    store.begin_session(&session("running")).await.unwrap();
    store.close().await;
    let store = bed.open().await;
    assert_eq!(store.session("done").await.unwrap().unwrap().status, Status::Completed);
    assert_eq!(store.finalize_session("done", &outcome()).await.unwrap(), Finalized::Before);
    assert_eq!(store.finalize_session("running", &outcome()).await.unwrap(), Finalized::Now);
    assert_balanced(&store, &["done".into(), "running".into()]).await;
}

#[tokio::test]
async fn the_database_of_another_program_is_refused_and_left_alone() {
    let bed = super::super::fresh().await;
    let mut other = bed.other().await;
    other.run("CREATE TABLE photos (id INTEGER); INSERT INTO photos VALUES (7)").await.unwrap();
    match Ledger::open(bed.location()).await {
        Err(OpenError::Foreign { table, .. }) => assert_eq!(table, "photos"),
        other => panic!("{other:?}"),
    }
    assert_eq!(other.number("SELECT COUNT(*) FROM photos").await, Some(1));
    assert!(other.run("SELECT * FROM _sqlx_migrations").await.is_err());
}

#[tokio::test]
async fn a_newer_schema_is_refused() {
    let (bed, store) = ledger().await;
    let newest = store.health().await.unwrap().schema_version;
    store.close().await;
    let future = "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
                  SELECT 4711, 'from the future', success, checksum, 0 FROM _sqlx_migrations WHERE version = 1";
    bed.other().await.run(future).await.unwrap();
    match Ledger::open(bed.location()).await {
        Err(error @ OpenError::NewerSchema { found: 4711, known, .. }) => {
            assert_eq!(known, newest);
            assert!(error.to_string().contains("use the newer version"), "{error}");
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_schema_of_another_build_is_refused() {
    let (bed, store) = ledger().await;
    store.close().await;
    let change = "UPDATE _sqlx_migrations SET checksum = (SELECT checksum FROM _sqlx_migrations WHERE version = 2)
                  WHERE version = 1";
    bed.other().await.run(change).await.unwrap();
    let refused = Ledger::open(bed.location()).await;
    assert!(matches!(refused, Err(OpenError::OtherSchema { version: 1, .. })), "{refused:?}");
}

#[tokio::test]
async fn the_schema_keeps_out_what_the_types_keep_out() {
    let (bed, store) = ledger().await;
    store.begin_session(&session("s")).await.unwrap();
    let mut other = bed.other().await;
    for sql in [
        "UPDATE far_mesh_sessions SET total_cost_far = -1",
        "UPDATE far_nodes SET total_earned_far = -1",
        "UPDATE far_nodes SET is_active = 2",
        "UPDATE far_mesh_sessions SET status = 'completed'",
        "INSERT INTO far_payment_batches (id, total_nodes, total_amount_far, status, created_at)
         VALUES ('b', -1, 0, 'planned', 0)",
    ] {
        assert!(other.run(sql).await.is_err(), "{sql}");
    }
    let contribution = |values: &str| {
        format!(
            "INSERT INTO far_session_contributions (session_id, node_id, layers_start, layers_end, tokens_contributed,
                                                    token_layers, compute_ms, payment_far, exact) VALUES {values}"
        )
    };
    for values in
        ["('s', 'a', 0, 1, 1, 1, 1, -1, 1)", "('s', 'a', 1, 1, 1, 1, 1, 1, 1)", "('s', 'a', 0, 1, 1, 1, 1, 1, 2)"]
    {
        assert!(other.run(&contribution(values)).await.is_err(), "{values}");
    }
    other.run(&contribution("('s', 'a', 0, 1, 1, 1, 1, 1, 1)")).await.unwrap();
    assert!(other.run(&contribution("('s', 'a', 0, 9, 1, 1, 1, 1, 1)")).await.is_err(), "one key");
}

#[tokio::test]
async fn a_row_changed_by_hand_is_an_error_not_a_guess() {
    let (bed, store) = ledger().await;
    store.begin_session(&session("s")).await.unwrap();
    let mut other = bed.other().await;
    for (sql, column) in [
        ("UPDATE far_mesh_sessions SET user_wallet = 'me'", "user_wallet"),
        ("UPDATE far_mesh_sessions SET user_wallet = NULL, status = 'paused', completed_at = 1", "status"),
    ] {
        other.run(sql).await.unwrap();
        match store.session("s").await {
            Err(ReadError::BadRow { column: found, .. }) => assert_eq!(found, column),
            unexpected => panic!("{unexpected:?}"),
        }
    }
    let refused = store.finalize_session("s", &outcome()).await;
    assert!(matches!(refused, Err(FinalizeError::Read(ReadError::BadRow { column: "status", .. }))), "{refused:?}");
    assert_eq!(store.active_nodes(at(0)).await.unwrap().len(), 3);
}
