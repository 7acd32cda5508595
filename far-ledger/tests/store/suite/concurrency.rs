//! Many writers at once, in one process and as if in two.

use far_ledger::{Ledger, Store, store::Finalized};
use futures::future::join_all;

use super::{assert_balanced, at, ledger, outcome, outcome_for, session};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_ledgers_on_one_database_write_at_once() {
    let (bed, first) = ledger().await;
    let second = bed.open().await;
    let ids: Vec<String> = (0..60).map(|index| format!("s{index}")).collect();
    let tasks = ids.iter().enumerate().map(|(index, id)| {
        let (store, id) = (if index % 2 == 0 { first.clone() } else { second.clone() }, id.clone());
        tokio::spawn(async move {
            store.begin_session(&session(&id)).await.unwrap();
            store.update_node_last_seen("a", at(i64::try_from(index).unwrap())).await.unwrap();
            store.finalize_session(&id, &outcome()).await.unwrap()
        })
    });
    for done in join_all(tasks).await {
        assert_eq!(done.unwrap(), Finalized::Now);
    }
    assert_eq!(assert_balanced(&second, &ids).await.nano(), 60 * 2_000_000);
    let seen = first.active_nodes(at(0)).await.unwrap().remove(0);
    assert_eq!(seen.node.last_seen, at(59));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_many_finalizing_one_session_one_writes() {
    let (bed, first) = ledger().await;
    let second = bed.open().await;
    first.begin_session(&session("s")).await.unwrap();
    let tasks = (0..16).map(|index| {
        let store = if index % 2 == 0 { first.clone() } else { second.clone() };
        tokio::spawn(async move { store.finalize_session("s", &outcome()).await.unwrap() })
    });
    let done: Vec<_> = join_all(tasks).await.into_iter().map(Result::unwrap).collect();
    assert_eq!(done.iter().filter(|done| **done == Finalized::Now).count(), 1);
    assert_eq!(assert_balanced(&first, &["s".into()]).await.nano(), 2_000_000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_many_outcomes_one_stays() {
    let (_bed, store) = ledger().await;
    store.begin_session(&session("s")).await.unwrap();
    let tasks = (0..8).map(|index| {
        let store = store.clone();
        tokio::spawn(async move { store.finalize_session("s", &outcome_for("a", 1, super::nano(100 + index))).await })
    });
    let done: Vec<_> = join_all(tasks).await.into_iter().map(Result::unwrap).collect();
    assert_eq!(done.iter().filter(|done| matches!(done, Ok(Finalized::Now))).count(), 1);
    assert_eq!(done.iter().filter(|done| done.is_err()).count(), 7);
    assert_balanced(&store, &["s".into()]).await;
}

#[tokio::test]
async fn a_dropped_call_leaves_a_store_that_works() {
    let (_bed, store) = ledger().await;
    let ids: Vec<String> = (0..40).map(|index| format!("s{index}")).collect();
    for (polls, id) in ids.iter().enumerate() {
        store.begin_session(&session(id)).await.unwrap();
        let outcome = outcome();
        // Dropped after a growing number of polls: at every await point at least once.
        let mut call = store.finalize_session(id, &outcome);
        let mut left = polls;
        let ended = std::future::poll_fn(|context| {
            if left == 0 {
                return std::task::Poll::Ready(None);
            }
            left -= 1;
            call.as_mut().poll(context).map(Some)
        })
        .await;
        drop(call);
        // Whether it was written or not, the repetition ends it.
        let again = store.finalize_session(id, &outcome).await.unwrap();
        assert!(ended.is_none() || again == Finalized::Before);
    }
    assert_eq!(assert_balanced(&store, &ids).await.nano(), 40 * 2_000_000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_open_a_fresh_database_at_once() {
    let bed = super::super::fresh().await;
    let tasks = (0..8).map(|_| {
        let location = bed.location();
        tokio::spawn(async move { Ledger::open(location).await.unwrap() })
    });
    let stores: Vec<_> = join_all(tasks).await.into_iter().map(Result::unwrap).collect();
    stores[0].begin_session(&session("s")).await.unwrap();
    for store in stores {
        assert!(store.session("s").await.unwrap().is_some());
        store.close().await;
    }
}
