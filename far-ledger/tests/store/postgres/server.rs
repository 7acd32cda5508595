//! What only a server does: it says who may come in, and its connections break.

use far_ledger::{
    Ledger, Store,
    store::{BackendError, BeginError, Finalized, OpenError},
};

use super::suite::{at, ledger, outcome, session};
use crate::bed::Bed;

#[tokio::test]
async fn a_server_that_is_not_there_is_named_without_the_password() {
    let socket = tempfile::tempdir().unwrap();
    let url = format!("postgres://far:secret@localhost/ledger?host={}", socket.path().display());
    let error = Ledger::open(url).await.unwrap_err();
    assert!(matches!(error, OpenError::Server { .. }), "{error:?}");
    assert!(error.to_string().contains("postgres://localhost/ledger") && !format!("{error:?}").contains("secret"));
}

#[tokio::test]
async fn a_url_that_is_none_is_refused() {
    let refused = Ledger::open("postgres://far@db:port/ledger").await;
    assert!(matches!(refused, Err(OpenError::Server { .. })), "{refused:?}");
}

#[tokio::test]
async fn connections_that_the_server_ends_are_replaced() {
    let (bed, ledger) = ledger().await;
    let mut other = bed.other().await;
    for index in 0..5 {
        let ended = "SELECT COUNT(pg_terminate_backend(pid)) FROM pg_stat_activity
                     WHERE datname = current_database() AND pid <> pg_backend_pid()";
        assert!(other.number(ended).await.unwrap() > 0);
        ledger.begin_session(&session(&format!("s{index}"))).await.unwrap();
    }
    assert_eq!(other.number("SELECT COUNT(*) FROM far_mesh_sessions").await, Some(5));
}

#[tokio::test]
async fn a_setting_of_the_server_does_not_make_a_write_less_durable() {
    let bed = Bed::postgres().await;
    let Bed::Postgres { name, .. } = &bed else { panic!("a server") };
    let mut other = bed.other().await;
    for setting in ["synchronous_commit = off", "default_transaction_isolation = 'repeatable read'"] {
        other.run(&format!("ALTER DATABASE {name} SET {setting}")).await.unwrap();
    }
    let ledger = bed.open().await;
    ledger.begin_session(&session("s")).await.unwrap();
    // What a session of the ledger says of itself, told by a trigger inside of its transaction.
    other
        .run(
            "CREATE TABLE told (setting TEXT);
             CREATE FUNCTION tell() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                 INSERT INTO told VALUES (current_setting('synchronous_commit')), (current_setting('transaction_isolation'));
                 RETURN NEW;
             END $$;
             CREATE TRIGGER tell AFTER UPDATE ON far_mesh_sessions FOR EACH ROW EXECUTE FUNCTION tell()",
        )
        .await
        .unwrap();
    ledger.fail_session("s", "why", at(5)).await.unwrap();
    let told = "SELECT COUNT(*) FROM told WHERE setting IN ('on', 'read committed')";
    assert_eq!(other.number(told).await, Some(2));
}

#[tokio::test]
async fn a_database_that_may_only_be_read_says_so() {
    let (bed, ledger) = ledger().await;
    let mut other = bed.other().await;
    other.run("REVOKE ALL ON ALL TABLES IN SCHEMA public FROM PUBLIC").await.unwrap();
    other
        .run(
            "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                 RAISE EXCEPTION 'standby' USING ERRCODE = 'read_only_sql_transaction';
             END $$;
             CREATE TRIGGER refuse BEFORE INSERT ON far_mesh_sessions FOR EACH ROW EXECUTE FUNCTION refuse()",
        )
        .await
        .unwrap();
    let refused = ledger.begin_session(&session("s")).await;
    assert!(matches!(refused, Err(BeginError::Backend(BackendError::ReadOnly(_)))), "{refused:?}");
}

/// Somebody who keeps to no order: one of the two transactions must end, and ours is repeated.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_that_was_broken_off_is_repeated() {
    let (bed, ledger) = ledger().await;
    ledger.begin_session(&session("s")).await.unwrap();
    let (mut rival, mut watcher) = (bed.other().await, bed.other().await);
    // Whoever looks for a deadlock first is broken off: where the tests' user may say so, the rival never looks.
    let patient = rival.run("SET deadlock_timeout = '1h'").await.is_ok();
    rival.run("BEGIN; UPDATE far_accounts SET created_at = 1 WHERE id = 'node:a'").await.unwrap();
    let settling = tokio::spawn({
        let ledger = ledger.clone();
        async move { ledger.finalize_session("s", &outcome()).await }
    });
    // Ours has the session and waits for the account; then the rival wants the session.
    let waiting = "SELECT COUNT(*) FROM pg_locks WHERE NOT granted";
    while watcher.number(waiting).await != Some(1) {}
    let (rivals, done) = futures::join!(rival.run("UPDATE far_mesh_sessions SET model_id = 'x'; COMMIT"), settling);
    assert_eq!(done.unwrap().unwrap(), Finalized::Now);
    if patient {
        rivals.unwrap();
    }
    let ended = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()";
    while watcher.number(ended).await == Some(0) {}
    assert_eq!(ledger.audit().await.unwrap(), []);
}

#[tokio::test]
async fn a_ledger_does_not_show_its_password() {
    let bed = Bed::postgres().await;
    // A server that trusts takes any password.
    let ledger = Ledger::open(bed.url().replace("far@", "far:geheim@")).await.unwrap();
    assert!(!format!("{ledger:?} {}", ledger.location()).contains("geheim"));
}
