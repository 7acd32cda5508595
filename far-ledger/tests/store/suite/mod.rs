//! The ledger as a caller sees it: the same tests on every database.

mod accounts;
mod audit;
mod concurrency;
mod conservation;
mod deposits;
mod ingest;
mod keys;
mod nodes;
mod opening;
mod records;
mod sessions;
mod upgrade;

use far_ledger::{
    Amount, Contribution, Ledger, NewSession, Node, Outcome, Party, Payer, Posted, Store, UnixMillis, Work,
    cost::Price, store::TopUp,
};

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

/// The balance of a party, which must have an account.
pub(super) async fn balance(store: &Ledger, party: &str) -> i64 {
    store.balance(&party.parse().unwrap()).await.unwrap().unwrap()
}

/// A user with a balance.
pub(super) async fn user(store: &Ledger, name: &str, nano_far: i64) {
    store.create_account(name, at(1)).await.unwrap();
    let key = format!("first of {name}");
    let top_up = TopUp { account: name.into(), amount: nano(nano_far), key, at: at(1) };
    assert_eq!(store.top_up(&top_up).await.unwrap(), Posted::Now);
}

/// A session that a user pays for, of at most `most` nano-FAR, that may run until 1,000.
pub(super) fn paid_session(id: &str, account: &str, most: i64) -> NewSession {
    let payer = Payer { account: account.into(), key: None, reserve: nano(most), until: at(1_000) };
    NewSession { payer: Some(payer), ..session(id) }
}

/// Every number of the ledger that must agree with another: costs with payments, totals of nodes with sums of payments.
pub(super) async fn assert_balanced(store: &Ledger, sessions: &[String]) -> Amount {
    let mut all = Amount::ZERO;
    for id in sessions {
        let session = store.session(id).await.unwrap().unwrap();
        let (cost, fee) = (session.total_cost, session.fee);
        let rows = store.contributions(id).await.unwrap();
        let parts = rows.iter().map(|row| row.contribution.payment).chain([fee]);
        assert_eq!(Amount::checked_sum(parts), Some(cost), "{id}");
        all = all.checked_add(cost).unwrap();
    }
    let mut earned = Amount::ZERO;
    for row in store.active_nodes(at(0)).await.unwrap() {
        let sums = store.node_earnings(&row.node.node_id).await.unwrap().unwrap();
        assert_eq!((row.total_earned, row.total_tokens_served), (sums.earned, sums.tokens), "{}", sums.node_id);
        assert_eq!(sums.paid.checked_add(sums.unpaid), Some(sums.earned));
        earned = earned.checked_add(sums.earned).unwrap();
    }
    let fees = store.balance(&Party::Fees).await.unwrap().unwrap();
    assert_eq!(earned.nano() + fees, all.nano());
    assert_eq!(store.audit().await.unwrap(), []);
    all
}
