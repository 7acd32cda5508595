//! Accounts and keys with the real program: opened, topped up, charged, refused, cut off and taken up again.

use std::{ffi::OsString, fs, path::Path, process::Stdio};

use far_ledger::{Amount, Ledger, Party, Status, Store, store::ReceiptRow};
use far_mesh_client::{
    Client, Error, Options,
    schema::{Done, Event, GenerateRequest},
};
use far_mesh_core::{
    id::SessionId,
    receipt::{Commitment, Receipt, Work},
};
use far_mesh_tests::Testnet;
use futures::{StreamExt, future::join_all};
use serde_json::{Value, json};
use tokio::process::Command;

use super::{
    process::{Ran, far_mesh, ran, temporary, until},
    text::{PRICE_NANO, PROMPT, nano},
};

/// `far-mesh keys` on a coordinator's folder.
async fn keys(folder: &Path, args: &[&str]) -> Ran {
    let elsewhere = temporary();
    let mut command = far_mesh(&elsewhere);
    command.arg("keys").args(args).arg("--data-dir").arg(folder);
    ran(command).await
}

/// The same with `--json`, which must go well.
async fn told(folder: &Path, args: &[&str]) -> Value {
    let ran = keys(folder, &[args, &["--json"]].concat()).await;
    assert_eq!(ran.code, Some(0), "{args:?}: {}", ran.stderr);
    serde_json::from_str(&ran.stdout).unwrap()
}

/// The same, which must be refused and say why.
async fn refused(folder: &Path, args: &[&str], code: i32, words: &[&str]) {
    let ran = keys(folder, args).await;
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(code), ""), "{args:?}: {}", ran.stderr);
    assert!(words.iter().all(|word| ran.stderr.contains(word)), "{args:?}: {}", ran.stderr);
}

fn client(http: &str, key: &str) -> Client {
    let key = (!key.is_empty()).then(|| key.to_owned());
    Client::with_options(http, Options { api_key: key, attempts: 1, ..Options::default() }).unwrap()
}

fn request(tokens: u32) -> GenerateRequest {
    GenerateRequest::text(PROMPT).max_tokens(tokens).temperature(0.0)
}

async fn ask(client: &Client, tokens: u32) -> Result<Done, Error> {
    let mut events = client.chat(&request(tokens)).await?;
    loop {
        match events.next().await.expect("it has an end")? {
            Event::Token(_) => {}
            Event::Done(done) => return Ok(done),
        }
    }
}

fn status(answer: &Result<Done, Error>) -> u16 {
    match answer {
        Ok(_) => 200,
        Err(Error::Refused { status, .. }) => *status,
        Err(other) => panic!("{other}"),
    }
}

/// A mesh whose coordinator requires keys and keeps 2.5 % of every cost.
async fn keyed(providers: u32) -> (Testnet, tempfile::TempDir) {
    let folder = temporary();
    let file = folder.path().join("far-mesh.toml");
    fs::write(&file, "[coordinator]\nrequire_keys = 'on'\nfee_basis_points = 250\nkeep_receipts_days = 30\n").unwrap();
    let net = Testnet::start_each(providers, &[], &["--config", file.to_str().unwrap()]).await;
    (net, folder)
}

#[tokio::test]
async fn a_key_pays_for_what_it_uses() {
    let (net, _config) = keyed(3).await;
    let folder = net.dir().join("coordinator");
    let made = told(&folder, &["create", "alice", "--label", "laptop"]).await;
    let (secret, id) = (made["secret"].as_str().unwrap(), made["key"].as_str().unwrap());
    assert!(secret.starts_with("fl_") && secret.len() == 67 && made["opened"] == true, "{made}");
    let alice = client(net.http(), secret);
    assert_eq!(status(&ask(&alice, 1).await), 402, "nothing was paid in");

    let first = ["topup", "alice", "0.05", "--reference", "inv-1"];
    assert_eq!(told(&folder, &first).await["added"], true);
    let again = told(&folder, &first).await;
    assert_eq!((&again["added"], &again["balance_far"]), (&json!(false), &json!("0.05")));
    refused(&folder, &["topup", "alice", "0.06", "--reference", "inv-1"], 1, &["inv-1", "before"]).await;
    refused(&folder, &["topup", "bob", "1"], 1, &["bob", "keys create"]).await;
    for amount in ["-1", "1e3", "0.0000000001", "9223372036.854775808", "many"] {
        refused(&folder, &["topup", "alice", amount], 2, &[amount, "FAR"]).await;
    }
    refused(&folder, &["topup", "alice", "0"], 1, &["above zero"]).await;
    refused(&folder, &["topup", "alice", "9223372036.854775807"], 1, &["alice"]).await;
    refused(&folder, &["list", "bob"], 1, &["bob"]).await;
    refused(&folder, &["revoke", "key_zzzz"], 1, &["key_zzzz", "keys list"]).await;
    refused(&folder, &["revoke", secret], 1, &["key_"]).await;
    refused(&net.dir().join("nowhere"), &["list"], 1, &["nowhere", "--data-dir"]).await;

    // A stream, charged to the unit.
    let done = ask(&alice, 32).await.unwrap();
    let cost = nano(&done.cost_far);
    assert_eq!(cost, i64::from(done.usage.completion_tokens) * PRICE_NANO);
    let account = alice.account().await.unwrap();
    assert_eq!((nano(&account.balance_far), account.reserved_far.as_str()), (50_000_000 - cost, "0"));
    assert_eq!((account.usage.len(), account.usage[0].completion_tokens), (1, u64::from(done.usage.completion_tokens)));
    let listed = told(&folder, &["list", "alice"]).await;
    let row = &listed["accounts"][0];
    assert_eq!((nano(row["balance_far"].as_str().unwrap()), &row["keys"][0]["key"]), (50_000_000 - cost, &json!(id)));
    assert_eq!(row["keys"][0]["usage"]["cost_far"], json!(done.cost_far));
    let shown = keys(&folder, &["list"]).await.stdout;
    assert!(
        shown.contains("alice") && shown.contains(id) && shown.contains("laptop") && !shown.contains(secret),
        "{shown}"
    );

    // Who has no key, or not enough.
    let wrong = format!("fl_{}", "0".repeat(64));
    for key in ["", "fl_test", wrong.as_str()] {
        assert_eq!(status(&ask(&client(net.http(), key), 1).await), 401, "{key}");
    }
    match ask(&alice, 1000).await {
        Err(Error::Refused { status: 402, detail, .. }) => {
            assert!(
                detail.message.contains(&account.available_far) && detail.message.contains("0.1 FAR"),
                "{detail:?}"
            );
        }
        other => panic!("{other:?}"),
    }
    let session = alice.session(&done.session_id).await.unwrap();
    assert_eq!(session.cost_far, done.cost_far);
    let other = told(&folder, &["create", "bob"]).await;
    let bob = client(net.http(), other["secret"].as_str().unwrap());
    assert!(matches!(bob.session(&done.session_id).await, Err(Error::Refused { status: 404, .. })));

    // Together they ask for more than there is.
    told(&folder, &["topup", "bob", "0.005"]).await;
    let answers = join_all((0..24).map(|_| ask(&bob, 16))).await;
    let (mut served, mut spent) = (0, 0);
    for answer in &answers {
        assert!(matches!(status(answer), 200 | 402), "{answer:?}");
        if let Ok(done) = answer {
            (served, spent) = (served + 1, spent + nano(&done.cost_far));
        }
    }
    let account = bob.account().await.unwrap();
    assert!((1..24).contains(&served), "{served}");
    assert_eq!((nano(&account.balance_far), account.reserved_far.as_str()), (5_000_000 - spent, "0"));

    let revoked = told(&folder, &["revoke", &id[..12]]).await;
    assert_eq!((&revoked["key"], &revoked["was_revoked"]), (&json!(id), &json!(false)));
    assert_eq!(told(&folder, &["revoke", id]).await["was_revoked"], true);
    assert_eq!(status(&ask(&alice, 1).await), 401, "at once");

    let _dir = net.stop().await;
    let ledger = Ledger::open(folder.join("ledger.sqlite")).await.unwrap();
    assert_eq!(ledger.audit().await.unwrap(), []);
    let fees = ledger.balance(&Party::Fees).await.unwrap().unwrap();
    let earned: i64 = join_all(done.contributions.iter().map(|part| ledger.node_earnings(&part.node_id)))
        .await
        .into_iter()
        .map(|node| node.unwrap().unwrap().earned.nano())
        .sum();
    assert_eq!(fees + earned, cost + spent, "what users paid is the providers' and the operator's");
    assert!(fees >= (cost + spent) / 40 - served - 1 && fees > 0, "{fees}");
    assert_receipts(&ledger, &done).await;
    ledger.close().await;
}

/// Every position that a node is paid for has a receipt in the ledger whose signatures can be checked again.
async fn assert_receipts(ledger: &Ledger, done: &Done) {
    let rows = ledger.receipts(&done.session_id).await.unwrap();
    for part in &done.contributions {
        let of_part = rows.iter().filter(|row| row.node_id == part.node_id);
        assert_eq!(of_part.map(|row| u64::from(row.tokens)).sum::<u64>(), part.tokens);
    }
    assert_eq!(rows.iter().map(|row| &row.node_id).collect::<std::collections::BTreeSet<_>>().len(), 3);
    for row in &rows {
        read(row).verify().unwrap_or_else(|error| panic!("{row:?}: {error}"));
    }
    let lie = ReceiptRow { tokens: rows[0].tokens - 1, ..rows[0].clone() };
    assert!(read(&lie).verify().is_err());
}

fn read(row: &ReceiptRow) -> Receipt {
    fn bytes<const N: usize>(text: &str) -> [u8; N] {
        let byte = |at: usize| u8::from_str_radix(&text[2 * at..2 * at + 2], 16).unwrap();
        assert_eq!(text.len(), 2 * N);
        std::array::from_fn(byte)
    }
    let work = Work {
        session: row.session_id.parse::<SessionId>().unwrap(),
        model: row.model_hash.parse().unwrap(),
        node: row.node_id.parse().unwrap(),
        witness: row.witness_id.parse().unwrap(),
        span: format!("{}..{}", row.layers_start, row.layers_end).parse().unwrap(),
        kernel_class: row.kernel_class.clone(),
        first_seq: row.first_step,
        last_seq: row.last_step,
        position: row.first_position,
        tokens: row.tokens,
        input: Commitment(bytes(&row.input_commitment)),
        output: Commitment(bytes(&row.output_commitment)),
    };
    Receipt::from_parts(work, bytes(&row.hop_signature), bytes(&row.witness_signature))
}

#[tokio::test]
async fn a_coordinator_that_is_killed_takes_nothing_for_what_it_did_not_finish() {
    let (mut net, config) = keyed(2).await;
    let folder = net.dir().join("coordinator");
    let made = told(&folder, &["create", "alice"]).await;
    let secret = made["secret"].as_str().unwrap();
    told(&folder, &["topup", "alice", "1"]).await;
    let alice = client(net.http(), secret);
    let first = nano(&ask(&alice, 8).await.unwrap().cost_far);
    let mut events = alice.chat(&request(4000)).await.unwrap();
    for _ in 0..3 {
        assert!(matches!(events.next().await, Some(Ok(Event::Token(_)))));
    }
    net.coordinator.kill().await;
    let held = told(&folder, &["list", "alice"]).await["accounts"][0].clone();
    assert_eq!(
        (&held["reserved_far"], nano(held["balance_far"].as_str().unwrap())),
        (&json!("0.4"), 1_000_000_000 - first)
    );

    let flags = vec![OsString::from("--config"), config.path().join("far-mesh.toml").into()];
    net.coordinator = net.mesh.coordinator("127.0.0.1:0", flags).await.unwrap();
    let alice = client(net.http(), secret);
    let account = alice.account().await.unwrap();
    assert_eq!((account.reserved_far.as_str(), nano(&account.balance_far)), ("0", 1_000_000_000 - first));
    let second = until("the mesh serves again", async || ask(&alice, 8).await.ok()).await;
    let spent = first + nano(&second.cost_far);
    assert_eq!(nano(&alice.account().await.unwrap().balance_far), 1_000_000_000 - spent);

    let _dir = net.stop().await;
    let ledger = Ledger::open(folder.join("ledger.sqlite")).await.unwrap();
    assert_eq!(ledger.audit().await.unwrap(), []);
    let user = ledger.account("alice").await.unwrap().unwrap();
    assert_eq!((user.balance.nano(), user.reserved), (1_000_000_000 - spent, Amount::ZERO));
    let done = ledger.session(&second.session_id).await.unwrap().unwrap();
    assert_eq!(done.status, Status::Completed);
    assert!(
        !ledger
            .metrics(done.begun.started_at.before(std::time::Duration::from_secs(120)), far_ledger::UnixMillis::now())
            .await
            .unwrap()
            .is_empty()
    );
    ledger.close().await;
}

#[tokio::test]
async fn openais_client_is_told_what_is_wrong_with_its_key() {
    let python = std::env::var_os("FAR_MESH_TEST_PYTHON");
    let python =
        python.expect("FAR_MESH_TEST_PYTHON must name a python with the package openai: tests/run makes and sets it");
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/http/keyed_client.py");
    let (net, _config) = keyed(2).await;
    let folder = net.dir().join("coordinator");
    let made = told(&folder, &["create", "alice"]).await;
    told(&folder, &["topup", "alice", "0.1"]).await;
    let mut command = Command::new(python);
    command.args([script, net.http(), made["secret"].as_str().unwrap()]).env("NO_PROXY", "127.0.0.1");
    command.stdin(Stdio::null()).kill_on_drop(true);
    let ran = ran(command).await;
    assert_eq!(ran.code, Some(0), "{}{}", ran.stdout, ran.stderr);
    assert!(
        ran.stdout.lines().count() >= 10 && ran.stdout.lines().all(|line| line.starts_with("ok ")),
        "{}",
        ran.stdout
    );
    net.stop().await;
}
