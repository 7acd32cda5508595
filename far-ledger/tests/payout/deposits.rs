//! Users' deposits: credited once, to the right account, when they are deep.

use far_ledger::{
    WalletAddress,
    deposit::{Inbox, Scan, ScanError, Why, scan},
    evm::{Address, Depth, Signer, U256, token},
};

use crate::{
    anvil::CHAIN_ID,
    both::{Kind, on_both},
    cases::mined_gas,
    scene::{DEPTH, Scene, key, now, owner, tell},
};

on_both!(a_deposit_is_credited_once_when_it_is_deep);

async fn a_deposit_is_credited_once_when_it_is_deep(kind: Kind) {
    let scene = Scene::new(kind, 1).await;
    let (user, stranger, inbox) = (key(1), key(2), key(0).address());
    let far = scene.deployed.token;
    for holder in [&user, &stranger] {
        mined_gas(&scene, &owner(), far, token::transfer(holder.address(), U256::exp10(20))).await;
    }
    scene.ledger.create_account("alice", now()).await.unwrap();
    let wallet = WalletAddress::from_bytes(user.address().0).unwrap();
    scene.ledger.link_wallet("alice", wallet).await.unwrap();
    let inbox = Inbox { chain_id: CHAIN_ID, token: far, address: inbox, depth: Depth::Blocks(DEPTH) };
    let look =
        async |from: u64| -> Scan { scan(&scene.ledger, &scene.anvil.chain(), &inbox, from, now()).await.unwrap() };
    let balance = async || scene.ledger.account("alice").await.unwrap().unwrap().balance.to_string();
    let send = async |from: &dyn Signer, units: U256| {
        mined_gas(&scene, from, far, token::transfer(inbox.address, units)).await;
    };

    send(&user, U256::exp10(18) * 5 + 1).await;
    scene.anvil.mine(DEPTH - 1).await;
    let early = look(0).await;
    assert!(early.credited.is_empty() && early.unclaimed.is_empty(), "not deep yet");
    scene.anvil.mine(1).await;
    let deep = look(early.next_block).await;
    assert_eq!((deep.credited.len(), balance().await.as_str()), (1, "5"));
    assert_eq!(deep.credited[0].from, wallet);
    let again = look(0).await;
    assert_eq!((again.credited.len(), again.known, balance().await.as_str()), (0, 1, "5"));

    // One that a reorganisation takes back before it is deep is never credited.
    send(&user, U256::exp10(18)).await;
    scene.anvil.mine(1).await;
    scene.anvil.reorganise(2).await;
    scene.anvil.mine(DEPTH).await;
    assert_eq!((look(0).await.credited.len(), balance().await.as_str()), (0, "5"));

    // Two more, a stranger's, and dust.
    send(&user, U256::exp10(18)).await;
    send(&user, U256::exp10(9)).await;
    send(&stranger, U256::exp10(18)).await;
    send(&user, U256::from(9)).await;
    scene.anvil.mine(DEPTH).await;
    let last = look(deep.next_block).await;
    assert_eq!((last.credited.len(), balance().await.as_str()), (2, "6.000000001"));
    let why: Vec<_> = last.unclaimed.iter().map(|unclaimed| (unclaimed.transfer.from, unclaimed.why)).collect();
    assert_eq!(why, [(stranger.address(), Why::NoAccount), (user.address(), Why::NoAmount)]);
    assert_eq!(scene.ledger.audit().await.unwrap(), []);

    // The wallet becomes another account's: what it sent before stays where it is, and does not hold up what comes.
    scene.ledger.link_wallet("alice", WalletAddress::from_bytes([7; 20]).unwrap()).await.unwrap();
    scene.ledger.create_account("bob", now()).await.unwrap();
    scene.ledger.link_wallet("bob", wallet).await.unwrap();
    send(&user, U256::exp10(18) * 3).await;
    scene.anvil.mine(DEPTH).await;
    let moved = look(0).await;
    assert_eq!((moved.credited.len(), moved.known, balance().await.as_str()), (1, 3, "6.000000001"));
    assert_eq!(scene.ledger.account("bob").await.unwrap().unwrap().balance.to_string(), "3");

    let elsewhere = Inbox { chain_id: 1, ..inbox };
    let refused = scan(&scene.ledger, &scene.anvil.chain(), &elsewhere, 0, now()).await;
    assert!(matches!(refused, Err(ScanError::OtherChain { found: CHAIN_ID, expected: 1 })), "{refused:?}");
    let nobody = Inbox { address: Address::repeat_byte(1), ..inbox };
    assert!(scan(&scene.ledger, &scene.anvil.chain(), &nobody, 0, now()).await.unwrap().credited.is_empty());
    tell(&format!("{kind:?}: deposits: 4 credited once, early, reorganised, a stranger's and dust not"));
}
