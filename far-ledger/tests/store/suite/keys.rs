//! Keys: made once, known by their hash, revoked for good, and what was used with them.

use far_ledger::{
    NewSession, Payer, Secret, Store,
    key::ParseKeyError,
    store::{BeginError, KeyError},
};

use super::{at, ledger, nano, outcome_for, session, user};

const DAY: i64 = 86_400_000;

#[tokio::test]
async fn a_key_lets_its_account_in_until_it_is_revoked() {
    let (bed, store) = ledger().await;
    user(&store, "alice", 1_000).await;
    let made = store.create_key("alice", "laptop", at(10)).await.unwrap();
    let caller = store.authenticate(&made.secret, at(20)).await.unwrap().unwrap();
    assert_eq!((caller.account.as_str(), &caller.id, caller.label.as_str()), ("alice", &made.id, "laptop"));
    let stored = bed.other().await.number("SELECT COUNT(*) FROM far_api_keys WHERE hash LIKE 'fl_%'").await;
    assert_eq!(stored, Some(0), "the key itself is not stored");
    store.revoke_key(&made.id, at(30)).await.unwrap();
    store.revoke_key(&made.id, at(40)).await.unwrap();
    assert_eq!(store.authenticate(&made.secret, at(50)).await.unwrap(), None);
    let rows = store.keys(Some("alice")).await.unwrap();
    assert_eq!((rows[0].revoked_at, rows[0].last_used_at), (Some(at(30)), Some(at(20))));
    assert_eq!((store.keys(None).await.unwrap().len(), store.keys(Some("bob")).await.unwrap().len()), (1, 0));
}

#[tokio::test]
async fn what_is_no_key_of_ours_lets_nobody_in() {
    let (_bed, store) = ledger().await;
    assert_eq!(Secret::parse("fl_short"), Err(ParseKeyError));
    let other = far_ledger::ApiKey::draw().unwrap();
    assert_eq!(store.authenticate(&other.secret, at(1)).await.unwrap(), None);
    let refused = store.create_key("nobody", "", at(1)).await;
    assert!(matches!(refused, Err(KeyError::UnknownAccount { .. })), "{refused:?}");
    // A node has an account, but not one that keys are made for.
    assert!(matches!(store.create_key("node:a", "", at(1)).await, Err(KeyError::UnknownAccount { .. })));
    assert!(matches!(store.revoke_key("key_0", at(1)).await, Err(KeyError::UnknownKey { .. })));
}

#[tokio::test]
async fn the_last_use_is_written_once_a_minute() {
    let (_bed, store) = ledger().await;
    user(&store, "alice", 1).await;
    let made = store.create_key("alice", "", at(1)).await.unwrap();
    for (now, written) in [(5, 5), (60_004, 5), (60_005, 60_005), (60_006, 60_005)] {
        store.authenticate(&made.secret, at(now)).await.unwrap();
        assert_eq!(store.keys(None).await.unwrap()[0].last_used_at, Some(at(written)), "{now}");
    }
}

#[tokio::test]
async fn usage_adds_up_by_key_and_day() {
    let (_bed, store) = ledger().await;
    user(&store, "alice", 1_000).await;
    let (one, two) =
        (store.create_key("alice", "1", at(1)).await.unwrap(), store.create_key("alice", "2", at(2)).await.unwrap());
    for (id, key, ended, cost) in
        [("s", &one, DAY - 1, 5), ("t", &one, DAY, 7), ("u", &two, DAY, 11), ("v", &one, 2 * DAY - 1, 13)]
    {
        let payer = Payer { account: "alice".into(), key: Some(key.id.clone()), reserve: nano(20), until: at(3 * DAY) };
        store.begin_session(&NewSession { payer: Some(payer), ..session(id) }).await.unwrap();
        let part = outcome_for("a", 3, nano(cost)).contributions().to_vec();
        let outcome = far_ledger::Outcome::new(2, nano(cost), part, at(ended)).unwrap();
        store.finalize_session(id, &outcome).await.unwrap();
        store.finalize_session(id, &outcome).await.unwrap();
    }
    let usage = store.usage("alice", at(0), at(5 * DAY)).await.unwrap();
    let rows: Vec<_> = usage
        .iter()
        .map(|row| (row.day.get() / DAY, row.key == one.id, row.sessions, row.tokens, row.cost.nano()))
        .collect();
    let mut expected = vec![(0, true, 1, 2, 5), (1, true, 2, 4, 20), (1, false, 1, 2, 11)];
    let mut found = rows.clone();
    expected.sort_unstable();
    found.sort_unstable();
    assert_eq!(found, expected);
    assert_eq!(store.usage("alice", at(DAY), at(DAY)).await.unwrap().len(), 2);
    assert_eq!(store.audit().await.unwrap(), []);
}

#[tokio::test]
async fn a_key_pays_from_its_own_account() {
    let (_bed, store) = ledger().await;
    user(&store, "alice", 1_000).await;
    user(&store, "bob", 1_000).await;
    let made = store.create_key("alice", "", at(1)).await.unwrap();
    let with = |account: &str, id: &str| {
        let key = Some(made.id.clone());
        let payer = Payer { account: account.into(), key, reserve: nano(20), until: at(3) };
        NewSession { payer: Some(payer), ..session(id) }
    };
    let foreign = store.begin_session(&with("bob", "s")).await;
    assert!(matches!(foreign, Err(BeginError::UnknownKey { .. })), "{foreign:?}");
    store.begin_session(&with("alice", "t")).await.unwrap();
    store.revoke_key(&made.id, at(2)).await.unwrap();
    assert!(matches!(store.begin_session(&with("alice", "u")).await, Err(BeginError::UnknownKey { .. })));
}
