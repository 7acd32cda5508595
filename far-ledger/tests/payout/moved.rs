//! A ledger whose payouts move to another chain.

use std::sync::Arc;

use far_ledger::{
    evm::{Address, Depth, U256},
    payout::{Payer, PayoutContract, reconcile},
};
use serde_json::json;

use crate::{
    anvil::{Anvil, CHAIN_ID},
    both::{Kind, on_both},
    scene::{DEPTH, Scene, config, contracts, earn_before, earned, key, number, tell, wallet, weeks_later},
};

on_both!(a_key_begins_anew_on_another_chain);

async fn a_key_begins_anew_on_another_chain(kind: Kind) {
    let scene = Scene::new(kind, 40).await;
    scene.settle(&scene.payer()).await;
    scene.assert_paid_once().await;

    let other = Anvil::start(CHAIN_ID + 1, Some(weeks_later(1)));
    let deployed = contracts(&other, None).await;
    earn_before(&scene.ledger, 40, weeks_later(1).before(std::time::Duration::from_secs(3600)), "next").await;
    let contract = PayoutContract { chain_id: CHAIN_ID + 1, address: deployed.payout };
    let payer =
        Payer::new(scene.ledger.clone(), other.chain(), Arc::new(key(0)), config(contract), "payer on the other chain");
    for _ in 0..40 {
        if payer.tick(weeks_later(1)).await.unwrap().open == 0 {
            break;
        }
        other.mine(1).await;
    }
    assert!(scene.ledger.payout_batches(2).await.unwrap().iter().all(|batch| batch.status == "confirmed"));
    let balance = |index: usize| {
        let account = Address::from(*wallet(index).as_bytes());
        json!({"to": deployed.token, "data": format!("0x{}", hex::encode(far_ledger::evm::token::balance_of(account)))})
    };
    for (index, answer) in other.batch((0..40).map(balance).collect()).await.iter().enumerate() {
        assert_eq!(number(answer), U256::from(earned(index).iter().sum::<i64>()) * U256::exp10(9), "wallet {index}");
    }
    assert_eq!(reconcile(&scene.ledger, &other.chain(), &contract, Depth::Blocks(DEPTH), 0).await.unwrap(), []);
    scene.assert_chain().await;
    let mut reader = scene.bed.other().await;
    for chain in [CHAIN_ID, CHAIN_ID + 1] {
        let first = format!("SELECT MIN(nonce) FROM nonce_owner WHERE chain_id = {chain}");
        assert_eq!(reader.number(&first).await, Some(0), "{chain}");
    }
    tell(&format!("{kind:?}: the same key on another chain the week after: paid on each chain what was earned for it"));
}
