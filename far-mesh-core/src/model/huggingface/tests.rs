//! Sane and hostile folders.

use std::{fs, path::Path};

use proptest::prelude::*;
use serde_json::{Value, json};

use crate::model::{ModelConfig, RopeScaling, Source};

const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures");

/// A copy of a fixture's folder.
fn copy(from: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for file in fs::read_dir(Path::new(FIXTURES).join(from)).unwrap() {
        let file = file.unwrap();
        fs::copy(file.path(), dir.path().join(file.file_name())).unwrap();
    }
    dir
}

fn edit(folder: &Path, file: &str, change: impl FnOnce(&mut Value)) {
    let path = folder.join(file);
    let mut value: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    change(&mut value);
    fs::write(path, value.to_string()).unwrap();
}

fn read(folder: &Path) -> Result<ModelConfig, String> {
    let source = Source::open(folder).map_err(|error| error.to_string())?;
    ModelConfig::read(&source).map_err(|error| error.to_string())
}

fn changed(from: &str, change: impl FnOnce(&mut Value)) -> Result<ModelConfig, String> {
    let dir = copy(from);
    edit(dir.path(), "config.json", change);
    read(dir.path())
}

#[test]
fn older_and_newer_ways_to_write_a_configuration_mean_the_same() {
    let newer = changed("architectures/llama3", |_| {}).unwrap();
    let older = changed("architectures/llama3", |config| {
        let mut rope = config["rope_parameters"].take();
        config["rope_theta"] = rope.as_object_mut().unwrap().remove("rope_theta").unwrap();
        config["rope_scaling"] = rope;
        config["torch_dtype"] = config["dtype"].take();
    });
    assert_eq!(older.map(|config| (config.rope_theta, config.rope_scaling)), Ok((500_000.0, newer.rope_scaling)));
    let oldest = changed("folder", |config| drop(config.as_object_mut().unwrap().remove("rope_parameters"))).unwrap();
    assert_eq!((oldest.rope_theta, oldest.rope_scaling), (10_000.0, RopeScaling::None));
    let experts =
        changed("architectures/qwen3moe", |config| config["num_experts"] = config["num_local_experts"].take());
    assert_eq!(experts.unwrap().experts.unwrap().count, 4);
}

#[test]
fn a_window_holds_in_all_layers_or_none() {
    let window = |from: &str, entries: Value| {
        let entries = entries.as_object().unwrap().clone();
        changed(from, |config| config.as_object_mut().unwrap().extend(entries)).map(|config| config.attention.window)
    };
    let (qwen, mistral) = ("architectures/qwen2", "architectures/mistral");
    assert_eq!(window(mistral, json!({"sliding_window": null})), Ok(None));
    assert_eq!(window(qwen, json!({"sliding_window": 9, "use_sliding_window": false})), Ok(None));
    let on = |first: u32, types: Value| {
        let entries =
            json!({"sliding_window": 9, "use_sliding_window": true, "max_window_layers": first, "layer_types": types});
        window(qwen, entries)
    };
    assert_eq!((on(0, Value::Null), on(3, Value::Null)), (Ok(Some(9)), Ok(None)));
    assert_eq!(on(3, json!(["sliding_attention", "sliding_attention", "sliding_attention"])), Ok(Some(9)));
    for some in [on(1, Value::Null), on(0, json!(["full_attention", "sliding_attention", "full_attention"]))] {
        let error = some.unwrap_err();
        assert!(error.contains("sliding_window 9") && error.contains("of its 3 layers"), "{error}");
    }
    assert!(on(0, json!(["linear_attention"])).unwrap_err().contains("linear_attention"));
    let absent = changed(mistral, |config| drop(config.as_object_mut().unwrap().remove("sliding_window")));
    assert!(absent.unwrap_err().contains("sliding_window is absent"));
}

#[test]
fn what_cannot_be_served_is_named_with_its_value() {
    let says = |from: &str, entries: Value, words: &[&str]| {
        let all = entries.as_object().unwrap().clone();
        let error = changed(from, |config| config.as_object_mut().unwrap().extend(all)).unwrap_err();
        assert!(words.iter().all(|word| error.contains(word)), "{entries}: {error}");
    };
    let llama = |entries, words: &[&str]| says("folder", entries, words);
    llama(json!({"architectures": ["GemmaForCausalLM"]}), &["GemmaForCausalLM", "LlamaForCausalLM"]);
    llama(json!({"architectures": []}), &["architectures"]);
    llama(json!({"attention_bias": true}), &["attention_bias"]);
    llama(json!({"mlp_bias": true}), &["mlp_bias"]);
    llama(json!({"hidden_act": "gelu"}), &["hidden_act", "gelu", "silu"]);
    llama(json!({"final_logit_softcapping": 30.0}), &["final_logit_softcapping = 30.0", "remove it"]);
    llama(json!({"partial_rotary_factor": 0.5}), &["partial_rotary_factor", "0.5"]);
    llama(json!({"quantization_config": {"quant_method": "gptq"}}), &["quantization_config", "--quantize"]);
    llama(json!({"hidden_size": 0}), &["hidden_size is 0"]);
    llama(json!({"hidden_size": 1e300}), &["hidden_size is 1e+300"]);
    llama(json!({"hidden_size": "wide"}), &["hidden_size is \"wide\""]);
    llama(json!({"num_hidden_layers": u64::MAX}), &["num_hidden_layers is 18446744073709551615", "512"]);
    llama(json!({"num_key_value_heads": 3}), &["num_key_value_heads is 3", "4 heads"]);
    llama(json!({"head_dim": 7}), &["head_dim is 7", "even"]);
    llama(json!({"vocab_size": 321}), &["model.embed_tokens.weight", "[32, 320]", "[32, 321]"]);
    llama(json!({"num_hidden_layers": 4}), &["model.layers.3.input_layernorm.weight"]);
    llama(json!({"num_hidden_layers": 2}), &["model.layers.2."]);
    llama(json!({"tie_word_embeddings": false}), &["lm_head.weight"]);
    llama(json!({"num_local_experts": 1u64 << 40, "num_experts_per_tok": 2}), &["num_local_experts is 1099511627776"]);
    says("architectures/qwen3", json!({"num_experts": 8}), &["num_experts", "Qwen3ForCausalLM"]);
    says("architectures/mixtral", json!({"num_local_experts": 5}), &["block_sparse_moe.gate.weight", "[32, 5]"]);
    says("architectures/mixtral", json!({"num_local_experts": 3}), &["block_sparse_moe.gate.weight", "[32, 3]"]);
    says("architectures/mixtral", json!({"num_experts_per_tok": 5}), &["num_experts_per_tok is 5", "1 to 4"]);
    says("architectures/qwen3moe", json!({"mlp_only_layers": [1]}), &["model.layers.1.mlp.gate_proj.weight"]);
    says("architectures/qwen3moe", json!({"mlp_only_layers": ["x"]}), &["mlp_only_layers"]);
    says("architectures/qwen3moe", json!({"num_experts": 9}), &["num_experts is 9"]);
    says("architectures/qwen3moe", json!({"sliding_window": 9, "use_sliding_window": true}), &["sliding_window 9"]);
    for (rope, words) in [
        (json!({"rope_type": "yarn", "factor": 4.0}), &["\"yarn\"", "llama3", "remove"][..]),
        (json!({"type": "dynamic"}), &["\"dynamic\""]),
        (json!({"rope_type": "linear"}), &["rope_parameters.factor"]),
        (json!({"rope_type": "linear", "factor": 0}), &["rope_parameters.factor is 0"]),
        (json!({"rope_type": "linear", "factor": 2, "mscale": 3}), &["mscale = 3"]),
        (json!({"rope_type": "default", "type": "linear"}), &["\"default\""]),
        (
            json!({"rope_type": "llama3", "factor": 8, "low_freq_factor": 4, "high_freq_factor": 1}),
            &["high_freq_factor is 1", "4"],
        ),
    ] {
        llama(json!({"rope_parameters": rope}), words);
    }
    llama(json!({"rope_scaling": {"type": "linear", "factor": 2}}), &["rope_parameters beside rope_scaling"]);
}

#[test]
fn folders_that_are_damaged_say_what_and_where() {
    let says = |from: &str, damage: &dyn Fn(&Path), words: &[&str]| {
        let dir = copy(from);
        damage(dir.path());
        let error = read(dir.path()).unwrap_err();
        assert!(words.iter().all(|word| error.contains(word)), "{error}");
    };
    let write = |name: &'static str, text: String| move |dir: &Path| fs::write(dir.join(name), &text).unwrap();
    says("folder", &|dir| fs::remove_file(dir.join("config.json")).unwrap(), &["has no config.json", "copy all"]);
    says("folder", &write("config.json", " ".repeat(2 << 20)), &["config.json has 2097152 bytes", "1048576"]);
    says("folder", &write("config.json", "[".repeat(100_000)), &["config.json is damaged"]);
    says("folder", &write("config.json", format!(r#"{{"a": {}}}"#, "[".repeat(10_000))), &["recursion"]);
    says("folder", &write("model.safetensors.index.json", "{}".into()), &["index.json is damaged", "weight_map"]);
    let index = |map: String| write("model.safetensors.index.json", format!(r#"{{"weight_map": {{{map}}}}}"#));
    for outside in ["../x", "/etc/passwd", "a/b", "..", "model-00001-of-00003.safetensors/"] {
        says("folder", &index(format!(r#""a": "{outside}""#)), &["index.json", outside, "not a file beside it"]);
    }
    let many = (0..600).map(|i| format!(r#""{i}": "{i}""#)).collect::<Vec<_>>().join(",");
    says("folder", &index(many), &["600 files", "512"]);
    says("folder", &index(r#""a": "gone.safetensors""#.into()), &["gone.safetensors"]);
    says("folder", &index(r#""a": "model-00001-of-00003.safetensors""#.into()), &["no tensor \"a\""]);
    let shard = "model-00002-of-00003.safetensors";
    says("folder", &|dir| fs::remove_file(dir.join(shard)).unwrap(), &[shard]);
    let cut = |dir: &Path| {
        let bytes = fs::read(dir.join(shard)).unwrap();
        fs::write(dir.join(shard), &bytes[..bytes.len() - 1]).unwrap();
    };
    says("folder", &cut, &[shard, "truncated"]);
    says(
        "architectures/llama3",
        &|dir| fs::remove_file(dir.join("model.safetensors")).unwrap(),
        &["model.safetensors"],
    );
    let file = Path::new(FIXTURES).join("architectures/llama3/model.safetensors");
    assert!(Source::open(file).unwrap_err().to_string().contains("name the folder"));
}

#[test]
fn experts_that_are_not_alike_or_not_all_there_are_refused() {
    // In place: the header keeps its length.
    let damaged = |name: &str, from: &str, to: &str| {
        let dir = copy("architectures/mixtral");
        let path = dir.path().join("model.safetensors");
        let mut bytes = fs::read(&path).unwrap();
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let at = text.find(name).unwrap();
        let at = at + text[at..].find(from).unwrap();
        bytes[at..at + to.len()].copy_from_slice(to.as_bytes());
        fs::write(&path, bytes).unwrap();
        read(dir.path()).unwrap_err()
    };
    let name = "model.layers.1.block_sparse_moe.experts.2.w1.weight";
    let error = damaged(name, "[64,32]", "[32,64]");
    assert!(error.contains(name) && error.contains("[32, 64]") && error.contains("[64, 32]"), "{error}");
    let error = damaged(name, "experts.2", "experts.9");
    assert!(error.contains("no tensor") && error.contains(name), "{error}");
}

proptest! {
    #[test]
    fn mutated_settings_never_panic(at in 0usize..700, with in prop::collection::vec(any::<u8>(), 0..8)) {
        let dir = copy("architectures/qwen3moe-shares");
        let path = dir.path().join("config.json");
        let mut text = fs::read(&path).unwrap();
        let at = at.min(text.len());
        let end = (at + with.len()).min(text.len());
        text.splice(at..end, with);
        fs::write(&path, text).unwrap();
        if let Ok(config) = read(dir.path()) {
            prop_assert!(config.attention.heads.is_multiple_of(config.attention.kv_heads));
        }
    }
}
