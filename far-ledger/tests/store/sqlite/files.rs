//! Files that are a ledger, that become one, and that are none.

use std::fs;

use far_ledger::{
    Ledger, Store,
    store::{Finalized, OpenError, ReadError},
};

use super::suite::{assert_balanced, ledger, outcome, session};
use crate::bed::Bed;

#[tokio::test]
async fn what_returned_is_in_the_file_without_closing() {
    let (bed, store) = ledger().await;
    let Bed::Sqlite(dir) = &bed else { panic!("a file") };
    store.begin_session(&session("s")).await.unwrap();
    store.finalize_session("s", &outcome()).await.unwrap();
    // What a crash would leave: the file and its log as they are now.
    let copy = dir.path().join("copy.db");
    fs::copy(dir.path().join("ledger.sqlite"), &copy).unwrap();
    fs::copy(dir.path().join("ledger.sqlite-wal"), dir.path().join("copy.db-wal")).unwrap();
    let copy = Ledger::open(copy).await.unwrap();
    assert_balanced(&copy, &["s".into()]).await;
    assert_eq!(copy.finalize_session("s", &outcome()).await.unwrap(), Finalized::Before);
}

#[tokio::test]
async fn an_empty_file_becomes_a_ledger() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("empty.db");
    fs::write(&path, "").unwrap();
    Ledger::open(&path).await.unwrap().close().await;
    // Names that SQLite itself would take for something else are plain files.
    let odd = dir.path().join(":memory:");
    Ledger::open(&odd).await.unwrap().close().await;
    assert!(odd.is_file());
}

#[tokio::test]
async fn what_is_no_database_is_refused_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("notes.txt");
    let text = "these are my notes\n".repeat(400);
    fs::write(&path, &text).unwrap();
    let refused = Ledger::open(&path).await;
    assert!(matches!(refused, Err(OpenError::NotADatabase { .. })), "{refused:?}");
    assert_eq!(fs::read_to_string(&path).unwrap(), text);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[tokio::test]
async fn a_damaged_ledger_is_refused_or_reported() {
    let (bed, store) = ledger().await;
    let Bed::Sqlite(dir) = &bed else { panic!("a file") };
    store.begin_session(&session("s")).await.unwrap();
    store.close().await;
    let intact = fs::read(dir.path().join("ledger.sqlite")).unwrap();
    let broken = dir.path().join("broken.db");
    for (name, bytes) in [
        ("header", [&[0xff; 100], &intact[100..]].concat()),
        ("first page", [&intact[..100], &vec![0xff; 3996][..], &intact[4096..]].concat()),
        ("cut", intact[..5000].to_vec()),
        ("page size", [&intact[..16], &[0x12, 0x34], &intact[18..]].concat()),
    ] {
        fs::write(&broken, bytes).unwrap();
        let refused = Ledger::open(&broken).await;
        assert!(matches!(refused, Err(OpenError::NotADatabase { .. })), "{name}: {refused:?}");
    }
}

#[tokio::test]
async fn a_path_that_cannot_be_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    for path in [dir.path().join("missing").join("ledger.db"), dir.path().to_owned()] {
        let refused = Ledger::open(&path).await;
        assert!(matches!(refused, Err(OpenError::Path { .. })), "{refused:?}");
    }
}

#[tokio::test]
async fn a_number_that_became_a_float_is_an_error_not_a_guess() {
    let (bed, store) = ledger().await;
    store.begin_session(&session("s")).await.unwrap();
    bed.other().await.run("UPDATE far_mesh_sessions SET total_cost_far = 0.5").await.unwrap();
    match store.session("s").await {
        Err(ReadError::BadRow { column, .. }) => assert_eq!(column, "total_cost_far"),
        unexpected => panic!("{unexpected:?}"),
    }
}

#[tokio::test]
async fn a_refused_file_is_left_as_it_is() {
    let bed = Bed::sqlite().await;
    let Bed::Sqlite(dir) = &bed else { panic!("a file") };
    bed.other().await.run("CREATE TABLE photos (id INTEGER)").await.unwrap();
    let before = fs::read(dir.path().join("ledger.sqlite")).unwrap();
    assert!(matches!(Ledger::open(bed.location()).await, Err(OpenError::Foreign { .. })));
    assert_eq!(fs::read(dir.path().join("ledger.sqlite")).unwrap(), before);
}
