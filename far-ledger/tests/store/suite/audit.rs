//! Whatever somebody changes by hand, the audit names it.

use far_ledger::{
    NewSession, Payer, Store,
    store::{Difference, Subject},
};

use super::{at, ledger, nano, outcome, outcome_for, paid_session, session, user};

/// The batch `0xb` pays the sessions `s` and `t`, as the payer settles one; `0xc`, which pays `u`, is under way.
const PAID: &str = "
INSERT INTO far_payment_batches (id, total_nodes, total_amount_far, status, created_at)
VALUES ('0xb', 3, 2000005, 'confirmed', 20), ('0xc', 1, 1000000, 'submitted', 20);
UPDATE far_session_contributions SET payment_batch_id = '0xc' WHERE session_id = 'u';
UPDATE far_session_contributions SET payment_batch_id = '0xb', paid_at = 20 WHERE session_id <> 'u';
INSERT INTO far_journal
SELECT 'payout:0xb', ROW_NUMBER() OVER (ORDER BY node_id) - 1, 'payout', 'node:' || node_id, 'outside',
       CAST(SUM(payment_far) AS BIGINT), 20
FROM far_session_contributions WHERE payment_batch_id = '0xb' GROUP BY node_id";

/// Every balance as the journal has it, so that nothing but the posting itself is wrong.
const BALANCE: &str = "
UPDATE far_accounts SET balance_far =
    (SELECT COALESCE(SUM(CASE WHEN credit = far_accounts.id THEN amount_far ELSE -amount_far END), 0)
     FROM far_journal WHERE far_accounts.id IN (debit, credit))";

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
async fn a_payout_that_was_posted_wrong_is_named() {
    let (bed, store) = ledger().await;
    let paid = [("s", outcome()), ("t", outcome_for("a", 3, nano(5))), ("u", outcome_for("c", 3, nano(1_000_000)))];
    for (id, outcome) in paid {
        store.begin_session(&session(id)).await.unwrap();
        store.finalize_session(id, &outcome).await.unwrap();
    }
    let mut other = bed.other().await;
    other.run(&format!("{PAID}; {BALANCE}")).await.unwrap();
    assert_eq!(store.audit().await.unwrap(), []);

    let moved = |batch: &str, debit: &str, credit: &str, stored, computed| Difference {
        subject: Subject::Posted { posting: format!("payout:{batch}"), debit: debit.into(), credit: credit.into() },
        stored,
        computed,
    };
    let cases = [
        (
            "UPDATE far_journal SET debit = 'node:c' WHERE posting = 'payout:0xb' AND line = 1",
            "UPDATE far_journal SET debit = 'node:b' WHERE posting = 'payout:0xb' AND line = 1",
            vec![moved("0xb", "node:b", "outside", 0, 666_667), moved("0xb", "node:c", "outside", 1_333_333, 666_666)],
        ),
        (
            "UPDATE far_journal SET credit = 'fees' WHERE posting = 'payout:0xb' AND line = 0",
            "UPDATE far_journal SET credit = 'outside' WHERE posting = 'payout:0xb' AND line = 0",
            vec![moved("0xb", "node:a", "fees", 666_672, 0), moved("0xb", "node:a", "outside", 0, 666_672)],
        ),
        (
            "UPDATE far_payment_batches SET status = 'confirmed' WHERE id = '0xc'",
            "UPDATE far_payment_batches SET status = 'submitted' WHERE id = '0xc'",
            vec![moved("0xc", "node:c", "outside", 0, 1_000_000)],
        ),
    ];
    for (change, back, expected) in cases {
        other.run(&format!("{change}; {BALANCE}")).await.unwrap();
        assert_eq!(store.audit().await.unwrap(), expected, "{change}");
        other.run(&format!("{back}; {BALANCE}")).await.unwrap();
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
