//! Nodes come, serve, earn and leave.

use std::time::Duration;

use crate::bed::Bed;
use far_ledger::{
    Amount, Ledger, Node, NodeModel, Store,
    field::FieldError,
    store::{Finalized, NodeError},
};

use super::{at, ledger, outcome, outcome_for, session};

const WALLET: &str = "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed";

fn full() -> Node {
    Node {
        wallet: Some(WALLET.parse().unwrap()),
        gpu_model: Some("NVIDIA H100".into()),
        vram_gb: Some(80),
        location: Some("eu-west".into()),
        ..Node::new("a", at(50))
    }
}

fn model(node: &str, layers: (u32, u32)) -> NodeModel {
    NodeModel {
        node_id: node.into(),
        model_id: "model".into(),
        layers_start: layers.0,
        layers_end: layers.1,
        quantization: "Q4_1".into(),
    }
}

async fn active(store: &Ledger, since: i64) -> Vec<String> {
    store.active_nodes(at(since)).await.unwrap().into_iter().map(|row| row.node.node_id).collect()
}

/// What the view `active_far_nodes` says of a node's models.
async fn models_served(bed: &Bed, node: &str) -> Option<i64> {
    bed.other().await.number(&format!("SELECT models_served FROM active_far_nodes WHERE node_id = '{node}'")).await
}

#[tokio::test]
async fn a_node_is_written_and_read() {
    let (_bed, store) = ledger().await;
    store.upsert_node(&full()).await.unwrap();
    let rows = store.active_nodes(at(0)).await.unwrap();
    assert_eq!(rows[0].node, full());
    assert_eq!((rows[0].total_tokens_served, rows[0].total_earned), (0, Amount::ZERO));
}

#[tokio::test]
async fn a_later_word_keeps_wallet_totals_and_clock() {
    let (_bed, store) = ledger().await;
    store.upsert_node(&full()).await.unwrap();
    store.begin_session(&session("s")).await.unwrap();
    store.finalize_session("s", &outcome()).await.unwrap();
    // A late message without a wallet.
    store.upsert_node(&Node::new("a", at(20))).await.unwrap();
    let row = store.active_nodes(at(0)).await.unwrap().remove(0);
    assert_eq!(row.node, Node { wallet: Some(WALLET.parse().unwrap()), ..Node::new("a", at(50)) });
    assert_eq!((row.total_tokens_served, row.total_earned.nano()), (50, 666_667));
    assert_eq!(store.node_earnings("a").await.unwrap().unwrap().wallet, row.node.wallet);
}

#[tokio::test]
async fn only_nodes_heard_of_lately_are_active() {
    let (_bed, store) = ledger().await;
    store.update_node_last_seen("b", at(5_000)).await.unwrap();
    store.update_node_last_seen("c", at(4_000)).await.unwrap();
    store.update_node_last_seen("b", at(3_000)).await.unwrap();
    assert_eq!(active(&store, 1).await, ["a", "b", "c"]);
    assert_eq!(active(&store, 4_000).await, ["b", "c"]);
    assert_eq!(active(&store, at(6_000).before(Duration::from_secs(1)).get()).await, ["b"]);
}

#[tokio::test]
async fn a_node_that_left_comes_back_when_it_is_heard_again() {
    let (bed, store) = ledger().await;
    store.upsert_node_model(&model("a", (0, 10))).await.unwrap();
    store.upsert_node_model(&model("a", (0, 10))).await.unwrap();
    store.upsert_node_model(&model("a", (10, 20))).await.unwrap();
    assert_eq!(models_served(&bed, "a").await, Some(2));
    store.withdraw_node_models("a").await.unwrap();
    store.withdraw_node_models("a").await.unwrap();
    assert_eq!(active(&store, 0).await, ["b", "c"]);
    assert_eq!(models_served(&bed, "a").await, None);
    // It may still earn for what it did before it left.
    store.begin_session(&session("s")).await.unwrap();
    assert_eq!(store.finalize_session("s", &outcome()).await.unwrap(), Finalized::Now);
    store.upsert_node(&Node::new("a", at(60))).await.unwrap();
    store.upsert_node_model(&model("a", (0, 10))).await.unwrap();
    assert_eq!(active(&store, 0).await, ["a", "b", "c"]);
    assert_eq!(models_served(&bed, "a").await, Some(1));
}

#[tokio::test]
async fn an_unknown_node_is_named() {
    let (_bed, store) = ledger().await;
    for refused in [
        store.upsert_node_model(&model("stranger", (0, 10))).await,
        store.withdraw_node_models("stranger").await,
        store.update_node_last_seen("stranger", at(2)).await,
    ] {
        match refused {
            Err(NodeError::Unknown { node_id }) => assert_eq!(node_id, "stranger"),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(store.node_earnings("stranger").await.unwrap(), None);
}

#[tokio::test]
async fn values_out_of_bounds_are_refused() {
    let (_bed, store) = ledger().await;
    for broken in [
        Node::new("", at(1)),
        Node::new("x".repeat(1 << 20), at(1)),
        Node { gpu_model: Some("x".repeat(1 << 20)), ..Node::new("x", at(1)) },
        Node { location: Some("\0".into()), ..Node::new("x", at(1)) },
    ] {
        let refused = store.upsert_node(&broken).await;
        assert!(matches!(refused, Err(NodeError::Field(_))), "{refused:?}");
    }
    let refused = store.upsert_node_model(&model("a", (10, 10))).await;
    assert!(matches!(refused, Err(NodeError::Field(FieldError::NoLayers { start: 10, end: 10 }))), "{refused:?}");
}

#[tokio::test]
async fn earnings_are_sums_over_sessions() {
    let (_bed, store) = ledger().await;
    for (id, cost) in [("s", 5), ("t", 7), ("u", 0)] {
        store.begin_session(&session(id)).await.unwrap();
        store.finalize_session(id, &outcome_for("a", 3, super::nano(cost))).await.unwrap();
    }
    let earned = store.node_earnings("a").await.unwrap().unwrap();
    assert_eq!((earned.sessions, earned.tokens), (3, 9));
    assert_eq!((earned.earned.nano(), earned.paid.nano(), earned.unpaid.nano()), (12, 0, 12));
    let nothing = store.node_earnings("b").await.unwrap().unwrap();
    assert_eq!((nothing.sessions, nothing.earned), (0, Amount::ZERO));
}

#[tokio::test]
async fn what_is_paid_is_no_longer_owed() {
    let (bed, store) = ledger().await;
    for (id, cost) in [("s", 5), ("t", 7)] {
        store.begin_session(&session(id)).await.unwrap();
        store.finalize_session(id, &outcome_for("a", 3, super::nano(cost))).await.unwrap();
    }
    let paid = "UPDATE far_session_contributions SET paid_at = 99, payment_tx_hash = '0xabc' WHERE session_id = 't'";
    bed.other().await.run(paid).await.unwrap();
    let earned = store.node_earnings("a").await.unwrap().unwrap();
    assert_eq!((earned.earned.nano(), earned.paid.nano(), earned.unpaid.nano()), (12, 7, 5));
    let row = store.contributions("t").await.unwrap().remove(0);
    assert_eq!((row.paid_at, row.payment_tx_hash.as_deref()), (Some(at(99)), Some("0xabc")));
    // Paid or not, it is the same account.
    assert_eq!(store.finalize_session("t", &outcome_for("a", 3, super::nano(7))).await.unwrap(), Finalized::Before);
}
