//! What is kept beside the money: figures, receipts, exports, and for how long.

use std::num::NonZeroU32;

use far_ledger::{
    Amount, NewSession, Node, Outcome, Store,
    store::{Earnings, Kept, Period, ReceiptError, ReceiptRow, Removed},
};

use super::{at, ledger, nano, outcome_for, paid_session, session, user};

const MINUTE: i64 = 60_000;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;

/// A session that began at `from`, ended at `to` and paid `a`.
async fn run(store: &far_ledger::Ledger, id: &str, from: i64, to: i64, cost: i64) {
    let prompt = Some(format!("prompt of {id}"));
    store.begin_session(&NewSession { started_at: at(from), prompt_text: prompt, ..session(id) }).await.unwrap();
    let parts = outcome_for("a", 3, nano(cost)).contributions().to_vec();
    store.finalize_session(id, &Outcome::new(2, nano(cost), parts, at(to)).unwrap()).await.unwrap();
}

#[tokio::test]
async fn a_minute_has_one_row() {
    let (bed, store) = ledger().await;
    let now = 10 * HOUR + 7;
    // A coordinator writes every five minutes that a node is there: one that is due is active, one that is over is not.
    store.upsert_node(&Node::new("a", at(now - 5 * MINUTE - 2_000))).await.unwrap();
    store.upsert_node(&Node::new("b", at(now - 6 * MINUTE - 1))).await.unwrap();
    run(&store, "early", 8 * HOUR, 9 * HOUR - 1, 5).await;
    run(&store, "one", 9 * HOUR - 500, 9 * HOUR, 5).await;
    run(&store, "two", 10 * HOUR - 1_500, 10 * HOUR - 1, 5).await;
    run(&store, "this minute", 10 * HOUR, 10 * HOUR, 5).await;
    store.begin_session(&session("running")).await.unwrap();
    store.begin_session(&session("failed")).await.unwrap();
    store.fail_session("failed", "lost", at(9 * HOUR + 5)).await.unwrap();
    let pay = format!("UPDATE far_session_contributions SET paid_at = {} WHERE session_id = 'early'", 9 * HOUR + 1);
    bed.other().await.run(&pay).await.unwrap();

    let row = store.write_metrics(at(now)).await.unwrap();
    assert_eq!((row.measured_at, row.total_nodes, row.active_nodes), (at(10 * HOUR), 3, 1));
    assert_eq!((row.sessions_last_hour, row.tokens_generated_last_hour), (2, 4));
    assert_eq!((row.avg_latency_ms, row.far_paid_last_hour), ((500 + 1_499) / 2, nano(5)));
    // Whoever comes later in the minute gets what the first wrote.
    run(&store, "late", 9 * HOUR, 9 * HOUR + 1, 5).await;
    assert_eq!(store.write_metrics(at(now + 50_000)).await.unwrap(), row);
    assert_eq!(store.metrics(at(0), at(i64::MAX)).await.unwrap(), [row]);
}

#[tokio::test]
async fn hours_and_days_come_from_minutes() {
    let (bed, store) = ledger().await;
    assert_eq!(store.roll_ups(Period::Day, at(0), at(i64::MAX)).await.unwrap(), []);
    run(&store, "one", 0, 30 * MINUTE, 5).await;
    run(&store, "two", HOUR, HOUR + 2 * MINUTE, 5).await;
    run(&store, "three", DAY, DAY + 1, 5).await;
    // Whenever rows are written: at the end of an hour, in the middle of the next, or not at all.
    for minute in [10, 59, 60 + 40, 24 * 60 + 59] {
        store.write_metrics(at(minute * MINUTE)).await.unwrap();
    }
    run(&store, "after the last row of its hour", HOUR, 2 * HOUR - 1, 5).await;
    let pay = format!("UPDATE far_session_contributions SET paid_at = {} WHERE session_id = 'one'", 50 * HOUR);
    bed.other().await.run(&pay).await.unwrap();
    let hours = store.roll_ups(Period::Hour, at(0), at(i64::MAX)).await.unwrap();
    let figures: Vec<_> =
        hours.iter().map(|hour| (hour.start.get() / HOUR, hour.sessions, hour.avg_latency_ms)).collect();
    assert_eq!(figures, [(0, 1, 1_800_000), (1, 2, (120_000 + HOUR as u64 - 1) / 2), (24, 1, 1), (50, 0, 0)]);
    assert_eq!((hours[0].far_paid, hours[3].far_paid), (nano(0), nano(5)));
    assert_eq!((hours[0].total_nodes, hours[3].total_nodes), (3, 0), "nodes are those of the minutes");
    let all_days = store.roll_ups(Period::Day, at(0), at(i64::MAX)).await.unwrap();
    let mut view = bed.other().await;
    // Both views say what was asked for above; an hour with a payment and no minute does not thin out a day's nodes.
    for (of, start, rolled) in [("hourly", "hour", &hours), ("daily", "day", &all_days)] {
        for roll_up in rolled {
            for (column, expected) in [
                ("total_nodes", roll_up.total_nodes),
                ("active_nodes", roll_up.active_nodes),
                ("sessions", roll_up.sessions),
                ("tokens_generated", roll_up.tokens_generated),
                ("avg_latency_ms", roll_up.avg_latency_ms),
                ("far_paid", roll_up.far_paid.nano().unsigned_abs()),
            ] {
                let sql = format!("SELECT {column} FROM far_mesh_metrics_{of} WHERE {start} = {}", roll_up.start.get());
                assert_eq!(view.number(&sql).await.map(i64::unsigned_abs), Some(expected), "{sql}");
            }
        }
    }
    for (column, sum) in [("sessions", 4), ("far_paid", 5), ("tokens_generated", 8)] {
        for view_of in ["hourly", "daily"] {
            let sql = format!("SELECT CAST(SUM({column}) AS BIGINT) FROM far_mesh_metrics_{view_of}");
            assert_eq!(view.number(&sql).await, Some(sum), "{sql}");
        }
    }
    let part = store.roll_ups(Period::Hour, at(HOUR + 1), at(2 * HOUR)).await.unwrap();
    assert_eq!(part, hours[1..2], "an hour is whole");
    let days = store.roll_ups(Period::Day, at(0), at(i64::MAX)).await.unwrap();
    let figures: Vec<_> = days.iter().map(|day| (day.start.get() / DAY, day.sessions, day.tokens_generated)).collect();
    assert_eq!(figures, [(0, 3, 6), (1, 1, 2), (2, 0, 0)]);
    assert_eq!(days[0].avg_latency_ms, (1_800_000 + 120_000 + HOUR as u64 - 1) / 3);
}

#[tokio::test]
async fn only_what_is_old_and_no_money_goes() {
    let (_bed, store) = ledger().await;
    run(&store, "old", 1, 2, 5).await;
    run(&store, "new", 4 * DAY, 4 * DAY, 5).await;
    store.record_receipts(&[receipt("old", 0, 10), receipt("new", 0, 4 * DAY)]).await.unwrap();
    for day in [0, 1, 4] {
        store.write_metrics(at(day * DAY)).await.unwrap();
    }
    assert_eq!(store.apply_retention(at(5 * DAY)).await.unwrap(), Removed::default());
    for kept in [Kept::Metrics, Kept::Prompts, Kept::Receipts] {
        store.set_retention(kept, NonZeroU32::new(9)).await.unwrap();
        store.set_retention(kept, NonZeroU32::new(2)).await.unwrap();
    }
    assert_eq!(store.retention().await.unwrap().len(), 3);
    let removed = store.apply_retention(at(5 * DAY)).await.unwrap();
    assert_eq!(removed, Removed { metrics: 2, prompts: 1, receipts: 1 });
    assert_eq!(store.session("old").await.unwrap().unwrap().begun.prompt_text, None);
    assert!(store.session("new").await.unwrap().unwrap().begun.prompt_text.is_some());
    assert_eq!((store.receipts("old").await.unwrap().len(), store.receipts("new").await.unwrap().len()), (0, 1));
    assert_eq!(store.contributions("old").await.unwrap().len(), 1);
    store.set_retention(Kept::Metrics, None).await.unwrap();
    assert_eq!(store.apply_retention(at(99 * DAY)).await.unwrap(), Removed { metrics: 0, prompts: 1, receipts: 1 });
    assert_eq!(store.audit().await.unwrap(), []);
}

fn receipt(session: &str, first_position: u32, received_at: i64) -> ReceiptRow {
    ReceiptRow {
        session_id: session.into(),
        node_id: "a".into(),
        layers_start: 0,
        layers_end: 10,
        first_position,
        tokens: 32,
        first_step: 3,
        last_step: 34,
        model_hash: "ab".repeat(32),
        kernel_class: "cpu/f32/1".into(),
        input_commitment: "01".repeat(32),
        output_commitment: "02".repeat(32),
        hop_signature: "03".repeat(64),
        witness_id: "b".into(),
        witness_signature: "04".repeat(64),
        received_at: at(received_at),
    }
}

#[tokio::test]
async fn receipts_are_kept_once() {
    let (_bed, store) = ledger().await;
    store.begin_session(&session("s")).await.unwrap();
    let receipts = [receipt("s", 32, 5), receipt("s", 0, 5)];
    assert_eq!(store.record_receipts(&receipts).await.unwrap(), 2);
    let again = [receipt("s", 0, 9), receipt("s", 64, 9), receipt("s", 64, 9)];
    assert_eq!(store.record_receipts(&again).await.unwrap(), 1);
    let stored = store.receipts("s").await.unwrap();
    assert_eq!(stored, [receipt("s", 0, 5), receipt("s", 32, 5), receipt("s", 64, 9)]);
    assert_eq!(store.record_receipts(&[]).await.unwrap(), 0);
    let refused = store.record_receipts(&[receipt("s", 96, 9), receipt("t", 0, 9)]).await;
    assert!(matches!(refused, Err(ReceiptError::UnknownSession { .. })), "{refused:?}");
    let refused = store.record_receipts(&[ReceiptRow { hop_signature: String::new(), ..receipt("s", 96, 9) }]).await;
    assert!(matches!(refused, Err(ReceiptError::Field(_))), "{refused:?}");
    let refused = store.record_receipts(&vec![receipt("s", 96, 9); 10_001]).await;
    assert!(matches!(refused, Err(ReceiptError::TooMany { .. })), "{refused:?}");
    assert_eq!(store.receipts("s").await.unwrap().len(), 3);
}

#[tokio::test]
async fn earnings_are_exported_page_by_page() {
    let (bed, store) = ledger().await;
    store.upsert_node(&Node::new("b,\"c\"", at(1))).await.unwrap();
    // More than a page of one time, so that pages end between rows of one session.
    for index in 0..401 {
        let id = format!("s{index:03}");
        store.begin_session(&session(&id)).await.unwrap();
        store.finalize_session(&id, &super::outcome()).await.unwrap();
    }
    run(&store, "later", 50, 60, 7).await;
    store.begin_session(&session("odd")).await.unwrap();
    store.finalize_session("odd", &outcome_for("b,\"c\"", 1, Amount::MAX)).await.unwrap_err();
    let parts = outcome_for("b,\"c\"", 1, nano(1)).contributions().to_vec();
    store.finalize_session("odd", &Outcome::new(1, nano(1), parts, at(70)).unwrap()).await.unwrap();
    bed.other()
        .await
        .run("UPDATE far_session_contributions SET paid_at = 80 WHERE session_id = 'later'")
        .await
        .unwrap();

    let csv = async |from: i64, to: i64, node: Option<&str>| {
        let mut text = Vec::new();
        let earnings = Earnings { from: at(from), to: at(to), node_id: node.map(str::to_owned) };
        let count = store.export_earnings(&earnings, &mut text).await.unwrap();
        let text = String::from_utf8(text).unwrap();
        let lines: Vec<String> = text.split_terminator("\r\n").skip(1).map(str::to_owned).collect();
        assert_eq!(lines.len() as u64, count);
        lines
    };
    let all = csv(0, i64::MAX, None).await;
    assert_eq!(all.len(), 3 * 401 + 2);
    let unique: std::collections::BTreeSet<_> = all.iter().collect();
    assert_eq!(unique.len(), all.len());
    assert_eq!(all[0], "9,s000,a,,0,10,50,500,0.000666667,,");
    assert_eq!(all[1_203], "60,later,a,,0,1,3,3,0.000000007,80,");
    assert_eq!(all[1_204], "70,odd,\"b,\"\"c\"\"\",,0,1,1,1,0.000000001,,");
    assert_eq!(csv(10, 70, None).await.len(), 1);
    assert_eq!(csv(0, i64::MAX, Some("a")).await.len(), 402);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn upkeep_by_many_is_done_once() {
    let (bed, first) = ledger().await;
    let second = bed.open().await;
    user(&first, "alice", 100).await;
    for index in 0..6 {
        first.begin_session(&paid_session(&format!("s{index}"), "alice", 10)).await.unwrap();
    }
    run(&first, "old", 1, 2, 5).await;
    first.set_retention(Kept::Prompts, NonZeroU32::new(1)).await.unwrap();
    let tasks = (0..6).map(|index| {
        let store = if index % 2 == 0 { first.clone() } else { second.clone() };
        tokio::spawn(async move { store.upkeep(at(2 * DAY)).await.unwrap() })
    });
    let done: Vec<_> = futures::future::join_all(tasks).await.into_iter().map(Result::unwrap).collect();
    assert!(done.iter().all(|upkeep| upkeep.metrics == done[0].metrics));
    assert_eq!(done.iter().map(|upkeep| upkeep.removed.prompts).sum::<u64>(), 1);
    assert_eq!(done.iter().map(|upkeep| upkeep.abandoned).sum::<u64>(), 6);
    assert_eq!(first.metrics(at(0), at(i64::MAX)).await.unwrap().len(), 1);
    assert_eq!(first.account("alice").await.unwrap().unwrap().available(), nano(100));
    assert_eq!(first.audit().await.unwrap(), []);
}
