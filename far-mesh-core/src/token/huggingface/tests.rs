//! Tokenizer files of the kinds in use against `transformers`, and damaged ones.

use std::{fs, path::Path};

use serde_json::{Value, json};

use crate::{
    model::Source,
    token::{ChatTemplate, Message, TemplateError, Tokenizer, VocabularyError},
};

const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures");

/// A copy of the fixture's folder with the tokenizer files of `kind`, changed.
fn with(kind: &str, change: impl FnOnce(&Path)) -> (tempfile::TempDir, Source) {
    let dir = tempfile::tempdir().unwrap();
    let copy = |from: &str| {
        for file in fs::read_dir(Path::new(FIXTURES).join(from)).unwrap() {
            let file = file.unwrap();
            fs::copy(file.path(), dir.path().join(file.file_name())).unwrap();
        }
    };
    copy("folder");
    copy(&format!("tokenizers/{kind}"));
    change(dir.path());
    let source = Source::open(dir.path()).unwrap();
    (dir, source)
}

fn edit(folder: &Path, file: &str, change: impl FnOnce(&mut Value)) {
    let path = folder.join(file);
    let mut value: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    change(&mut value);
    fs::write(path, value.to_string()).unwrap();
}

#[test]
fn ids_are_those_of_transformers() {
    for kind in ["llama3", "qwen2", "smollm", "llama2", "mistral"] {
        let (dir, source) = with(kind, |_| {});
        let tokenizer = Tokenizer::of(&source).unwrap();
        let reference: Value = serde_json::from_slice(&fs::read(dir.path().join("ids.json")).unwrap()).unwrap();
        let ids = |value: &Value| -> Vec<u32> { serde_json::from_value(value.clone()).unwrap() };
        assert_eq!(json!(tokenizer.vocabulary()), reference["vocabulary"]);
        for case in reference["texts"].as_array().unwrap() {
            let text = case["text"].as_str().unwrap();
            assert_eq!(tokenizer.encode_prompt(text, true).unwrap(), ids(&case["ids"]), "{kind}: {text:?}");
            let mut decoded = tokenizer.decode(&ids(&case["ids"]));
            if matches!(kind, "llama2" | "mistral") && decoded.starts_with(' ') {
                // That before the first word is kept: what a model says may follow something.
                decoded.remove(0);
            }
            assert_eq!(decoded, case["decoded"].as_str().unwrap(), "{kind}: {text:?}");
        }
        let turn = |role: &str, content: &str| Message { role: role.into(), content: content.into() };
        let chat = [turn("system", "Be brief."), turn("user", " Why is 2 < 10? ")];
        let template = ChatTemplate::of(&source, &tokenizer).unwrap();
        assert_eq!(template.encode(&tokenizer, &chat, true).unwrap(), ids(&reference["chat"]), "{kind}");
        assert!(tokenizer.is_end(ids(&json!([reference["end"]]))[0]));
        // The other of generation_config.json.
        assert!(tokenizer.is_end(317) && !tokenizer.is_end(319));
    }
}

#[test]
fn a_chat_template_may_stand_in_the_configuration_or_be_missing() {
    let without = |config: Option<Value>| {
        let (_dir, source) = with("qwen2", |dir| {
            fs::remove_file(dir.join("chat_template.jinja")).unwrap();
            if let Some(template) = config {
                edit(dir, "tokenizer_config.json", |config| config["chat_template"] = template);
            }
        });
        let tokenizer = Tokenizer::of(&source).unwrap();
        ChatTemplate::of(&source, &tokenizer).map(|template| template.render(&[Message::user("x")], true).unwrap())
    };
    assert_eq!(without(None), Err(TemplateError::Missing));
    assert_eq!(without(Some(json!("one {{ eos_token }}"))), Ok("one <|end|>".to_owned()));
    let named = |name: &str| json!([{"name": "tool_use", "template": "no"}, {"name": name, "template": "yes"}]);
    assert_eq!(without(Some(named("default"))), Ok("yes".to_owned()));
    assert_eq!(without(Some(named("other"))), Err(TemplateError::Missing));
    assert!(matches!(without(Some(json!(7))), Err(TemplateError::Syntax { .. })));
}

/// What is said of a tokenizer.json that was changed.
fn refused(change: impl FnOnce(&mut Value)) -> Result<Tokenizer, VocabularyError> {
    let (_dir, source) = with("llama3", |dir| edit(dir, "tokenizer.json", change));
    Tokenizer::of(&source)
}

#[test]
fn what_would_change_tokens_is_refused_with_its_name() {
    let says = |change: fn(&mut Value), words: &[&str]| {
        let error = refused(change).err().unwrap_or_else(|| panic!("{words:?} is taken")).to_string();
        assert!(words.iter().all(|word| error.contains(word)), "{error}");
    };
    says(|t| t["model"]["byte_fallback"] = json!(true), &["byte_fallback", "ignore_merges"]);
    says(|t| t["model"] = json!({"type": "Unigram", "vocab": [["a", 0.0]]}), &["Unigram"]);
    says(|t| t["model"]["dropout"] = json!(0.1), &["dropout", "0.1"]);
    says(|t| t["model"]["end_of_word_suffix"] = json!("</w>"), &["</w>"]);
    says(|t| t["normalizer"] = json!({"type": "Lowercase"}), &["Lowercase"]);
    says(|t| t["pre_tokenizer"] = json!({"type": "Metaspace"}), &["Metaspace"]);
    says(|t| t["pre_tokenizer"] = Value::Null, &["null"]);
    says(|t| t["pre_tokenizer"]["pretokenizers"][0]["behavior"] = json!("Removed"), &["Removed"]);
    says(|t| t["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"] = json!("("), &["cannot be built"]);
    says(|t| t["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"] = json!("a".repeat(9000)), &["9000 bytes"]);
    says(|t| t["pre_tokenizer"]["pretokenizers"][1]["add_prefix_space"] = json!(true), &["add_prefix_space"]);
    says(|t| t["added_tokens"][0]["lstrip"] = json!(true), &["<|start|>"]);
    says(|t| t["added_tokens"][0]["id"] = json!(5), &["<|start|>", "token 5"]);
    says(|t| t["added_tokens"][0]["id"] = json!(u32::MAX), &["4294967296", "1048576"]);
    says(
        |t| t["post_processor"]["processors"][1]["single"] = json!([{"Sequence": {}}, {"SpecialToken": {"id": "x"}}]),
        &["post-processor"],
    );
    says(
        |t| t["post_processor"]["processors"][1]["single"][0]["SpecialToken"]["id"] = json!("<none>"),
        &["\"<none>\""],
    );
    says(|t| t["model"]["merges"][0] = json!(["a b", "c"]), &["a b", "space"]);
    says(|t| t["model"]["merges"][0] = json!(["zz", "yy"]), &["merge 0"]);
    says(|t| t["model"]["vocab"] = json!([]), &["tokens"]);
    says(|t| drop(t.as_object_mut().unwrap().remove("model")), &["tokenizer.json", "model"]);
}

#[test]
fn spaces_that_are_written_otherwise_are_refused() {
    let refused = |kind: &str, change: fn(&mut Value), words: &[&str]| {
        let (_dir, source) = with(kind, |dir| edit(dir, "tokenizer.json", change));
        let error = Tokenizer::of(&source).err().unwrap_or_else(|| panic!("{words:?} is taken")).to_string();
        assert!(words.iter().all(|word| error.contains(word)), "{error}");
    };
    refused("llama2", |t| t["normalizer"]["normalizers"][0]["prepend"] = json!("_"), &["Prepend, Replace"]);
    refused("llama2", |t| t["normalizer"] = Value::Null, &["byte_fallback with nothing else"]);
    refused("mistral", |t| t["pre_tokenizer"]["split"] = json!(true), &["split true"]);
    refused("mistral", |t| t["pre_tokenizer"]["prepend_scheme"] = json!("last"), &["last"]);
    refused("mistral", |t| drop(t["model"]["vocab"].as_object_mut().unwrap().remove("<0x0A>")), &["255", "256"]);
}

#[test]
fn files_of_a_stranger_are_bounded() {
    let error = |file: &str, text: &str| {
        let (_dir, source) = with("llama3", |dir| fs::write(dir.join(file), text).unwrap());
        Tokenizer::of(&source).unwrap_err().to_string()
    };
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    assert!(error("tokenizer.json", &deep).contains("tokenizer.json"));
    let small = format!(r#"{{"normalizer": [{}0], "model": {{}}}}"#, "0,".repeat(20_000));
    assert!(error("tokenizer.json", &small).contains("more than 16384 values"));
    let nested = format!(r#"{{"normalizer": {deep}, "model": {{}}}}"#);
    assert!(error("tokenizer.json", &nested).contains("recursion"));
    let tokens: String = (0..1_100_000).map(|id| format!("\"{id}\":{id},")).collect();
    let many = format!(r#"{{"model": {{"vocab": {{{tokens}"x":0}}}}}}"#);
    assert!(error("tokenizer.json", &many).contains("more than 1048576 tokens"));
    assert!(error("tokenizer_config.json", &" ".repeat(5 << 20)).contains("tokenizer_config.json has"));
    assert!(error("tokenizer_config.json", "[]").contains("tokenizer_config.json"));
    assert!(error("tokenizer_config.json", r#"{"eos_token": "<none>"}"#).contains("<none>"));
    assert!(error("generation_config.json", r#"{"eos_token_id": 9999}"#).contains("9999"));
    assert!(error("generation_config.json", r#"{"eos_token_id": "x"}"#).contains("eos_token_id"));
    let ends = format!(r#"{{"eos_token_id": [{}1]}}"#, "1,".repeat(100));
    assert!(error("generation_config.json", &ends).contains("101 end tokens"));
    let (_dir, source) = with("llama3", |dir| fs::remove_file(dir.join("tokenizer.json")).unwrap());
    let missing = Tokenizer::of(&source).unwrap_err().to_string();
    assert!(missing.contains("has no tokenizer.json"), "{missing}");
}
