//! The queue: many at once, each answered for itself, bounded, and emptied at the end.

use std::{collections::BTreeMap, task::Poll};

use far_ledger::{
    FeeRate, Node, Outcome, Store,
    cost::Price,
    ingest::{IngestError, Limits, ingest},
    store::{FinalizeError, Finalized, MoveError},
};
use futures::future::join_all;
use proptest::{collection::vec, prelude::*, test_runner::TestCaseError};

use super::{assert_balanced, at, balance, ledger, nano, outcome, outcome_for, paid_session, session, user, work};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn each_of_a_batch_has_its_own_fate() {
    let (_bed, store) = ledger().await;
    user(&store, "alice", 100).await;
    for id in ["good", "twice", "poor", "rich", "failed", "stranger"] {
        let new = if ["poor", "rich"].contains(&id) { paid_session(id, "alice", 10) } else { session(id) };
        store.begin_session(&new).await.unwrap();
    }
    store.fail_session("failed", "lost", at(5)).await.unwrap();
    let (queue, worker) = ingest(store.clone(), Limits::default());
    let cases = [
        ("good", outcome()),
        ("twice", outcome()),
        ("twice", outcome()),
        ("twice", outcome_for("a", 1, nano(1))),
        ("poor", outcome_for("a", 1, nano(91))),
        ("rich", outcome_for("b", 1, nano(90))),
        ("failed", outcome()),
        ("nobody", outcome()),
        ("stranger", outcome_for("stranger", 1, nano(5))),
    ];
    let asked = join_all(cases.map(|(id, outcome)| queue.finalize(id, outcome)));
    // All wait before the worker begins: one batch.
    let mut asked = Box::pin(asked);
    assert!(futures::poll!(asked.as_mut()).is_pending());
    assert_eq!(queue.queued(), 5 * 4 + 4 * 2);
    let worker = tokio::spawn(worker.run(std::future::pending()));
    let done = asked.await;
    let refused = |index: usize| match &done[index] {
        Err(IngestError::Refused(error)) => error,
        other => panic!("{index}: {other:?}"),
    };
    assert!(matches!(done[0], Ok(Finalized::Now)) && matches!(done[1], Ok(Finalized::Now)), "{done:?}");
    assert!(matches!(done[2], Ok(Finalized::Before)), "{done:?}");
    assert!(matches!(refused(3), FinalizeError::Conflict { .. }));
    assert!(matches!(refused(4), FinalizeError::Move(MoveError::Insufficient { .. })));
    assert!(matches!(done[5], Ok(Finalized::Now)), "{done:?}");
    assert!(matches!(refused(6), FinalizeError::Failed { .. }));
    assert!(matches!(refused(7), FinalizeError::UnknownSession { .. }));
    assert!(matches!(refused(8), FinalizeError::UnknownNode { .. }));
    assert_eq!(balance(&store, "user:alice").await, 10);
    drop((queue, worker));
    assert_balanced(&store, &["good".into(), "twice".into(), "rich".into()]).await;
}

#[tokio::test]
async fn a_row_that_cannot_be_does_not_hold_up_the_others() {
    let (bed, store) = ledger().await;
    for id in ["good", "bad", "fine"] {
        store.begin_session(&session(id)).await.unwrap();
    }
    // Somebody posted for the session by hand: the batch fails as a whole, and is then taken apart.
    bed.other()
        .await
        .run("INSERT INTO far_journal VALUES ('session:bad', 0, 'session', 'open', 'node:a', 5, 1)")
        .await
        .unwrap();
    let (queue, worker) = ingest(store.clone(), Limits::default());
    let worker = tokio::spawn(worker.run(std::future::pending()));
    let done = join_all(["good", "bad", "fine"].map(|id| queue.finalize(id, outcome()))).await;
    assert!(matches!(done[0], Ok(Finalized::Now)) && matches!(done[2], Ok(Finalized::Now)), "{done:?}");
    assert!(matches!(done[1], Err(IngestError::Refused(FinalizeError::Backend(_)))), "{done:?}");
    drop(queue);
    worker.await.unwrap();
}

#[tokio::test]
async fn who_comes_to_a_full_queue_waits() {
    let (_bed, store) = ledger().await;
    for index in 0..4 {
        store.begin_session(&session(&format!("s{index}"))).await.unwrap();
    }
    // Room for two accounts of four rows.
    let (queue, worker) = ingest(store.clone(), Limits { batch: 4, queued: 9 });
    let mut asked: Vec<_> = (0..4).map(|index| Box::pin(queue.finalize(format!("s{index}"), outcome()))).collect();
    for call in &mut asked {
        assert!(futures::poll!(call.as_mut()).is_pending());
    }
    assert_eq!(queue.queued(), 9, "two are in the queue, the third has taken what is left");
    // One that waited and went leaves its place to the next.
    drop(asked.remove(2));
    let worker = tokio::spawn(worker.run(std::future::pending()));
    for done in join_all(asked).await {
        assert!(matches!(done, Ok(Finalized::Now)), "{done:?}");
    }
    assert_eq!(queue.queued(), 0);
    drop(queue);
    worker.await.unwrap();
    assert_balanced(&store, &["s0".into(), "s1".into(), "s3".into()]).await;
}

#[tokio::test]
async fn what_waits_at_the_end_is_still_written() {
    let (_bed, store) = ledger().await;
    for index in 0..5 {
        store.begin_session(&session(&format!("s{index}"))).await.unwrap();
    }
    let (queue, worker) = ingest(store.clone(), Limits { batch: 4, queued: 100 });
    let mut asked = Box::pin(join_all((0..4).map(|index| queue.finalize(format!("s{index}"), outcome()))));
    assert!(futures::poll!(asked.as_mut()).is_pending());
    worker.run(std::future::ready(())).await;
    match futures::poll!(asked.as_mut()) {
        Poll::Ready(done) => assert!(done.iter().all(|done| matches!(done, Ok(Finalized::Now))), "{done:?}"),
        Poll::Pending => panic!("all are answered when the worker ends"),
    }
    assert!(matches!(queue.finalize("s4", outcome()).await, Err(IngestError::Stopped)));
    assert_balanced(&store, &["s0".into(), "s1".into(), "s2".into(), "s3".into()]).await;
}

#[tokio::test]
async fn a_closed_ledger_is_told_to_all() {
    let (_bed, store) = ledger().await;
    let (queue, worker) = ingest(store.clone(), Limits::default());
    store.close().await;
    let worker = tokio::spawn(worker.run(std::future::pending()));
    for done in join_all((0..3).map(|index| queue.finalize(format!("s{index}"), outcome()))).await {
        assert!(matches!(done, Err(IngestError::Batch(_))), "{done:?}");
    }
    drop(queue);
    worker.await.unwrap();
}

/// A session: who pays (nobody, or a user with little), price, fee, hops, and how often its account is sent.
type Case = (Option<usize>, i64, u16, Vec<(usize, u32, u64)>, usize);

fn case() -> impl Strategy<Value = Case> {
    let payer = prop_oneof![Just(None), (0..2_usize).prop_map(Some)];
    let price = prop_oneof![Just(0), 1..10_i64, 1..2_000_000_000_i64];
    let fee = prop_oneof![Just(0_u16), 1..10_000_u16, Just(10_000_u16)];
    (payer, price, fee, vec((0..4_usize, 1..40_u32, 1..5_000_u64), 1..5), 1..3_usize)
}

async fn play(cases: Vec<Case>, batch: u32) -> Result<(), TestCaseError> {
    let bed = super::super::fresh().await;
    let store = bed.open().await;
    for node in 0..4 {
        store.upsert_node(&Node::new(format!("n{node}"), at(1))).await.unwrap();
    }
    user(&store, "u0", 3_000_000_000).await;
    user(&store, "u1", 40).await;
    let (queue, worker) = ingest(store.clone(), Limits { batch, queued: 50 });
    let mut begun = BTreeMap::new();
    for (index, (payer, price, fee, hops, times)) in cases.iter().enumerate() {
        let id = format!("s{index}");
        let mut start = 0;
        let mut works = Vec::new();
        for (node, layers, tokens) in hops {
            works.push(work(&format!("n{node}"), (start, start + layers), *tokens));
            start += layers;
        }
        let rate = FeeRate::new(*fee).unwrap();
        let outcome = Outcome::settle_with_fee(Price::new(nano(*price)), rate, 3, &works, at(9)).unwrap();
        let payments: i64 = outcome.contributions().iter().map(|part| part.payment.nano()).sum();
        prop_assert_eq!(payments + outcome.fee().nano(), price * 3);
        let most = price * 3;
        let new = match payer {
            Some(user) => paid_session(&id, &format!("u{user}"), most),
            None => session(&id),
        };
        if store.begin_session(&new).await.is_ok() {
            begun.insert(id, (outcome, *times));
        }
    }
    let worker = tokio::spawn(worker.run(std::future::pending()));
    let calls = begun.iter().flat_map(|(id, (outcome, times))| (0..*times).map(|_| (id.clone(), outcome.clone())));
    let done = join_all(calls.map(|(id, outcome)| queue.finalize(id, outcome))).await;
    let now = done.iter().filter(|done| matches!(done, Ok(Finalized::Now))).count();
    let before = done.iter().filter(|done| matches!(done, Ok(Finalized::Before))).count();
    prop_assert_eq!((now, now + before), (begun.len(), done.len()));
    let ids: Vec<_> = begun.keys().cloned().collect();
    let cost: i128 = begun.values().map(|(outcome, _)| i128::from(outcome.total_cost().nano())).sum();
    prop_assert_eq!(i128::from(assert_balanced(&store, &ids).await.nano()), cost);
    // Sent once more, one by one: nothing moves.
    let before = (store.accounts().await.unwrap(), store.active_nodes(at(0)).await.unwrap());
    for (id, (outcome, _)) in &begun {
        prop_assert_eq!(store.finalize_session(id, outcome).await.unwrap(), Finalized::Before);
    }
    prop_assert_eq!((store.accounts().await.unwrap(), store.active_nodes(at(0)).await.unwrap()), before);
    drop(queue);
    worker.await.unwrap();
    store.close().await;
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn whatever_is_sent_sums_agree_and_replays_change_nothing(cases in vec(case(), 1..20), batch in 1..60_u32) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(play(cases, batch))?;
    }
}
