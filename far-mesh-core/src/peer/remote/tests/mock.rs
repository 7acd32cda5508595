//! A hop that computes nothing of use, but so that order, layers, positions and past steps all show in the result.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures::{FutureExt, future::BoxFuture};
use tokio::time::{Instant, sleep, sleep_until};

use crate::{
    activation::{Activation, Dtype},
    hop::{Account, Done, Hop, HopError, HopSession, Input, OpenSession, Rows, Step},
    id::{ModelHash, SessionId, Span},
};

pub(super) const MODEL: ModelHash = ModelHash([7; 32]);

/// Not a model: mixes integers.
#[derive(Clone, Debug)]
pub(super) struct MockHop {
    pub(super) span: Span,
    pub(super) hidden: usize,
    pub(super) model: ModelHash,
    /// Time to make room for a session.
    pub(super) open_delay: Duration,
    /// Time of a step.
    pub(super) delay: Duration,
    /// Fails at this step.
    pub(super) fails_at: Option<u64>,
    /// Gives no numbers at this step.
    pub(super) no_number_at: Option<u64>,
    pub(super) merges: bool,
    /// Steps run in all.
    pub(super) steps: Arc<AtomicUsize>,
    pub(super) room_tokens: u64,
    /// Does not even mix: for measurements.
    pub(super) idle: bool,
    /// Sessions that are open.
    pub(super) live: Arc<AtomicUsize>,
}

struct MockSession {
    hop: MockHop,
    sums: Vec<Vec<u32>>,
    done: VecDeque<(Instant, Result<Done, HopError>)>,
    tokens: u64,
    zeros: Bytes,
}

impl MockHop {
    pub(super) fn new(start: u32, end: u32) -> Self {
        Self {
            span: Span::new(start, end).unwrap(),
            hidden: 8,
            model: MODEL,
            open_delay: Duration::ZERO,
            delay: Duration::ZERO,
            fails_at: None,
            no_number_at: None,
            merges: true,
            steps: Arc::default(),
            room_tokens: u64::MAX,
            idle: false,
            live: Arc::default(),
        }
    }

    pub(super) fn idle(start: u32, end: u32) -> Self {
        Self { idle: true, ..Self::new(start, end) }
    }

    pub(super) fn request(&self) -> OpenSession {
        OpenSession {
            session: SessionId::random(),
            model: MODEL,
            span: self.span,
            dtype: Dtype::F32,
            context_tokens: 8192,
        }
    }
}

impl Hop for MockHop {
    fn span(&self) -> Span {
        self.span
    }

    fn kernel_class(&self) -> String {
        "mock".to_owned()
    }

    fn merges_steps(&self) -> bool {
        self.merges
    }

    fn open(&self, request: OpenSession) -> BoxFuture<'_, Result<Box<dyn HopSession>, HopError>> {
        async move {
            sleep(self.open_delay).await;
            if request.model != self.model {
                let reason = format!("model {} was asked for, {} is served", request.model, self.model);
                return Err(HopError::Refused { reason });
            }
            if request.dtype != Dtype::F32 {
                return Err(HopError::Refused { reason: format!("{:?} was asked for, F32 is served", request.dtype) });
            }
            let needed_tokens = u64::from(request.context_tokens);
            if needed_tokens > self.room_tokens {
                return Err(HopError::Full { needed_tokens, free_tokens: self.room_tokens });
            }
            self.live.fetch_add(1, Ordering::SeqCst);
            let sums = vec![vec![0; self.hidden]; request.span.len() as usize];
            let session = MockSession {
                // A session may need a part of its layers.
                hop: Self { span: request.span, ..self.clone() },
                sums,
                done: VecDeque::new(),
                tokens: 0,
                zeros: vec![0; self.hidden * 4].into(),
            };
            Ok(Box::new(session) as Box<dyn HopSession>)
        }
        .boxed()
    }
}

impl MockSession {
    fn run(&mut self, step: Step) -> Result<Done, HopError> {
        if self.hop.fails_at == Some(step.seq) {
            return Err(HopError::Device { reason: "mock device is on fire".to_owned() });
        }
        self.hop.steps.fetch_add(1, Ordering::SeqCst);
        let hidden = self.hop.hidden;
        if self.hop.no_number_at == Some(step.seq) {
            let output = Activation::from_f32(1, hidden, vec![f32::NAN; hidden]).unwrap();
            let rows = Activation::concat(&vec![output; step.input.tokens()]).unwrap();
            return Ok(Done { seq: step.seq, output: Some(rows) });
        }
        if self.hop.idle {
            let output = Activation::new(step.input.tokens(), hidden, Dtype::F32, self.zeros.clone()).unwrap();
            return Ok(Done { seq: step.seq, output: Some(output) });
        }
        let mut rows: Vec<Vec<u32>> = match &step.input {
            Input::Tokens(ids) => {
                let embed = |(i, id): (usize, &u32)| {
                    let at = step.position + i as u32;
                    (0..hidden as u32).map(|j| id.wrapping_mul(2_654_435_761).wrapping_add(at << 8 | j)).collect()
                };
                ids.iter().enumerate().map(embed).collect()
            }
            Input::Activation(activation) => {
                if activation.hidden() != hidden {
                    let reason = format!("width {} into a model of {hidden}", activation.hidden());
                    return Err(HopError::BadStep { reason });
                }
                let words = activation.bytes().chunks_exact(4).map(|b| u32::from_le_bytes(b.try_into().unwrap()));
                words.collect::<Vec<_>>().chunks(hidden).map(<[u32]>::to_vec).collect()
            }
        };
        for (sum, layer) in self.sums.iter_mut().zip(self.hop.span.start()..) {
            for row in &mut rows {
                for (value, sum) in row.iter_mut().zip(sum.iter_mut()) {
                    *sum = sum.wrapping_add(*value);
                    // Without the exponent's first bit every value is a number.
                    *value =
                        (value.rotate_left(5) ^ (layer + 1)).wrapping_mul(0x9E37_79B1).wrapping_add(*sum) & !(1 << 30);
                }
            }
        }
        self.tokens += rows.len() as u64;
        let rows = match step.output {
            Rows::None => &[][..],
            Rows::Last => &rows[rows.len() - 1..],
            Rows::All => &rows[..],
        };
        let bytes: Bytes = rows.iter().flatten().flat_map(|value| value.to_le_bytes()).collect();
        let output = (!rows.is_empty()).then(|| Activation::new(rows.len(), hidden, Dtype::F32, bytes).unwrap());
        Ok(Done { seq: step.seq, output })
    }
}

impl HopSession for MockSession {
    fn submit(&mut self, step: Step) -> BoxFuture<'_, Result<(), HopError>> {
        let done = self.run(step);
        let before = self.done.back().map_or_else(Instant::now, |(ready, _)| *ready);
        self.done.push_back((before + self.hop.delay, done));
        async { Ok(()) }.boxed()
    }

    fn next(&mut self) -> BoxFuture<'_, Result<Done, HopError>> {
        async {
            let (ready, _) = self.done.front().expect("a step is queued");
            if !self.hop.delay.is_zero() {
                sleep_until(*ready).await;
            }
            self.done.pop_front().expect("it is still there").1
        }
        .boxed()
    }

    fn close(self: Box<Self>) -> BoxFuture<'static, Result<Vec<Account>, HopError>> {
        let (span, tokens) = (self.hop.span, self.tokens);
        let compute = self.hop.delay * u32::try_from(tokens).unwrap();
        async move {
            Ok(vec![Account { node: None, span, tokens, counted: tokens, compute, exact: true, receipts: Vec::new() }])
        }
        .boxed()
    }
}

impl Drop for MockSession {
    fn drop(&mut self) {
        self.hop.live.fetch_sub(1, Ordering::SeqCst);
    }
}
