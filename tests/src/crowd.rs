//! Many nodes that do nothing but offer layers and find each other.

use std::{
    fs,
    time::{Duration, Instant},
};

use far_mesh_core::{
    activation::Dtype,
    id::{ModelHash, NodeId, Span},
    peer::{Config, Keypair, Multiaddr, Node, ShardOffer},
};
use futures::{StreamExt as _, stream};

/// The model they all serve.
pub const MODEL: ModelHash = ModelHash([0x5c; 32]);

/// Layers of it.
const LAYERS: u32 = 126;

/// Longest wait for one thing.
const PATIENCE: Duration = Duration::from_secs(120);

/// Nodes that start at the same time: all of a large crowd at once would only measure handshakes.
const TOGETHER: usize = 8;

/// How often the table is looked up at most while it is not as it should be.
const LOOK_INTERVAL: Duration = Duration::from_millis(200);

/// How often it is said how many there are, in nodes.
const MILESTONE: usize = 25;

/// Some nodes of one process.
#[derive(Debug)]
pub struct Crowd {
    nodes: Vec<Node>,
    joining: Vec<Duration>,
}

impl Crowd {
    /// Starts nodes that bootstrap from `bootstrap` and announce a span each every `interval`; returns when the advert of
    /// each is held by another node.
    ///
    /// # Panics
    /// When a node does not start or cannot join.
    pub async fn start(count: usize, bootstrap: &[Multiaddr], interval: Duration) -> Self {
        let started = Instant::now();
        let (mut nodes, mut joining) = (Vec::with_capacity(count), Vec::with_capacity(count));
        let all = stream::iter((0..count).map(|number| member(number, bootstrap, interval)));
        let mut all = std::pin::pin!(all.buffer_unordered(TOGETHER));
        while let Some((node, took)) = all.next().await {
            nodes.push(node);
            joining.push(took);
            if nodes.len() % MILESTONE == 0 {
                eprintln!("  {} of a process joined after {:.1} s", nodes.len(), started.elapsed().as_secs_f64());
            }
        }
        joining.sort_unstable();
        Self { nodes, joining }
    }

    /// How long the nodes took from their start until the advert of each was held by others: half of them at most, and all.
    pub fn joining(&self) -> (Duration, Duration) {
        let at = |index: usize| self.joining.get(index).copied().unwrap_or_default();
        (at(self.joining.len() / 2), at(self.joining.len().saturating_sub(1)))
    }

    /// Who they are.
    pub fn ids(&self) -> Vec<NodeId> {
        self.nodes.iter().map(Node::id).collect()
    }

    /// Requests of the DHT that they answered.
    pub fn requests(&self) -> u64 {
        self.nodes.iter().map(Node::dht_requests).sum()
    }

    /// Connections that they have, seen from both ends.
    pub fn connections(&self) -> usize {
        self.nodes.iter().map(|node| node.connected_peers().len()).sum()
    }

    /// Withdraws all adverts and ends all nodes.
    pub async fn leave(self) {
        futures::future::join_all(self.nodes.iter().map(Node::shutdown)).await;
    }
}

/// A node on loopback that offers nothing.
///
/// # Panics
/// When it does not start or cannot join.
pub async fn node(bootstrap: &[Multiaddr], interval: Duration) -> Node {
    let mut config = Config::new(Keypair::generate_ed25519());
    config.listen = vec![loopback()];
    config.bootstrap = bootstrap.to_vec();
    config.announce_interval = interval;
    let node = Node::spawn(config).await.unwrap_or_else(|error| panic!("a node did not start: {error}"));
    node.bootstrapped(PATIENCE).await.unwrap_or_else(|error| panic!("a node did not join: {error}"));
    node
}

fn loopback() -> Multiaddr {
    "/ip4/127.0.0.1/tcp/0".parse().unwrap_or_else(|error| panic!("{error}"))
}

async fn member(number: usize, bootstrap: &[Multiaddr], interval: Duration) -> (Node, Duration) {
    let started = Instant::now();
    let node = node(bootstrap, interval).await;
    let start = (number as u32 * 9) % (LAYERS - 9);
    let span = Span::new(start, start + 9).unwrap_or_else(|error| panic!("{error}"));
    let offer = ShardOffer {
        model: MODEL,
        model_name: "crowd".into(),
        layers: LAYERS,
        span,
        dtype: Dtype::F32,
        kernel_class: "none".into(),
        protocol: 1,
        build: env!("CARGO_PKG_VERSION").into(),
        addrs: Vec::new(),
        layer_time_ns: 100_000,
        prefill_layer_time_ns: 30_000,
        queue_ns: 0,
        bandwidth_kib_s: 0,
        links: Vec::new(),
        free_tokens: 8192,
        price_nano_far: 1,
        wallet: None,
        region: String::new(),
        device: "none".into(),
        device_mib: 0,
    };
    node.announce(offer).await.unwrap_or_else(|error| panic!("a node did not announce: {error}"));
    (node, started.elapsed())
}

/// Looks the table up until `good` says it is as it should be; how long that took, and how long the last look-up.
///
/// # Panics
/// When it never is.
pub async fn table_until(node: &Node, what: &str, good: impl Fn(&[NodeId]) -> bool) -> (Duration, Duration) {
    let (started, mut said) = (Instant::now(), None);
    loop {
        let asked = Instant::now();
        let adverts = node.adverts(MODEL).await.unwrap_or_else(|error| panic!("{what}: {error}"));
        let peers = adverts.iter().map(|advert| advert.peer).collect::<Vec<_>>();
        if good(&peers) {
            return (started.elapsed(), asked.elapsed());
        }
        let (found, waited) = (peers.len(), started.elapsed());
        if said.replace(found) != Some(found) {
            eprintln!("  {what}: not yet, {found} adverts after {:.2} s", waited.as_secs_f64());
        }
        assert!(waited < PATIENCE, "{what}: {found} adverts after {PATIENCE:?}");
        tokio::time::sleep_until((asked + LOOK_INTERVAL).into()).await;
    }
}

/// Memory of this process in KiB, where the system tells.
pub fn resident_kib() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix("kB")?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_small_crowd_finds_all_of_itself() {
        let interval = Duration::from_secs(45);
        let first = node(&[], interval).await;
        let second = node(&first.listen_addrs(), interval).await;
        let bootstrap = [first.listen_addrs(), second.listen_addrs()].concat();
        let crowd = Crowd::start(24, &bootstrap, interval).await;
        let asker = node(&bootstrap, interval).await;
        let adverts = asker.adverts(MODEL).await.unwrap();
        let mut found = adverts.iter().map(|advert| advert.peer).collect::<Vec<_>>();
        let mut wanted = crowd.ids();
        found.sort_unstable();
        wanted.sort_unstable();
        assert_eq!(found, wanted, "nobody is missing from the first look");
        // One of two bootstrap nodes goes; who comes then is seen all the same, and who leaves is gone.
        first.shutdown().await;
        let late = Crowd::start(2, &bootstrap, interval).await;
        let new = late.ids();
        let (joined, _) = table_until(&asker, "two more", |peers| new.iter().all(|id| peers.contains(id))).await;
        assert!(joined < Duration::from_secs(10), "{joined:?}");
        late.leave().await;
        let (left, _) = table_until(&asker, "two less", |peers| new.iter().all(|id| !peers.contains(id))).await;
        assert!(left < Duration::from_secs(10), "{left:?}");
        futures::future::join(crowd.leave(), futures::future::join(asker.shutdown(), second.shutdown())).await;
    }
}
