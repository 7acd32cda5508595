//! Several payers at once.

use std::sync::Arc;

use far_ledger::{
    Ledger, Store, UnixMillis,
    evm::{Address, H256, SignError, Signature, Signer, U256},
    payout::{Alert, PayError, Payer},
};
use futures::future::{BoxFuture, FutureExt};

use crate::{
    both::{Kind, on_both},
    cases::allow,
    faults::Mute,
    scene::{Scene, config, earn, earned, key, now, tell, weeks_later},
};

on_both!(
    three_payers_at_once,
    two_ledgers_and_one_key,
    a_ledger_that_differs_is_halted,
    a_ledger_that_missed_a_week_pays_nothing,
    a_payer_that_is_gone,
    the_lease_keeps_others_off,
    a_signer_that_does_not_answer,
);

/// Ticks of all payers at the same time, a block, and again, until all of them see everything settled.
async fn settle_together(scene: &Scene, payers: &[Payer]) {
    for _ in 0..200 {
        let ticks = payers.iter().cloned().map(|payer| tokio::spawn(async move { payer.tick(now()).await }));
        let mut open = 0;
        for tick in ticks.collect::<Vec<_>>() {
            open += tick.await.unwrap().map_or(1, |tick| tick.open);
        }
        if open == 0 {
            return;
        }
        scene.anvil.mine(1).await;
    }
    panic!("stalled: {:#?}", scene.ledger.payout_batches(10).await.unwrap());
}

async fn three_payers_at_once(kind: Kind) {
    let mut cases = 0;
    for keys in [[0, 0, 0], [0, 1, 2], [0, 0, 1]] {
        for _ in 0..3 {
            let scene = Scene::new(kind, 400).await;
            let mut payers = Vec::new();
            for index in keys {
                // A connection of its own to the ledger, as another process has.
                let ledger = scene.bed.open().await;
                payers.push(scene.payer_over(scene.anvil.transport(), &ledger, index));
            }
            settle_together(&scene, &payers).await;
            scene.assert_paid_once().await;
            cases += 1;
        }
    }
    tell(&format!("{kind:?}: three payers at once, with one key, two and three: {cases} cases"));
}

/// A standby that was brought up from a copy while the first still runs: both pay, each wallet is paid once, both know.
async fn two_ledgers_and_one_key(kind: Kind) {
    for _ in 0..3 {
        let scene = Scene::new(kind, 400).await;
        let bed = kind.bed().await;
        let second = bed.open().await;
        earn(&second, 400).await;
        let payers = [
            scene.payer_over(scene.anvil.transport(), &scene.ledger, 0),
            scene.payer_over(scene.anvil.transport(), &second, 0),
        ];
        settle_together(&scene, &payers).await;
        scene.assert_paid_once().await;
        scene.assert_ledger(&second).await;
    }
    tell(&format!("{kind:?}: two ledgers and one key: 3 cases"));
}

/// Two ledgers with other contents and one contract: the second finds its batch paid with other items and stops.
async fn a_ledger_that_differs_is_halted(kind: Kind) {
    let scene = Scene::new(kind, 40).await;
    scene.settle(&scene.payer()).await;
    let bed = kind.bed().await;
    let second = bed.open().await;
    earn(&second, 41).await;
    let payer = scene.payer_over(scene.anvil.transport(), &second, 0);
    let tick = payer.tick(now()).await.unwrap();
    assert!(matches!(tick.alerts[..], [Alert::Halted { .. }]), "{:?}", tick.alerts);
    assert_eq!((tick.open, tick.signed.len()), (0, 0));
    let batch = &second.payout_batches(1).await.unwrap()[0];
    assert_eq!(batch.status, "halted");
    assert!(batch.halted.as_deref().unwrap().contains("other items"));
    let sums = second.node_earnings("node-0000").await.unwrap().unwrap();
    assert_eq!(sums.paid.nano(), 0, "it does not say that it paid");
    scene.assert_paid_once().await;
    tell(&format!("{kind:?}: another ledger's batch under the same name: halted with an alert"));
}

/// A copy from before a payment that is taken up a week later: it would pay under another week's name what is paid.
async fn a_ledger_that_missed_a_week_pays_nothing(kind: Kind) {
    let scene = Scene::new(kind, 40).await;
    scene.settle(&scene.payer()).await;
    let bed = kind.bed().await;
    let copy = bed.open().await;
    earn(&copy, 40).await;
    let payer = scene.payer_over(scene.anvil.transport(), &copy, 0);
    let next_week = weeks_later(1);
    scene.anvil.mine_at(next_week).await;
    for _ in 0..2 {
        let error = payer.tick(next_week).await.unwrap_err();
        assert!(matches!(error, PayError::Behind { batch: 0, .. }), "{error}");
        assert!(copy.payout_batches(1).await.unwrap().is_empty(), "nothing is closed");
    }
    // In the week itself it finds what was paid, and goes on from there.
    scene.settle(&payer).await;
    scene.assert_ledger(&copy).await;
    assert!(payer.tick(next_week).await.unwrap().closed.is_some());
    scene.assert_paid_once().await;
    tell(&format!("{kind:?}: a ledger from before a payment: refused until it knows of it"));
}

/// A payer signed, could not send, and never comes back with its key: another one sends what is stored.
async fn a_payer_that_is_gone(kind: Kind) {
    let scene = Scene::new(kind, 400).await;
    let gone = scene.payer_over(Mute(scene.anvil.transport()), &scene.ledger, 0);
    assert_eq!(gone.tick(now()).await.unwrap().signed.len(), 2);
    let other = scene.payer_over(scene.anvil.transport(), &scene.ledger, 1);
    scene.settle(&other).await;
    scene.assert_paid_once().await;
    tell(&format!("{kind:?}: a payer's stored transactions, sent by another: 2"));
}

async fn the_lease_keeps_others_off(kind: Kind) {
    let scene = Scene::new(kind, 40).await;
    let payer = |ledger: &Ledger, name: &str| {
        let mut config = config(scene.contract());
        config.lease = Some(std::time::Duration::from_secs(60));
        Payer::new(ledger.clone(), scene.anvil.chain(), Arc::new(key(0)), config, name)
    };
    let (first, second) = (payer(&scene.ledger, "first"), payer(&scene.ledger, "second"));
    let later = |millis: i64| UnixMillis::new(now().get() + millis).unwrap();
    assert!(!first.tick(now()).await.unwrap().leased);
    assert!(second.tick(later(59_999)).await.unwrap().leased);
    assert!(!first.tick(later(30_000)).await.unwrap().leased, "its own lease is renewed");
    assert!(second.tick(later(89_999)).await.unwrap().leased);
    assert!(!second.tick(later(90_000)).await.unwrap().leased, "a lease that is over is anybody's");
    assert!(first.tick(later(90_001)).await.unwrap().leased);
}

/// A key service that is down: what is signed goes on to be settled, what is not waits, and goes on when the service is back.
async fn a_signer_that_does_not_answer(kind: Kind) {
    #[derive(Debug)]
    struct Down;
    impl Signer for Down {
        fn address(&self) -> Address {
            key(1).address()
        }
        fn sign(&self, _: H256) -> BoxFuture<'_, Result<Signature, SignError>> {
            let refused = SignError::Refused { address: self.address(), reason: "down for the test".into() };
            async move { Err(refused) }.boxed()
        }
    }
    let scene = Scene::new(kind, 400).await;
    let first: i64 = (0..200).flat_map(earned).sum();
    allow(&scene, U256::from(first) * U256::exp10(9)).await;
    let mute = scene.payer_over(Mute(scene.anvil.transport()), &scene.ledger, 0);
    // The first batch is signed and not sent; the second cannot be paid yet. Then it could, and nobody signs.
    scene.step(&mute).await;
    allow(&scene, U256::exp10(27)).await;
    let chain = scene.anvil.chain();
    let down = Payer::new(scene.ledger.clone(), chain, Arc::new(Down), config(scene.contract()), "down");
    for _ in 0..8 {
        let refused = down.tick(now()).await;
        assert!(matches!(refused, Err(PayError::Sign(SignError::Refused { .. }))), "{refused:?}");
        scene.anvil.mine(1).await;
    }
    let batches = scene.ledger.payout_batches(2).await.unwrap();
    assert_eq!((batches[1].status.as_str(), batches[0].status.as_str()), ("confirmed", "planned"));
    scene.settle(&scene.payer()).await;
    scene.assert_paid_once().await;
    tell(&format!("{kind:?}: a signer that is down: signed batch settled, the other waited"));
}
