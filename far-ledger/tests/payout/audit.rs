//! Ledger and chain side by side: they agree after a payout, and whatever is changed in the ledger is told of.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use far_ledger::{
    evm::Depth,
    payout::{About, Mismatch, check_batches, reconcile},
};

use crate::{
    both::{Kind, on_both},
    faults::Narrow,
    scene::{DEPTH, Scene, earn, now, tell},
};

on_both!(every_difference_is_told, where_another_ledger_paid_is_found_later);

/// A node that tells no events when another ledger's payment is settled, and later a few blocks of them at a time.
async fn where_another_ledger_paid_is_found_later(kind: Kind) {
    let scene = Scene::new(kind, 40).await;
    scene.settle(&scene.payer()).await;
    let bed = kind.bed().await;
    let second = bed.open().await;
    earn(&second, 40).await;
    let most = Arc::new(AtomicU64::new(0));
    let narrow = Narrow { inner: scene.anvil.transport(), most: Arc::clone(&most) };
    let payer = scene.payer_over(narrow, &second, 0);
    assert_eq!(payer.tick(now()).await.unwrap().confirmed.len(), 1);
    let batch = async || second.payout_batches(1).await.unwrap().remove(0);
    assert_eq!((batch().await.status.as_str(), batch().await.tx_hash), ("confirmed", None));
    let audit = async || -> Vec<About> {
        let chain = scene.anvil.chain();
        let found = reconcile(&second, &chain, &scene.contract(), Depth::Blocks(DEPTH), 0).await.unwrap();
        found.iter().map(|mismatch| mismatch.about).collect()
    };
    assert_eq!(audit().await, [About::Transaction, About::Block]);
    most.store(3, Ordering::SeqCst);
    payer.tick(now().after(Duration::from_secs(599))).await.unwrap();
    assert_eq!(batch().await.tx_hash, None, "not on every tick");
    payer.tick(now().after(Duration::from_secs(600))).await.unwrap();
    assert_eq!(batch().await.tx_hash, scene.ledger.payout_batches(1).await.unwrap()[0].tx_hash);
    assert_eq!(audit().await, []);
    scene.assert_ledger(&second).await;
    tell(&format!(
        "{kind:?}: a payment of another ledger without its event: settled at once, its transaction found later"
    ));
}

async fn every_difference_is_told(kind: Kind) {
    let scene = Scene::new(kind, 40).await;
    let audit = async |from_block: u64| -> Vec<About> {
        let chain = scene.anvil.chain();
        let found = reconcile(&scene.ledger, &chain, &scene.contract(), Depth::Blocks(DEPTH), from_block).await;
        found.unwrap().iter().map(|mismatch| mismatch.about).collect()
    };
    assert_eq!(audit(0).await, [], "before anything is planned");
    scene.step(&scene.payer()).await;
    assert_eq!(audit(0).await, [], "while a batch is under way");
    scene.settle(&scene.payer()).await;
    assert_eq!(audit(scene.deployed.block).await, [], "when all is settled");

    let mut other = scene.bed.other().await;
    let item = "UPDATE payout_item SET amount_far = amount_far";
    let batch = "UPDATE far_payment_batches SET";
    let part = "UPDATE payout_node SET amount_far = amount_far";
    let cases: [(String, String, &[About]); 7] = [
        (
            format!("{part} + 1 WHERE node_id = 'node-0005'"),
            format!("{part} - 1 WHERE node_id = 'node-0005'"),
            &[About::Parts],
        ),
        (
            format!("{item} + 1 WHERE place = 3"),
            format!("{item} - 1 WHERE place = 3"),
            &[About::Items, About::Total, About::Amount],
        ),
        (
            format!("{batch} total_amount_far = total_amount_far + 1"),
            format!("{batch} total_amount_far = total_amount_far - 1"),
            &[About::Total, About::Claims],
        ),
        (
            "UPDATE far_session_contributions SET payment_far = payment_far + 1 \
             WHERE node_id = 'node-0005' AND session_id = 'session-0'"
                .into(),
            "UPDATE far_session_contributions SET payment_far = payment_far - 1 \
             WHERE node_id = 'node-0005' AND session_id = 'session-0'"
                .into(),
            &[About::Claims, About::Parts],
        ),
        (
            format!("{batch} block_number = block_number + 1"),
            format!("{batch} block_number = block_number - 1"),
            &[About::Block],
        ),
        (
            format!("{batch} tx_hash = 'x' || tx_hash"),
            format!("{batch} tx_hash = SUBSTR(tx_hash, 2)"),
            &[About::Transaction],
        ),
        (
            format!("{batch} status = 'submitted'"),
            format!("{batch} status = 'confirmed'"),
            &[About::Marks, About::Paid],
        ),
    ];
    for (change, back, expected) in &cases {
        other.run(change).await.unwrap();
        assert_eq!(audit(0).await, *expected, "{change}");
        let within: Vec<About> = check_batches(&scene.ledger).await.unwrap().iter().map(|found| found.about).collect();
        let own = [About::Items, About::Total, About::Claims, About::Parts, About::Marks];
        let expected: Vec<About> = expected.iter().copied().filter(|about| own.contains(about)).collect();
        assert_eq!(within, expected, "without the chain, {change}");
        other.run(back).await.unwrap();
        assert_eq!(audit(0).await, [], "{back}");
    }
    other.run("UPDATE far_session_contributions SET paid_at = NULL WHERE node_id = 'node-0005'").await.unwrap();
    assert_eq!(audit(0).await, [About::Marks]);
    other.run("UPDATE far_session_contributions SET paid_at = 1 WHERE node_id = 'node-0005'").await.unwrap();

    // A chain that does not know of the payment, and a payment that the ledger does not know of.
    let late = scene.anvil.chain().block_number().await.unwrap();
    assert_eq!(audit(late).await, [About::Paid]);
    let bed = kind.bed().await;
    let empty = bed.open().await;
    let chain = scene.anvil.chain();
    let found = reconcile(&empty, &chain, &scene.contract(), Depth::Blocks(DEPTH), 0).await.unwrap();
    assert!(matches!(&found[..], [Mismatch { about: About::Paid, ledger, .. }] if ledger == "no such batch"));
    assert!(found[0].to_string().contains("no such batch in the ledger, paid in 0x"));
    tell(&format!("{kind:?}: audit against the chain: {} kinds of difference found", cases.len() + 3));
}
