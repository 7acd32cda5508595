//! A whole small model on a Vulkan device (in software where there is no GPU) against the CPU's.

use std::path::{Path, PathBuf};

use burn_flex::{Flex, FlexDevice};

use super::{
    Batching,
    config::{Config, DeviceChoice, Info},
    engine::{Engine, EngineStep, ModelEngine},
    handle::load_engine,
};
use crate::{
    activation::Activation,
    hop::{Input, Rows},
    id::{ModelHash, Span},
    kernel::{
        FarBackend, Format, KernelOps, Pool,
        gpu::{Gpu, device},
    },
    model::{Precision, testing::TinyLlama},
};

const LAYERS: u32 = 3;

/// A model whose matrices are of many formats.
fn model() -> TinyLlama {
    TinyLlama {
        layers: LAYERS,
        hidden: 256,
        feed_forward: 512,
        formats: vec![
            Format::Q4_0,
            Format::Q4_1,
            Format::Q8_0,
            Format::Q5_K,
            Format::Q4_K,
            Format::Q6_K,
            Format::Q5_0,
            Format::BF16,
            Format::F32,
            Format::F16,
            Format::Q5_1,
        ],
        output: Some(Format::Q6_K),
        ..TinyLlama::default()
    }
}

fn load<B: FarBackend>(
    path: &Path,
    span: Option<(u32, u32)>,
    precision: Precision,
    device: B::Device,
) -> (ModelEngine<B>, Info) {
    let config = Config {
        model: path.to_path_buf(),
        hash: ModelHash([0; 32]),
        span: span.map(|(start, end)| Span::new(start, end).unwrap()),
        head: span.is_none_or(|(_, end)| end == LAYERS),
        device: DeviceChoice::Cpu,
        precision,
        threads: 1,
        arena_tokens: 256,
        batching: Batching::default(),
        isa: None,
    };
    B::compute(&[], || load_engine::<B>(&config, device, &mut |_, _| {})).unwrap()
}

fn step<'a>(position: usize, pages: &'a [u32], input: &'a Input) -> EngineStep<'a> {
    EngineStep { position, pages, input, output: Rows::All, chunk: input.tokens() > 1 }
}

fn forward(engine: &mut dyn Engine, layers: u32, steps: &[EngineStep<'_>]) -> Vec<Activation> {
    engine.forward(0..layers as usize, steps).unwrap().into_iter().map(Option::unwrap).collect()
}

fn ids(from: usize, count: usize) -> Vec<u32> {
    (from..from + count).map(|i| (i * 37 % 79) as u32).collect()
}

/// Hidden states and logits of a prompt in two chunks and three steps after it.
fn generate(engine: &mut dyn Engine) -> (Vec<f32>, Vec<f32>) {
    let pages = [3, 1, 2];
    let (mut hidden, mut logits) = (vec![], vec![]);
    for (position, rows) in [(0, 40), (40, 17), (57, 1), (58, 1), (59, 1)] {
        let input = Input::Tokens(ids(position, rows));
        let done = forward(engine, LAYERS, &[step(position, &pages, &input)]);
        hidden.extend(done[0].to_f32());
        logits.extend(engine.logits(&[&done[0]]).unwrap());
    }
    (hidden, logits)
}

fn relative_error(got: &[f32], want: &[f32]) -> f64 {
    let norm = |x: &mut dyn Iterator<Item = f64>| x.map(|x| x * x).sum::<f64>().sqrt();
    assert_eq!(got.len(), want.len());
    let mut difference = got.iter().zip(want).map(|(a, b)| f64::from(*a) - f64::from(*b));
    norm(&mut difference) / norm(&mut want.iter().map(|x| f64::from(*x)))
}

#[test]
fn a_model_gives_what_the_cpu_gives() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    model().write(&path).unwrap();
    let _threads = Pool::new(1).install();
    let (mut cpu, _) = load::<Flex>(&path, Some((0, LAYERS)), Precision::Exact, FlexDevice);
    let (want_hidden, want_logits) = generate(&mut cpu);
    for precision in [Precision::Exact, Precision::Packed] {
        let (mut gpu, info) = load::<Gpu>(&path, Some((0, LAYERS)), precision, device());
        let tolerance = match info.dtype.bytes() {
            4 => 2e-5,
            _ => 1e-2,
        };
        gpu.warm_up(info.arena_tokens, info.context_tokens as usize).unwrap();
        let (hidden, logits) = generate(&mut gpu);
        let errors = (relative_error(&hidden, &want_hidden), relative_error(&logits, &want_logits));
        assert!(errors.0 < tolerance && errors.1 < tolerance, "{precision:?}, {:?}: {errors:?}", info.dtype);
    }
}

#[test]
fn cutting_the_span_changes_no_bit() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    model().write(&path).unwrap();
    let (mut whole, info) = load::<Gpu>(&path, Some((0, LAYERS)), Precision::Packed, device());
    let (mut first, _) = load::<Gpu>(&path, Some((0, 1)), Precision::Packed, device());
    let (mut last, _) = load::<Gpu>(&path, Some((1, LAYERS)), Precision::Packed, device());
    assert_eq!(info.dtype, Gpu::activation_dtype(false, &device()));
    let pages = [0, 1, 2];
    for (position, rows) in [(0, 33), (33, 1), (34, 1)] {
        let input = Input::Tokens(ids(position, rows));
        let want = forward(&mut whole, LAYERS, &[step(position, &pages, &input)]);
        let between = forward(&mut first, 1, &[step(position, &pages, &input)]);
        assert_eq!(between[0].dtype(), info.dtype);
        let input = Input::Activation(between[0].clone());
        let got = forward(&mut last, LAYERS - 1, &[step(position, &pages, &input)]);
        assert_eq!(got, want, "position {position}");
        assert_eq!(last.logits(&[&got[0]]).unwrap(), whole.logits(&[&want[0]]).unwrap());
    }
}

#[test]
fn how_a_prompt_is_cut_into_chunks_changes_no_bit() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    model().write(&path).unwrap();
    let (mut engine, _) = load::<Gpu>(&path, Some((0, LAYERS)), Precision::Packed, device());
    let mut results = vec![];
    for cut in [vec![70], vec![2, 68], vec![33, 35, 2]] {
        let (mut position, mut hidden) = (0, vec![]);
        for rows in cut {
            let input = Input::Tokens(ids(position, rows));
            hidden.extend(forward(&mut engine, LAYERS, &[step(position, &[0, 1, 2], &input)])[0].to_f32());
            position += rows;
        }
        results.push(hidden);
    }
    assert_eq!(results[1], results[0]);
    assert_eq!(results[2], results[0]);
}

#[test]
fn a_batch_changes_no_bit_of_a_session() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    model().write(&path).unwrap();
    let (mut engine, _) = load::<Gpu>(&path, Some((0, LAYERS)), Precision::Packed, device());
    let pages: Vec<[u32; 2]> = (0..4).map(|i| [2 * i, 2 * i + 1]).collect();
    let prompts: Vec<Input> = (0..4).map(|i| Input::Tokens(ids(i * 5, 20 + i))).collect();
    let nexts: Vec<Input> = (0..4).map(|i| Input::Tokens(ids(i, 1))).collect();
    let alone: Vec<[Activation; 2]> = (0..4)
        .map(|i| {
            let prompt = forward(&mut engine, LAYERS, &[step(0, &pages[i], &prompts[i])]).remove(0);
            let next = forward(&mut engine, LAYERS, &[step(20 + i, &pages[i], &nexts[i])]).remove(0);
            [prompt, next]
        })
        .collect();
    // Session 3's prompt beside the steps of the others, then its step with theirs.
    let mixed: Vec<EngineStep<'_>> =
        (0..3).map(|i| step(20 + i, &pages[i], &nexts[i])).chain([step(0, &pages[3], &prompts[3])]).collect();
    let mixed = forward(&mut engine, LAYERS, &mixed);
    let steps: Vec<EngineStep<'_>> = (0..4).map(|i| step(20 + i, &pages[i], &nexts[i])).collect();
    let steps = forward(&mut engine, LAYERS, &steps);
    for i in 0..4 {
        assert_eq!(mixed[i], alone[i][usize::from(i < 3)], "session {i}, mixed");
        assert_eq!(steps[i], alone[i][1], "session {i}, steps");
    }
    let together = engine.logits(&steps.iter().collect::<Vec<_>>()).unwrap();
    let alone: Vec<f32> = steps.iter().flat_map(|step| engine.logits(&[step]).unwrap()).collect();
    assert_eq!(together, alone);
}

/// The tiny models that `tests/architectures.rs` holds against `transformers`, with biases, head norms, windows and experts.
fn architectures() -> impl Iterator<Item = PathBuf> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/architectures");
    let names = ["llama3", "linear", "mistral", "qwen2", "qwen3", "mixtral", "qwen3moe", "qwen3moe-shares"];
    names.into_iter().map(move |name| Path::new(folder).join(name))
}

fn few_ids(count: usize) -> Vec<u32> {
    ids(3, count).into_iter().map(|id| id % 64).collect()
}

#[test]
fn every_architecture_gives_what_the_cpu_gives() {
    let _threads = Pool::new(1).install();
    for path in architectures() {
        let (mut cpu, _) = load::<Flex>(&path, Some((0, LAYERS)), Precision::Exact, FlexDevice);
        let (mut gpu, _) = load::<Gpu>(&path, Some((0, LAYERS)), Precision::Exact, device());
        for (position, rows) in [(0, 30), (30, 1), (31, 1)] {
            let input = Input::Tokens(few_ids(rows));
            let [want, got] = [&mut cpu as &mut dyn Engine, &mut gpu].map(|engine| {
                let hidden = forward(engine, LAYERS, &[step(position, &[1, 0], &input)]).remove(0);
                engine.logits(&[&hidden]).unwrap()
            });
            let error = relative_error(&got, &want);
            assert!(error < 2e-5, "{}, position {position}: {error}", path.display());
        }
    }
}

#[test]
fn who_else_chose_an_expert_changes_no_bit() {
    for path in architectures().filter(|path| path.to_string_lossy().contains("mo") || path.ends_with("mixtral")) {
        let (mut engine, _) = load::<Gpu>(&path, Some((0, LAYERS)), Precision::Packed, device());
        let inputs = [Input::Tokens(few_ids(5)), Input::Tokens(few_ids(1)), Input::Tokens(few_ids(21))];
        let pages = [[0], [1], [2]];
        let steps = || (0..3).map(|i| step(0, &pages[i], &inputs[i]));
        let together = forward(&mut engine, LAYERS, &steps().collect::<Vec<_>>());
        for (i, step) in steps().enumerate() {
            assert_eq!(forward(&mut engine, LAYERS, &[step])[0], together[i], "{}, {i}", path.display());
        }
    }
}
