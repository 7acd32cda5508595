//! Too little to pay from is said before, while and after somebody tries.

use far_ledger::evm::{Address, U256, token};

use crate::{
    both::{Kind, on_both},
    scene::Scene,
};

on_both!(a_short_allowance_is_said_and_holds_nothing_up_once_it_is_raised);

async fn a_short_allowance_is_said_and_holds_nothing_up_once_it_is_raised(kind: Kind) {
    let scene = Scene::new(kind).await;
    let deployed = scene.deploy(&["--allowance", "1"]).await;
    scene.configure(&deployed.stdout);

    let plan = scene.json(&["plan", "--json"]).await;
    let problem = plan["problems"][0].as_str().unwrap();
    assert!(problem.contains("may take 1 FAR") && problem.contains("approve(0x"), "{problem}");

    scene.mine_on().await;
    let tried = scene.payments(&["once"]).await;
    assert_eq!(tried.code, Some(1), "{}", tried.stdout);
    assert!(
        tried.stderr.contains("nothing can be paid now") && tried.stderr.contains("has approved the contract"),
        "{}",
        tried.stderr
    );
    let status = scene.json(&["status", "--json"]).await;
    assert_eq!(status["totals"][0]["status"], "planned");
    assert!(status["alerts"][0].as_str().unwrap().contains("may take 1 FAR"), "{status}");

    let contract: Address = scene.setting("payout_contract").parse().unwrap();
    scene.send(scene.account, scene.token(), token::approve(contract, U256::exp10(27))).await;
    let paid = scene.payments(&["once"]).await;
    assert_eq!(paid.code, Some(0), "{}", paid.stderr);
    scene.assert_paid_once().await;
    assert_eq!(scene.payments(&["audit"]).await.code, Some(0));
}
