//! Each architecture against `transformers`: tiny random models and their logits, both made by
//! `fixtures/make_architectures.py`.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use std::{path::PathBuf, sync::Arc};

use far_mesh_core::{
    hop::Hop,
    model::{ModelConfig, Precision, RopeScaling, gguf},
    shard::{Config, Shard},
};
use support::{Chain, bits, config, load, span};

const TOKENS: u32 = 40;
const VOCABULARY: u32 = 64;
const LAYERS: u32 = 2;
const MODELS: [&str; 5] = ["llama3", "linear", "mistral", "qwen2", "qwen3"];

fn fixture(name: &str, ending: &str) -> PathBuf {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/architectures");
    PathBuf::from(format!("{folder}/{name}.{ending}"))
}

fn shard(name: &str, precision: Precision) -> Shard {
    let config = config(fixture(name, "gguf"), Some(span(0, LAYERS)), true);
    load(Config { precision, arena_tokens: 256, ..config })
}

async fn logits_of(shard: &Shard, cuts: &[u32], chunk: usize) -> Vec<f32> {
    let ids: Vec<u32> = (0..TOKENS).map(|i| (31 * i + 7) % VOCABULARY).collect();
    let hop: Arc<dyn Hop> = shard.hop().unwrap();
    let hops: Vec<_> = cuts.windows(2).map(|cut| (Arc::clone(&hop), span(cut[0], cut[1]))).collect();
    let mut chain = Chain::open(&hops, TOKENS).await;
    let rows = chain.prefill(&ids, chunk).await;
    chain.close().await;
    support::logits(&*shard.head().unwrap(), &rows).await
}

fn reference(name: &str) -> Vec<f32> {
    let bytes = std::fs::read(fixture(name, "logits")).unwrap();
    let values: Vec<f32> = bytes.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
    assert_eq!(values.len(), (TOKENS * VOCABULARY) as usize);
    values
}

/// Root mean square.
fn size(values: impl ExactSizeIterator<Item = f32>) -> f32 {
    let count = values.len() as f32;
    (values.map(|value| value * value).sum::<f32>() / count).sqrt()
}

#[tokio::test]
async fn exact_logits_are_the_references() {
    for name in MODELS {
        let want = reference(name);
        let got = logits_of(&shard(name, Precision::Exact), &[0, LAYERS], TOKENS as usize).await;
        let typical = size(want.iter().copied());
        for (at, (got, want)) in got.iter().zip(&want).enumerate() {
            let error = (got - want).abs() / typical;
            assert!(error < 1e-4, "{name}: logit {at} is {got}, not {want} (error {error:e} of the typical size)");
        }
    }
}

#[tokio::test]
async fn packed_logits_differ_by_the_rounding_of_int8() {
    for name in MODELS {
        let want = reference(name);
        let got = logits_of(&shard(name, Precision::Packed), &[0, LAYERS], TOKENS as usize).await;
        let error = size(got.iter().zip(&want).map(|(got, want)| got - want)) / size(want.iter().copied());
        // Rows of one block of 32 and sharp attention: far more than in a real model, far less than any mistake makes.
        assert!(error > 0.0 && error < 0.15, "{name}: relative error {error}");
    }
}

#[tokio::test]
async fn spans_and_chunks_change_no_bit() {
    for name in MODELS {
        let shard = shard(name, Precision::Packed);
        let whole = bits(&logits_of(&shard, &[0, LAYERS], TOKENS as usize).await);
        for cuts in [&[0, LAYERS][..], &[0, 1, LAYERS]] {
            for chunk in [1, 7, 64] {
                assert!(bits(&logits_of(&shard, cuts, chunk).await) == whole, "{name}: {cuts:?} in chunks of {chunk}");
            }
        }
    }
}

#[tokio::test]
async fn a_span_reads_the_tensors_of_its_layers_alone() {
    for name in MODELS {
        let file = gguf::File::open(fixture(name, "gguf")).unwrap();
        let own = |layer| {
            let tensors = file.tensors().iter().filter(move |tensor| tensor.layer() == Some(layer));
            tensors.filter_map(|tensor| tensor.bytes).sum::<u64>()
        };
        let factors = file.find("rope_freqs.weight").and_then(|tensor| tensor.bytes).unwrap_or(0);
        let mut read = 0;
        let config = config(fixture(name, "gguf"), Some(span(1, LAYERS)), false);
        Shard::load(config, &mut |done, _| read = done).unwrap();
        assert_eq!(read, own(1) + factors, "{name}");
    }
}

#[test]
fn what_sets_a_model_apart_is_read_from_its_file() {
    let config = |name| ModelConfig::from_gguf(&gguf::File::open(fixture(name, "gguf")).unwrap()).unwrap();
    assert_eq!(config("llama3").rope_scaling, RopeScaling::Factors);
    assert_eq!(config("linear").rope_scaling, RopeScaling::Linear(4.0));
    assert_eq!((config("mistral").attention.window, config("mistral").tied_head), (Some(7), false));
    assert_eq!((config("qwen2").architecture.name, config("qwen2").tied_head), ("qwen2", true));
    let qwen3 = config("qwen3");
    assert_eq!((qwen3.hidden, qwen3.attention.heads, qwen3.attention.head_dim), (32, 4, 16));
}
