//! Users pay ahead: what is reserved, used, released, and never twice.

use far_ledger::{
    Amount, FeeRate, Ledger, NewSession, Outcome, Payer, Posted, Status, Store,
    cost::Price,
    store::{AccountError, BeginError, FailError, FinalizeError, Finalized, MoveError, PostError, TopUp, TopUpError},
};
use futures::future::join_all;

use super::{assert_balanced, at, balance, ledger, nano, outcome, outcome_for, paid_session, session, user, work};

const WALLET: &str = "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed";

/// Balance and what of it is held.
async fn stands(store: &Ledger, name: &str) -> (i64, i64) {
    let account = store.account(name).await.unwrap().unwrap();
    (account.balance.nano(), account.reserved.nano())
}

#[tokio::test]
async fn a_top_up_adds_once() {
    let (_bed, store) = ledger().await;
    store.create_account("alice", at(1)).await.unwrap();
    store.create_account("alice", at(2)).await.unwrap();
    let top_up = TopUp { account: "alice".into(), amount: nano(700), key: "invoice 1".into(), at: at(3) };
    assert_eq!(store.top_up(&top_up).await.unwrap(), Posted::Now);
    assert_eq!(store.top_up(&TopUp { at: at(9), ..top_up.clone() }).await.unwrap(), Posted::Before);
    assert_eq!((stands(&store, "alice").await, balance(&store, "outside").await), ((700, 0), -700));
    let other = store.top_up(&TopUp { amount: nano(701), ..top_up.clone() }).await;
    assert!(matches!(other, Err(TopUpError::Post(PostError::Conflict { .. }))), "{other:?}");
    let stranger = store.top_up(&TopUp { account: "bob".into(), key: "2".into(), ..top_up.clone() }).await;
    assert!(matches!(stranger, Err(TopUpError::Post(PostError::Move(MoveError::Unknown { .. })))), "{stranger:?}");
    let nothing = store.top_up(&TopUp { amount: Amount::ZERO, key: "3".into(), ..top_up.clone() }).await;
    assert!(matches!(nothing, Err(TopUpError::Nothing)), "{nothing:?}");
    let most = store.top_up(&TopUp { amount: Amount::MAX, key: "4".into(), ..top_up.clone() }).await;
    assert!(matches!(most, Err(TopUpError::Post(PostError::Move(MoveError::Overflow { .. })))), "{most:?}");
    assert_eq!(stands(&store, "alice").await, (700, 0));
    assert_eq!(store.audit().await.unwrap(), []);
}

#[tokio::test]
async fn a_session_holds_its_greatest_cost_and_pays_what_it_used() {
    let (_bed, store) = ledger().await;
    user(&store, "alice", 3_000_000).await;
    store.begin_session(&paid_session("s", "alice", 2_500_000)).await.unwrap();
    store.begin_session(&paid_session("s", "alice", 2_500_000)).await.unwrap();
    assert_eq!(stands(&store, "alice").await, (3_000_000, 2_500_000));
    let begun = store.session("s").await.unwrap().unwrap().begun;
    assert_eq!(begun, paid_session("s", "alice", 2_500_000));

    assert_eq!(store.finalize_session("s", &outcome()).await.unwrap(), Finalized::Now);
    assert_eq!(store.finalize_session("s", &outcome()).await.unwrap(), Finalized::Before);
    assert_eq!(stands(&store, "alice").await, (1_000_000, 0));
    assert_eq!((balance(&store, "node:a").await, balance(&store, "node:c").await), (666_667, 666_666));
    assert_eq!((balance(&store, "open").await, balance(&store, "fees").await), (0, 0));
    assert_balanced(&store, &["s".into()]).await;
}

#[tokio::test]
async fn the_operator_takes_his_fee() {
    let (_bed, store) = ledger().await;
    user(&store, "alice", 5_000_000).await;
    let hops = [work("a", (0, 10), 50), work("b", (10, 20), 50), work("c", (20, 30), 50)];
    let rate = FeeRate::new(250).unwrap();
    let outcome = Outcome::settle_with_fee(Price::new(nano(100_000)), rate, 20, &hops, at(9)).unwrap();
    store.begin_session(&paid_session("s", "alice", 2_000_000)).await.unwrap();
    store.finalize_session("s", &outcome).await.unwrap();
    assert_eq!(stands(&store, "alice").await, (3_000_000, 0));
    assert_eq!((balance(&store, "fees").await, balance(&store, "node:a").await), (50_000, 650_000));
    assert_eq!(store.session("s").await.unwrap().unwrap().fee, nano(50_000));
    // The same payments without the fee are another account of the session.
    let parts = outcome.contributions().to_vec();
    let other = Outcome::new(20, nano(1_950_000), parts, at(9)).unwrap();
    assert!(matches!(store.finalize_session("s", &other).await, Err(FinalizeError::Conflict { .. })));
    // Without an account, the operator owes both.
    store.begin_session(&session("t")).await.unwrap();
    store.finalize_session("t", &outcome).await.unwrap();
    assert_eq!((balance(&store, "open").await, balance(&store, "fees").await), (-2_000_000, 100_000));
    assert_balanced(&store, &["s".into(), "t".into()]).await;
}

#[tokio::test]
async fn what_is_not_there_cannot_be_held() {
    let (_bed, store) = ledger().await;
    user(&store, "alice", 1_000).await;
    store.begin_session(&paid_session("s", "alice", 600)).await.unwrap();
    match store.begin_session(&paid_session("t", "alice", 401)).await {
        Err(BeginError::Insufficient { account, available, needed }) => {
            assert_eq!((account.as_str(), available.nano(), needed.nano()), ("alice", 400, 401));
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(store.session("t").await.unwrap(), None);
    store.begin_session(&paid_session("t", "alice", 400)).await.unwrap();
    assert_eq!(stands(&store, "alice").await, (1_000, 1_000));
    let stranger = store.begin_session(&paid_session("u", "bob", 0)).await;
    assert!(matches!(stranger, Err(BeginError::UnknownAccount { .. })), "{stranger:?}");
    // A node's earnings are no prepaid balance.
    let node = store.begin_session(&paid_session("u", "node:a", 0)).await;
    assert!(matches!(node, Err(BeginError::UnknownAccount { .. })), "{node:?}");
    assert_eq!(store.audit().await.unwrap(), []);
}

#[tokio::test]
async fn a_failed_session_gives_all_back() {
    let (_bed, store) = ledger().await;
    user(&store, "alice", 1_000).await;
    store.begin_session(&paid_session("s", "alice", 600)).await.unwrap();
    store.fail_session("s", "lost", at(5)).await.unwrap();
    store.fail_session("s", "lost", at(6)).await.unwrap();
    assert_eq!(stands(&store, "alice").await, (1_000, 0));
    assert!(store.finalize_session("s", &outcome_for("a", 1, nano(5))).await.is_err());
    assert_eq!((stands(&store, "alice").await, store.audit().await.unwrap()), ((1_000, 0), vec![]));
}

#[tokio::test]
async fn what_a_lost_coordinator_held_is_released() {
    let (_bed, store) = ledger().await;
    user(&store, "alice", 1_000).await;
    for id in ["s", "t", "u"] {
        store.begin_session(&paid_session(id, "alice", 200)).await.unwrap();
    }
    let longer = Payer { account: "alice".into(), key: None, reserve: nano(100), until: at(5_000) };
    store.begin_session(&NewSession { payer: Some(longer), ..session("v") }).await.unwrap();
    store.begin_session(&session("w")).await.unwrap();
    store.finalize_session("s", &outcome_for("a", 1, nano(7))).await.unwrap();
    assert_eq!(store.release_abandoned(at(1_000)).await.unwrap(), 0);
    assert_eq!(store.release_abandoned(at(1_001)).await.unwrap(), 2);
    assert_eq!(store.release_abandoned(at(1_001)).await.unwrap(), 0);
    assert_eq!(stands(&store, "alice").await, (993, 100));
    assert_eq!(store.session("t").await.unwrap().unwrap().status, Status::Failed);
    assert_eq!(store.session("w").await.unwrap().unwrap().status, Status::Running);
    // He comes back and is told.
    let late = store.finalize_session("t", &outcome_for("a", 1, nano(7))).await;
    assert!(matches!(late, Err(FinalizeError::Failed { .. })), "{late:?}");
    assert_eq!(store.audit().await.unwrap(), []);
}

#[tokio::test]
async fn sessions_of_one_request_begin_together_or_not_at_all() {
    let (_bed, store) = ledger().await;
    user(&store, "alice", 1_000).await;
    user(&store, "bob", 50).await;
    let three = |most| ["s", "t", "u"].map(|id| paid_session(id, "alice", most));
    match store.begin_sessions(&three(334)).await {
        Err(BeginError::Insufficient { account, available, needed }) => {
            assert_eq!((account.as_str(), available.nano(), needed.nano()), ("alice", 1_000, 1_002));
        }
        other => panic!("{other:?}"),
    }
    assert_eq!((store.session("s").await.unwrap(), stands(&store, "alice").await), (None, (1_000, 0)));
    let mut mixed = three(300).to_vec();
    mixed.push(paid_session("v", "bob", 51));
    assert!(matches!(store.begin_sessions(&mixed).await, Err(BeginError::Insufficient { .. })));
    let beyond = store.begin_sessions(&three(i64::MAX)).await;
    assert!(matches!(beyond, Err(BeginError::Insufficient { .. })), "{beyond:?}");
    store.begin_sessions(&three(333)).await.unwrap();
    store.begin_sessions(&three(333)).await.unwrap();
    assert_eq!(stands(&store, "alice").await, (1_000, 999), "a repetition holds nothing more");
    let other = store.begin_sessions(&three(1)).await;
    assert!(matches!(other, Err(BeginError::Conflict { .. })), "{other:?}");
    store.begin_sessions(&[]).await.unwrap();
    assert_eq!(store.audit().await.unwrap(), []);
}

#[tokio::test]
async fn a_coordinator_that_starts_again_ends_what_it_left() {
    let (_bed, store) = ledger().await;
    user(&store, "alice", 1_000).await;
    let of = |coordinator: &str, session| NewSession { coordinator: Some(coordinator.into()), ..session };
    let sessions = [
        of("one", paid_session("s", "alice", 200)),
        of("one", paid_session("t", "alice", 200)),
        of("one", session("free")),
        of("two", paid_session("u", "alice", 200)),
        session("nobody's"),
    ];
    store.begin_sessions(&sessions).await.unwrap();
    store.finalize_session("s", &outcome_for("a", 1, nano(7))).await.unwrap();
    assert_eq!(store.release_left("three", at(5)).await.unwrap(), 0);
    assert_eq!(store.release_left("one", at(5)).await.unwrap(), 2);
    assert_eq!(store.release_left("one", at(6)).await.unwrap(), 0);
    assert_eq!(stands(&store, "alice").await, (993, 200));
    for (id, status) in [("s", Status::Completed), ("t", Status::Failed), ("free", Status::Failed)] {
        let stored = store.session(id).await.unwrap().unwrap();
        assert_eq!((stored.status, stored.begun.coordinator.as_deref()), (status, Some("one")), "{id}");
    }
    for id in ["u", "nobody's"] {
        assert_eq!(store.session(id).await.unwrap().unwrap().status, Status::Running, "{id}");
    }
    assert_eq!(store.audit().await.unwrap(), []);
}

#[tokio::test]
async fn a_cost_beyond_what_was_held_is_paid_only_where_there_is_enough() {
    let (_bed, store) = ledger().await;
    user(&store, "alice", 1_000).await;
    store.begin_session(&paid_session("s", "alice", 100)).await.unwrap();
    store.begin_session(&paid_session("t", "alice", 100)).await.unwrap();
    match store.finalize_session("s", &outcome_for("a", 1, nano(901))).await {
        Err(FinalizeError::Move(MoveError::Insufficient { available, needed, .. })) => {
            assert_eq!((available.nano(), needed.nano()), (900, 901));
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(stands(&store, "alice").await, (1_000, 200));
    assert_eq!(balance(&store, "node:a").await, 0);
    store.finalize_session("s", &outcome_for("a", 1, nano(900))).await.unwrap();
    assert_eq!((stands(&store, "alice").await, store.audit().await.unwrap()), ((100, 100), vec![]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_at_once_never_hold_more_than_there_is() {
    let (bed, first) = ledger().await;
    let second = bed.open().await;
    user(&first, "alice", 1_000).await;
    let tasks = (0..30).map(|index| {
        let store = if index % 2 == 0 { first.clone() } else { second.clone() };
        tokio::spawn(async move {
            let id = format!("s{index}");
            let begun = store.begin_session(&paid_session(&id, "alice", 90)).await;
            match begun {
                Ok(()) if index % 3 == 0 => {
                    store.fail_session(&id, "lost", at(5)).await.unwrap();
                    0
                }
                Ok(()) => {
                    store.finalize_session(&id, &outcome_for("a", 1, nano(40))).await.unwrap();
                    40
                }
                Err(BeginError::Insufficient { .. }) => 0,
                Err(error) => panic!("{error:?}"),
            }
        })
    });
    let used: i64 = join_all(tasks).await.into_iter().map(Result::unwrap).sum();
    assert_eq!((stands(&first, "alice").await, balance(&first, "node:a").await), ((1_000 - used, 0), used));
    assert_eq!(first.audit().await.unwrap(), []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_a_failure_and_an_account_at_once_one_counts() {
    let (_bed, store) = ledger().await;
    user(&store, "alice", 100_000).await;
    for index in 0..20 {
        let id = format!("s{index}");
        store.begin_session(&paid_session(&id, "alice", 90)).await.unwrap();
        let outcome = outcome_for("a", 1, nano(40));
        let (done, failed) =
            futures::join!(store.finalize_session(&id, &outcome), store.fail_session(&id, "lost", at(5)));
        match (done, failed) {
            (Ok(Finalized::Now), Err(FailError::Completed { .. })) | (Err(FinalizeError::Failed { .. }), Ok(())) => {}
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(stands(&store, "alice").await.1, 0);
    assert_eq!(store.audit().await.unwrap(), []);
}

#[tokio::test]
async fn a_wallet_belongs_to_one_account() {
    let (_bed, store) = ledger().await;
    user(&store, "alice", 1).await;
    user(&store, "bob", 2).await;
    let wallet = WALLET.parse().unwrap();
    store.link_wallet("alice", wallet).await.unwrap();
    store.link_wallet("alice", wallet).await.unwrap();
    let taken = store.link_wallet("bob", wallet).await;
    assert!(matches!(taken, Err(AccountError::WalletTaken { .. })), "{taken:?}");
    let nobody = store.link_wallet("carol", "0x52908400098527886E0F7030069857D2E4169EE7".parse().unwrap()).await;
    assert!(matches!(nobody, Err(AccountError::Unknown { .. })), "{nobody:?}");
    assert_eq!(store.account_of_wallet(wallet).await.unwrap().unwrap().name, "alice");
    let names: Vec<_> = store.accounts().await.unwrap().into_iter().map(|account| account.name).collect();
    assert_eq!(names, ["alice", "bob"]);
    assert_eq!(store.account("carol").await.unwrap(), None);
}
