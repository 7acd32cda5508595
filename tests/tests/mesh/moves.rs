//! A provider that moves to layers nobody serves, while its sessions go on.

use std::time::Duration;

use far_mesh_client::schema::GenerateRequest;
use far_mesh_core::{
    hop::{Hop, HopError, Rows},
    model::{Precision, Source},
    shard::{Batching, DeviceChoice, Load, plan_span},
};
use far_mesh_node::local::Part;
use serde_json::Value;

use crate::{
    drive::{Driver, opening, prompts},
    net::{Mesh, PATIENCE, THIRDS, hop, route},
    process::{get, until, within},
};

/// Longest for a move on a busy machine: a look, loading, its trial, and the pause until coordinators know.
const A_MOVE: Duration = Duration::from_secs(120);

/// The least memory that holds a third of the model with the room of one session, as `--max-memory` is written.
fn memory_of_a_third() -> String {
    let source = Source::open(far_mesh_tests::model()).unwrap();
    let device = DeviceChoice::Cpu;
    let load = Load { device, precision: Precision::Packed, arena_tokens: 2048, batching: Batching::of(device) };
    let fits = |mib: &u64| plan_span(&source, &load, mib << 20).is_ok_and(|span| span.len() >= 10);
    let mib = (1..4096).find(fits).unwrap();
    assert_eq!(plan_span(&source, &load, mib << 20).unwrap().len(), 10);
    format!("{mib}MiB")
}

async fn health(part: &Part) -> Value {
    get(part, "/health").await.1
}

async fn until_serves(part: &Part, first: u64, last: u64) {
    until(A_MOVE, "the provider moves", async || {
        let health = health(part).await;
        if health["layers"] == serde_json::json!([first, last]) { Ok(()) } else { Err(health.to_string()) }
    })
    .await;
}

#[tokio::test]
async fn a_provider_moves_to_a_hole_and_its_sessions_go_on_meanwhile() {
    let mesh = Mesh::start().await;
    let words = GenerateRequest::text("Once upon a time").max_tokens(8).temperature(0.0);
    // What the model says, from providers that stay.
    let thirds = mesh.providers(&THIRDS).await;
    let (coordinator, client) = mesh.ready_coordinator().await;
    let text = client.generate_whole(&words).await.unwrap().text;
    let mut stay = thirds.into_iter();
    let (first, second, third) = (stay.next().unwrap(), stay.next().unwrap(), stay.next().unwrap());
    for part in [second, third] {
        assert!(part.stop(PATIENCE).await.unwrap().success());
    }

    let memory = memory_of_a_third();
    let flags = ["--layers", "auto", "--max-sessions", "1", "--max-memory", &memory, "--rebalance-interval", "1"];
    let mover = mesh.part(&["provider", "run"], "provider auto", &flags).await;
    assert_eq!(health(&mover).await["layers"], serde_json::json!([10, 19]), "the first hole");

    // A session at its layers, from before the move until after it.
    let node = mesh.node().await;
    let old = route(&node, vec![hop(&first, "0..10"), hop(&mover, "10..20")]);
    let prompt = &prompts()[0];
    let mut session = Driver::open(&old, 64).await;
    let before = session.tokens(&prompt[..4], 4, Rows::Last).await;

    // Somebody takes the same layers for good: now the hole behind them can be filled.
    let second = mesh.provider("10..20").await;
    let moving = until(A_MOVE, "the move is told", async || match &health(&mover).await["moving"] {
        Value::String(moving) => Ok(moving.clone()),
        other => Err(other.to_string()),
    });
    assert_eq!(moving.await, "10..20 -> 20..30");
    until_serves(&mover, 20, 29).await;
    let during = session.tokens(&prompt[4..5], 1, Rows::Last).await;
    assert_ne!(during.bytes(), before.bytes());
    session.close().await;

    // The same words over the node's new layers.
    let again = until(PATIENCE, "the coordinator finds the new layers", async || {
        client.generate_whole(&words).await.map_err(|error| error.to_string())
    });
    assert_eq!(again.await.text, text);
    until(A_MOVE, "the old span is released", async || match health(&mover).await {
        health if health["moving"].is_null() => Ok(()),
        health => Err(health.to_string()),
    })
    .await;
    let refused = within(PATIENCE, "a refusal", old.open(opening(&old, 64))).await.err().unwrap();
    assert!(matches!(refused.cause(), HopError::Refused { reason } if reason.contains("serves 20..30")), "{refused}");
    assert_eq!(health(&mover).await["layers"], serde_json::json!([20, 29]), "the last holder stays");
    node.shutdown().await;
    mesh.stop([first, second, mover, coordinator]).await;
}
