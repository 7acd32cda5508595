//! How a demo stays, ends, is killed, and does not start.

use std::time::Duration;

use far_mesh_client::Client;
use serde_json::Value;
use tempfile::TempDir;
use tokio::{net::TcpListener, process::Command};

use super::{
    demo::account,
    process::{NONE, Running, far_mesh, processes_in, run, temporary, until},
    text::{ANSWER, PRICE_NANO, PROMPT},
};

/// Discovery, three providers and a coordinator.
const PARTS: usize = 5;

fn kept(dir: &TempDir, args: &[&str]) -> Command {
    let mut command = far_mesh(dir);
    command.args(["demo", "--keep", "--json", "--model"]).arg(far_mesh_tests::model()).args(args);
    command
}

/// The first line: the coordinator's base URL.
async fn ready(demo: &mut Running) -> String {
    let line = demo.line().await.expect("a demo that stays says when it is ready");
    let ready: Value = serde_json::from_str(&line).unwrap();
    assert_eq!((ready["event"].as_str(), ready["role"].as_str()), (Some("ready"), Some("demo")), "{line}");
    assert!(ready["peer_id"].as_str().unwrap().starts_with("12D3Koo"));
    assert!(
        ready["listen"].as_array().unwrap().iter().all(|addr| addr.as_str().unwrap().contains("/ip4/127.0.0.1/tcp/"))
    );
    assert_eq!(ready.as_object().unwrap().len(), 5, "{line}");
    ready["http"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn kept_it_serves_until_ctrl_c_and_leaves_nothing() {
    let dir = temporary();
    let mut demo = Running::start(kept(&dir, &["--max-tokens", "8", PROMPT]));
    let http = ready(&mut demo).await;
    let object = account(&demo.line().await.expect("then the answer"), 3, PRICE_NANO);
    assert!(ANSWER.starts_with(object["text"].as_str().unwrap()));
    let health = Client::new(&http).unwrap().health().await.unwrap();
    assert!(health.status == "ok" && health.mesh.ok && health.ledger.ok, "{health:?}");
    assert_eq!(processes_in(dir.path()).len(), PARTS);

    demo.interrupt().await;
    assert_eq!(demo.line().await, None, "nothing else on standard output");
    let (status, log) = demo.end().await;
    assert_eq!(status.code(), Some(0), "{log}");
    assert_eq!(processes_in(dir.path()), NONE, "no part outlives the demo");
}

#[tokio::test]
async fn killed_it_takes_its_parts_along() {
    let dir = temporary();
    let mut demo = Running::start(kept(&dir, &[]));
    let http = ready(&mut demo).await;
    assert_eq!(processes_in(dir.path()).len(), PARTS);
    demo.kill().await;
    until("every part ends with the demo", async || processes_in(dir.path()).is_empty().then_some(())).await;
    let options =
        far_mesh_client::Options { attempts: 1, connect_timeout: Duration::from_secs(1), ..Default::default() };
    assert!(Client::with_options(&http, options).unwrap().health().await.is_err(), "nobody serves any more");
}

#[tokio::test]
async fn a_port_in_use_is_named_and_nothing_stays() {
    let dir = temporary();
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = taken.local_addr().unwrap();
    let model = far_mesh_tests::model();
    let args = ["demo", "--json", "--model", model.to_str().unwrap(), "--port", &address.port().to_string()];
    let ran = run(&dir, &args).await;
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(1), ""));
    assert!(ran.stderr.contains(&address.to_string()) && ran.stderr.contains("in use"), "{}", ran.stderr);
    assert_eq!(processes_in(dir.path()), NONE);
}

#[tokio::test]
async fn a_number_of_providers_that_cannot_be_is_refused() {
    let dir = temporary();
    let ran = run(&dir, &["demo", "--providers", "0"]).await;
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(2), ""));
    assert!(ran.stderr.contains("--providers") && ran.stderr.contains("1..=64"), "{}", ran.stderr);

    let model = far_mesh_tests::model();
    let ran = run(&dir, &["demo", "--json", "--providers", "31", "--model", model.to_str().unwrap()]).await;
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(1), ""));
    assert!(ran.stderr.contains("31 providers") && ran.stderr.contains("1 to 30"), "{}", ran.stderr);
}
