//! `far-mesh models`: fetching, registering and looking into models.

use std::fs;

use serde_json::Value;
use tempfile::TempDir;

use super::{
    process::{Ran, run, temporary},
    text::MODEL,
};

const SHA256: &str = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53";
const BYTES: u64 = 98_362_432;

async fn models(dir: &TempDir, args: &[&str]) -> Ran {
    let args: Vec<_> = ["models"].iter().chain(args).collect();
    run(dir, &args).await
}

async fn json(dir: &TempDir, args: &[&str]) -> Value {
    let ran = models(dir, args).await;
    assert_eq!((ran.code, ran.stdout.lines().count()), (Some(0), 1), "{ran:?}");
    serde_json::from_str(&ran.stdout).unwrap()
}

async fn refused(dir: &TempDir, args: &[&str], names: &[&str]) {
    let ran = models(dir, args).await;
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(1), ""), "{args:?}: {ran:?}");
    assert!(ran.stderr.starts_with("error: ") && names.iter().all(|name| ran.stderr.contains(name)), "{}", ran.stderr);
}

#[tokio::test]
async fn a_name_of_the_catalogue_is_fetched_checked_and_found_again() {
    let dir = temporary();
    let before = json(&dir, &["list", "--json"]).await;
    assert_eq!(
        (before["models"][0]["name"].as_str(), before["models"][0]["state"].as_str()),
        (Some(MODEL), Some("absent"))
    );
    let pulled = json(&dir, &["pull", MODEL, "--json"]).await;
    let path = pulled["path"].as_str().unwrap();
    assert_eq!((pulled["name"].as_str(), pulled["sha256"].as_str()), (Some(MODEL), Some(SHA256)));
    assert_eq!((pulled["bytes"].as_u64(), fs::metadata(path).unwrap().len()), (Some(BYTES), BYTES));
    let left: Vec<_> =
        fs::read_dir(dir.path().join("models")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(
        left.iter().all(|name| !name.to_string_lossy().contains(".whe") && !name.to_string_lossy().ends_with(".part")),
        "{left:?}"
    );

    let after = json(&dir, &["list", "--json"]).await;
    assert_eq!(
        (after["models"][0]["state"].as_str(), after["models"][0]["path"].as_str()),
        (Some("ready"), Some(path))
    );
    let again = models(&dir, &["pull", MODEL, "--json"]).await;
    assert!(again.code == Some(0) && !again.stderr.contains("fetching"), "{again:?}");
    let wrong = "ab".repeat(32);
    refused(&dir, &["pull", MODEL, "--sha256", &wrong], &[SHA256, &wrong]).await;
    assert_eq!(fs::metadata(path).unwrap().len(), BYTES, "a wrong expectation is no reason to delete");
}

#[tokio::test]
async fn a_file_is_registered_where_it_lies() {
    let dir = temporary();
    let file = far_mesh_tests::model();
    let path = file.to_str().unwrap();
    let pulled = json(&dir, &["pull", path, "--sha256", SHA256, "--json"]).await;
    assert_eq!((pulled["name"].as_str(), pulled["bytes"].as_u64()), (Some(MODEL), Some(BYTES)), "known by its hash");
    assert_eq!(fs::canonicalize(pulled["path"].as_str().unwrap()).unwrap(), fs::canonicalize(&file).unwrap());
    let listed = models(&dir, &["list"]).await;
    assert!(listed.stdout.lines().any(|line| line.starts_with(MODEL) && line.contains("ready")), "{}", listed.stdout);
    let wrong = "cd".repeat(32);
    refused(&dir, &["pull", path, "--sha256", &wrong], &[SHA256, &wrong, path]).await;
    assert!(file.is_file());
}

#[tokio::test]
async fn a_file_is_shown_layer_by_layer() {
    let dir = temporary();
    let file = far_mesh_tests::model();
    let path = file.to_str().unwrap();
    let seen = json(&dir, &["inspect", path, "--json"]).await;
    assert_eq!(
        (seen["architecture"].as_str(), seen["layers"].as_u64(), seen["context"].as_u64()),
        (Some("llama"), Some(30), Some(8192))
    );
    assert_eq!(
        (seen["heads"].as_u64(), seen["kv_heads"].as_u64(), seen["vocabulary"].as_u64()),
        (Some(9), Some(3), Some(49152))
    );
    let layers = seen["layer_bytes"].as_array().unwrap();
    let sum = |values: &[Value]| values.iter().map(|value| value["bytes"].as_u64().unwrap()).sum::<u64>();
    assert_eq!(layers.len(), 30);
    let tensors = seen["tensors"].as_array().unwrap();
    assert_eq!(sum(layers) + seen["other_bytes"].as_u64().unwrap(), sum(tensors), "every tensor is counted once");
    assert!(tensors.iter().any(|kind| kind["encoding"] == "Q4_1" && kind["count"] == 210), "{tensors:?}");

    let shown = models(&dir, &["inspect", path]).await;
    for text in ["llama", "30", "Q4_1", "0..30"] {
        assert!(shown.stdout.contains(text), "{text}: {}", shown.stdout);
    }
}

#[tokio::test]
async fn what_is_no_model_is_refused_with_what_is_wrong() {
    let dir = temporary();
    let whole = fs::read(far_mesh_tests::model()).unwrap();
    for (bytes, names) in
        [(3_000_000, ["truncated", "3000000"]), (30_000, ["truncated", "30000"]), (11, ["truncated", "11"])]
    {
        let file = dir.path().join(format!("cut-{bytes}.gguf"));
        fs::write(&file, &whole[..bytes]).unwrap();
        let path = file.to_str().unwrap();
        refused(&dir, &["inspect", path], &[path, names[0], names[1], "pull it again"]).await;
    }
    let text = dir.path().join("text.gguf");
    fs::write(&text, "no model at all").unwrap();
    refused(&dir, &["inspect", text.to_str().unwrap()], &["text.gguf", "GGUF"]).await;
    refused(&dir, &["pull", text.to_str().unwrap()], &["text.gguf", "does not begin with GGUF"]).await;
    refused(&dir, &["inspect", "./absent.gguf"], &["absent.gguf", "No such file"]).await;
    refused(&dir, &["pull", "./absent.gguf"], &["absent.gguf", "does not exist"]).await;
    refused(
        &dir,
        &["pull", "smollm2-135m-instrukt"],
        &["smollm2-135m-instrukt", "did you mean smollm2-135m-instruct?"],
    )
    .await;
    refused(&dir, &["pull", "hf:owner/repo"], &["hf:OWNER/REPO/FILE"]).await;
}
