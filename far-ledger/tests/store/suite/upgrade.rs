//! A ledger of the first version becomes one of this version, with books for what was earned before there were any.

use far_ledger::{Amount, Ledger, Store, store::Finalized};
use sqlx::migrate::Migrator;

use super::{assert_balanced, balance, outcome};
use crate::bed::Other;

/// What the first version wrote.
const BEFORE: &str = "
INSERT INTO far_nodes (node_id, total_tokens_served, total_earned_far, last_seen) VALUES
    ('a', 50, 666667, 1), ('b', 50, 666667, 1), ('c', 50, 666666, 1), ('d', 0, 0, 1);
INSERT INTO far_mesh_sessions (id, model_id, tokens_generated, total_cost_far, started_at, completed_at, status) VALUES
    ('done', 'model', 20, 2000000, 1, 9, 'completed'), ('free', 'model', 0, 0, 1, 9, 'completed'),
    ('running', 'model', 0, 0, 1, NULL, 'running');
INSERT INTO far_session_contributions VALUES
    ('done', 'a', 0, 10, 50, 500, 7, 666667, NULL, NULL, 1), ('done', 'b', 10, 20, 50, 500, 7, 666667, NULL, NULL, 1),
    ('done', 'c', 20, 30, 50, 500, 7, 666666, NULL, NULL, 1), ('free', 'a', 0, 10, 0, 0, 7, 0, NULL, NULL, 1)";

#[tokio::test]
async fn what_was_earned_before_is_in_the_books() {
    let bed = super::super::fresh().await;
    let migrations =
        Migrator::new(std::path::Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/migrations"))).await.unwrap();
    let mut other = bed.other().await;
    match &mut other {
        Other::Sqlite(connection) => migrations.run_to(2, connection).await.unwrap(),
        Other::Postgres(connection) => migrations.run_to(2, connection).await.unwrap(),
    }
    other.run(BEFORE).await.unwrap();
    let store: Ledger = bed.open().await;
    assert_eq!(balance(&store, "node:a").await, 666_667);
    assert_eq!((balance(&store, "node:d").await, balance(&store, "open").await), (0, -2_000_000));
    assert_eq!(store.finalize_session("done", &outcome()).await.unwrap(), Finalized::Before);
    assert_eq!(store.finalize_session("running", &outcome()).await.unwrap(), Finalized::Now);
    let earned = store.node_earnings("a").await.unwrap().unwrap();
    assert_eq!((earned.earned.nano(), earned.unpaid.nano(), earned.paid), (1_333_334, 1_333_334, Amount::ZERO));
    let all = ["done".into(), "free".into(), "running".into()];
    assert_eq!(assert_balanced(&store, &all).await.nano(), 4_000_000);
}
