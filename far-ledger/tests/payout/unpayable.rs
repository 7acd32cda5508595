//! Recipients to whom a token cannot be sent.

use far_ledger::evm::{Address, At, Fees, Signer, U256, Unsigned};

use crate::{
    anvil::{Anvil, CHAIN_ID},
    both::{Kind, on_both},
    cases::mined_gas,
    scene::{Scene, chain, contracts, earned, number, owner, tell, wallet},
};

on_both!(a_recipient_that_cannot_be_paid);

/// A token that refuses some recipients: the others are paid, theirs waits for them, the batch is settled.
async fn a_recipient_that_cannot_be_paid(kind: Kind) {
    let anvil = chain();
    anvil.fund(owner().address()).await;
    let token = blocking_token(&anvil).await;
    let deployed = contracts(&anvil, Some(token)).await;
    let scene = Scene::on(kind, anvil, deployed, 40).await;
    for index in [0, 17, 39] {
        let mut data = ethers_core::utils::keccak256("block_(address,bool)")[..4].to_vec();
        data.extend([0; 12]);
        data.extend(wallet(index).as_bytes());
        data.extend([0; 31]);
        data.push(1);
        mined_gas(&scene, &owner(), token, data).await;
    }
    scene.settle(&scene.payer()).await;
    let batch = &scene.ledger.payout_batches(1).await.unwrap()[0];
    assert_eq!((batch.status.as_str(), batch.items, batch.credited), ("confirmed", 40, 3));
    for index in 0..40 {
        let expected = U256::from(earned(index).iter().sum::<i64>()) * U256::exp10(9);
        let account = Address::from(*wallet(index).as_bytes());
        let balance = number(&scene.anvil.batch(vec![scene.balance_of(account)]).await[0]);
        let credit = scene.credit_of(account).await;
        let refused = [0, 17, 39].contains(&index);
        assert_eq!((balance, credit), if refused { (U256::zero(), expected) } else { (expected, U256::zero()) });
    }
    tell(&format!("{kind:?}: recipients that cannot be paid: 3 of 40 credited, batch settled"));
}

async fn blocking_token(anvil: &Anvil) -> Address {
    let path = crate::both::artifacts().join("BlockingToken.json");
    let json: serde_json::Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let mut data = hex::decode(json["bytecode"].as_str().unwrap().trim_start_matches("0x")).unwrap();
    data.extend([0; 12]);
    data.extend(owner().address().as_bytes());
    let mut supply = [0; 32];
    U256::exp10(27).to_big_endian(&mut supply);
    data.extend(supply);
    let (chain, owner) = (anvil.chain(), owner());
    let fees = Fees { max_fee: 100_000_000_000, tip: 1_000_000_000 };
    let nonce = chain.nonce(owner.address(), At::Latest).await.unwrap();
    let body = Unsigned { chain_id: CHAIN_ID, nonce, to: None, data, gas: 5_000_000, fees };
    let tx = body.sign(&owner).await.unwrap();
    chain.send(tx.raw(), tx.hash()).await.unwrap();
    anvil.mine(1).await;
    chain.receipt(tx.hash()).await.unwrap().unwrap().contract.unwrap()
}
