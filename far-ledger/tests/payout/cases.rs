//! One payer, and a chain that does not do as it should.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use far_ledger::{
    evm::{Address, At, Call, Fees, Signer, U256, Unsigned, token},
    payout::{Alert, PayError, Payer, PayoutContract, Why},
};
use serde_json::json;

use crate::{
    anvil::CHAIN_ID,
    both::{Kind, on_both},
    faults::{Lossy, Mute},
    scene::{BATCH_ITEMS, DEPTH, Scene, config, contracts, earned, epoch, key, now, owner, tell, wallet, weeks_later},
};

on_both!(
    a_week_is_paid_and_the_next_costs_what_it_should,
    lost_answers,
    a_wiped_mempool,
    a_foreign_transaction_on_the_nonce,
    a_foreign_transaction_that_goes_away_again,
    reorganisations,
    a_stuck_fee,
    a_wrong_chain_and_a_wrong_contract,
    a_treasury_that_runs_dry,
    who_waits_for_the_next_week,
);

/// 400 wallets in 2 batches, then one more week for the same wallets: gas of new and of existing holders.
async fn a_week_is_paid_and_the_next_costs_what_it_should(kind: Kind) {
    let scene = Scene::new(kind, 400).await;
    let payer = scene.payer();
    let plan = payer.plan(now()).await.unwrap();
    assert_eq!((plan.plan.wallets(), plan.plan.batches.len(), plan.closed), (400, 2, false));
    assert_eq!(plan.plan.total().unwrap().nano(), (0..400).flat_map(earned).sum::<i64>());
    assert!(plan.is_payer && plan.gas.iter().all(Result::is_ok) && plan.funds.allowance == U256::exp10(27));
    assert!(scene.ledger.payout_batches(1).await.unwrap().is_empty(), "a plan writes nothing");

    let tick = scene.step(&payer).await;
    assert_eq!((tick.closed.unwrap().plan.wallets(), tick.open, tick.signed.len()), (400, 2, 2));
    let ticks = scene.settle(&payer).await;
    scene.assert_paid_once().await;
    let tick = payer.tick(now()).await.unwrap();
    assert!(tick.closed.is_none() && tick.signed.is_empty(), "an epoch is closed once");

    let chain = scene.anvil.chain();
    let mut gas = Vec::new();
    for batch in scene.ledger.payout_batches(10).await.unwrap() {
        let receipt = chain.receipt(batch.tx_hash.unwrap().parse().unwrap()).await.unwrap().unwrap();
        gas.push(receipt.gas_used / BATCH_ITEMS as u64);
    }
    // The same recipients hold FAR now.
    let again = plan.plan.batches[0].items.clone();
    let data = far_ledger::evm::payout::pay(far_ledger::evm::H256::repeat_byte(7), &far_ledger::payout::pack(&again));
    let existing = mined_gas(&scene, &key(0), scene.deployed.payout, data).await / again.len() as u64;
    let mut single = 0;
    for item in &again {
        let data = token::transfer(Address::from(*item.wallet.as_bytes()), U256::from(item.units()));
        single += mined_gas(&scene, &owner(), scene.deployed.token, data).await;
    }
    tell(&format!(
        "{kind:?}: 400 recipients in 2 batches settled in {ticks} ticks; gas an item: {} new holder, {existing} existing holder \
         (batch of 200); {} for a single transfer, {single} for 200 of them",
        gas[0],
        single / again.len() as u64,
    ));
    assert!(existing <= 9_600, "{existing} gas for an existing holder");
}

/// Gas that a call really took.
pub(crate) async fn mined_gas(scene: &Scene, signer: &dyn Signer, to: Address, data: Vec<u8>) -> u64 {
    let tx = send(scene, signer, to, data, None).await;
    scene.anvil.mine(1).await;
    let receipt = scene.anvil.chain().receipt(tx).await.unwrap().unwrap();
    assert!(receipt.succeeded);
    receipt.gas_used
}

/// What the contract may take from the treasury.
pub(crate) async fn allow(scene: &Scene, units: U256) {
    mined_gas(scene, &owner(), scene.deployed.token, token::approve(scene.deployed.payout, units)).await;
}

/// Somebody else's transaction; on the next nonce, or on a given one.
async fn send(
    scene: &Scene,
    signer: &dyn Signer,
    to: Address,
    data: Vec<u8>,
    nonce: Option<u64>,
) -> far_ledger::evm::H256 {
    let chain = scene.anvil.chain();
    let nonce = match nonce {
        Some(nonce) => nonce,
        None => chain.nonce(signer.address(), At::Latest).await.unwrap(),
    };
    let call = Call { from: Some(signer.address()), to: Some(to), data: data.clone() };
    let gas = chain.estimate_gas(&call).await.unwrap() + 100_000;
    let fees = Fees { max_fee: 100_000_000_000, tip: 50_000_000_000 };
    let body = Unsigned { chain_id: CHAIN_ID, nonce, to: Some(to), data, gas, fees };
    let tx = body.sign(signer).await.unwrap();
    chain.send(tx.raw(), tx.hash()).await.unwrap();
    tx.hash()
}

async fn lost_answers(kind: Kind) {
    let mut cases = 0;
    let mut lost_in_all = 0;
    for only in [None, Some("eth_sendRawTransaction"), Some("eth_getTransactionReceipt"), Some("eth_call")] {
        for every in [2, 3, 5] {
            let scene = Scene::new(kind, 30).await;
            let lost = Arc::new(AtomicU64::new(0));
            let lossy =
                Lossy { inner: scene.anvil.transport(), every, only, counted: AtomicU64::new(0), lost: lost.clone() };
            let payer = scene.payer_over(lossy, &scene.ledger, 0);
            settle_slowly(&scene, &payer).await;
            scene.assert_paid_once().await;
            assert!(lost.load(Ordering::SeqCst) > 0);
            lost_in_all += lost.load(Ordering::SeqCst);
            cases += 1;
        }
    }
    // A node that takes nothing: the payment waits, and goes out as soon as one takes it.
    let scene = Scene::new(kind, 30).await;
    let mute = scene.payer_over(Mute(scene.anvil.transport()), &scene.ledger, 0);
    for _ in 0..8 {
        scene.step(&mute).await;
    }
    assert_eq!(scene.ledger.payout_batches(1).await.unwrap()[0].status, "signed");
    scene.settle(&scene.payer()).await;
    scene.assert_paid_once().await;
    tell(&format!("{kind:?}: lost answers: {} cases, {lost_in_all} answers lost", cases + 1));
}

/// As [`Scene::settle`], with as many ticks as a transport that fails half the time needs.
async fn settle_slowly(scene: &Scene, payer: &Payer) {
    for _ in 0..2_000 {
        if payer.tick(now()).await.is_ok_and(|tick| tick.open == 0) {
            return;
        }
        scene.anvil.mine(1).await;
    }
    panic!("stalled: {:#?}", scene.ledger.payout_batches(10).await.unwrap());
}

/// The node forgets what waits: before each block, and before a block once in a while.
async fn a_wiped_mempool(kind: Kind) {
    for wiped in [1, 2, 3] {
        let scene = Scene::new(kind, 400).await;
        let payer = scene.payer();
        for _ in 0..wiped {
            payer.tick(now()).await.unwrap();
            scene.anvil.forget_waiting().await;
            scene.anvil.mine(1).await;
        }
        scene.settle(&payer).await;
        scene.assert_paid_once().await;
    }
    tell(&format!("{kind:?}: wiped mempool: 3 cases"));
}

async fn a_foreign_transaction_on_the_nonce(kind: Kind) {
    for taken in [1, 2, 4] {
        let scene = Scene::new(kind, 400).await;
        let payer = scene.payer();
        payer.tick(now()).await.unwrap();
        scene.anvil.forget_waiting().await;
        // The same key is used elsewhere: on the nonces of one batch, of both, and beyond.
        for nonce in 0..taken {
            send(&scene, &key(0), owner().address(), vec![], Some(nonce)).await;
        }
        scene.anvil.mine(1).await;
        scene.settle(&payer).await;
        scene.assert_paid_once().await;
    }
    tell(&format!("{kind:?}: foreign transaction on the nonce: 3 cases"));
}

/// A foreign transaction is mined before ours are signed and a reorganisation takes it back: a gap that nobody fills.
async fn a_foreign_transaction_that_goes_away_again(kind: Kind) {
    let scene = Scene::new(kind, 400).await;
    let payer = scene.payer();
    send(&scene, &key(0), owner().address(), vec![], None).await;
    scene.anvil.mine(1).await;
    let tick = payer.tick(now()).await.unwrap();
    assert_eq!(tick.signed.len(), 2);
    scene.anvil.forget_waiting().await;
    scene.anvil.reorganise(1).await;
    let chain = scene.anvil.chain();
    assert_eq!(chain.nonce(key(0).address(), At::Latest).await.unwrap(), 0, "the foreign transaction is gone");
    scene.settle(&payer).await;
    scene.assert_paid_once().await;
    tell(&format!("{kind:?}: gap below our nonces after a reorganisation: closed"));
}

/// Reorganisations of depth 1 to 3 at every stage between mined and settled, and several in a row.
async fn reorganisations(kind: Kind) {
    let mut cases = 0;
    for depth in 1..DEPTH {
        for after in 1..=DEPTH {
            let scene = Scene::new(kind, 40).await;
            let payer = scene.payer();
            for _ in 0..after {
                scene.step(&payer).await;
            }
            scene.anvil.reorganise(depth).await;
            scene.step(&payer).await;
            scene.anvil.reorganise(depth).await;
            scene.settle(&payer).await;
            scene.assert_paid_once().await;
            cases += 1;
        }
    }
    tell(&format!("{kind:?}: reorganisations of depth 1 to 3: {cases} cases"));
}

/// The base fee rises above what was signed and stays there.
async fn a_stuck_fee(kind: Kind) {
    let scene = Scene::new(kind, 400).await;
    let payer = scene.payer();
    let high = json!(["0x12a05f2000"]);
    payer.tick(now()).await.unwrap();
    let mut bumped = 0;
    for _ in 0..12 {
        scene.anvil.tell("anvil_setNextBlockBaseFeePerGas", high.clone()).await;
        scene.anvil.mine(1).await;
        bumped += payer.tick(now()).await.unwrap().signed.len();
    }
    scene.settle(&payer).await;
    scene.assert_paid_once().await;
    assert!((1..=4).contains(&bumped), "{bumped} bumps in 12 blocks with a patience of 3");

    // Above the cap: nothing is signed, the operator is told, and once the chain is cheaper it goes on.
    let scene = Scene::new(kind, 400).await;
    let payer = scene.payer();
    payer.tick(now()).await.unwrap();
    let mut alerts = 0;
    for _ in 0..12 {
        scene.anvil.tell("anvil_setNextBlockBaseFeePerGas", json!(["0xe8d4a51000"])).await;
        scene.anvil.mine(1).await;
        let tick = payer.tick(now()).await.unwrap();
        alerts += tick.alerts.iter().filter(|alert| matches!(alert, Alert::FeeCap { .. })).count();
    }
    assert!(alerts > 0, "an operator is told of a cap");
    scene.anvil.tell("anvil_setNextBlockBaseFeePerGas", json!(["0x3b9aca00"])).await;
    scene.settle(&payer).await;
    scene.assert_paid_once().await;
    tell(&format!("{kind:?}: stuck fee: {bumped} bumps, then paid; above the cap: {alerts} alerts, then paid"));
}

async fn a_wrong_chain_and_a_wrong_contract(kind: Kind) {
    let scene = Scene::new(kind, 40).await;
    let payer = |contract| {
        let chain = scene.anvil.chain();
        Payer::new(scene.ledger.clone(), chain, Arc::new(key(0)), config(contract), "payer")
    };
    let untouched = async || {
        assert!(scene.ledger.payout_batches(1).await.unwrap().is_empty(), "no epoch was closed");
        assert_eq!(scene.anvil.chain().nonce(key(0).address(), At::Latest).await.unwrap(), 0);
    };
    let other_chain = payer(PayoutContract { chain_id: 1, ..scene.contract() }).tick(now()).await;
    assert!(matches!(other_chain, Err(PayError::OtherChain { found: CHAIN_ID, expected: 1 })), "{other_chain:?}");
    untouched().await;
    for nothing in [Address::repeat_byte(9), scene.deployed.token] {
        let no_contract = payer(PayoutContract { address: nothing, ..scene.contract() }).tick(now()).await;
        assert!(matches!(no_contract, Err(PayError::NoContract { .. })), "{no_contract:?}");
        untouched().await;
    }
    // An epoch belongs to the contract it was closed for: with another one a batch could be paid twice.
    scene.step(&payer(scene.contract())).await;
    let second = contracts(&scene.anvil, None).await;
    let other = payer(PayoutContract { address: second.payout, ..scene.contract() }).tick(now()).await;
    assert!(matches!(other, Err(PayError::OtherContract { .. })), "{other:?}");
    // Nor does the other one close the next week meanwhile: then neither could go on.
    scene.anvil.mine_at(weeks_later(1)).await;
    let other = payer(PayoutContract { address: second.payout, ..scene.contract() }).tick(weeks_later(1)).await;
    assert!(matches!(other, Err(PayError::OtherContract { .. })), "{other:?}");
    scene.settle(&payer(scene.contract())).await;
    scene.assert_ledger(&scene.ledger).await;
    tell(&format!("{kind:?}: wrong chain, wrong contract: 4 cases refused"));
}

/// The allowance does not last: what is covered is paid, the rest waits without burning gas, and goes on.
async fn a_treasury_that_runs_dry(kind: Kind) {
    let scene = Scene::new(kind, 400).await;
    let payer = scene.payer();
    let first: i64 = (0..200).flat_map(earned).sum();
    allow(&scene, U256::from(first) * U256::exp10(9)).await;
    let mut alerts = 0;
    for _ in 0..12 {
        alerts += scene.step(&payer).await.alerts.len();
    }
    assert!(alerts > 0, "an operator is told");
    let status =
        |batches: &[far_ledger::payout::BatchStatus]| batches.iter().map(|b| b.status.clone()).collect::<Vec<_>>();
    assert_eq!(status(&scene.ledger.payout_batches(2).await.unwrap())[1], "confirmed");
    allow(&scene, U256::exp10(27)).await;
    scene.settle(&payer).await;
    scene.assert_paid_once().await;
    tell(&format!("{kind:?}: allowance for one batch of two: second waited, {alerts} alerts, then paid"));
}

async fn who_waits_for_the_next_week(kind: Kind) {
    let scene = Scene::new(kind, 3).await;
    // Node 0 has no wallet any more that is one, node 1 is below a minimum, and a session of this week is nobody's yet.
    let mut other = scene.bed.other().await;
    other.run("UPDATE far_nodes SET wallet_address = '0x123' WHERE node_id = 'node-0000'").await.unwrap();
    other
        .run("UPDATE far_mesh_sessions SET completed_at = completed_at + 7200000 WHERE id = 'session-1'")
        .await
        .unwrap();
    let mut config = config(scene.contract());
    config.rules.minimum = far_ledger::Amount::from_nano(earned(1)[0] + 1).unwrap();
    let payer = Payer::new(scene.ledger.clone(), scene.anvil.chain(), Arc::new(key(0)), config, "payer");
    let tick = payer.tick(now()).await.unwrap();
    let plan = tick.closed.unwrap().plan;
    assert_eq!(plan.wallets(), 1);
    let why =
        |index: usize| plan.carried.iter().find(|c| c.node_id == format!("node-{index:04}")).map(|c| c.why.clone());
    assert_eq!((why(0), why(1)), (Some(Why::BadWallet("0x123".into())), Some(Why::BelowMinimum)));
    scene.settle(&payer).await;
    let mut reader = scene.bed.other().await;
    let mut unpaid = async |index: usize| {
        let sum = format!("SELECT unpaid_far FROM node_earnings_summary WHERE node_id = 'node-{index:04}'");
        reader.number(&sum).await.unwrap()
    };
    assert_eq!(unpaid(0).await, earned(0).iter().sum::<i64>());
    assert_eq!(unpaid(1).await, earned(1).iter().sum::<i64>());
    assert_eq!(unpaid(2).await, earned(2)[1], "its session of this week waits");
    // Three weeks later, with a lower minimum, once: everything that is due, the missed weeks together.
    other
        .run(&format!("UPDATE far_nodes SET wallet_address = '{}' WHERE node_id = 'node-0000'", wallet(0)))
        .await
        .unwrap();
    let payer = scene.payer();
    let weeks = weeks_later(3);
    scene.anvil.mine_at(weeks).await;
    let tick = payer.tick(weeks).await.unwrap();
    assert_eq!(tick.closed.unwrap().epoch.number(), epoch().number() + 3);
    while payer.tick(weeks).await.unwrap().open > 0 {
        scene.anvil.mine(1).await;
    }
    assert_eq!(unpaid(0).await, 0);
    assert_eq!(unpaid(1).await, 0);
    // Below the minimum alone.
    assert_eq!(unpaid(2).await, earned(2)[1]);
    assert!(payer.tick(weeks).await.unwrap().closed.is_none());
    tell(&format!("{kind:?}: bad wallet, balance below the minimum, a missed week: carried over and caught up once"));
}
