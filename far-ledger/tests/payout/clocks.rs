//! Clocks that are wrong: of a machine that pays, and of a payer that held the lease.

use std::{sync::Arc, time::Duration};

use far_ledger::{
    UnixMillis,
    payout::{Alert, Payer},
};

use crate::{
    both::{Kind, on_both},
    scene::{Scene, config, epoch, key, now, tell, weeks_later},
};

on_both!(a_clock_that_is_ahead_closes_no_week, a_lease_of_a_clock_that_is_ahead);

async fn a_clock_that_is_ahead_closes_no_week(kind: Kind) {
    let scene = Scene::new(kind, 40).await;
    let payer = scene.payer();
    let year = weeks_later(52);
    let tick = payer.tick(year).await.unwrap();
    assert_eq!(tick.closed.unwrap().epoch, epoch(), "the week that is over by both clocks");
    assert_eq!(tick.waits.unwrap().number(), epoch().number() + 52);
    let told = Duration::from_secs(52 * 7 * 24 * 3600 - 3600);
    assert!(matches!(tick.alerts[..], [Alert::FastClock { ahead, .. }] if ahead > told), "{:?}", tick.alerts);
    while payer.tick(year).await.unwrap().open > 0 {
        scene.anvil.mine(1).await;
    }
    scene.assert_paid_once().await;
    assert_eq!(scene.ledger.payout_batches(9).await.unwrap().len(), 1);
    // Seconds before the chain's Monday are nobody's fault, and something to wait for.
    let monday = weeks_later(1).before(Duration::from_secs(3600));
    scene.anvil.mine_at(monday.before(Duration::from_secs(60))).await;
    let early = payer.tick(monday.after(Duration::from_secs(30))).await.unwrap();
    assert!(early.closed.is_none() && early.alerts.is_empty(), "{early:?}");
    assert_eq!(early.waits.unwrap().number(), epoch().number() + 1);
    scene.anvil.mine_at(monday).await;
    let tick = payer.tick(monday.after(Duration::from_secs(60))).await.unwrap();
    assert_eq!((tick.closed.unwrap().epoch.number(), tick.waits), (epoch().number() + 1, None));
    // A clock that is behind closes weeks late, and somebody has to know.
    scene.anvil.mine_at(weeks_later(5)).await;
    let tick = payer.tick(weeks_later(1)).await.unwrap();
    assert!(tick.closed.is_none() && tick.waits.is_none());
    let told = Duration::from_secs(4 * 7 * 24 * 3600 - 1);
    assert!(matches!(tick.alerts[..], [Alert::SlowClock { behind }] if behind > told), "{:?}", tick.alerts);
    tell(&format!("{kind:?}: a clock a year ahead and one a month behind: no week closed that is not over, both told"));
}

async fn a_lease_of_a_clock_that_is_ahead(kind: Kind) {
    let scene = Scene::new(kind, 4).await;
    let payer = |name: &str| {
        let mut config = config(scene.contract());
        config.lease = Some(Duration::from_secs(60));
        Payer::new(scene.ledger.clone(), scene.anvil.chain(), Arc::new(key(0)), config, name)
    };
    let leased = async |name: &str, at: UnixMillis| payer(name).tick(at).await.unwrap().leased;
    assert!(!leased("ahead", weeks_later(52)).await);
    assert!(!leased("right", now()).await, "a lease that ends in a year is of a wrong clock");
    assert!(leased("other", now()).await);
    // Clocks that differ by less than a lease take it from nobody.
    assert!(!leased("right", now().after(Duration::from_secs(59))).await);
    assert!(leased("other", now()).await);
}
