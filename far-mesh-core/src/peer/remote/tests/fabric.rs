//! A network in memory whose lanes can be silenced, and a mesh of mock providers on it.

use std::{
    collections::HashMap,
    fmt, io,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use futures::{
    FutureExt,
    future::BoxFuture,
    io::{AsyncRead, AsyncWrite},
};
use libp2p::{Multiaddr, identity::Keypair};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::compat::TokioAsyncReadCompatExt;

use super::mock::MockHop;
use crate::{
    hop::{Hop, HopError, HopSession, Input, OpenSession, Rows, Step},
    id::{NodeId, Span},
    peer::{
        Loss, Mender, RemoteHop, RemoteRoute, ServeConfig, Server, StepTime, serve,
        wire::{BoxedStream, DialError, Dialer},
    },
};

/// Bytes a stream holds: less than a prefill frame, so that writers meet back pressure.
const STREAM_BYTES: usize = 64 * 1024;

type Accepted = mpsc::Sender<(NodeId, BoxedStream)>;

#[derive(Default)]
pub(super) struct Fabric {
    nodes: Mutex<HashMap<NodeId, Accepted>>,
    lanes: Mutex<HashMap<(NodeId, NodeId), Arc<Lane>>>,
    keys: Mutex<HashMap<NodeId, Keypair>>,
    /// Streams opened so far.
    opened: AtomicUsize,
    /// Streams before this one carry nothing any more.
    oldest: Arc<AtomicUsize>,
    /// Streams go over a relay.
    relayed: AtomicBool,
}

/// What goes from one node to another.
#[derive(Default)]
struct Lane {
    silent: AtomicBool,
    writes: AtomicUsize,
}

/// A node's end of a stream.
struct End<S> {
    stream: S,
    number: usize,
    oldest: Arc<AtomicUsize>,
    out: Arc<Lane>,
    back: Arc<Lane>,
}

/// A node's way into the fabric.
#[derive(Clone)]
pub(super) struct Port {
    pub(super) node: NodeId,
    key: Keypair,
    fabric: Arc<Fabric>,
}

impl Fabric {
    /// A node that can sign.
    pub(super) fn newcomer(&self) -> NodeId {
        let key = Keypair::generate_ed25519();
        let node = key.public().to_peer_id();
        self.keys.lock().unwrap().insert(node, key);
        node
    }

    /// Where the node is no newcomer, its signatures are worth nothing.
    pub(super) fn port(self: &Arc<Self>, node: NodeId) -> Port {
        let key = self.keys.lock().unwrap().get(&node).cloned().unwrap_or_else(Keypair::generate_ed25519);
        Port { node, key, fabric: Arc::clone(self) }
    }

    pub(super) fn listen(&self, node: NodeId) -> ReceiverStream<(NodeId, BoxedStream)> {
        let (sender, receiver) = mpsc::channel(64);
        self.nodes.lock().unwrap().insert(node, sender);
        ReceiverStream::new(receiver)
    }

    fn lane(&self, from: NodeId, to: NodeId) -> Arc<Lane> {
        Arc::clone(self.lanes.lock().unwrap().entry((from, to)).or_default())
    }

    /// From now on nothing that one sends reaches the other, and neither notices.
    pub(super) fn silence(&self, a: NodeId, b: NodeId) {
        self.lane(a, b).silent.store(true, Ordering::SeqCst);
        self.lane(b, a).silent.store(true, Ordering::SeqCst);
    }

    /// From now on streams go over a relay, or directly again.
    pub(super) fn relay(&self, relayed: bool) {
        self.relayed.store(relayed, Ordering::SeqCst);
    }

    /// Streams opened so far.
    pub(super) fn opened(&self) -> usize {
        self.opened.load(Ordering::SeqCst)
    }

    /// Streams opened before those after the first `many` carry nothing any more, and nobody is told.
    pub(super) fn silence_the_first(&self, many: usize) {
        self.oldest.store(many, Ordering::SeqCst);
    }

    pub(super) fn writes(&self, from: NodeId, to: NodeId) -> usize {
        self.lane(from, to).writes.load(Ordering::SeqCst)
    }
}

impl Port {
    /// The same node with another key than its own.
    pub(super) fn with_key(self, key: Keypair) -> Self {
        Self { key, ..self }
    }
}

impl Dialer for Port {
    fn open(&self, peer: NodeId, _: Vec<Multiaddr>) -> BoxFuture<'_, Result<BoxedStream, DialError>> {
        let (out, back) = (self.fabric.lane(self.node, peer), self.fabric.lane(peer, self.node));
        let listener = self.fabric.nodes.lock().unwrap().get(&peer).cloned();
        async move {
            if out.silent.load(Ordering::SeqCst) {
                std::future::pending::<()>().await;
            }
            let refused = || DialError { peer, source: io::ErrorKind::ConnectionRefused.into() };
            let (here, there) = tokio::io::duplex(STREAM_BYTES);
            let (number, oldest) = (self.fabric.opened.fetch_add(1, Ordering::SeqCst), Arc::clone(&self.fabric.oldest));
            let far = End {
                stream: there.compat(),
                number,
                oldest: Arc::clone(&oldest),
                out: Arc::clone(&back),
                back: Arc::clone(&out),
            };
            let listener = listener.ok_or_else(refused)?;
            listener.send((self.node, Box::new(far) as BoxedStream)).await.map_err(|_| refused())?;
            Ok(Box::new(End { stream: here.compat(), number, oldest, out, back }) as BoxedStream)
        }
        .boxed()
    }

    fn key(&self) -> &Keypair {
        &self.key
    }

    fn is_direct(&self, _: NodeId) -> bool {
        !self.fabric.relayed.load(Ordering::SeqCst)
    }

    fn rtt(&self, _: NodeId) -> Option<Duration> {
        Some(Duration::from_millis(40))
    }
}

impl<S> End<S> {
    fn is_silent(&self) -> bool {
        self.number < self.oldest.load(Ordering::SeqCst)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for End<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &mut [u8]) -> Poll<io::Result<usize>> {
        if self.back.silent.load(Ordering::SeqCst) || self.is_silent() {
            return Poll::Pending;
        }
        Pin::new(&mut self.stream).poll_read(cx, bytes)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for End<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.out.silent.load(Ordering::SeqCst) || self.is_silent() {
            return Poll::Ready(Ok(bytes.len()));
        }
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        if written.is_ready() {
            self.out.writes.fetch_add(1, Ordering::SeqCst);
        }
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_close(cx)
    }
}

impl fmt::Debug for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Port").field("node", &self.node).finish_non_exhaustive()
    }
}

/// Mock providers in a row and a coordinator.
pub(super) struct Mesh {
    pub(super) fabric: Arc<Fabric>,
    pub(super) coordinator: NodeId,
    pub(super) hops: Vec<RemoteHop>,
    pub(super) spares: Vec<RemoteHop>,
    /// Spares that come when somebody waits.
    pub(super) late: Vec<RemoteHop>,
    pub(super) mocks: Vec<MockHop>,
    pub(super) servers: Vec<Server>,
}

impl Mesh {
    /// One provider for each pair of neighbouring cuts.
    pub(super) fn new(cuts: &[u32]) -> Self {
        Self::with(cuts, ServeConfig::default(), |_, _| {})
    }

    pub(super) fn with(cuts: &[u32], config: ServeConfig, tweak: impl Fn(usize, &mut MockHop)) -> Self {
        Self::with_fabric(Arc::default(), cuts, config, tweak)
    }

    fn with_fabric(
        fabric: Arc<Fabric>,
        cuts: &[u32],
        config: ServeConfig,
        tweak: impl Fn(usize, &mut MockHop),
    ) -> Self {
        let coordinator = fabric.newcomer();
        let mut mesh =
            Self { coordinator, hops: vec![], spares: vec![], late: vec![], mocks: vec![], servers: vec![], fabric };
        for (at, cut) in cuts.windows(2).enumerate() {
            let mut mock = MockHop::new(cut[0], cut[1]);
            tweak(at, &mut mock);
            let node = mesh.fabric.newcomer();
            let expected = StepTime { base: mock.delay, per_token: Duration::ZERO };
            let (span, kernel_class) = (Span::new(cut[0], cut[1]).unwrap(), "mock".to_owned());
            mesh.hops.push(RemoteHop { node, addrs: vec![], span, kernel_class, expected, promised: mock.delay });
            let incoming = mesh.fabric.listen(node);
            let port = Arc::new(mesh.fabric.port(node));
            mesh.servers.push(serve(port, incoming, Arc::new(mock.clone()), config.clone()));
            mesh.mocks.push(mock);
        }
        mesh
    }

    /// Adds a provider for each pair of neighbouring cuts that is in no route but may take a lost one's place.
    pub(super) fn and_spares(mut self, cuts: &[u32], config: ServeConfig, tweak: impl Fn(usize, &mut MockHop)) -> Self {
        let Self { hops, mocks, servers, .. } = Self::with_fabric(Arc::clone(&self.fabric), cuts, config, tweak);
        self.spares.extend(hops);
        self.mocks.extend(mocks);
        self.servers.extend(servers);
        self
    }

    /// The route, mended by the spares.
    pub(super) fn mended(&self) -> (RemoteRoute, Arc<Spares>) {
        let spares = Arc::new(Spares {
            hops: Mutex::new(self.spares.clone()),
            late: Mutex::new(self.late.clone()),
            asked: Mutex::default(),
            lost: Mutex::default(),
            slow: Mutex::default(),
        });
        (self.route().mended_by(Arc::clone(&spares) as Arc<dyn Mender>), spares)
    }

    pub(super) fn node(&self, at: usize) -> NodeId {
        self.hops[at].node
    }

    pub(super) fn route(&self) -> RemoteRoute {
        RemoteRoute::new(Arc::new(self.fabric.port(self.coordinator)), self.hops.clone()).unwrap()
    }

    pub(super) fn request(&self) -> OpenSession {
        OpenSession { span: self.route().span(), ..self.mocks[0].request() }
    }

    pub(super) async fn open(&self) -> Box<dyn HopSession> {
        self.route().open(self.request()).await.unwrap()
    }

    /// Waits until no hop has room for a session taken.
    pub(super) async fn all_free(&self) {
        for (server, mock) in self.servers.iter().zip(&self.mocks) {
            let mut sessions = server.watch_sessions();
            let free = sessions.wait_for(|sessions| *sessions == 0);
            tokio::time::timeout(Duration::from_secs(60), free).await.expect("sessions end").unwrap();
            assert_eq!(mock.live.load(Ordering::SeqCst), 0);
        }
    }
}

/// Providers that may take a lost one's place.
#[derive(Debug)]
pub(super) struct Spares {
    hops: Mutex<Vec<RemoteHop>>,
    late: Mutex<Vec<RemoteHop>>,
    /// What was looked for.
    pub(super) asked: Mutex<Vec<Loss>>,
    /// What was reported.
    pub(super) lost: Mutex<Vec<(NodeId, String)>>,
    pub(super) slow: Mutex<Vec<(NodeId, f64)>>,
}

impl Mender for Spares {
    fn replace(&self, loss: Loss) -> BoxFuture<'static, Result<Vec<RemoteHop>, HopError>> {
        self.asked.lock().unwrap().push(loss.clone());
        let (mut at, mut hops, mut spares) = (loss.span.start(), vec![], self.hops.lock().unwrap());
        if loss.wait {
            spares.append(&mut self.late.lock().unwrap());
        }
        while at < loss.span.end() {
            let free =
                |hop: &&RemoteHop| !loss.without.contains(&hop.node) && hop.span.start() <= at && at < hop.span.end();
            let Some(hop) = spares.iter().find(free).filter(|_| hops.len() < loss.max_hops) else {
                let reason = format!("no spare runs layer {at}");
                return std::future::ready(Err(HopError::Refused { reason })).boxed();
            };
            let end = hop.span.end().min(loss.span.end());
            hops.push(RemoteHop { span: Span::new(at, end).unwrap(), ..hop.clone() });
            at = end;
        }
        std::future::ready(Ok(hops)).boxed()
    }

    fn slow(&self, node: NodeId, factor: f64) {
        self.slow.lock().unwrap().push((node, factor));
    }

    fn lost(&self, node: NodeId, error: &HopError) {
        self.lost.lock().unwrap().push((node, error.to_string()));
    }
}

/// A step of token ids.
pub(super) fn tokens(seq: u64, position: u32, ids: &[u32], output: Rows) -> Step {
    Step { seq, position, input: Input::Tokens(ids.to_vec()), output }
}

/// Runs a prompt in chunks and some steps of one token; the outputs' bytes.
pub(super) async fn generate(session: &mut dyn HopSession, salt: u32, chunks: &[usize], decode: usize) -> Vec<Vec<u8>> {
    let mut outputs = vec![];
    let mut position = 0;
    let lengths = chunks.iter().copied().chain(std::iter::repeat_n(1, decode));
    for (seq, length) in lengths.enumerate() {
        let ids: Vec<u32> = (position..).take(length).map(|at| at * 31 + salt).collect();
        let rows = [Rows::Last, Rows::All, Rows::None][seq % 3];
        session.submit(tokens(seq as u64, position, &ids, rows)).await.unwrap();
        let done = session.next().await.unwrap();
        assert_eq!(done.seq, seq as u64);
        outputs.push(done.output.map(|activation| activation.bytes().to_vec()).unwrap_or_default());
        position += length as u32;
    }
    outputs
}

/// What [`generate`] gives when one hop in this process runs all layers.
pub(super) async fn generate_locally(layers: u32, salt: u32, chunks: &[usize], decode: usize) -> Vec<Vec<u8>> {
    let hop = MockHop::new(0, layers);
    let mut session = hop.open(hop.request()).await.unwrap();
    generate(session.as_mut(), salt, chunks, decode).await
}
