//! Whatever somebody changes by hand, the audit names it.

use far_ledger::{
    NewSession, Payer, Store,
    store::{Difference, Subject},
};

use super::{at, ledger, nano, outcome, paid_session, session, user};

#[tokio::test]
async fn every_change_by_hand_is_named() {
    let (bed, store) = ledger().await;
    user(&store, "alice", 9_000_000).await;
    let key = store.create_key("alice", "", at(1)).await.unwrap().id;
    let payer = Payer { account: "alice".into(), key: Some(key.clone()), reserve: nano(2_000_000), until: at(99) };
    store.begin_session(&NewSession { payer: Some(payer), ..session("s") }).await.unwrap();
    store.finalize_session("s", &outcome()).await.unwrap();
    store.begin_session(&paid_session("r", "alice", 50)).await.unwrap();
    assert_eq!(store.audit().await.unwrap(), []);

    let moved = |debit: &str, credit: &str| Subject::Posted {
        posting: "session:s".into(),
        debit: debit.into(),
        credit: credit.into(),
    };
    let cost = || Subject::SessionCost { session: "s".into() };
    let held = |account: &str| Subject::Reserved { account: account.into() };
    let holds = |account: &str| Subject::Balance { account: account.into() };
    let one = |subject, stored, computed| vec![Difference { subject, stored, computed }];
    let cases: Vec<(&str, &str, Vec<Difference>)> = vec![
        (
            "UPDATE far_accounts SET balance_far = balance_far + 1 WHERE id = 'node:a'",
            "UPDATE far_accounts SET balance_far = balance_far - 1 WHERE id = 'node:a'",
            one(holds("node:a"), 666_668, 666_667),
        ),
        (
            "UPDATE far_accounts SET reserved_far = 0 WHERE id = 'user:alice'",
            "UPDATE far_accounts SET reserved_far = 50 WHERE id = 'user:alice'",
            one(held("user:alice"), 0, 50),
        ),
        (
            "UPDATE far_nodes SET total_earned_far = 0, total_tokens_served = 1 WHERE node_id = 'b'",
            "UPDATE far_nodes SET total_earned_far = 666667, total_tokens_served = 50 WHERE node_id = 'b'",
            vec![
                Difference { subject: Subject::NodeEarned { node: "b".into() }, stored: 0, computed: 666_667 },
                Difference { subject: Subject::NodeTokens { node: "b".into() }, stored: 1, computed: 50 },
            ],
        ),
        (
            "UPDATE far_mesh_sessions SET total_cost_far = 1999999 WHERE id = 's'; UPDATE far_usage SET cost_far = 1999999",
            "UPDATE far_mesh_sessions SET total_cost_far = 2000000 WHERE id = 's'; UPDATE far_usage SET cost_far = 2000000",
            one(cost(), 1_999_999, 2_000_000),
        ),
        (
            "UPDATE far_journal SET amount_far = 1 WHERE credit = 'node:c';
             UPDATE far_accounts SET balance_far = 1 WHERE id = 'node:c';
             UPDATE far_accounts SET balance_far = 7666665 WHERE id = 'user:alice'",
            "UPDATE far_journal SET amount_far = 666666 WHERE credit = 'node:c';
             UPDATE far_accounts SET balance_far = 666666 WHERE id = 'node:c';
             UPDATE far_accounts SET balance_far = 7000000 WHERE id = 'user:alice'",
            one(moved("user:alice", "node:c"), 1, 666_666),
        ),
        (
            "UPDATE far_usage SET sessions = 2, tokens = 0",
            "UPDATE far_usage SET sessions = 1, tokens = 20",
            vec![
                Difference { subject: Subject::UsageTokens { key: key.clone(), day: 0 }, stored: 0, computed: 20 },
                Difference { subject: Subject::UsageSessions { key: key.clone(), day: 0 }, stored: 2, computed: 1 },
            ],
        ),
        (
            "INSERT INTO far_session_contributions (session_id, node_id, layers_start, layers_end, tokens_contributed,
                                                    token_layers, compute_ms, payment_far)
             VALUES ('nobody', 'stranger', 0, 1, 4, 1, 1, 9)",
            "DELETE FROM far_session_contributions WHERE session_id = 'nobody'",
            vec![
                Difference {
                    subject: Subject::Posted {
                        posting: "session:nobody".into(),
                        debit: "open".into(),
                        credit: "node:stranger".into(),
                    },
                    stored: 0,
                    computed: 9,
                },
                Difference { subject: Subject::NodeEarned { node: "stranger".into() }, stored: 0, computed: 9 },
                Difference { subject: Subject::NodeTokens { node: "stranger".into() }, stored: 0, computed: 4 },
            ],
        ),
        (
            "INSERT INTO far_journal VALUES ('topup:x', 0, 'topup', 'outside', 'user:nobody', 5, 1)",
            "DELETE FROM far_journal WHERE posting = 'topup:x'",
            vec![
                Difference { subject: holds("outside"), stored: -9_000_000, computed: -9_000_005 },
                Difference { subject: holds("user:nobody"), stored: 0, computed: 5 },
            ],
        ),
        (
            "INSERT INTO far_deposits VALUES (1, '0xab', 2, 'user:alice', '0x', 5, 1, 1)",
            "DELETE FROM far_deposits",
            one(
                Subject::Posted {
                    posting: "deposit:1:0xab:2".into(),
                    debit: "outside".into(),
                    credit: "user:alice".into(),
                },
                0,
                5,
            ),
        ),
    ];
    let mut other = bed.other().await;
    for (change, back, expected) in cases {
        other.run(change).await.unwrap();
        let found = store.audit().await.unwrap();
        assert_eq!(found, expected, "{change}");
        assert!(found.iter().all(|difference| difference.to_string().contains("the ledger holds")));
        other.run(back).await.unwrap();
        assert_eq!(store.audit().await.unwrap(), [], "{back}");
    }
}

#[tokio::test]
async fn the_schema_keeps_balances_in_their_bounds() {
    let (bed, store) = ledger().await;
    user(&store, "alice", 100).await;
    let mut other = bed.other().await;
    for sql in [
        "UPDATE far_accounts SET balance_far = -1 WHERE id = 'user:alice'",
        "UPDATE far_accounts SET reserved_far = 101 WHERE id = 'user:alice'",
        "UPDATE far_accounts SET reserved_far = -1 WHERE id = 'user:alice'",
        "UPDATE far_accounts SET balance_far = -1 WHERE id = 'fees'",
        "UPDATE far_accounts SET balance_far = -1 WHERE id = 'node:a'",
        "UPDATE far_accounts SET kind = 'bank' WHERE id = 'user:alice'",
        "INSERT INTO far_journal VALUES ('p', 0, 'topup', 'outside', 'user:alice', 0, 1)",
        "INSERT INTO far_journal VALUES ('p', 0, 'topup', 'outside', 'user:alice', -5, 1)",
        "INSERT INTO far_journal VALUES ('p', 0, 'topup', 'outside', 'outside', 5, 1)",
        "INSERT INTO far_journal VALUES ('topup:first of alice', 0, 'topup', 'outside', 'user:alice', 5, 1)",
        "INSERT INTO far_deposits VALUES (1, '0xab', 2, 'user:alice', '0x', 0, 1, 1)",
    ] {
        assert!(other.run(sql).await.is_err(), "{sql}");
    }
    other.run("UPDATE far_accounts SET balance_far = -1 WHERE id = 'open'").await.unwrap();
}
