//! From an empty chain to a week that is paid, with the commands alone.

use std::collections::BTreeMap;

use far_ledger::Amount;
use serde_json::{Value, json};

use crate::{
    both::{Kind, on_both},
    scene::{BATCH_ITEMS, HOMELESS, NODES, PARTNERS, POOR, SESSIONS, Scene, due, node, wallet},
};

on_both!(a_week_is_paid_once);

fn far(nano: i64) -> String {
    Amount::from_nano(nano).unwrap().to_string()
}

async fn a_week_is_paid_once(kind: Kind) {
    let scene = Scene::new(kind).await;
    deploys(&scene).await;
    plans(&scene).await;

    scene.mine_on().await;
    let paid = scene.json(&["once", "--json"]).await;
    assert_eq!(paid["closed"]["wallets"], json!(due().len()));
    assert_eq!(paid["settled"].as_array().unwrap().len(), due().len().div_ceil(BATCH_ITEMS), "{paid}");
    scene.assert_paid_once().await;
    shows(&scene).await;

    let again = scene.json(&["once", "--json"]).await;
    assert_eq!(again, json!({ "closed": null, "settled": [] }), "nothing is left to pay");
    scene.assert_paid_once().await;
    let next = scene.json(&["plan", "--json"]).await;
    assert_eq!((&next["due"], &next["wallets"]), (&json!(false), &json!(0)), "what carried over waits on");
    assert_eq!(next["carried"].as_array().unwrap().len(), 2);

    let audit = scene.payments(&["audit"]).await;
    assert_eq!((audit.code, audit.stdout.as_str()), (Some(0), "0 differences, in the ledger and against the chain\n"));
    assert_eq!(scene.ledger.audit().await.unwrap(), []);
    exports(&scene).await;
}

/// What it prints is what the settings need.
async fn deploys(scene: &Scene) {
    let deployed = scene.deploy(&[]).await;
    for part in ["the token: sent in 0x", "the payout contract: at 0x", "the allowance: in block", "gas"] {
        assert!(deployed.stderr.contains(part), "{part}: {}", deployed.stderr);
    }
    scene.configure(&deployed.stdout);
    let far = scene.balance(scene.account).await;
    assert_eq!(far.to_string(), "1000000000000000000000000000", "the supply is the treasury's");
}

async fn plans(scene: &Scene) {
    let plan = scene.json(&["plan", "--json"]).await;
    let total: i64 = due().iter().map(|(_, nano)| nano).sum();
    assert_eq!((&plan["due"], &plan["wallets"]), (&json!(true), &json!(due().len())));
    assert_eq!((&plan["total_far"], &plan["problems"]), (&json!(far(total)), &json!([])));
    assert!(plan["gas"].as_u64().unwrap() > 30_000 * due().len() as u64 / 2, "{plan}");
    let batches = plan["batches"].as_array().unwrap();
    let items: Vec<&Value> = batches.iter().flat_map(|batch| batch["items"].as_array().unwrap()).collect();
    let planned: BTreeMap<&str, &str> =
        items.iter().map(|item| (item["wallet"].as_str().unwrap(), item["amount_far"].as_str().unwrap())).collect();
    assert_eq!(batches.len(), due().len().div_ceil(BATCH_ITEMS));
    for (wallet, nano) in due() {
        assert_eq!(planned[wallet.to_string().as_str()], far(nano));
    }
    let shared = items.iter().find(|item| item["wallet"] == json!(wallet(PARTNERS[0])));
    assert_eq!(shared.unwrap()["nodes"], json!(PARTNERS.map(node)));
    let why: BTreeMap<&str, &str> = plan["carried"]
        .as_array()
        .unwrap()
        .iter()
        .map(|carried| (carried["node_id"].as_str().unwrap(), carried["why"].as_str().unwrap()))
        .collect();
    let expected = [(node(POOR), "below_minimum"), (node(HOMELESS), "no_wallet")];
    assert_eq!(why, expected.iter().map(|(node, why)| (node.as_str(), *why)).collect());
    let text = scene.payments(&["plan", "--minimum", "0"]).await;
    assert!(text.stdout.contains(&format!("{} wallets in 3 batches", due().len() + 1)), "{}", text.stdout);
    scene.assert_untouched().await;
}

async fn shows(scene: &Scene) {
    let status = scene.json(&["status", "--json"]).await;
    assert_eq!(status["alerts"], json!([]));
    assert_eq!((&status["totals"][0]["status"], &status["totals"][0]["batches"]), (&json!("confirmed"), &json!(3)));
    for batch in status["batches"].as_array().unwrap() {
        assert!(batch["tx_hash"].as_str().unwrap().starts_with("0x") && batch["block_number"].as_u64() > Some(0));
    }
    let (rich, nano) = due()[1];
    let index = (0..NODES).find(|index| wallet(*index) == Some(rich)).unwrap();
    let of_node = scene.json(&["status", "--node", &node(index), "--json"]).await;
    assert_eq!((&of_node["paid_far"], &of_node["unpaid_far"]), (&json!(far(nano)), &json!("0")));
    let payment = &of_node["payments"][0];
    assert_eq!((&payment["amount_far"], &payment["status"]), (&json!(far(nano)), &json!("confirmed")));
    let batches = status["batches"].as_array().unwrap();
    assert!(
        batches.iter().any(|batch| batch["tx_hash"] == payment["tx_hash"] && batch["batch_id"] == payment["batch_id"])
    );
    // Two nodes, one wallet: each node sees its part, the wallet the sum.
    let shared = wallet(PARTNERS[0]).unwrap().to_string();
    let of_wallet = scene.json(&["status", "--wallet", &shared, "--json"]).await;
    assert_eq!(of_wallet["nodes"], json!(PARTNERS.map(node)));
    assert_eq!(
        (&of_wallet["paid_far"], &of_wallet["payments"][0]["credited"]),
        (&json!(far(due()[0].1)), &json!(false))
    );
    let table = scene.payments(&["status"]).await.stdout;
    assert_eq!(table.matches(" confirmed ").count(), 3, "{table}");
    let nobody = scene.payments(&["status", "--node", "nobody"]).await;
    assert!(nobody.code == Some(1) && nobody.stderr.contains("nobody is not in the ledger"), "{}", nobody.stderr);
}

async fn exports(scene: &Scene) {
    let all = scene.payments(&["export"]).await;
    assert_eq!(all.stdout.lines().count(), 1 + NODES * SESSIONS, "a header and a line for each contribution");
    let none = scene.payments(&["export", "--from", "2010-01-01", "--to", "2010-02-01"]).await;
    assert_eq!(none.stdout.lines().count(), 1);
    let file = scene.dir.path().join("node.csv");
    let line = ["export", "--node", &node(5), "--output", file.to_str().unwrap()];
    assert_eq!(scene.payments(&line).await.code, Some(0));
    let text = std::fs::read_to_string(&file).unwrap();
    assert!(text.lines().count() == 1 + SESSIONS && text.lines().skip(1).all(|line| line.contains("node-05")));
    let again = scene.payments(&line).await;
    assert!(again.code == Some(1) && again.stderr.contains("node.csv"), "nothing is written over: {}", again.stderr);
}
