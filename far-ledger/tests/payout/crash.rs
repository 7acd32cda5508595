//! The crash matrix: a payer in a process of its own is ended at its first point, another run at its second, and so on until
//! a run ends by itself. After each, a payer that knows nothing goes on from what is stored.

use std::{os::unix::process::ExitStatusExt, process::Command, sync::Arc, time::Instant};

use far_ledger::{
    Ledger, Store,
    evm::{Address, Chain, HttpOptions, HttpTransport, Transport},
    payout::{Payer, PayoutContract},
};
use serde_json::{Value, json};

use crate::{
    anvil::CHAIN_ID,
    both::{Kind, on_both},
    faults::{Crashing, Points},
    scene::{Scene, config, key, now, tell},
};

/// The setting of a payer in a process of its own.
const CHILD: &str = "FAR_TEST_PAYER";

/// More points than a run can have: an end for a matrix that has none.
const MOST_POINTS: u64 = 2_000;

const WALLETS: usize = 400;

/// What a payer that ended by itself says.
const STATEMENTS: &str = "statements: ";

on_both!(every_point_of_a_payout);

async fn every_point_of_a_payout(kind: Kind) {
    let started = Instant::now();
    let mut scene = Scene::new(kind, WALLETS).await;
    scene.ledger.close().await;
    scene.bed.keep().await;
    let mut snapshot = scene.anvil.snapshot().await;
    let mut at = 0;
    let unharmed = loop {
        at += 1;
        assert!(at < MOST_POINTS, "a run has no end");
        scene.anvil.revert(snapshot).await;
        snapshot = scene.anvil.snapshot().await;
        scene.bed.restore().await;
        let ended = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "crash::payer", "--ignored", "--nocapture"])
            .env(CHILD, json!({"rpc": scene.anvil.url, "ledger": scene.bed.url(), "contract": scene.contract().address, "at": at}).to_string())
            .output()
            .unwrap();
        let crashed = ended.status.signal() == Some(6);
        assert!(crashed || ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
        scene.ledger = scene.bed.open().await;
        scene.settle(&scene.payer()).await;
        scene.assert_paid_once().await;
        scene.ledger.close().await;
        if !crashed {
            break String::from_utf8(ended.stdout).unwrap();
        }
    };
    let statements: u64 = unharmed.lines().find_map(|line| line.strip_prefix(STATEMENTS)).unwrap().parse().unwrap();
    tell(&format!(
        "crash matrix on {kind:?}: {} points ({statements} after statements, the others before and after requests), {WALLETS} \
         recipients in 2 batches, every balance right after each, {} s",
        at - 1,
        started.elapsed().as_secs()
    ));
    assert!(statements > 50 && at - 1 > statements + 50, "a payout of two batches has more points");
}

/// A payer in a process of its own: run by the matrix.
#[test]
#[ignore = "run by the crash matrix"]
fn payer() {
    let setting: Value = serde_json::from_str(&std::env::var(CHILD).unwrap()).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let text = |name: &str| setting[name].as_str().unwrap().to_owned();
    runtime.block_on(async {
        let ledger = Ledger::open(text("ledger")).await.unwrap();
        // Opening is no part of a payout: points count from here.
        let points = Points::of_this_process(setting["at"].as_u64().unwrap());
        let inner = || HttpTransport::new(&text("rpc"), HttpOptions::default()).unwrap();
        let contract: Address = text("contract").parse().unwrap();
        let config = config(PayoutContract { chain_id: CHAIN_ID, address: contract });
        let chain = Chain::new(Crashing { inner: inner(), points });
        let payer = Payer::new(ledger, chain, Arc::new(key(0)), config, "child");
        while payer.tick(now()).await.unwrap().open > 0 {
            inner().request("evm_mine", json!([])).await.unwrap();
        }
        println!("\n{STATEMENTS}{}", points.passed().1);
    });
}
