//! The real model against golden outputs, and against itself however it is cut.
//!
//! The cases in `golden/` come from an independent float32 implementation. Log-probabilities are compared
//! teacher-forced: the golden ids are fed, whatever our own choice would be.

mod support;

use std::sync::Arc;

use far_mesh_core::{
    hop::{Hop, Rows},
    kernel::Isa,
    model::{Precision, gguf},
    shard::Shard,
};
use support::{Chain, best, bits, config, load, log_softmax, model_path, span};

const LAYERS: u32 = 30;

#[derive(serde::Deserialize)]
struct Golden {
    cases: Vec<Case>,
}

#[derive(serde::Deserialize)]
struct Case {
    prompt: String,
    prompt_ids: Vec<u32>,
    output_ids: Vec<u32>,
    /// Per output token the five best with their log-probabilities, best first.
    top5: Vec<Vec<(u32, f32)>>,
}

fn cases() -> Vec<Case> {
    let text = include_str!("golden/smollm2-135m-instruct-q4_1.json");
    serde_json::from_str::<Golden>(text).unwrap().cases
}

impl Case {
    /// The ids to feed so that the last rows predict the output's tokens.
    fn fed(&self) -> Vec<u32> {
        let outputs = &self.output_ids[..self.output_ids.len() - 1];
        self.prompt_ids.iter().chain(outputs).copied().collect()
    }

    /// Gap between the best two tokens of a step.
    fn gap(&self, step: usize) -> f32 {
        self.top5[step][0].1 - self.top5[step][1].1
    }
}

/// Errors of log-probabilities over all cases.
#[derive(Default)]
struct Noise {
    sum: f64,
    max: f64,
    count: u32,
}

impl Noise {
    fn add(&mut self, got: f32, want: f32) {
        let error = f64::from((got - want).abs());
        self.sum += error;
        self.max = self.max.max(error);
        self.count += 1;
    }

    fn mean(&self) -> f64 {
        self.sum / f64::from(self.count)
    }
}

/// Feeds the golden ids and compares: best token, 2nd to 5th, steps whose best token agrees, steps in all.
async fn teacher_forced(shard: &Shard, ambiguous: f32) -> (Noise, Noise, usize, usize) {
    let (mut first, mut others, mut agree, mut steps) = (Noise::default(), Noise::default(), 0, 0);
    let hop: Arc<dyn Hop> = shard.hop().unwrap();
    for case in cases() {
        let mut chain = Chain::open(&[(Arc::clone(&hop), span(0, LAYERS))], 256).await;
        let rows = chain.prefill(&case.fed(), 512).await;
        let all = support::logits(&*shard.head().unwrap(), &rows).await;
        let vocabulary = shard.info().vocab;
        let rows: Vec<&[f32]> = all.chunks(vocabulary).skip(case.prompt_ids.len() - 1).collect();
        assert_eq!(rows.len(), case.output_ids.len());
        for (step, logits) in rows.iter().enumerate() {
            let ours = log_softmax(logits);
            for (rank, &(id, want)) in case.top5[step].iter().enumerate() {
                if rank == 0 { &mut first } else { &mut others }.add(ours[id as usize], want);
            }
            let same = best(logits) == case.output_ids[step];
            assert!(same || case.gap(step) <= ambiguous, "{:?} step {step}: {}", case.prompt, best(logits));
            agree += usize::from(same);
            steps += 1;
        }
        chain.close().await;
    }
    println!(
        "best: mean {:.4} max {:.4}; 2nd to 5th: mean {:.4} max {:.4}; {agree} of {steps} agree",
        first.mean(),
        first.max,
        others.mean(),
        others.max
    );
    (first, others, agree, steps)
}

#[tokio::test]
async fn exact_log_probabilities_are_the_golden_ones() {
    let shard = load(far_mesh_core::shard::Config {
        precision: Precision::Exact,
        ..config(model_path(), Some(span(0, LAYERS)), true)
    });
    let (first, others, ..) = teacher_forced(&shard, 0.004).await;
    assert!(first.max <= 0.002 && others.max <= 0.002, "{} {}", first.max, others.max);
}

#[tokio::test]
async fn packed_log_probabilities_stay_within_the_noise_of_int8() {
    let shard = load(config(model_path(), Some(span(0, LAYERS)), true));
    let (first, others, agree, steps) = teacher_forced(&shard, 0.4).await;
    assert_eq!(steps, 219);
    assert!(first.mean() <= 1.5 * 0.035 && first.max <= 1.5 * 0.22, "{} {}", first.mean(), first.max);
    assert!(others.mean() <= 1.5 * 0.10 && others.max <= 1.5 * 0.59, "{} {}", others.mean(), others.max);
    assert!(agree >= 211, "{agree} of {steps} agree");
}

#[tokio::test]
async fn greedy_output_is_golden_up_to_the_first_close_call() {
    let shard = load(config(model_path(), Some(span(0, LAYERS)), true));
    let (hop, head): (Arc<dyn Hop>, _) = (shard.hop().unwrap(), shard.head().unwrap());
    let mut compared = 0;
    for case in cases() {
        let mut chain = Chain::open(&[(Arc::clone(&hop), span(0, LAYERS))], 256).await;
        let mut ids = case.prompt_ids.clone();
        for (step, &want) in case.output_ids.iter().enumerate() {
            let row = chain.step(&ids, Rows::Last).await.unwrap();
            let next = best(&support::logits(&*head, &[row]).await);
            if next != want {
                assert!(case.gap(step) < 0.4, "{:?} step {step}: {next}, golden {want}", case.prompt);
                break;
            }
            compared += 1;
            ids = vec![next];
        }
        chain.close().await;
    }
    assert!(compared >= 120, "only {compared} tokens were the golden ones");
}
