//! The coordinator of a simulation: greedy generations, and what was seen of each.

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use far_mesh_core::{
    activation::Dtype,
    hop::{Hop, HopError, HopSession, Input, OpenSession, Rows, Step},
    id::{NodeId, SessionId, Span},
    limits::MAX_STEPS_IN_FLIGHT,
    peer::{Loss, Mender, RemoteHop, RemoteRoute},
    route::{Offer, PlanRequest, plan},
};
use futures::{
    FutureExt,
    future::{BoxFuture, ready},
};
use tokio::time::{Instant, sleep};

use crate::{
    cluster::{Board, HOPS, Setup, third},
    mock::{HIDDEN, LAYERS, MODEL, next_token},
    net::{Port, host},
};

/// By then every host listens.
const SETTLED: Duration = Duration::from_millis(50);

/// What came of one generation.
#[derive(Clone, Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) tokens: Vec<u32>,
    /// Longest time between two results.
    pub(crate) pause: Duration,
    /// From the first step to the last result.
    pub(crate) took: Duration,
    /// Steps that came back twice.
    pub(crate) repeated: usize,
    /// Hops that were lost on the way.
    pub(crate) failures: usize,
    /// Positions that hops were asked to run, summed over them, and those that they have receipts for.
    pub(crate) counted: u64,
    pub(crate) receipted: u64,
    /// Why it did not come to its end.
    pub(crate) error: Option<HopError>,
}

/// The coordinator's host.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    setup: Setup,
    port: Arc<Port>,
    board: Arc<Board>,
    lost: Arc<Mutex<HashMap<NodeId, Instant>>>,
}

/// Plans who takes lost layers, as a coordinator does.
#[derive(Debug)]
struct Repair {
    client: Client,
    number: usize,
    /// Hops that were lost.
    failures: Arc<AtomicUsize>,
}

/// One generation on its way.
struct Drive<'a> {
    client: &'a Client,
    number: usize,
    began: Instant,
    last: Instant,
    outcome: Outcome,
}

/// The prompt of a session.
pub(crate) fn prompt(setup: &Setup, session: usize) -> Vec<u32> {
    let salt = setup.seed as u32 * 131 + session as u32;
    (0..setup.prompt as u32).map(|at| at.wrapping_mul(7919).wrapping_add(salt * 31) % 50_000).collect()
}

impl Client {
    pub(crate) fn new(setup: Setup, port: Port, board: Arc<Board>) -> Self {
        Self { setup, port: Arc::new(port), board, lost: Arc::default() }
    }

    /// All generations at once.
    pub(crate) async fn run(self) -> turmoil::Result {
        sleep(SETTLED).await;
        let sessions = (0..self.setup.sessions).map(|number| {
            let client = self.clone();
            tokio::task::spawn_local(async move {
                let now = Instant::now();
                let mut drive = Drive { client: &client, number, began: now, last: now, outcome: Outcome::default() };
                drive.generate().await;
                client.board.finish(number, drive.outcome);
            })
        });
        for session in sessions.collect::<Vec<_>>() {
            session.await?;
        }
        Ok(())
    }

    /// What all hosts offer. Of those that were lost or slow, whoever was so longest ago costs least.
    fn offers(&self) -> Vec<Offer> {
        let lost = self.lost.lock().unwrap();
        let earlier = |at: Instant| lost.values().filter(|other| **other < at).count() as u32;
        let seen = |offer: Offer| {
            let slowdown_percent = lost.get(&offer.node).map_or(100, |at| 400 + 100 * earlier(*at));
            Offer { slowdown_percent, ..offer }
        };
        let all = (0..HOPS).flat_map(|hop| (0..self.setup.copies).map(move |copy| (hop, copy)));
        all.map(|(hop, copy)| seen(self.setup.offer(hop, copy))).collect()
    }

    /// A route as a coordinator plans it.
    fn plan(
        &self,
        span: Span,
        done: u32,
        busy: Vec<NodeId>,
        ends: [Option<NodeId>; 2],
    ) -> Result<Vec<RemoteHop>, HopError> {
        let setup = &self.setup;
        let (prompt, steps) = (setup.prompt as u32, setup.steps as u32);
        let request = PlanRequest {
            model: "mock".to_owned(),
            span,
            from: ends[0],
            to: ends[1],
            busy,
            max_hops: usize::from(HOPS),
            kernel_class: None,
            dtype: Dtype::F32,
            hidden: HIDDEN as u32,
            region: None,
            prompt_tokens: prompt.max(done),
            max_tokens: (prompt + steps).saturating_sub(prompt.max(done)),
            context_tokens: prompt + steps,
            seed: setup.seed,
        };
        let route = plan(LAYERS, &self.offers(), &request)?;
        Ok(route.hops.into_iter().map(|hop| setup.hop(hop)).collect())
    }

    fn note(&self, what: impl std::fmt::Display) {
        self.board.note(turmoil::sim_elapsed().unwrap_or_default(), what);
    }
}

impl Mender for Repair {
    fn replace(&self, loss: Loss) -> BoxFuture<'static, Result<Vec<RemoteHop>, HopError>> {
        let lost = (0..HOPS).filter(|hop| loss.span.covers(third(*hop)));
        let Loss { span, before, after, without, done_tokens, .. } = loss;
        let found = self.client.plan(span, done_tokens, without, [before, after]);
        if self.number == 0 {
            let mut route = self.client.board.route();
            lost.zip(found.iter().flatten()).for_each(|(hop, new)| route[usize::from(hop)] = host(new.node));
            self.client.board.take(route);
        }
        ready(found).boxed()
    }

    fn slow(&self, node: NodeId, factor: f64) {
        self.client.note(format!("session {} finds {node} {factor:.0} times as slow", self.number));
        self.client.lost.lock().unwrap().insert(node, Instant::now());
    }

    fn lost(&self, node: NodeId, error: &HopError) {
        self.client.note(format!("session {} loses {node}: {error}", self.number));
        self.failures.fetch_add(1, SeqCst);
        self.client.lost.lock().unwrap().insert(node, Instant::now());
    }
}

impl Drive<'_> {
    /// Prompt, then token by token.
    async fn generate(&mut self) {
        let failures = Arc::default();
        if let Err(error) = self.attempt(&failures).await {
            self.client.note(format!("session {} fails: {error}", self.number));
            self.outcome.error = Some(error);
        }
        self.outcome.failures = failures.load(SeqCst);
        self.outcome.took = self.began.elapsed();
    }

    async fn attempt(&mut self, failures: &Arc<AtomicUsize>) -> Result<(), HopError> {
        let (client, number) = (self.client, self.number);
        let setup = &client.setup;
        let hops = client.plan(Span::new(0, LAYERS).unwrap(), 0, vec![], [None, None])?;
        if number == 0 {
            client.board.take(hops.iter().map(|hop| host(hop.node)).collect());
        }
        let repair = Repair { client: client.clone(), number, failures: Arc::clone(failures) };
        let route = RemoteRoute::new(client.port.clone(), hops).unwrap().mended_by(Arc::new(repair));
        let mut id = [0; 16];
        id[..8].copy_from_slice(&setup.seed.to_le_bytes());
        id[8..].copy_from_slice(&(number as u64).to_le_bytes());
        let request = OpenSession {
            session: SessionId(id),
            model: MODEL,
            span: route.span(),
            dtype: Dtype::F32,
            context_tokens: (setup.prompt + setup.steps) as u32,
        };
        let mut session = route.open(request).await?;
        self.begin();
        let prompt = prompt(setup, number);
        let mut chunks: VecDeque<Vec<u32>> = prompt.chunks(setup.chunk).map(<[u32]>::to_vec).collect();
        let (mut seq, mut position, mut in_flight) = (0, 0, 0);
        while self.outcome.tokens.len() < setup.steps {
            while in_flight < MAX_STEPS_IN_FLIGHT
                && let Some(ids) = chunks.pop_front()
            {
                let output = if chunks.is_empty() { Rows::Last } else { Rows::None };
                let length = ids.len() as u32;
                session.submit(Step { seq, position, input: Input::Tokens(ids), output }).await?;
                (seq, position, in_flight) = (seq + 1, position + length, in_flight + 1);
            }
            if let Some(token) = self.result(session.as_mut(), seq - in_flight as u64).await? {
                self.outcome.tokens.push(token);
                chunks.push_back(vec![token]);
            }
            in_flight -= 1;
        }
        for account in session.close().await? {
            self.outcome.counted += account.counted;
            self.outcome.receipted += account.tokens;
        }
        Ok(())
    }

    /// The session is open: time counts from here.
    fn begin(&mut self) {
        self.client.board.progress(self.number);
        (self.began, self.last) = (Instant::now(), Instant::now());
    }

    /// The token of the next result, where it has one.
    async fn result(&mut self, session: &mut dyn HopSession, due: u64) -> Result<Option<u32>, HopError> {
        let mut done = session.next().await?;
        while done.seq < due {
            self.outcome.repeated += 1;
            done = session.next().await?;
        }
        assert_eq!(done.seq, due, "a step is missing");
        self.outcome.pause = self.outcome.pause.max(self.last.elapsed());
        self.last = Instant::now();
        self.client.board.progress(self.number);
        Ok(done.output.map(|row| next_token(&row.to_f32())))
    }
}
