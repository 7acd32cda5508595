//! A hop that computes nothing of use, but so that order, layers, positions and past steps all show in the result.
//!
//! Its values are whole numbers below 2^23, which f32 holds exactly. Time passes on tokio's clock as on a device: a base
//! for each step and more for each of its positions.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use bytes::Bytes;
use far_mesh_core::{
    activation::{Activation, Dtype},
    hop::{Account, Done, Hop, HopError, HopSession, Input, OpenSession, Rows, Step},
    id::{ModelHash, Span},
    peer::StepTime,
};
use futures::{FutureExt, future::BoxFuture};
use tokio::time::{Instant, sleep_until};

use crate::net::Condition;

/// The model that every host serves.
pub(crate) const MODEL: ModelHash = ModelHash([7; 32]);

/// Width of its hidden states.
pub(crate) const HIDDEN: usize = 4;

/// Its layers: two for each of three hops.
pub(crate) const LAYERS: u32 = 6;

/// Every value is below: f32 holds whole numbers up to 2^24.
const MASK: u32 = (1 << 23) - 1;

/// Serves a span, as fast as its host's condition allows.
#[derive(Clone, Debug)]
pub(crate) struct MockHop {
    pub(crate) span: Span,
    pub(crate) time: StepTime,
    pub(crate) condition: Arc<Condition>,
}

struct MockSession {
    hop: MockHop,
    cache: Cache,
    done: VecDeque<(Instant, Result<Done, HopError>)>,
    compute: Duration,
}

/// What a span keeps of the positions it has seen.
pub(crate) struct Cache {
    first: u32,
    sums: Vec<[u32; HIDDEN]>,
    positions: u32,
}

type Row = [u32; HIDDEN];

impl Cache {
    pub(crate) fn new(span: Span) -> Self {
        Self { first: span.start(), sums: vec![[0; HIDDEN]; span.len() as usize], positions: 0 }
    }

    /// Rows of the first layer's input.
    pub(crate) fn embed(&self, ids: &[u32]) -> Vec<Row> {
        let row = |(at, id): (u32, &u32)| {
            std::array::from_fn(|column| {
                (id.wrapping_mul(2_654_435_761).wrapping_add(at << 8 | column as u32) >> 9) & MASK
            })
        };
        (self.positions..).zip(ids).map(row).collect()
    }

    /// Runs the layers on rows of the next positions.
    pub(crate) fn forward(&mut self, rows: &mut [Row]) {
        for (sum, layer) in self.sums.iter_mut().zip(self.first..) {
            for row in rows.iter_mut() {
                for (value, sum) in row.iter_mut().zip(sum.iter_mut()) {
                    *sum = sum.wrapping_add(*value);
                    let mixed = (value.rotate_left(5) ^ (layer + 1)).wrapping_mul(0x9E37_79B1).wrapping_add(*sum);
                    *value = (mixed >> 9) & MASK;
                }
            }
        }
        self.positions += rows.len() as u32;
    }
}

/// The token that follows a last row: the greedy choice.
pub(crate) fn next_token(row: &[f32]) -> u32 {
    row.iter().fold(0_u32, |sum, value| sum.wrapping_mul(31).wrapping_add(*value as u32)) % 50_000
}

/// What an undisturbed generation says after `prompt`.
pub(crate) fn undisturbed(prompt: &[u32], steps: usize) -> Vec<u32> {
    let mut cache = Cache::new(Span::new(0, LAYERS).unwrap());
    let (mut tokens, mut input) = (Vec::new(), prompt.to_vec());
    for _ in 0..steps {
        let mut rows = cache.embed(&input);
        cache.forward(&mut rows);
        let last: Vec<f32> = rows.last().unwrap().iter().map(|value| *value as f32).collect();
        tokens.push(next_token(&last));
        input = vec![next_token(&last)];
    }
    tokens
}

impl Hop for MockHop {
    fn span(&self) -> Span {
        self.span
    }

    fn kernel_class(&self) -> String {
        "mock".to_owned()
    }

    fn hidden(&self) -> Option<usize> {
        Some(HIDDEN)
    }

    fn open(&self, request: OpenSession) -> BoxFuture<'_, Result<Box<dyn HopSession>, HopError>> {
        async move {
            if request.model != MODEL || request.dtype != Dtype::F32 {
                return Err(HopError::Refused { reason: format!("{request:?} was asked for") });
            }
            let cache = Cache::new(request.span);
            let session = MockSession { hop: self.clone(), cache, done: VecDeque::new(), compute: Duration::ZERO };
            Ok(Box::new(session) as Box<dyn HopSession>)
        }
        .boxed()
    }
}

impl MockSession {
    fn run(&mut self, step: &Step) -> Result<Done, HopError> {
        if step.position != self.cache.positions {
            let reason = format!("position {} where {} is due", step.position, self.cache.positions);
            return Err(HopError::BadStep { reason });
        }
        let mut rows: Vec<Row> = match &step.input {
            Input::Tokens(ids) => self.cache.embed(ids),
            Input::Activation(activation) if activation.hidden() == HIDDEN => {
                let words: Vec<u32> = activation.to_f32().iter().map(|value| *value as u32).collect();
                words.chunks_exact(HIDDEN).map(|row| row.try_into().unwrap()).collect()
            }
            Input::Activation(activation) => {
                return Err(HopError::BadStep { reason: format!("width {}", activation.hidden()) });
            }
        };
        self.cache.forward(&mut rows);
        let due = match step.output {
            Rows::None => &[][..],
            Rows::Last => &rows[rows.len() - 1..],
            Rows::All => &rows[..],
        };
        let bytes: Bytes = due.iter().flatten().flat_map(|value| (*value as f32).to_le_bytes()).collect();
        let output = (!due.is_empty()).then(|| Activation::new(due.len(), HIDDEN, Dtype::F32, bytes).unwrap());
        Ok(Done { seq: step.seq, output })
    }
}

impl HopSession for MockSession {
    fn submit(&mut self, step: Step) -> BoxFuture<'_, Result<(), HopError>> {
        let done = self.run(&step);
        let begins = self.done.back().map_or_else(Instant::now, |(ready, _)| *ready);
        let time = self.hop.time.of(step.input.tokens()) * self.hop.condition.slowdown();
        self.compute += time;
        self.done.push_back((begins + time, done));
        async { Ok(()) }.boxed()
    }

    fn next(&mut self) -> BoxFuture<'_, Result<Done, HopError>> {
        async {
            let Some((ready, _)) = self.done.front() else {
                return Err(HopError::BadStep { reason: "no step is queued".to_owned() });
            };
            sleep_until(*ready).await;
            self.hop.condition.awake().await;
            self.done.pop_front().map_or(Err(HopError::Closed), |(_, done)| done)
        }
        .boxed()
    }

    fn close(self: Box<Self>) -> BoxFuture<'static, Result<Vec<Account>, HopError>> {
        let account = Account {
            node: None,
            span: self.hop.span,
            tokens: self.cache.positions.into(),
            counted: self.cache.positions.into(),
            compute: self.compute,
            exact: true,
            receipts: Vec::new(),
        };
        async move { Ok(vec![account]) }.boxed()
    }
}

#[test]
fn spans_in_a_row_compute_what_all_layers_do() {
    let mut parts = [(0, 2), (2, 4), (4, LAYERS)].map(|(start, end)| Cache::new(Span::new(start, end).unwrap()));
    let mut tokens = Vec::new();
    let mut input = vec![5, 6, 7];
    for _ in 0..20 {
        let mut rows = parts[0].embed(&input);
        parts.iter_mut().for_each(|part| part.forward(&mut rows));
        let last: Vec<f32> = rows.last().unwrap().iter().map(|value| *value as f32).collect();
        input = vec![next_token(&last)];
        tokens.push(input[0]);
    }
    assert_eq!(tokens, undisturbed(&[5, 6, 7], 20));
    assert_ne!(tokens, undisturbed(&[6, 5, 7], 20), "order shows");
    assert_ne!(tokens[1..], undisturbed(&[tokens[0]], 19), "the past shows");
}
