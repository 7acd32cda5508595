//! A row that was changed by hand is found and named, with a chain and without one.

use crate::{
    both::{Kind, on_both},
    scene::{Scene, node},
};

on_both!(a_changed_row_is_named);

async fn a_changed_row_is_named(kind: Kind) {
    let scene = Scene::deployed(kind).await;
    scene.mine_on().await;
    assert_eq!(scene.payments(&["once"]).await.code, Some(0));
    let batch = scene.ledger.payout_batches(10).await.unwrap().pop().unwrap();
    let change = async |sql: &str| scene.bed.other().await.run(sql).await.unwrap();
    let contribution = format!("WHERE session_id = 'session-2' AND node_id = '{}'", node(7));
    let (of_batch, id) = (format!("WHERE id = '{}'", batch.batch_id), batch.batch_id.as_str());
    for (there, back, names) in [
        (
            format!("UPDATE far_session_contributions SET payment_far = payment_far + 1 {contribution}"),
            format!("UPDATE far_session_contributions SET payment_far = payment_far - 1 {contribution}"),
            &["cost of session session-2", "node-07", "by the contributions that it pays"][..],
        ),
        (
            format!("UPDATE far_payment_batches SET block_number = block_number + 1 {of_batch}"),
            format!("UPDATE far_payment_batches SET block_number = block_number - 1 {of_batch}"),
            &[id, "block", "by the chain"],
        ),
        (
            "UPDATE far_accounts SET balance_far = balance_far + 5 WHERE id = 'node:node-09'".to_owned(),
            "UPDATE far_accounts SET balance_far = balance_far - 5 WHERE id = 'node:node-09'".to_owned(),
            &["balance of node:node-09"],
        ),
    ] {
        change(&there).await;
        let audit = scene.payments(&["audit"]).await;
        assert_eq!(audit.code, Some(1), "{there}: {}", audit.stdout);
        assert!(names.iter().all(|name| audit.stdout.contains(name)), "{there}: {}", audit.stdout);
        assert!(audit.stderr.contains("differences: see above"), "{}", audit.stderr);
        change(&back).await;
        assert_eq!(scene.payments(&["audit"]).await.code, Some(0), "{back}");
    }

    // Without a chain the ledger's own sums are worked out all the same, items of batches too.
    scene.set("rpc_url", "");
    scene.set("payout_contract", "");
    let alone = scene.payments(&["audit"]).await;
    assert_eq!(alone.code, Some(0), "{}", alone.stderr);
    assert!(alone.stdout.contains("0 differences, in the ledger; set rpc_url"), "{}", alone.stdout);
    change("UPDATE payout_item SET amount_far = amount_far + 1 WHERE place = 3").await;
    let alone = scene.payments(&["audit"]).await;
    assert!(
        alone.code == Some(1) && alone.stdout.contains(id) && alone.stdout.contains("by its items"),
        "{}",
        alone.stdout
    );
}
