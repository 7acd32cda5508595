//! Hosts of a simulation: a coordinator and several holders of each third of the layers.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use far_mesh_core::{
    activation::Dtype,
    id::Span,
    peer::{RemoteHop, ServeConfig, StepTime, serve},
    route::{Offer, RouteHop},
};
use turmoil::Builder;

use crate::{
    drive::{Client, Outcome},
    fault::{Fault, Misfortune, Moment},
    mock::{LAYERS, MockHop},
    net::{Condition, Port, listen, name, node},
};

/// A host by its number; 0 is the coordinator's.
pub(crate) type Host = u8;

/// Hops of a route.
pub(crate) const HOPS: u8 = 3;

/// Longest a simulation may take on its own clock.
const LIMIT: Duration = Duration::from_secs(3600);

/// Messages that a connection holds, and connections that a listener does.
const CAPACITY: usize = 1024;

/// What is simulated.
#[derive(Clone, Debug)]
pub(crate) struct Setup {
    /// Decides all that is left to chance.
    pub(crate) seed: u64,
    /// Generations at once.
    pub(crate) sessions: usize,
    /// Token ids of a prompt, and of each of its chunks.
    pub(crate) prompt: usize,
    pub(crate) chunk: usize,
    /// Tokens that are generated.
    pub(crate) steps: usize,
    /// Holders of each third.
    pub(crate) copies: u8,
    /// Compute of a hop.
    pub(crate) time: StepTime,
    /// Least and greatest one-way latency, in whole milliseconds.
    pub(crate) latency: (Duration, Duration),
    /// How often the network moves: no message is faster.
    pub(crate) tick: Duration,
    /// What happens.
    pub(crate) mishap: Mishap,
}

/// What happens in a simulation.
#[derive(Clone, Debug)]
pub(crate) enum Mishap {
    /// Nothing.
    None,
    /// A fault befalls the first holders of these hops' layers, once.
    Strike(Fault, Moment, Vec<u8>),
    /// Each hop of the first session's route dies at each step with this chance, and starts again.
    Deaths {
        /// A step.
        chance: f64,
        /// How long a dead host takes to start again.
        restart: Duration,
    },
}

/// What came of a simulation.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) outcomes: Vec<Outcome>,
    /// What happened when.
    pub(crate) trace: Vec<String>,
}

/// What the coordinator's host shares with whoever strikes.
#[derive(Debug)]
pub(crate) struct Board {
    /// Results that came back, by session.
    pub(crate) results: Vec<AtomicUsize>,
    /// Hosts of the first session's route.
    route: Mutex<Vec<Host>>,
    outcomes: Mutex<Vec<Option<Outcome>>>,
    trace: Mutex<Vec<String>>,
}

impl Setup {
    pub(crate) fn hosts(&self) -> u8 {
        1 + HOPS * self.copies
    }

    pub(crate) fn chunks(&self) -> usize {
        self.prompt.div_ceil(self.chunk)
    }

    /// Round trip that hosts have measured.
    fn rtt(&self) -> Duration {
        self.latency.0 + self.latency.1
    }

    /// What the `copy`th holder of the layers of `hop` offers. Each promises less than the one before, so that the first is
    /// taken as long as nothing is known against it; by some percent they would be taken for equal and share the load.
    pub(crate) fn offer(&self, hop: u8, copy: u8) -> Offer {
        let layer = |time: Duration| time.as_nanos() as u32 / third(hop).len();
        let later = |ns: u32| ns + ns / 2 * u32::from(copy);
        Offer {
            node: node(holder(hop, copy)),
            addrs: vec![],
            span: third(hop),
            dtype: Dtype::F32,
            kernel_class: "mock".to_owned(),
            layer_time_ns: later(layer(self.time.of(1))),
            prefill_layer_time_ns: later(layer(self.time.per_token)),
            rtt: Some(self.rtt()),
            region: String::new(),
            region_refuted: false,
            links: vec![],
            queue_ns: 0,
            bandwidth_kib_s: 0,
            slowdown_percent: 100,
            free_tokens: u64::MAX,
            price_nano_far: 0,
        }
    }

    /// A hop of a planned route.
    pub(crate) fn hop(&self, hop: RouteHop) -> RemoteHop {
        RemoteHop {
            node: hop.node,
            addrs: hop.addrs,
            span: hop.span,
            kernel_class: hop.kernel_class,
            expected: self.time,
            promised: self.time.of(1),
        }
    }

    /// Runs it to its end.
    pub(crate) fn run(&self) -> Run {
        let mut builder = Builder::new();
        builder
            .rng_seed(self.seed)
            .enable_random_order()
            .simulation_duration(LIMIT)
            .min_message_latency(self.latency.0)
            .max_message_latency(self.latency.1)
            .tick_duration(self.tick)
            .tcp_capacity(CAPACITY);
        let mut sim = builder.build();
        let conditions: Arc<[Arc<Condition>]> = (0..self.hosts()).map(|_| Arc::default()).collect();
        for host in 1..self.hosts() {
            let (setup, conditions) = (self.clone(), Arc::clone(&conditions));
            sim.host(name(host), move || provide(setup.clone(), setup.port(host, &conditions)));
        }
        let board = Arc::new(Board::new(self.sessions));
        let client = Client::new(self.clone(), self.port(0, &conditions), Arc::clone(&board));
        sim.client(name(0), client.run());
        let mut misfortune = Misfortune::new(self, &conditions);
        while !sim.step().unwrap_or_else(|error| panic!("seed {}: {error}", self.seed)) {
            misfortune.between_ticks(&mut sim, &board);
        }
        misfortune.end();
        drop(sim);
        let outcomes = std::mem::take(&mut *board.outcomes.lock().unwrap());
        let trace = std::mem::take(&mut *board.trace.lock().unwrap());
        Run { outcomes: outcomes.into_iter().map(Option::unwrap).collect(), trace }
    }

    fn port(&self, host: Host, conditions: &Arc<[Arc<Condition>]>) -> Port {
        Port { host, rtt: self.rtt(), conditions: Arc::clone(conditions) }
    }
}

impl Board {
    fn new(sessions: usize) -> Self {
        let results = (0..sessions).map(|_| AtomicUsize::new(0)).collect();
        let outcomes = Mutex::new((0..sessions).map(|_| None).collect());
        Self { results, route: Mutex::default(), outcomes, trace: Mutex::default() }
    }

    /// One more result of a session came back, or 0 of them: it is open.
    pub(crate) fn progress(&self, session: usize) {
        self.results[session].fetch_add(1, SeqCst);
    }

    /// The first session takes this route.
    pub(crate) fn take(&self, hosts: Vec<Host>) {
        *self.route.lock().unwrap() = hosts;
    }

    pub(crate) fn route(&self) -> Vec<Host> {
        self.route.lock().unwrap().clone()
    }

    pub(crate) fn finish(&self, session: usize, outcome: Outcome) {
        self.outcomes.lock().unwrap()[session] = Some(outcome);
    }

    pub(crate) fn note(&self, at: Duration, what: impl std::fmt::Display) {
        self.trace.lock().unwrap().push(format!("{:>6} ms {what}", at.as_millis()));
    }

    /// Results of the session that is ahead of all others; opening counts as one.
    pub(crate) fn furthest(&self) -> usize {
        self.results.iter().map(|results| results.load(SeqCst)).max().unwrap_or_default().saturating_sub(1)
    }

    /// Whether every session is open.
    pub(crate) fn begun(&self) -> bool {
        self.results.iter().all(|results| results.load(SeqCst) > 0)
    }
}

/// The layers of a hop.
pub(crate) fn third(hop: u8) -> Span {
    let layers = LAYERS / u32::from(HOPS);
    Span::new(u32::from(hop) * layers, (u32::from(hop) + 1) * layers).unwrap()
}

/// The host that is the `copy`th holder of a hop's layers.
pub(crate) fn holder(hop: u8, copy: u8) -> Host {
    1 + copy * HOPS + hop
}

/// A provider's host.
async fn provide(setup: Setup, port: Port) -> turmoil::Result {
    let condition = Arc::clone(&port.conditions[usize::from(port.host)]);
    let hop = MockHop { span: third((port.host - 1) % HOPS), time: setup.time, condition: Arc::clone(&condition) };
    let incoming = listen(Arc::clone(&condition)).await?;
    let config = ServeConfig { max_greetings_per_peer: 512, max_sessions_per_peer: 512, ..ServeConfig::default() };
    let _server = serve(Arc::new(port), incoming, Arc::new(hop), config);
    condition.die().await;
    Ok(())
}
