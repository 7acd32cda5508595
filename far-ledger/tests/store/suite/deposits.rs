//! FAR that comes in on a chain is credited once.

use far_ledger::{
    Amount, Posted,
    store::{Deposit, DepositError, MoveError, PostError},
};
use futures::future::join_all;

use super::{at, balance, ledger, nano, user};

fn deposit(log_index: u64, amount: i64) -> Deposit {
    Deposit {
        chain_id: 31_337,
        tx_hash: format!("0x{}", "ab".repeat(32)),
        log_index,
        account: "alice".into(),
        from: "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed".parse().unwrap(),
        amount: nano(amount),
        block_number: 7,
        at: at(5),
    }
}

#[tokio::test]
async fn a_log_is_credited_once() {
    let (_bed, store) = ledger().await;
    user(&store, "alice", 10).await;
    user(&store, "bob", 10).await;
    assert_eq!(store.credit_deposit(&deposit(0, 500)).await.unwrap(), Posted::Now);
    let again = Deposit { tx_hash: format!("0x{}", "AB".repeat(32)), at: at(9), ..deposit(0, 500) };
    assert_eq!(store.credit_deposit(&again).await.unwrap(), Posted::Before);
    for other in [deposit(0, 501), Deposit { account: "bob".into(), ..deposit(0, 500) }] {
        let refused = store.credit_deposit(&other).await;
        assert!(matches!(refused, Err(DepositError::Post(PostError::Conflict { .. }))), "{refused:?}");
    }
    assert_eq!(store.credit_deposit(&deposit(1, 500)).await.unwrap(), Posted::Now);
    assert_eq!(store.credit_deposit(&Deposit { chain_id: 1, ..deposit(0, 500) }).await.unwrap(), Posted::Now);
    assert_eq!((balance(&store, "user:alice").await, balance(&store, "outside").await), (1_510, -1_520));
    assert_eq!(store.audit().await.unwrap(), []);
}

#[tokio::test]
async fn what_cannot_be_credited_is_refused() {
    let (_bed, store) = ledger().await;
    let refused = store.credit_deposit(&deposit(0, 500)).await;
    assert!(matches!(refused, Err(DepositError::Post(PostError::Move(MoveError::Unknown { .. })))), "{refused:?}");
    user(&store, "alice", 10).await;
    for hash in ["", "0x", "ab", &format!("0x{}", "g".repeat(64)), &"x".repeat(1 << 20)] {
        let refused = store.credit_deposit(&Deposit { tx_hash: hash.into(), ..deposit(0, 1) }).await;
        assert!(matches!(refused, Err(DepositError::Hash { .. })), "{refused:?}");
    }
    let refused = store.credit_deposit(&Deposit { amount: Amount::ZERO, ..deposit(0, 1) }).await;
    assert!(matches!(refused, Err(DepositError::Nothing)), "{refused:?}");
    let refused = store.credit_deposit(&Deposit { block_number: u64::MAX, ..deposit(0, 1) }).await;
    assert!(matches!(refused, Err(DepositError::Field(_))), "{refused:?}");
    assert_eq!(balance(&store, "user:alice").await, 10);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_many_watchers_one_credits() {
    let (bed, first) = ledger().await;
    let second = bed.open().await;
    user(&first, "alice", 10).await;
    let tasks = (0..24).map(|index| {
        let store = if index % 2 == 0 { first.clone() } else { second.clone() };
        tokio::spawn(async move { store.credit_deposit(&deposit(index % 3, 100)).await.unwrap() })
    });
    let done: Vec<_> = join_all(tasks).await.into_iter().map(Result::unwrap).collect();
    assert_eq!(done.iter().filter(|done| **done == Posted::Now).count(), 3);
    assert_eq!(balance(&first, "user:alice").await, 310);
    assert_eq!(first.audit().await.unwrap(), []);
}
