//! What is set wrong is refused with what to do, before anything is signed, closed or sent.

use std::{
    fs,
    io::{Read, Write},
    net::TcpListener,
};

use crate::{
    bed::Bed,
    both::{Kind, artifacts, on_both},
    scene::{Scene, chain_id},
};

on_both!(wrong_settings_change_nothing);

/// An address at which a web server answers everything with a page.
fn web_page() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let _ = stream.read(&mut [0; 4096]);
            let page = "<html><body>It works!</body></html>";
            let _ =
                write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{page}", page.len());
        }
    });
    url
}

async fn wrong_settings_change_nothing(kind: Kind) {
    let scene = Scene::deployed(kind).await;
    let good = fs::read_to_string(scene.dir.path().join("far-mesh.toml")).unwrap();
    let page = web_page();
    fs::write(scene.dir.path().join("wrong"), "battery staple\n").unwrap();
    fs::write(scene.dir.path().join("poem"), "a rose is a rose\n").unwrap();
    let other = "'0x52908400098527886E0F7030069857D2E4169EE7'";
    let missing_port = format!("'http://{}'", TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap());
    for (key, value, parts) in [
        ("rpc_url", "", &["rpc_url is not set", "FAR_MESH_RPC_URL", "--rpc-url"][..]),
        ("chain_id", "", &["chain_id is not set", "--chain-id"]),
        ("payout_contract", "", &["payout_contract is not set"]),
        ("keystore", "", &["keystore is not set", "--keystore"]),
        ("chain_id", "1", &["serves chain 31337", "chain 1", "nothing was signed"]),
        ("rpc_url", &format!("'{page}'"), &["not JSON-RPC", "<html>"]),
        ("rpc_url", &missing_port, &["did not answer"]),
        ("rpc_url", "'ws://127.0.0.1:1'", &["(hidden)", "http:// or https://"]),
        ("payout_contract", other, &["no payout contract at 0x5290", "payments deploy"]),
        ("token_contract", other, &["pays in 0x", "token_contract is 0x5290"]),
        ("keystore", "'absent.json'", &["absent.json"]),
        ("keystore", "'poem'", &["poem", "not a keystore"]),
        ("keystore_password_file", "'wrong'", &["does not open the keystore", "payer.json"]),
        ("keystore_password_file", "", &["no password for the keystore", "--keystore-password-file"]),
        ("payout_batch_items", "501", &["far-mesh.toml", "1 to 500"]),
        ("keystoer", "'payer.json'", &["did you mean `keystore`"]),
    ] {
        scene.set(key, value);
        for command in ["once", "plan", "run"] {
            let refused = scene.payments(&[command]).await;
            assert_eq!(refused.code, Some(1), "{command} with {key} = {value}: {}", refused.stdout);
            for part in parts {
                assert!(refused.stderr.contains(part), "{command} with {key} = {value}: {}", refused.stderr);
            }
            assert!(!refused.stderr.contains("battery") && !refused.stderr.contains("correct horse"));
        }
        fs::write(scene.dir.path().join("far-mesh.toml"), &good).unwrap();
    }
    scene.assert_untouched().await;
    deployments(&scene).await;

    password_of_the_environment(&scene).await;
    locked(&scene).await;

    // An audit of half a chain is none, and status shows the ledger whatever the chain says.
    scene.set("rpc_url", &format!("'{page}'"));
    let audit = scene.payments(&["audit"]).await;
    assert!(audit.code == Some(1) && audit.stderr.contains("not JSON-RPC"), "{}", audit.stderr);
    let status = scene.json(&["status", "--json"]).await;
    assert!(status["alerts"][0].as_str().unwrap().contains("the chain was not asked"), "{status}");
    fs::write(scene.dir.path().join("far-mesh.toml"), &good).unwrap();

    let mut astray = scene.command(&["once"]);
    astray.env_remove("POSTGRES_URL").env("FAR_MESH_DATA_DIR", scene.dir.path());
    let astray = crate::process::ran(astray).await;
    assert!(astray.code == Some(1) && astray.stderr.contains("there is no ledger at"), "{}", astray.stderr);
    assert!(!scene.dir.path().join("ledger.sqlite").exists(), "none was made");
    scene.assert_untouched().await;
    key_of_everybody(&scene).await;
}

async fn deployments(scene: &Scene) {
    let head = scene.anvil.chain().block_number().await.unwrap();
    let built = artifacts();
    let built = built.to_str().unwrap();
    let nobody = "0x52908400098527886E0F7030069857D2E4169EE7";
    let wrong = (chain_id() + 1).to_string();
    for (line, part) in [
        (vec!["deploy", "--artifacts", "nowhere"], "npm run build"),
        (vec!["deploy", "--artifacts", built, "--token", nobody], "no ERC-20 token at 0x5290"),
        (vec!["deploy", "--artifacts", built, "--chain-id", &wrong], "the node serves chain"),
    ] {
        let refused = scene.payments(&line).await;
        assert!(refused.code == Some(1) && refused.stderr.contains(part), "{line:?}: {}", refused.stderr);
    }
    assert_eq!(scene.anvil.chain().block_number().await.unwrap(), head, "nothing was sent");
}

async fn password_of_the_environment(scene: &Scene) {
    scene.set("keystore_password_file", "");
    let mut command = scene.command(&["plan", "--json"]);
    command.env("FAR_MESH_KEYSTORE_PASSWORD", "correct horse");
    let opened = crate::process::ran(command).await;
    assert_eq!(opened.code, Some(0), "{}", opened.stderr);
    scene.set("keystore_password_file", "'password'");
}

/// A writer that does not let go.
async fn locked(scene: &Scene) {
    if let Bed::Sqlite(_) = &scene.bed {
        let mut writer = scene.bed.other().await;
        writer.run("BEGIN IMMEDIATE").await.unwrap();
        let waited = scene.payments(&["once", "--timeout", "1"]).await;
        assert_eq!(waited.code, Some(1), "{}", waited.stdout);
        assert!(waited.stderr.contains("another writer holds it"), "{}", waited.stderr);
        writer.run("ROLLBACK").await.unwrap();
    }
}

#[cfg(unix)]
async fn key_of_everybody(scene: &Scene) {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(scene.dir.path().join("payer.json"), fs::Permissions::from_mode(0o644)).unwrap();
    let warned = scene.payments(&["plan"]).await;
    assert_eq!(warned.code, Some(0), "{}", warned.stderr);
    assert!(warned.stderr.contains("chmod 600") && warned.stderr.contains("payer.json"), "{}", warned.stderr);
    assert!(!warned.stderr.contains("password can be read"), "{}", warned.stderr);
}
