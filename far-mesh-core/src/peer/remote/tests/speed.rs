//! What a chain of hops costs on top of computing, over loopback TCP.

use std::{
    collections::HashMap,
    fmt, io,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use futures::{FutureExt, StreamExt, future::BoxFuture};
use libp2p::{Multiaddr, identity::Keypair};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::compat::TokioAsyncReadCompatExt;

use super::{fabric::tokens, mock::MockHop};
use crate::{
    hop::{Hop, Rows},
    id::NodeId,
    peer::{
        RemoteHop, RemoteRoute, ServeConfig, StepTime, serve,
        wire::{BoxedStream, DialError, Dialer},
    },
};

/// Plain TCP; a stream begins with the name of its opener.
struct Tcp {
    key: Keypair,
    addrs: Arc<HashMap<NodeId, SocketAddr>>,
}

impl Dialer for Tcp {
    fn open(&self, peer: NodeId, _: Vec<Multiaddr>) -> BoxFuture<'_, Result<BoxedStream, DialError>> {
        let dial = async move {
            use tokio::io::AsyncWriteExt;
            let mut stream = TcpStream::connect(self.addrs[&peer]).await?;
            stream.set_nodelay(true)?;
            stream.write_all(&self.key.public().to_peer_id().to_bytes()).await?;
            Ok(Box::new(stream.compat()) as BoxedStream)
        };
        dial.map(move |dialled: io::Result<_>| dialled.map_err(|source| DialError { peer, source })).boxed()
    }

    fn key(&self) -> &Keypair {
        &self.key
    }

    fn rtt(&self, _: NodeId) -> Option<Duration> {
        None
    }
}

impl fmt::Debug for Tcp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tcp").field("node", &self.key.public().to_peer_id()).finish_non_exhaustive()
    }
}

async fn named(stream: io::Result<TcpStream>) -> Option<(NodeId, BoxedStream)> {
    use tokio::io::AsyncReadExt;
    let mut stream = stream.ok()?;
    stream.set_nodelay(true).ok()?;
    let mut name = [0; 38];
    stream.read_exact(&mut name).await.ok()?;
    Some((NodeId::from_bytes(&name).ok()?, Box::new(stream.compat()) as BoxedStream))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement: run it alone, with --ignored --nocapture"]
async fn overhead_of_a_step_over_three_hops() {
    const HIDDEN: usize = 576;
    let mocks: Vec<MockHop> = [(0, 10), (10, 20), (20, 30)]
        .map(|(start, end)| MockHop { hidden: HIDDEN, ..MockHop::idle(start, end) })
        .into();
    let keys: Vec<Keypair> = mocks.iter().map(|_| Keypair::generate_ed25519()).collect();
    let nodes: Vec<NodeId> = keys.iter().map(|key| key.public().to_peer_id()).collect();
    let mut listeners = vec![];
    for _ in &mocks {
        listeners.push(TcpListener::bind("127.0.0.1:0").await.unwrap());
    }
    let addrs = nodes.iter().zip(&listeners).map(|(node, listener)| (*node, listener.local_addr().unwrap())).collect();
    let addrs = Arc::new(addrs);
    let dialer = |key| Arc::new(Tcp { key, addrs: Arc::clone(&addrs) });
    let servers: Vec<_> = listeners
        .into_iter()
        .zip(&mocks)
        .zip(&keys)
        .map(|((listener, mock), key)| {
            let incoming = futures::stream::unfold(listener, |listener| async {
                let accepted = listener.accept().await.map(|(stream, _)| stream);
                Some((accepted, listener))
            });
            let incoming = incoming.filter_map(named);
            serve(dialer(key.clone()), incoming, Arc::new(mock.clone()), ServeConfig::default())
        })
        .collect();
    let hops = mocks.iter().zip(&nodes).map(|(mock, node)| RemoteHop {
        node: *node,
        addrs: vec![],
        span: mock.span,
        kernel_class: mock.kernel_class(),
        expected: StepTime::default(),
        promised: Duration::ZERO,
    });
    let route = RemoteRoute::new(dialer(Keypair::generate_ed25519()), hops.collect()).unwrap();
    let request = crate::hop::OpenSession { span: route.span(), context_tokens: 100_000, ..mocks[0].request() };
    let mut session = route.open(request).await.unwrap();
    let mut micros: Vec<u128> = vec![];
    for at in 0..20_000 {
        let start = Instant::now();
        session.submit(tokens(at, at as u32, &[1], Rows::Last)).await.unwrap();
        let done = session.next().await.unwrap();
        micros.push(start.elapsed().as_micros());
        assert_eq!(done.output.unwrap().bytes().len(), HIDDEN * 4);
    }
    micros.sort_unstable();
    let at = |share: f64| micros[(micros.len() as f64 * share) as usize];
    println!("3 hops, 2304-byte activations, loopback TCP: median {} us, p99 {} us a step", at(0.5), at(0.99));
    assert!(at(0.5) < 1000, "median {} us", at(0.5));
    for server in servers {
        server.shutdown().now_or_never();
    }
}
