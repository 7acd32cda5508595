//! Wrong usage, wrong settings and a start that does not succeed.

use std::fs;

use far_mesh_core::peer::identity;
use far_mesh_tests::Testnet;
use tokio::net::TcpListener;

use super::process::{Running, far_mesh, run, temporary};

#[tokio::test]
async fn wrong_usage_exits_with_two_and_says_what_to_write() {
    let dir = temporary();
    for (line, names) in [
        ("demo --fast", &["--fast"][..]),
        ("demo --providers many", &["--providers", "many"]),
        ("provider run --layers 10", &["--layers", "0..10"]),
        ("provider run --layers 7..3", &["7..3", "A..B"]),
        ("provider run --wallet 0x12", &["--wallet", "0x12"]),
        ("coordinator --bootstrap 10.0.0.1:31337", &["--bootstrap", "/ip4/"]),
        ("serve", &["serve"]),
        ("models", &["Usage:"]),
    ] {
        let ran = run(&dir, &line.split(' ').collect::<Vec<_>>()).await;
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(2), ""), "{line}");
        assert!(names.iter().all(|name| ran.stderr.contains(name)), "{line}: {}", ran.stderr);
    }
    let help = run(&dir, &["--help"]).await;
    assert!(help.code == Some(0) && help.stderr.is_empty() && help.stdout.contains("far-mesh demo"), "{help:?}");
}

#[tokio::test]
async fn a_setting_that_is_not_known_is_named_with_the_nearest() {
    let dir = temporary();
    let file = dir.path().join("far-mesh.toml");
    for (text, names) in [
        (
            "price_per_tokn = \"0.1\"\n",
            &["far-mesh.toml:1", "price_per_tokn", "did you mean `price_per_token_far`?"][..],
        ),
        ("[provider]\nlayer = \"0..3\"\n", &["far-mesh.toml:2", "layer", "did you mean `layers`?"]),
        ("threads = \"many\"\n", &["far-mesh.toml:1", "threads", "many"]),
        ("threads = \n", &["far-mesh.toml:1:", "TOML"]),
    ] {
        fs::write(&file, text).unwrap();
        let ran = run(&dir, &["models", "list"]).await;
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(1), ""), "{text}");
        assert!(names.iter().all(|name| ran.stderr.contains(name)), "{text}: {}", ran.stderr);
    }
    fs::remove_file(&file).unwrap();
    let mut command = far_mesh(&dir);
    command.args(["models", "list"]).env("FAR_MESH_TREADS", "2");
    let ran = super::process::ran(command).await;
    assert!(ran.code == Some(1) && ran.stderr.contains("did you mean `FAR_MESH_THREADS`?"), "{ran:?}");
}

#[tokio::test]
async fn layers_that_the_model_has_not_are_named_with_those_it_has() {
    let dir = temporary();
    let model = far_mesh_tests::model();
    let mut args = vec!["provider", "run", "--layers", "25..40", "--listen", "/ip4/127.0.0.1/tcp/0"];
    args.extend(["--http", "127.0.0.1:0", "--json", "--model", model.to_str().unwrap()]);
    let ran = run(&dir, &args).await;
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(1), ""));
    assert!(ran.stderr.contains("25..40") && ran.stderr.contains("30 layers"), "{}", ran.stderr);
}

/// A provider that never gets into the mesh, until it is interrupted.
async fn interrupted(flags: &[&str], dialed: TcpListener) {
    let dir = temporary();
    let mut command = far_mesh(&dir);
    command.args(["provider", "run", "--layers", "0..1", "--listen", "/ip4/127.0.0.1/tcp/0", "--http", "127.0.0.1:0"]);
    command.args(["--json", "--model"]).arg(far_mesh_tests::model()).args(flags);
    let address = dialed.local_addr().unwrap();
    command.args(["--bootstrap", &format!("/ip4/127.0.0.1/tcp/{}", address.port())]);
    let mut provider = Running::start(command);
    // It dials, so it waits for the mesh and for signals.
    let _silent = dialed.accept().await.unwrap();
    provider.interrupt().await;
    assert_eq!(provider.line().await, None, "it was never ready");
    let (status, log) = provider.end().await;
    assert_eq!(status.code(), Some(130), "{log}");
    assert!(log.contains("interrupted") && log.contains("nothing was announced"), "{log}");
}

#[tokio::test]
async fn ctrl_c_ends_the_wait_for_a_mesh_that_does_not_answer() {
    interrupted(&[], TcpListener::bind("127.0.0.1:0").await.unwrap()).await;
}

#[tokio::test]
async fn a_key_file_that_is_missing_or_damaged_is_named() {
    let dir = temporary();
    let model = far_mesh_tests::model();
    let damaged = dir.path().join("damaged.key");
    fs::write(&damaged, "/key/swarm/psk/1.0.0/\n/base16/\n12").unwrap();
    for file in ["absent.key", "damaged.key"] {
        let path = dir.path().join(file);
        let args = [
            "coordinator",
            "--json",
            "--http",
            "127.0.0.1:0",
            "--model",
            model.to_str().unwrap(),
            "--psk",
            path.to_str().unwrap(),
        ];
        let ran = run(&dir, &args).await;
        assert!(ran.code == Some(1) && ran.stdout.is_empty() && ran.stderr.contains(file), "{ran:?}");
    }
    let before = fs::read(&damaged).unwrap();
    let ran = run(&dir, &["discovery", "--json", "--http", "127.0.0.1:0", "--psk", damaged.to_str().unwrap()]).await;
    assert!(ran.code == Some(1) && ran.stderr.contains("damaged.key"), "{ran:?}");
    assert_eq!(fs::read(&damaged).unwrap(), before, "a key that cannot be read is not replaced");
}

#[tokio::test]
async fn discovery_makes_the_key_of_a_private_mesh_where_there_is_none() {
    let dir = temporary();
    let key = dir.path().join("mesh.key");
    let mut command = far_mesh(&dir);
    command
        .args(["discovery", "--json", "--http", "127.0.0.1:0", "--listen", "/ip4/127.0.0.1/tcp/0", "--psk"])
        .arg(&key);
    let mut discovery = Running::start(command);
    let ready = discovery.line().await.expect("it gets ready");
    assert!(ready.contains("\"role\":\"discovery\"") && ready.contains("/ip4/127.0.0.1/tcp/"), "{ready}");
    identity::load_psk(&key).expect("the key is there for the other machines");
    discovery.interrupt().await;
    let (status, log) = discovery.end().await;
    assert_eq!(status.code(), Some(0), "{log}");
}

#[tokio::test]
async fn an_http_address_in_use_is_named_with_the_remedy() {
    let net = Testnet::start(1).await;
    let taken = net.http().strip_prefix("http://").unwrap().to_owned();
    let dir = temporary();
    let model = far_mesh_tests::model();
    let ran = run(&dir, &["coordinator", "--json", "--model", model.to_str().unwrap(), "--http", &taken]).await;
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(1), ""));
    assert!(ran.stderr.contains(&taken) && ran.stderr.contains("--http"), "{}", ran.stderr);
    net.stop().await;
}
