//! From text to text on the real model: the conversation's ids, the shard, the sampler, the stream of events.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::{sync::Arc, time::Duration};

use far_mesh_core::{
    hop::{Head, Hop},
    model::{Precision, gguf},
    session::{Event, Finish, FinishReason, Generator, GeneratorConfig, Request, Sampling, TokenEvent},
    shard::{Config, Shard},
    token::{ChatTemplate, Message, Tokenizer},
};
use futures::StreamExt;
use support::{HASH, config, load, model_path, span};

struct Model {
    shard: Shard,
    tokenizer: Arc<Tokenizer>,
    template: ChatTemplate,
}

fn model(precision: Precision) -> Model {
    let file = gguf::File::open(model_path()).unwrap();
    let tokenizer = Arc::new(Tokenizer::from_gguf(file.metadata()).unwrap());
    let template = ChatTemplate::from_gguf(file.metadata(), &tokenizer).unwrap();
    let shard = load(Config { precision, ..config(model_path(), Some(span(0, 30)), true) });
    Model { shard, tokenizer, template }
}

impl Model {
    fn generator(&self, chunk_tokens: usize) -> Generator {
        let info = self.shard.info();
        let head: Arc<dyn Head> = self.shard.head().unwrap();
        let config = GeneratorConfig {
            model: HASH,
            layers: info.layers,
            context_tokens: info.context_tokens,
            dtype: info.dtype,
            chunk_tokens,
        };
        Generator::new(self.tokenizer.clone(), head, config).unwrap()
    }

    fn hop(&self) -> Arc<dyn Hop> {
        self.shard.hop().unwrap()
    }

    fn ask(&self, prompt: &str, sampling: Sampling) -> Request {
        let prompt = self.template.encode(&self.tokenizer, &[Message::user(prompt)], true).unwrap();
        Request { prompt, max_tokens: 48, sampling, stop: vec![], logprobs: Some(5) }
    }

    async fn run(&self, chunk_tokens: usize, request: Request) -> (Vec<TokenEvent>, Finish) {
        let events = self.generator(chunk_tokens).generate(self.hop(), request).unwrap();
        let mut tokens = vec![];
        for event in events.collect::<Vec<_>>().await {
            match event.unwrap() {
                Event::Token(token) => tokens.push(token),
                Event::Done(finish) => return (tokens, finish),
            }
        }
        panic!("the stream ended without a last event")
    }
}

fn text(tokens: &[TokenEvent]) -> String {
    tokens.iter().map(|token| token.text.as_str()).collect()
}

#[tokio::test]
async fn the_exact_model_answers_as_the_reference() {
    let model = model(Precision::Exact);
    let question = "What is the capital of France?";
    let (tokens, finish) = model.run(64, model.ask(question, Sampling::greedy())).await;
    assert_eq!(text(&tokens) + &finish.tail, "The capital of France is Paris.");
    assert_eq!(tokens.iter().map(|token| token.id).collect::<Vec<_>>(), [504, 3575, 282, 4649, 314, 7042, 30, 2]);
    assert_eq!((finish.reason, finish.usage.completion_tokens), (FinishReason::Stop, 8));
    let (own, best) = tokens[0].logprobs.clone().unwrap();
    assert!((own + 1.88271).abs() < 0.002 && best[0].logprob == own && best[1].id == 60, "{own} {best:?}");
    // The prompt and all tokens but the last.
    assert_eq!(finish.accounts[0].tokens, u64::from(finish.usage.prompt_tokens) + 7);
    model.shard.shutdown().await;
}

#[tokio::test]
async fn chunks_and_neighbours_change_no_bit_and_the_room_comes_back() {
    let model = model(Precision::Packed);
    let free = model.shard.free_tokens();
    let warm = Sampling { temperature: 0.8, top_p: 0.95, seed: Some(11), ..Sampling::default() };
    let asked = model.ask("Explain quantum computing", warm.clone());
    let (alone, _) = model.run(64, asked.clone()).await;
    let (chunked, _) = model.run(7, asked.clone()).await;
    assert_eq!(alone, chunked);
    let other = Sampling { seed: Some(12), ..warm };
    let (together, (differs, _)) =
        tokio::join!(model.run(1, asked.clone()), model.run(64, Request { sampling: other, ..asked.clone() }));
    assert_eq!(alone, together.0);
    assert_ne!(text(&alone), text(&differs), "another seed says something else");

    let mut dropped = model.generator(64).generate(model.hop(), asked).unwrap();
    assert!(dropped.next().await.unwrap().is_ok());
    assert!(model.shard.free_tokens() < free);
    drop(dropped);
    // At the latest when the step that is running ends, which nobody tells of.
    let came_back = async {
        while model.shard.free_tokens() < free {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), came_back).await.expect("the room of a dropped session comes back");
    model.shard.shutdown().await;
}
