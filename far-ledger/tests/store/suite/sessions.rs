//! A session's way through the ledger: begun, finalized once, or failed.

use far_ledger::{
    Amount, NewSession, Outcome, Status, Store,
    cost::Price,
    field::FieldError,
    store::{BackendError, BeginError, FailError, FinalizeError, Finalized},
};

use super::{assert_balanced, at, ledger, nano, outcome, outcome_for, session, work};

#[tokio::test]
async fn a_session_is_written_whole() {
    let (_bed, store) = ledger().await;
    let begun = NewSession {
        request_id: Some("request".into()),
        user_wallet: Some("0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed".parse().unwrap()),
        prompt_text: Some("Explain \"quantum\" computing; -- 🙂".into()),
        ..session("s")
    };
    store.begin_session(&begun).await.unwrap();
    let running = store.session("s").await.unwrap().unwrap();
    assert_eq!((running.status, running.completed_at, running.total_cost), (Status::Running, None, Amount::ZERO));

    assert_eq!(store.finalize_session("s", &outcome()).await.unwrap(), Finalized::Now);
    let done = store.session("s").await.unwrap().unwrap();
    assert_eq!((&done.begun, done.status, done.completed_at), (&begun, Status::Completed, Some(at(9))));
    assert_eq!((done.tokens_generated, done.total_cost, done.failure), (20, nano(2_000_000), None));
    let rows = store.contributions("s").await.unwrap();
    let parts: Vec<_> = rows.iter().map(|row| row.contribution.clone()).collect();
    assert_eq!(parts, outcome().contributions());
    assert_eq!(parts.iter().map(|part| part.payment.nano()).collect::<Vec<_>>(), [666_667, 666_667, 666_666]);
    assert!(rows.iter().all(|row| row.session_id == "s" && row.paid_at.is_none() && row.payment_tx_hash.is_none()));
    assert_balanced(&store, &["s".into()]).await;
}

#[tokio::test]
async fn without_a_prompt_none_is_stored() {
    let (_bed, store) = ledger().await;
    store.begin_session(&session("s")).await.unwrap();
    assert_eq!(store.session("s").await.unwrap().unwrap().begun.prompt_text, None);
}

#[tokio::test]
async fn the_same_outcome_again_changes_nothing() {
    let (_bed, store) = ledger().await;
    store.begin_session(&session("s")).await.unwrap();
    assert_eq!(store.finalize_session("s", &outcome()).await.unwrap(), Finalized::Now);
    let before = (store.session("s").await.unwrap(), store.active_nodes(at(0)).await.unwrap());
    let hops = [work("c", (20, 30), 50), work("b", (10, 20), 50), work("a", (0, 10), 50)];
    let later = Outcome::settle(Price::new(nano(100_000)), 20, &hops, at(77)).unwrap();
    assert_eq!(store.finalize_session("s", &later).await.unwrap(), Finalized::Before);
    assert_eq!((store.session("s").await.unwrap(), store.active_nodes(at(0)).await.unwrap()), before);
}

#[tokio::test]
async fn another_outcome_is_refused() {
    let (_bed, store) = ledger().await;
    store.begin_session(&session("s")).await.unwrap();
    store.finalize_session("s", &outcome()).await.unwrap();
    let before = store.active_nodes(at(0)).await.unwrap();
    let price = Price::new(nano(100_000));
    let others = [
        Outcome::settle(price, 20, &[work("a", (0, 30), 50)], at(9)).unwrap(),
        Outcome::settle(price, 21, &[work("a", (0, 10), 50), work("b", (10, 20), 50), work("c", (20, 30), 50)], at(9))
            .unwrap(),
        Outcome::settle(price, 20, &[work("a", (0, 10), 50), work("b", (10, 20), 51), work("c", (20, 30), 50)], at(9))
            .unwrap(),
        Outcome::new(20, Amount::ZERO, vec![], at(9)).unwrap(),
    ];
    for other in &others {
        let refused = store.finalize_session("s", other).await;
        assert!(matches!(refused, Err(FinalizeError::Conflict { .. })), "{refused:?}");
    }
    assert_eq!(store.active_nodes(at(0)).await.unwrap(), before);
}

#[tokio::test]
async fn an_unknown_session_is_refused() {
    let (_bed, store) = ledger().await;
    let refused = store.finalize_session("nobody", &outcome()).await;
    assert!(matches!(refused, Err(FinalizeError::UnknownSession { .. })), "{refused:?}");
    let refused = store.fail_session("nobody", "why", at(2)).await;
    assert!(matches!(refused, Err(FailError::UnknownSession { .. })), "{refused:?}");
    assert_eq!(store.session("nobody").await.unwrap(), None);
    assert_eq!(store.contributions("nobody").await.unwrap(), []);
}

#[tokio::test]
async fn an_unknown_node_undoes_the_whole_account() {
    let (_bed, store) = ledger().await;
    store.begin_session(&session("s")).await.unwrap();
    let hops = [work("a", (0, 10), 5), work("stranger", (10, 20), 5)];
    let outcome = Outcome::settle(Price::new(nano(7)), 3, &hops, at(9)).unwrap();
    match store.finalize_session("s", &outcome).await {
        Err(FinalizeError::UnknownNode { node_id }) => assert_eq!(node_id, "stranger"),
        other => panic!("{other:?}"),
    }
    assert_eq!(store.session("s").await.unwrap().unwrap().status, Status::Running);
    assert_eq!(store.node_earnings("a").await.unwrap().unwrap().earned, Amount::ZERO);
    // Once the node is known, the same call goes through.
    store.upsert_node(&far_ledger::Node::new("stranger", at(3))).await.unwrap();
    assert_eq!(store.finalize_session("s", &outcome).await.unwrap(), Finalized::Now);
    assert_balanced(&store, &["s".into()]).await;
}

#[tokio::test]
async fn totals_that_would_overflow_are_refused() {
    let (_bed, store) = ledger().await;
    for id in ["s", "t", "u", "v"] {
        store.begin_session(&session(id)).await.unwrap();
    }
    let largest = i64::MAX.unsigned_abs();
    store.finalize_session("s", &outcome_for("a", 1, nano(i64::MAX))).await.unwrap();
    store.finalize_session("t", &outcome_for("b", largest, nano(1))).await.unwrap();
    for (id, outcome) in [("u", outcome_for("a", 1, nano(1))), ("v", outcome_for("b", 1, nano(1)))] {
        let refused = store.finalize_session(id, &outcome).await;
        assert!(matches!(refused, Err(FinalizeError::Overflow { .. })), "{refused:?}");
        assert_eq!(store.session(id).await.unwrap().unwrap().status, Status::Running);
    }
    let earned = store.node_earnings("a").await.unwrap().unwrap();
    assert_eq!((earned.earned, earned.unpaid), (Amount::MAX, Amount::MAX));
    assert_eq!(store.node_earnings("b").await.unwrap().unwrap().tokens, largest);
}

#[tokio::test]
async fn a_failed_session_stays_failed() {
    let (_bed, store) = ledger().await;
    store.begin_session(&session("s")).await.unwrap();
    store.fail_session("s", &format!("node lost\0{}", "é".repeat(9000)), at(5)).await.unwrap();
    let failed = store.session("s").await.unwrap().unwrap();
    assert_eq!((failed.status, failed.completed_at, failed.total_cost), (Status::Failed, Some(at(5)), Amount::ZERO));
    assert!(failed.failure.as_deref().is_some_and(|why| why.starts_with("node lost\u{fffd}é") && why.len() < 5000));
    store.fail_session("s", "another reason", at(6)).await.unwrap();
    assert_eq!(store.session("s").await.unwrap().unwrap(), failed);
    let refused = store.finalize_session("s", &outcome()).await;
    assert!(matches!(refused, Err(FinalizeError::Failed { .. })), "{refused:?}");
    assert_eq!(store.contributions("s").await.unwrap(), []);
}

#[tokio::test]
async fn a_finalized_session_cannot_fail() {
    let (_bed, store) = ledger().await;
    store.begin_session(&session("s")).await.unwrap();
    store.finalize_session("s", &outcome()).await.unwrap();
    let refused = store.fail_session("s", "too late", at(10)).await;
    assert!(matches!(refused, Err(FailError::Completed { status: Status::Completed, .. })), "{refused:?}");
    assert_eq!(store.session("s").await.unwrap().unwrap().status, Status::Completed);
}

#[tokio::test]
async fn a_session_begins_once() {
    let (_bed, store) = ledger().await;
    store.begin_session(&session("s")).await.unwrap();
    store.begin_session(&session("s")).await.unwrap();
    let other = NewSession { model_id: "other".into(), ..session("s") };
    let refused = store.begin_session(&other).await;
    assert!(matches!(refused, Err(BeginError::Conflict { .. })), "{refused:?}");
    store.finalize_session("s", &outcome()).await.unwrap();
    store.begin_session(&session("s")).await.unwrap();
    assert_eq!(store.session("s").await.unwrap().unwrap().status, Status::Completed);
}

#[tokio::test]
async fn values_out_of_bounds_are_refused() {
    let (_bed, store) = ledger().await;
    let long = "x".repeat(300);
    for broken in [
        session(""),
        session(&long),
        session("a\0b"),
        NewSession { model_id: String::new(), ..session("s") },
        NewSession { request_id: Some(long.clone()), ..session("s") },
        NewSession { prompt_text: Some("\0".into()), ..session("s") },
    ] {
        let refused = store.begin_session(&broken).await;
        assert!(matches!(&refused, Err(BeginError::Field(_))), "{refused:?}");
    }
    let huge = NewSession { prompt_text: Some("x".repeat(5 << 20)), ..session("s") };
    let refused = store.begin_session(&huge).await;
    assert!(matches!(&refused, Err(BeginError::Field(FieldError::TooLong { limit: 4_194_304, .. }))), "{refused:?}");
    assert_eq!(store.session("s").await.unwrap(), None);
}

#[tokio::test]
async fn a_closed_store_says_so() {
    let (_bed, store) = ledger().await;
    assert!(store.health().await.unwrap().schema_version > 0);
    store.close().await;
    let closed = store.begin_session(&session("s")).await;
    assert!(matches!(closed, Err(BeginError::Backend(BackendError::Closed(_)))), "{closed:?}");
    assert!(matches!(store.health().await, Err(BackendError::Closed(_))));
}
