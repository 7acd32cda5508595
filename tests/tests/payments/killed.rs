//! A payout that is killed again and again, at each stage of its way.

use std::process::Stdio;

use far_ledger::Store;
use serde_json::json;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
    time::timeout,
};

use crate::{
    both::{Kind, on_both},
    scene::Scene,
};

on_both!(a_payout_that_is_killed_goes_on);

/// Starts a run and kills it -9 as soon as it says `stage`.
async fn killed_at(command: Command, stage: &str) {
    heard(command, stage).await.kill().await.unwrap();
}

/// Starts a run and waits until it says `stage`.
async fn heard(mut command: Command, stage: &str) -> Child {
    let mut child = command.stderr(Stdio::piped()).kill_on_drop(true).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let mut heard = String::new();
    let reached = timeout(std::time::Duration::from_secs(60), async {
        while let Some(line) = lines.next_line().await.unwrap() {
            heard.push_str(&line);
            heard.push('\n');
            if line.contains(stage) {
                return true;
            }
        }
        false
    });
    assert_eq!(reached.await, Ok(true), "it never said {stage:?}: {heard}");
    child
}

async fn a_payout_that_is_killed_goes_on(kind: Kind) {
    let scene = Scene::deployed(kind).await;
    let once = || scene.command(&["once"]);
    killed_at(once(), "closed the week").await;
    killed_at(once(), "batches: 3 submitted").await;
    let late = scene.payments(&["once", "--timeout", "1"]).await;
    assert_eq!(late.code, Some(1), "{}", late.stdout);
    assert!(late.stderr.contains("not settled after 1 s: 3 batches were open"), "{}", late.stderr);
    let mut asked = heard(once(), "batches: 3 submitted").await;
    let id = asked.id().unwrap().to_string();
    assert!(Command::new("kill").args(["-INT", &id]).status().await.unwrap().success());
    assert_eq!(asked.wait().await.unwrap().code(), Some(130), "ctrl-C ends it");
    // Whatever the first run sent may be in the pool twice over by now: it is mined once.
    scene.anvil.mine(1).await;
    killed_at(once(), "3 mined").await;
    // The pool forgets, as when the node is restarted too.
    scene.anvil.forget_waiting().await;
    killed_at(once(), "3 mined").await;
    scene.mine_on().await;
    let done = scene.json(&["once", "--json"]).await;
    assert_eq!((&done["closed"], done["settled"].as_array().unwrap().len()), (&json!(null), 3), "{done}");
    scene.assert_paid_once().await;
    assert_eq!(scene.json(&["audit", "--json"]).await, json!({ "ledger": [], "batches": [], "chain": true }));
    let again = scene.json(&["once", "--json"]).await;
    assert_eq!(again["settled"], json!([]));
    scene.assert_paid_once().await;
    let health = scene.ledger.health().await.unwrap();
    assert!(health.schema_version > 0);
}
