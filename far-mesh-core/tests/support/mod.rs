//! What the tests of shards share: a shard of a model, a chain of hops, and steps through them.
#![allow(dead_code, reason = "each test program uses its part")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::{path::PathBuf, sync::Arc};

use far_mesh_core::{
    activation::{Activation, Dtype},
    hop::{Account, Head, Hop, HopSession, Input, OpenSession, Rows, Step},
    id::{ModelHash, SessionId, Span},
    model::Precision,
    shard::{Batching, Config, DeviceChoice, PrefixSharing, Shard},
};

/// The model file that `tests/run` names.
pub(crate) fn model_path() -> PathBuf {
    let path = std::env::var_os("FAR_MESH_TEST_MODEL")
        .expect("FAR_MESH_TEST_MODEL must name SmolLM2-135M-Instruct.Q4_1.gguf: run the tests with tests/run");
    PathBuf::from(path)
}

pub(crate) const HASH: ModelHash = ModelHash([7; 32]);

pub(crate) fn span(start: u32, end: u32) -> Span {
    Span::new(start, end).unwrap()
}

/// A configuration on two threads, in which every session computes all of its pages itself.
pub(crate) fn config(model: PathBuf, span: Option<Span>, head: bool) -> Config {
    let batching = Batching { prefix_sharing: PrefixSharing::Off, ..Batching::default() };
    let (device, precision, threads, arena_tokens) = (DeviceChoice::Cpu, Precision::Packed, 2, 2048);
    Config { model, hash: HASH, span, head, device, precision, threads, arena_tokens, batching, isa: None }
}

pub(crate) fn load(config: Config) -> Shard {
    Shard::load(config, &mut |_, _| {}).unwrap()
}

/// Hops that follow each other, as sessions of one sequence.
pub(crate) struct Chain {
    sessions: Vec<Box<dyn HopSession>>,
    seq: u64,
    position: u32,
}

impl Chain {
    pub(crate) async fn open(hops: &[(Arc<dyn Hop>, Span)], context_tokens: u32) -> Self {
        Self::open_model(hops, context_tokens, HASH).await
    }

    /// As [`Chain::open`], for a model of another hash.
    pub(crate) async fn open_model(hops: &[(Arc<dyn Hop>, Span)], context_tokens: u32, model: ModelHash) -> Self {
        let session = SessionId::random();
        let mut sessions = vec![];
        for (hop, span) in hops {
            let request = OpenSession { session, model, span: *span, dtype: Dtype::F32, context_tokens };
            sessions.push(hop.open(request).await.unwrap());
        }
        Self { sessions, seq: 0, position: 0 }
    }

    /// Sends token ids through all hops in one step; the last hop's rows.
    pub(crate) async fn step(&mut self, ids: &[u32], output: Rows) -> Option<Activation> {
        let mut input = Input::Tokens(ids.to_vec());
        let last = self.sessions.len() - 1;
        let mut result = None;
        for (at, session) in self.sessions.iter_mut().enumerate() {
            let output = if at == last { output } else { Rows::All };
            session.submit(Step { seq: self.seq, position: self.position, input, output }).await.unwrap();
            result = session.next().await.unwrap().output;
            input = match &result {
                Some(activation) if at != last => Input::Activation(activation.clone()),
                _ => Input::Tokens(vec![]),
            };
        }
        self.seq += 1;
        self.position += ids.len() as u32;
        result
    }

    /// Sends a prompt in chunks; hidden states of all its positions, or of the last alone.
    pub(crate) async fn prefill(&mut self, ids: &[u32], chunk: usize) -> Vec<Activation> {
        let mut rows = vec![];
        for chunk in ids.chunks(chunk) {
            rows.push(self.step(chunk, Rows::All).await.unwrap());
        }
        rows
    }

    /// What each hop says it did.
    pub(crate) async fn close(self) -> Vec<Account> {
        let mut accounts = vec![];
        for session in self.sessions {
            accounts.extend(session.close().await.unwrap());
        }
        accounts
    }
}

/// Natural logarithms of probabilities.
pub(crate) fn log_softmax(logits: &[f32]) -> Vec<f32> {
    let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits.iter().map(|&logit| f64::from(logit - max).exp()).sum();
    logits.iter().map(|&logit| (f64::from(logit - max) - sum.ln()) as f32).collect()
}

pub(crate) fn best(logits: &[f32]) -> u32 {
    (0..logits.len()).max_by(|&a, &b| logits[a].total_cmp(&logits[b])).unwrap() as u32
}

pub(crate) fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

/// Logits of activations, one row after the other.
pub(crate) async fn logits(head: &dyn Head, rows: &[Activation]) -> Vec<f32> {
    let mut all = vec![];
    for activation in rows {
        all.extend(head.logits(activation.clone()).await.unwrap());
    }
    all
}
