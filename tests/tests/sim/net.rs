//! Streams of the shard protocol over turmoil's TCP, and what can be done to a host that uses them.
//!
//! The first byte of a connection says which host opened it: libp2p's authenticated handshake is not simulated.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc, Mutex, OnceLock, Weak,
        atomic::{AtomicBool, AtomicU32, Ordering::SeqCst},
    },
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use far_mesh_core::{
    id::NodeId,
    peer::{
        Keypair, Multiaddr,
        wire::{BoxedStream, DialError, Dialer},
    },
};
use futures::{
    FutureExt,
    future::{BoxFuture, poll_fn},
    io::{AsyncRead, AsyncWrite},
    stream::{self, Stream, StreamExt},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::Notify,
    time::timeout,
};
use tokio_util::compat::{Compat, TokioAsyncReadCompatExt};
use turmoil::net::{TcpListener, TcpStream};

const PORT: u16 = 4001;

/// How long a host may take to say who it is.
const FIRST_BYTE: Duration = Duration::from_millis(500);

/// Connections that are being accepted at once.
const CONNECTING: usize = 512;

/// The identities of hosts.
fn hosts() -> &'static [(NodeId, Keypair)] {
    static HOSTS: OnceLock<Vec<(NodeId, Keypair)>> = OnceLock::new();
    let host = |host: u8| {
        let key = Keypair::ed25519_from_bytes([host + 1; 32]).unwrap();
        (key.public().to_peer_id(), key)
    };
    HOSTS.get_or_init(|| (0..64).map(host).collect())
}

/// The identity of a host.
pub(crate) fn node(host: u8) -> NodeId {
    hosts()[usize::from(host)].0
}

/// The host of an identity.
pub(crate) fn host(id: NodeId) -> u8 {
    hosts().iter().position(|(node, _)| *node == id).expect("an identity of this simulation") as u8
}

/// The name of a host in the simulation.
pub(crate) fn name(host: u8) -> String {
    format!("host-{host}")
}

/// A stream that may be taken away from those who use it.
type Takeable = Mutex<Option<Compat<TcpStream>>>;

/// What is wrong with a host; set from outside between two ticks.
#[derive(Debug)]
pub(crate) struct Condition {
    killed: AtomicBool,
    kill: Notify,
    /// The host's streams, oldest first.
    streams: Mutex<Vec<Weak<Takeable>>>,
    stopped: AtomicBool,
    garbage: AtomicBool,
    slowdown: AtomicU32,
    sleepers: Mutex<Vec<Waker>>,
}

impl Default for Condition {
    fn default() -> Self {
        Self {
            killed: AtomicBool::new(false),
            kill: Notify::new(),
            streams: Mutex::default(),
            stopped: AtomicBool::new(false),
            garbage: AtomicBool::new(false),
            slowdown: AtomicU32::new(1),
            sleepers: Mutex::default(),
        }
    }
}

impl Condition {
    /// As `SIGKILL`: the host's system closes its connections and refuses others. Crash it a tick later, which drops its
    /// tasks in an order that differs from run to run: by then nobody hears of it.
    pub(crate) fn kill(&self) {
        self.killed.store(true, SeqCst);
        self.kill.notify_one();
    }

    /// The host has started again.
    pub(crate) fn revive(&self) {
        self.killed.store(false, SeqCst);
    }

    /// On the host itself: closes its streams once it is killed.
    pub(crate) async fn die(&self) {
        self.kill.notified().await;
        let streams = std::mem::take(&mut *self.streams.lock().unwrap());
        for stream in streams.iter().filter_map(Weak::upgrade) {
            drop(stream.lock().unwrap().take());
        }
        std::future::pending().await
    }

    /// As `SIGSTOP`: connections stay, nothing on the host moves.
    pub(crate) fn stop(&self) {
        self.stopped.store(true, SeqCst);
    }

    /// As `SIGCONT`.
    pub(crate) fn go_on(&self) {
        self.stopped.store(false, SeqCst);
        self.sleepers.lock().unwrap().drain(..).for_each(Waker::wake);
    }

    /// What the host sends from now on is noise.
    pub(crate) fn send_garbage(&self) {
        self.garbage.store(true, SeqCst);
    }

    /// Its device takes this many times as long.
    pub(crate) fn slow_down(&self, factor: u32) {
        self.slowdown.store(factor, SeqCst);
    }

    pub(crate) fn slowdown(&self) -> u32 {
        self.slowdown.load(SeqCst)
    }

    fn poll_awake(&self, cx: &mut Context<'_>) -> Poll<()> {
        if self.stopped.load(SeqCst) {
            self.sleepers.lock().unwrap().push(cx.waker().clone());
            return Poll::Pending;
        }
        Poll::Ready(())
    }

    /// Ready while the host is not stopped.
    pub(crate) async fn awake(&self) {
        poll_fn(|cx| self.poll_awake(cx)).await;
    }
}

/// A host's end of a stream.
struct End {
    stream: Arc<Takeable>,
    condition: Arc<Condition>,
    /// State of the noise.
    noise: u32,
}

impl End {
    fn boxed(stream: TcpStream, condition: &Arc<Condition>) -> BoxedStream {
        let stream = Arc::new(Mutex::new(Some(stream.compat())));
        let mut streams = condition.streams.lock().unwrap();
        streams.retain(|stream| stream.strong_count() > 0);
        streams.push(Arc::downgrade(&stream));
        Box::new(Self { stream, condition: Arc::clone(condition), noise: 1 })
    }

    /// Does something with the stream; nothing more comes of it where the host is killed.
    fn with<T>(&self, work: impl FnOnce(Pin<&mut Compat<TcpStream>>) -> Poll<T>) -> Poll<T> {
        self.stream.lock().unwrap().as_mut().map_or(Poll::Pending, |stream| work(Pin::new(stream)))
    }
}

impl AsyncRead for End {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &mut [u8]) -> Poll<io::Result<usize>> {
        ready!(self.condition.poll_awake(cx));
        self.with(|stream| stream.poll_read(cx, bytes))
    }
}

impl AsyncWrite for End {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        ready!(self.condition.poll_awake(cx));
        if !self.condition.garbage.load(SeqCst) {
            return self.with(|stream| stream.poll_write(cx, bytes));
        }
        let noise = bytes.iter().map(|_| {
            self.noise = self.noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (self.noise >> 24) as u8
        });
        let noise: Vec<u8> = noise.collect();
        self.with(|stream| stream.poll_write(cx, &noise))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.with(|stream| stream.poll_flush(cx))
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.with(|stream| stream.poll_close(cx))
    }
}

/// A host's way to all others.
#[derive(Debug)]
pub(crate) struct Port {
    pub(crate) host: u8,
    pub(crate) rtt: Duration,
    /// Of all hosts.
    pub(crate) conditions: Arc<[Arc<Condition>]>,
}

impl Dialer for Port {
    fn open(&self, peer: NodeId, _: Vec<Multiaddr>) -> BoxFuture<'_, Result<BoxedStream, DialError>> {
        async move {
            let failed = |source| DialError { peer, source };
            let known = (0..).zip(self.conditions.iter()).find(|(host, _)| node(*host) == peer);
            let (host, there) = known.ok_or_else(|| failed(io::ErrorKind::NotFound.into()))?;
            if there.killed.load(SeqCst) {
                return Err(failed(io::ErrorKind::ConnectionRefused.into()));
            }
            let mut stream = TcpStream::connect((name(host), PORT)).await.map_err(failed)?;
            stream.write_all(&[self.host]).await.map_err(failed)?;
            Ok(End::boxed(stream, &self.conditions[usize::from(self.host)]))
        }
        .boxed()
    }

    fn key(&self) -> &Keypair {
        &hosts()[usize::from(self.host)].1
    }

    fn rtt(&self, _: NodeId) -> Option<Duration> {
        Some(self.rtt)
    }
}

/// Streams that others open to this host, with who opened them.
pub(crate) async fn listen(
    condition: Arc<Condition>,
) -> io::Result<impl Stream<Item = (NodeId, BoxedStream)> + Send + 'static> {
    let listener = TcpListener::bind(("0.0.0.0", PORT)).await?;
    let accepted = stream::unfold((listener, condition), |(listener, condition)| async move {
        condition.awake().await;
        let (stream, _) = listener.accept().await.ok()?;
        Some(((stream, Arc::clone(&condition)), (listener, condition)))
    });
    let named = accepted.map(|(mut stream, condition)| async move {
        // The byte travels right behind the connection: who is cut off before it was not there.
        let host = timeout(FIRST_BYTE, stream.read_u8()).await.ok()?.ok()?;
        Some((node(host), End::boxed(stream, &condition)))
    });
    Ok(named.buffer_unordered(CONNECTING).filter_map(std::future::ready))
}
