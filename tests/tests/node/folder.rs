//! A model as a folder of `config.json`, tokenizer files and safetensors, through the binary.

use std::{fs, path::PathBuf};

use serde_json::Value;
use tempfile::TempDir;

use super::process::{Ran, run, temporary};

fn folder() -> PathBuf {
    let fixture = concat!(env!("CARGO_MANIFEST_DIR"), "/../far-mesh-core/tests/fixtures/folder");
    fs::canonicalize(fixture).unwrap()
}

async fn json(dir: &TempDir, args: &[&str]) -> Value {
    let ran = run(dir, args).await;
    assert_eq!((ran.code, ran.stdout.lines().count()), (Some(0), 1), "{ran:?}");
    serde_json::from_str(&ran.stdout).unwrap()
}

#[tokio::test]
async fn a_folder_is_registered_listed_and_shown() {
    let (dir, folder) = (temporary(), folder());
    let path = folder.to_str().unwrap();
    let pulled = json(&dir, &["models", "pull", path, "--json"]).await;
    assert_eq!((pulled["name"].as_str(), pulled["path"].as_str()), (Some("folder"), Some(path)));
    let listed = json(&dir, &["models", "list", "--json"]).await;
    let ours = listed["models"].as_array().unwrap().iter().find(|model| model["name"] == "folder").unwrap();
    assert_eq!((ours["state"].as_str(), &ours["bytes"]), (Some("ready"), &pulled["bytes"]));
    let seen = json(&dir, &["models", "inspect", "folder", "--json"]).await;
    assert_eq!((seen["architecture"].as_str(), seen["layers"].as_u64()), (Some("LlamaForCausalLM"), Some(3)));
    assert_eq!((seen["vocabulary"].as_u64(), seen["layer_bytes"].as_array().unwrap().len()), (Some(320), 3));
    assert_eq!(seen["tensors"][0]["encoding"], "BF16");
    let wrong = "ab".repeat(32);
    let ran = run(&dir, &["models", "pull", path, "--sha256", &wrong]).await;
    assert!(ran.code == Some(1) && ran.stderr.contains(&wrong), "{ran:?}");
}

async fn demo(dir: &TempDir, more: &[&str]) -> Value {
    let folder = folder();
    let args = ["demo", "--json", "--max-tokens", "12", "--model", folder.to_str().unwrap()];
    let args: Vec<&str> = args.into_iter().chain(more.iter().copied()).chain(["Hi"]).collect();
    json(dir, &args).await
}

#[tokio::test]
async fn a_folder_is_served_over_any_number_of_providers_as_it_is_or_packed() {
    let dir = temporary();
    let text = |answer: &Value| answer["text"].as_str().unwrap().to_owned();
    let three = demo(&dir, &[]).await;
    assert_eq!(three["contributions"].as_array().unwrap().len(), 3, "{three}");
    assert_eq!(text(&demo(&dir, &["--providers", "1"]).await), text(&three));
    let packed = demo(&dir, &["--quantize", "q8_0"]).await;
    assert_eq!(text(&demo(&dir, &["--quantize", "q8_0", "--providers", "1"]).await), text(&packed));
}

#[tokio::test]
async fn packing_is_refused_where_it_makes_no_sense() {
    let dir = temporary();
    let refused = |ran: Ran, names: &[&str]| {
        assert!(ran.code != Some(0) && names.iter().all(|name| ran.stderr.contains(name)), "{ran:?}");
    };
    let both = ["demo", "--precision", "exact", "--quantize", "q4_0", "Hi"];
    refused(run(&dir, &both).await, &["--precision", "--quantize", "q4_0"]);
    refused(run(&dir, &["demo", "--quantize", "q2_k", "Hi"]).await, &["q8_0"]);
    let file = folder().join("model-00001-of-00003.safetensors");
    let ran = run(&dir, &["models", "pull", file.to_str().unwrap()]).await;
    refused(ran, &["model-00001-of-00003.safetensors", "name a GGUF file, or the folder"]);
}
