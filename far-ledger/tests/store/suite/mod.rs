//! The ledger as a caller sees it: the same tests on every database.

mod concurrency;
mod conservation;
mod nodes;
mod opening;
mod sessions;

use far_ledger::{Amount, Contribution, Ledger, NewSession, Node, Outcome, Store, UnixMillis, Work, cost::Price};

use crate::bed::Bed;

/// A fresh ledger that knows the nodes `a`, `b` and `c`.
pub(super) async fn ledger() -> (Bed, Ledger) {
    let bed = super::fresh().await;
    let store = bed.open().await;
    for node in ["a", "b", "c"] {
        store.upsert_node(&Node::new(node, at(1))).await.unwrap();
    }
    (bed, store)
}

pub(super) fn at(millis: i64) -> UnixMillis {
    UnixMillis::new(millis).unwrap()
}

pub(super) fn nano(nano: i64) -> Amount {
    Amount::from_nano(nano).unwrap()
}

pub(super) fn session(id: &str) -> NewSession {
    NewSession::new(id, "model", at(1))
}

pub(super) fn work(node: &str, layers: (u32, u32), tokens: u64) -> Work {
    Work { node_id: node.into(), layers_start: layers.0, layers_end: layers.1, tokens, compute_ms: 7, exact: true }
}

/// Three hops of ten layers, 50 positions, 20 tokens at 0.0001 FAR.
pub(super) fn outcome() -> Outcome {
    let hops = [work("a", (0, 10), 50), work("b", (10, 20), 50), work("c", (20, 30), 50)];
    Outcome::settle(Price::new(nano(100_000)), 20, &hops, at(9)).unwrap()
}

/// One node gets all of `cost`.
pub(super) fn outcome_for(node: &str, tokens: u64, cost: Amount) -> Outcome {
    let part = Contribution {
        node_id: node.into(),
        layers_start: 0,
        layers_end: 1,
        tokens,
        token_layers: tokens,
        compute_ms: 0,
        exact: true,
        payment: cost,
    };
    Outcome::new(1, cost, vec![part], at(9)).unwrap()
}

/// Every number of the ledger that must agree with another: costs with payments, totals of nodes with sums of payments.
pub(super) async fn assert_balanced(store: &Ledger, sessions: &[String]) -> Amount {
    let mut all = Amount::ZERO;
    for id in sessions {
        let cost = store.session(id).await.unwrap().unwrap().total_cost;
        let rows = store.contributions(id).await.unwrap();
        assert_eq!(Amount::checked_sum(rows.iter().map(|row| row.contribution.payment)), Some(cost), "{id}");
        all = all.checked_add(cost).unwrap();
    }
    let mut earned = Amount::ZERO;
    for row in store.active_nodes(at(0)).await.unwrap() {
        let sums = store.node_earnings(&row.node.node_id).await.unwrap().unwrap();
        assert_eq!((row.total_earned, row.total_tokens_served), (sums.earned, sums.tokens), "{}", sums.node_id);
        assert_eq!(sums.paid.checked_add(sums.unpaid), Some(sums.earned));
        earned = earned.checked_add(sums.earned).unwrap();
    }
    assert_eq!(earned, all);
    all
}
