//! A ledger of the first version becomes one of this version, with books for what was earned before there were any.

use far_ledger::{Amount, Ledger, Store, store::Finalized};
use sqlx::migrate::Migrator;

use super::{assert_balanced, balance, outcome};
use crate::bed::{Bed, Other};

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

/// The schema of an earlier version, in a database that is empty.
async fn before(bed: &Bed, version: i64) -> Other {
    let migrations =
        Migrator::new(std::path::Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/migrations"))).await.unwrap();
    let mut other = bed.other().await;
    match &mut other {
        Other::Sqlite(connection) => migrations.run_to(version, connection).await.unwrap(),
        Other::Postgres(connection) => migrations.run_to(version, connection).await.unwrap(),
    }
    other
}

#[tokio::test]
async fn what_was_earned_before_is_in_the_books() {
    let bed = super::super::fresh().await;
    let mut other = before(&bed, 2).await;
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

/// Payouts of a ledger whose nonces had no chain: two batches, and a filler before the second.
const PAYING: &str = "
INSERT INTO far_nodes (node_id, total_tokens_served, total_earned_far, last_seen) VALUES ('a', 50, 12, 1), ('b', 50, 5, 1);
INSERT INTO far_mesh_sessions (id, model_id, tokens_generated, total_cost_far, started_at, completed_at, status) VALUES
    ('one', 'model', 20, 10, 1, 9, 'completed'), ('two', 'model', 20, 7, 1, 9, 'completed');
INSERT INTO payout_epoch VALUES (7, 100, 31337, '0xc0', 100);
INSERT INTO far_payment_batches (id, total_nodes, total_amount_far, tx_hash, block_number, status, confirmed_at, created_at)
VALUES ('first', 1, 12, '0x01', 1, 'confirmed', 101, 100), ('second', 1, 5, NULL, NULL, 'signed', NULL, 100);
INSERT INTO payout_batch VALUES ('first', 7, 0, '0xd1', NULL), ('second', 7, 1, '0xd2', NULL);
INSERT INTO far_session_contributions (session_id, node_id, layers_start, layers_end, tokens_contributed, token_layers,
                                       compute_ms, payment_far, paid_at, payment_tx_hash, payment_batch_id) VALUES
    ('one', 'a', 0, 10, 25, 250, 7, 5, 101, '0x01', 'first'), ('two', 'a', 0, 10, 25, 250, 7, 7, 101, '0x01', 'first'),
    ('one', 'b', 10, 20, 25, 250, 7, 5, NULL, NULL, 'second');
INSERT INTO nonce_owner VALUES ('0xaa', 3, 'first', 0), ('0xaa', 4, 'fill/0xaa', 4), ('0xaa', 5, 'second', 0);
INSERT INTO payout_tx VALUES ('0x01', '0xaa', 3, 0, '0x', 1, 1, 1, 1), ('0x04', '0xaa', 4, 0, '0x', 1, 1, 1, 1),
    ('0x05', '0xaa', 5, 0, '0x', 1, 1, 1, 1), ('0x06', '0xaa', 5, 1, '0x', 1, 1, 1, 1)";

#[tokio::test]
async fn payouts_that_are_under_way_keep_their_nonces() {
    let bed = super::super::fresh().await;
    let mut other = before(&bed, 12).await;
    other.run(PAYING).await.unwrap();
    let store: Ledger = bed.open().await;
    for (sql, expected) in [
        ("SELECT COUNT(*) FROM nonce_owner WHERE chain_id = 31337 AND sender = '0xaa'", 3),
        ("SELECT nonce FROM nonce_owner WHERE batch_id = 'fill/31337/0xaa' AND try_no = 4", 4),
        ("SELECT COUNT(*) FROM payout_tx WHERE chain_id = 31337 AND nonce = 5", 2),
        ("SELECT COUNT(*) FROM payout_tx", 4),
        ("SELECT amount_far FROM payout_node WHERE batch_id = 'first' AND node_id = 'a'", 12),
        ("SELECT COUNT(*) FROM payout_node", 2),
    ] {
        assert_eq!(other.number(sql).await, Some(expected), "{sql}");
    }
    let sums = store.node_sums("a").await.unwrap().unwrap();
    assert_eq!((sums.earned.nano(), sums.paid.nano(), sums.unpaid.nano()), (12, 12, 0));
    let sums = store.node_sums("b").await.unwrap().unwrap();
    assert_eq!((sums.earned.nano(), sums.paid.nano(), sums.unpaid.nano()), (5, 0, 5));
    let payments = store.node_payments("a", 9).await.unwrap();
    assert_eq!((payments.len(), payments[0].amount.nano(), payments[0].tx_hash.as_deref()), (1, 12, Some("0x01")));
    assert_eq!(store.node_sums("nobody").await.unwrap(), None);
    assert_eq!(store.node_sums("\0").await.unwrap(), None, "no node has such a name");
    assert!(other.run("INSERT INTO nonce_owner VALUES (31337, '0xaa', 5, 'third', 0)").await.is_err());
    other.run("INSERT INTO nonce_owner VALUES (1, '0xaa', 5, 'third', 0)").await.unwrap();
}
