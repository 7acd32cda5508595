//! The service: pays, credits deposits and ends when it is asked to.

use far_ledger::{
    UnixMillis, WalletAddress,
    evm::{Address, U256, token},
};
use serde_json::Value;

use crate::{
    both::{Kind, on_both},
    process::{Running, until},
    scene::Scene,
};

on_both!(a_service_pays_and_credits_deposits);

async fn a_service_pays_and_credits_deposits(kind: Kind) {
    let scene = Scene::deployed(kind).await;
    let (user, inbox) = (Address::repeat_byte(0x71), Address::repeat_byte(0x72));
    scene.ledger.create_account("alice", UnixMillis::now()).await.unwrap();
    scene.ledger.link_wallet("alice", WalletAddress::from_bytes(user.0).unwrap()).await.unwrap();
    scene.mine_on().await;

    let inbox_text = format!("{inbox:?}");
    let line = ["run", "--json", "--deposit-address", inbox_text.as_str()];
    let (mut first, second) = (Running::start(scene.command(&line)), Running::start(scene.command(&["run"])));
    let ready: Value = serde_json::from_str(&first.line().await.unwrap()).unwrap();
    assert_eq!((ready["event"].as_str(), ready["role"].as_str()), (Some("ready"), Some("payments")));
    assert_eq!(ready["payer"].as_str().unwrap(), format!("{:?}", scene.account));

    until("all batches are settled", async || {
        let batches = scene.ledger.payout_batches(10).await.unwrap();
        (batches.len() == 3 && batches.iter().all(|batch| batch.status == "confirmed")).then_some(())
    })
    .await;
    scene.assert_paid_once().await;

    scene.send(scene.account, scene.token(), token::transfer(user, U256::exp10(19))).await;
    until("the user has FAR", async || (scene.balance(user).await == U256::exp10(19)).then_some(())).await;
    scene.send(user, scene.token(), token::transfer(inbox, U256::exp10(18) * 4)).await;
    until("the deposit is credited", async || {
        let alice = scene.ledger.account("alice").await.unwrap().unwrap();
        (alice.balance.to_string() == "4").then_some(())
    })
    .await;

    // Whichever has the lease, both end well.
    for service in [first, second] {
        service.interrupt().await;
        let (status, log) = service.end().await;
        assert!(status.success(), "{status}: {log}");
    }
    assert_eq!(scene.ledger.audit().await.unwrap(), []);
    assert_eq!(scene.payments(&["audit"]).await.code, Some(0));
}
