//! Drives sessions through a hop, near or far, and keeps the bits of all that comes back.

use std::{sync::OnceLock, time::Duration};

use far_mesh_core::{
    activation::{Activation, Dtype},
    hop::{Head, Hop, HopSession, Input, OpenSession, Rows, Step},
    id::SessionId,
    model::Precision,
    shard::{Batching, Config, DeviceChoice, Shard},
};

use crate::{
    net::{hash, span},
    process::within,
};

/// Longest a single step may take before the test gives up on it.
const STEP: Duration = Duration::from_secs(30);

/// Steps under way at once.
const IN_FLIGHT: usize = 4;

/// Token ids of the prompts in the golden cases.
pub(crate) fn prompts() -> &'static [Vec<u32>] {
    static PROMPTS: OnceLock<Vec<Vec<u32>>> = OnceLock::new();
    PROMPTS.get_or_init(|| {
        let text = include_str!("../../../far-mesh-core/tests/golden/smollm2-135m-instruct-q4_1.json");
        let golden: serde_json::Value = serde_json::from_str(text).unwrap();
        let cases = golden["cases"].as_array().unwrap();
        cases.iter().map(|case| serde_json::from_value(case["prompt_ids"].clone()).unwrap()).collect()
    })
}

/// A shard in this process.
pub(crate) fn load(layers: Option<&str>, head: bool) -> Shard {
    let config = Config {
        model: far_mesh_tests::model(),
        hash: hash(),
        span: layers.map(span),
        head,
        device: DeviceChoice::Cpu,
        precision: Precision::Packed,
        threads: 2,
        arena_tokens: 32_768,
        batching: Batching::default(),
        isa: None,
    };
    Shard::load(config, &mut |_, _| ()).unwrap()
}

/// What to ask of a hop that runs all of its layers.
pub(crate) fn opening(hop: &dyn Hop, context_tokens: u32) -> OpenSession {
    OpenSession { session: SessionId::random(), model: hash(), span: hop.span(), dtype: Dtype::F32, context_tokens }
}

/// One session, step by step.
pub(crate) struct Driver {
    session: Box<dyn HopSession>,
    seq: u64,
    position: u32,
}

impl Driver {
    pub(crate) async fn open(hop: &dyn Hop, context_tokens: u32) -> Self {
        let opened = within(STEP, "open", hop.open(opening(hop, context_tokens))).await;
        Self { session: opened.unwrap_or_else(|error| panic!("{error}")), seq: 0, position: 0 }
    }

    /// Sends ids in chunks, several under way at once; the rows of the last chunk.
    pub(crate) async fn tokens(&mut self, ids: &[u32], chunk: usize, output: Rows) -> Activation {
        let chunks = ids.chunks(chunk);
        let last = self.seq + chunks.len() as u64 - 1;
        let (mut waiting, mut rows) = (0, None);
        for ids in chunks {
            let inner = if output == Rows::All { Rows::All } else { Rows::None };
            let output = if self.seq == last { output } else { inner };
            self.submit(Input::Tokens(ids.to_vec()), output).await;
            waiting += 1;
            if waiting == IN_FLIGHT {
                rows = self.next().await;
                waiting -= 1;
            }
        }
        for _ in 0..waiting {
            rows = self.next().await;
        }
        rows.expect("the last chunk has rows")
    }

    async fn submit(&mut self, input: Input, output: Rows) {
        let tokens = input.tokens() as u32;
        let step = Step { seq: self.seq, position: self.position, input, output };
        within(STEP, "submit", self.session.submit(step)).await.unwrap_or_else(|error| panic!("{error}"));
        (self.seq, self.position) = (self.seq + 1, self.position + tokens);
    }

    async fn next(&mut self) -> Option<Activation> {
        within(STEP, "a step", self.session.next()).await.unwrap_or_else(|error| panic!("{error}")).output
    }

    /// Ends the session; every hop has receipts for every position.
    pub(crate) async fn close(self) {
        let accounts = within(STEP, "close", self.session.close()).await.unwrap_or_else(|error| panic!("{error}"));
        for account in &accounts {
            let all = u64::from(self.position);
            assert_eq!((account.tokens, account.counted), (all, all), "{accounts:?}");
        }
    }
}

/// Greedy generation: the bits of the logits behind the prompt and behind each of `steps` tokens.
pub(crate) async fn generate(hop: &dyn Hop, head: &dyn Head, prompt: &[u32], chunk: usize, steps: usize) -> Vec<u32> {
    let mut driver = Driver::open(hop, (prompt.len() + steps) as u32).await;
    let mut row = driver.tokens(prompt, chunk, Rows::Last).await;
    let mut all = vec![];
    for step in 0..=steps {
        let logits = head.logits(row.clone()).await.unwrap();
        all.extend(logits.iter().map(|logit| logit.to_bits()));
        if step < steps {
            let best = (0..logits.len()).max_by(|&a, &b| logits[a].total_cmp(&logits[b])).unwrap();
            row = driver.tokens(&[best as u32], 1, Rows::Last).await;
        }
    }
    driver.close().await;
    all
}

/// The bits of hidden states behind every position of `ids`: a few in one step, the rest one by one.
pub(crate) async fn hidden(hop: &dyn Hop, ids: &[u32]) -> Vec<u32> {
    let mut driver = Driver::open(hop, ids.len() as u32).await;
    let (prompt, rest) = ids.split_at(ids.len() - 4);
    let mut all = bits(&driver.tokens(prompt, prompt.len(), Rows::All).await);
    for id in rest {
        all.extend(bits(&driver.tokens(&[*id], 1, Rows::All).await));
    }
    driver.close().await;
    all
}

fn bits(rows: &Activation) -> Vec<u32> {
    rows.to_f32().iter().map(|value| value.to_bits()).collect()
}
