//! What a coordinator tells of itself, its mesh and its sessions.

use std::collections::BTreeSet;

use far_mesh_tests::Testnet;
use reqwest::Method;
use serde_json::{Value, json};

use super::{
    text::{MODEL, PROMPT},
    wire::Wire,
};

#[tokio::test]
async fn the_state_of_a_real_mesh_is_told() {
    let net = Testnet::start(3).await;
    let wire = Wire::new(&net);
    let health = wire.get("/health").await;
    assert_eq!(
        (&health["status"], &health["mesh"]["ok"], &health["ledger"]["ok"]),
        (&json!("ok"), &json!(true), &json!(true))
    );

    let status = wire.get("/mesh/status").await;
    assert_eq!(
        (&status["nodes"], &status["live_sessions"], &status["price_per_token_far"]),
        (&json!(3), &json!(0), &json!("0.0001"))
    );
    let model = &status["models"][0];
    assert_eq!((&model["id"], &model["layers"], &model["complete"]), (&json!(MODEL), &json!(30), &json!(true)));
    let layers: u64 = model["coverage"]
        .as_array()
        .unwrap()
        .iter()
        .map(|run| {
            assert_eq!(run["nodes"], 1, "{model}");
            run["layers"][1].as_u64().unwrap() + 1 - run["layers"][0].as_u64().unwrap()
        })
        .sum();
    assert_eq!(layers, 30, "{model}");

    let models = wire.get("/models").await;
    assert_eq!(models["models"].as_array().unwrap().len(), 1);
    assert_eq!((&models["models"][0]["id"], &models["models"][0]["context_tokens"]), (&json!(MODEL), &json!(8192)));
    let nodes = wire.get(&format!("/models/{MODEL}/nodes")).await;
    let nodes = nodes["nodes"].as_array().unwrap();
    let served: Vec<_> = nodes.iter().map(|node| &node["layers"]).collect();
    assert_eq!(served, [&json!([0, 9]), &json!([10, 19]), &json!([20, 29])]);
    let told: BTreeSet<_> = nodes.iter().map(|node| node["node_id"].as_str().unwrap()).collect();
    assert_eq!(told, net.mesh.providers().iter().map(|part| part.ready.peer_id.as_str()).collect());

    let listed = wire.get("/v1/models").await;
    assert_eq!((&listed["object"], &listed["data"][0]["id"]), (&json!("list"), &json!(MODEL)));
    assert_eq!(wire.get(&format!("/v1/models/{MODEL}")).await["object"], "model");
    net.stop().await;
}

#[tokio::test]
async fn tokens_a_second_and_sessions_are_counted() {
    let net = Testnet::start(1).await;
    let wire = Wire::new(&net);
    assert_eq!(wire.get("/mesh/status").await["tokens_per_second"], 0.0);
    let answer =
        wire.whole("/api/inference/chat", json!({ "prompt": PROMPT, "max_tokens": 20, "temperature": 0 })).await;
    let status = wire.get("/mesh/status").await;
    assert!(status["tokens_per_second"].as_f64().unwrap() > 0.0 && status["live_sessions"] == 0, "{status}");
    assert_eq!(answer["contributions"].as_array().unwrap().len(), 1, "one node did it all");
    let unknown = wire.send(Method::GET, &format!("/sessions/{}", "0".repeat(32)), "").await;
    assert_eq!((unknown.status, &unknown.json()["error"]["code"]), (404, &json!("session_not_found")));
    net.stop().await;
}

#[tokio::test]
async fn without_providers_it_says_which_layers_no_one_serves() {
    let mut net = Testnet::start(2).await;
    let wire = Wire::new(&net);
    let lost = net.mesh.providers_mut().remove(1);
    let status = lost.stop(std::time::Duration::from_secs(10)).await;
    assert_eq!(
        status.and_then(|status| status.code()),
        Some(0),
        "a provider that is asked to end withdraws and exits well"
    );
    let health: Value = super::process::until("the coordinator hears that the provider is gone", async || {
        let answer = wire.send(Method::GET, "/health", "").await;
        (answer.status == 503).then(|| answer.json())
    })
    .await;
    assert!(health["mesh"]["detail"].as_str().unwrap().contains("15..30"), "{health}");
    let refused = wire.post("/inference/generate", json!({ "prompt": "x" })).await;
    let error = &refused.json()["error"];
    assert_eq!((refused.status, &error["code"]), (503, &json!("layers_not_served")));
    assert!(error["message"].as_str().unwrap().contains("15..30") && refused.headers.contains_key("retry-after"));
    net.stop().await;
}
