//! OpenAI's own client against the real model.

use std::process::Stdio;

use far_mesh_tests::Testnet;
use tokio::process::Command;

use super::process::ran;

#[tokio::test]
async fn openais_client_is_content() {
    let python = std::env::var_os("FAR_MESH_TEST_PYTHON");
    let python =
        python.expect("FAR_MESH_TEST_PYTHON must name a python with the package openai: tests/run makes and sets it");
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/http/openai_client.py");
    let net = Testnet::start(3).await;
    let mut command = Command::new(python);
    command.args([script, net.http()]).env("NO_PROXY", "127.0.0.1").stdin(Stdio::null()).kill_on_drop(true);
    let ran = ran(command).await;
    assert_eq!(ran.code, Some(0), "{}{}", ran.stdout, ran.stderr);
    assert!(
        ran.stdout.lines().count() >= 25 && ran.stdout.lines().all(|line| line.starts_with("ok ")),
        "{}",
        ran.stdout
    );
    net.stop().await;
}
