//! The handle to a running node.

use std::{
    collections::HashMap,
    io,
    net::TcpListener,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use futures::{FutureExt as _, StreamExt as _};
use libp2p::{
    Multiaddr, Stream, StreamProtocol, Swarm,
    core::transport::ListenerId,
    identity::Keypair,
    relay,
    swarm::{self, SwarmEvent},
};
use tokio::sync::{broadcast, mpsc, oneshot, watch};

use super::{
    address,
    announce::Announcer,
    behaviour::{Behaviour, BehaviourEvent},
    bootstrap::{self, Bootstrap, BootstrapFailure, Progress},
    command::Command,
    config::{COMMAND_QUEUE, Config, DIAL_DEADLINE, IDLE_CONNECTION, STREAM_DEADLINE},
    dialer::Dialer,
    event_loop::EventLoop,
    known,
    links::Links,
    lookup::Lookups,
    members::{self, Members, MembersError},
    nat::{Reachability, RelayRole, Traversal, Way},
    publish::Publisher,
    quota::{Pace, Quota},
    routing::Routing,
    store::system_clock,
    stream::{Acceptors, Failure, Incoming},
    transport,
};
use crate::{id::NodeId, task::Tasks};

/// How long binding all listen addresses may take.
const LISTEN_DEADLINE: Duration = Duration::from_secs(5);

/// A node of the mesh. Cloning gives another handle to the same node; it ends with [`Node::shutdown`], or with its last
/// handle.
#[derive(Clone, Debug)]
pub struct Node {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    id: NodeId,
    key: Box<Keypair>,
    bootstrap: Vec<Multiaddr>,
    commands: mpsc::Sender<Command>,
    progress: watch::Receiver<Progress>,
    links: Arc<Links>,
    known: Option<PathBuf>,
    acceptors: Acceptors,
    tasks: Tasks,
}

/// Why a node did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SpawnError {
    /// The key cannot be used.
    #[error("the node's key cannot be used: it must be ed25519")]
    Key,
    /// All listen addresses need QUIC.
    #[error("a mesh key wraps TCP only, and no listen address is TCP: add one like /ip4/0.0.0.0/tcp/31330")]
    OnlyQuic,
    /// The member list cannot be used.
    #[error(transparent)]
    Members(#[from] MembersError),
    /// An address cannot be listened on.
    #[error("cannot listen on {addr}: choose another address or port")]
    Listen {
        /// The address.
        addr: Multiaddr,
        /// Why not.
        #[source]
        source: io::Error,
    },
}

/// Why the mesh was not joined.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum BootstrapError {
    /// None of the bootstrap addresses answered in time.
    #[error("no bootstrap node answered within {} s{}; is it running, reachable, and of the same mesh key?", waited.as_secs_f32(), list(failures))]
    Unreachable {
        /// How long was waited.
        waited: Duration,
        /// What became of each address.
        failures: Vec<BootstrapFailure>,
    },
    /// The node has shut down.
    #[error("the node has shut down")]
    Closed,
}

/// Why an address was not reached.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum DialError {
    /// Nobody answered as a node there.
    #[error("cannot reach {addr}: {reason}")]
    Unreachable {
        /// The address.
        addr: Multiaddr,
        /// What was seen.
        reason: String,
    },
    /// The node has shut down.
    #[error("the node has shut down")]
    Closed,
}

/// Why a stream was not opened.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum StreamError {
    /// No connection to the node could be made: choose another.
    #[error("cannot reach node {peer}: {reason}")]
    Unreachable {
        /// The node.
        peer: NodeId,
        /// What was seen.
        reason: String,
    },
    /// The node is there but has no such protocol: choose another, or mind the versions.
    #[error("node {peer} does not speak {protocol}: it is of another kind or version")]
    Unsupported {
        /// The node.
        peer: NodeId,
        /// The protocol.
        protocol: StreamProtocol,
    },
    /// The connection ended meanwhile.
    #[error("connection to node {peer} was lost: {reason}")]
    Lost {
        /// The node.
        peer: NodeId,
        /// What was seen.
        reason: String,
    },
    /// This node has shut down.
    #[error("the node has shut down")]
    Closed,
}

/// Somebody in this process accepts the protocol already.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("protocol {0} is accepted already: drop the other Incoming first")]
pub struct AlreadyAccepted(pub StreamProtocol);

impl Node {
    /// Starts a node and returns once it listens on every address; joining goes on behind, see [`Node::bootstrapped`].
    ///
    /// Must be called in a tokio runtime. Dropping the future stops what was started.
    ///
    /// # Errors
    /// [`SpawnError`] when the key is of the wrong kind or an address cannot be listened on.
    pub async fn spawn(config: Config) -> Result<Self, SpawnError> {
        let id = config.key.public().to_peer_id();
        config.key.public().try_into_ed25519().map_err(|_| SpawnError::Key)?;
        let (key, private) = (Box::new(config.key.clone()), config.psk.is_some());
        let usable = |addr: &&Multiaddr| !(private && address::is_quic(addr));
        let listen = config.listen.iter().filter(usable).cloned().collect::<Vec<_>>();
        if listen.is_empty() && !config.listen.is_empty() {
            return Err(SpawnError::OnlyQuic);
        }
        let members = config.members.as_deref().map(Members::read).transpose()?;
        if members.as_ref().is_some_and(|members| !members.contains(&id)) {
            tracing::warn!(node = %id, "this node itself is not on the member list: others with the same list refuse it");
        }
        let (acceptors, links) = (Acceptors::default(), Arc::new(Links::default()));
        let (circuits, relay_client) = relay::client::new(id);
        let transport = transport::build(&config.key, config.psk, circuits).map_err(|_| SpawnError::Key)?;
        let behaviour =
            Behaviour::new(&config, members.clone(), &links, acceptors.clone(), relay_client, !listen.is_empty());
        let options = swarm::Config::with_tokio_executor().with_idle_connection_timeout(IDLE_CONNECTION);
        let mut swarm = Swarm::new(transport, behaviour, id, options);
        config.external.iter().for_each(|addr| swarm.add_external_address(addr.clone()));
        let early = bind(&mut swarm, &listen, &links).await?;
        if config.relay == RelayRole::Always {
            // A relay says with each place where it is to be found.
            links.listen_addrs().into_iter().for_each(|addr| swarm.add_external_address(addr));
        }

        let met = config.known_peers.as_deref().map(known::read).map(known::some).unwrap_or_default();
        let now = Instant::now();
        let (commands, receiver) = mpsc::channel(COMMAND_QUEUE);
        let (sender, progress) = watch::channel(Progress::default());
        let event_loop = EventLoop {
            swarm,
            commands: receiver,
            links: Arc::clone(&links),
            progress: sender,
            bootstrap: Bootstrap::new(&config.bootstrap, &met, now),
            announcer: Announcer::new(config.key, config.announce_interval, system_clock()),
            publisher: Publisher::default(),
            dialer: Dialer::default(),
            quota: Quota::default(),
            refusals: Pace::new(1, 20, Duration::ZERO),
            lookups: Lookups::default(),
            routing: Routing::default(),
            traversal: Traversal::new(
                !listen.is_empty(),
                !config.external.is_empty() || config.relay == RelayRole::Always,
                config.behind_nat,
            ),
            hidden: false,
            relay: config.relay,
            relaying: config.relay == RelayRole::Always,
            external: config.external,
            private,
            nearest: bootstrap::nearest(&config.bootstrap),
            next_sweep: now,
            early,
        };
        let tasks = Tasks::new();
        tasks.spawn_graceful(event_loop.run());
        if let Some(path) = &config.known_peers {
            tasks.spawn(known::keep(path.clone(), Arc::clone(&links), commands.downgrade()));
        }
        if let Some((path, members)) = config.members.zip(members) {
            tasks.spawn(members::watch(path, members, commands.downgrade()));
        }
        let inner = Inner {
            id,
            key,
            bootstrap: config.bootstrap,
            commands,
            progress,
            links,
            known: config.known_peers,
            acceptors,
            tasks,
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The key that proves it.
    pub(super) fn key(&self) -> &Keypair {
        &self.inner.key
    }

    /// Who this node is.
    pub fn id(&self) -> NodeId {
        self.inner.id
    }

    /// Where it listens, each address with its identity at the end: what others need to bootstrap from it.
    pub fn listen_addrs(&self) -> Vec<Multiaddr> {
        self.inner.links.listen_addrs().iter().map(|addr| address::with_peer(addr, self.inner.id)).collect()
    }

    /// Waits until a bootstrap node is connected and known to be of this mesh; at once when none was given. The node goes on
    /// trying after an error. Cancel-safe.
    ///
    /// # Errors
    /// [`BootstrapError::Unreachable`] with what became of each address when `deadline` passed.
    pub async fn bootstrapped(&self, deadline: Duration) -> Result<(), BootstrapError> {
        if !self.expects_others() {
            return Ok(());
        }
        let mut progress = self.inner.progress.clone();
        let joined = async { progress.wait_for(|progress| progress.joined).await.map(|_| ()) };
        match tokio::time::timeout(deadline, joined).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(BootstrapError::Closed),
            Err(_) => Err(BootstrapError::Unreachable { waited: deadline, failures: self.bootstrap_failures() }),
        }
    }

    /// Connects to an address and says who answered. Cancel-safe: the connection may stand all the same.
    ///
    /// # Errors
    /// [`DialError::Unreachable`] when nobody answers as a node there within [`DIAL_DEADLINE`].
    pub async fn dial(&self, addr: Multiaddr) -> Result<NodeId, DialError> {
        let (reply, answer) = oneshot::channel();
        self.send(Command::Dial { addr: addr.clone(), reply }).await.ok_or(DialError::Closed)?;
        // Twice the deadline of the transport: name resolution comes before it.
        match tokio::time::timeout(DIAL_DEADLINE * 2, answer).await {
            Ok(Ok(Ok(peer))) => Ok(peer),
            Ok(Ok(Err(reason))) => Err(DialError::Unreachable { addr, reason }),
            Ok(Err(_)) => Err(DialError::Closed),
            Err(_) => Err(DialError::Unreachable { addr, reason: "it did not answer in time".into() }),
        }
    }

    /// Opens a stream to a node, over the newest direct connection where there is one, over a relayed one where not, else by dialing `addrs` and what the DHT
    /// knows of it. Cancel-safe: a stream that nobody takes is closed.
    ///
    /// # Errors
    /// [`StreamError`], within [`STREAM_DEADLINE`].
    pub async fn open_stream(
        &self,
        peer: NodeId,
        addrs: &[Multiaddr],
        protocol: StreamProtocol,
    ) -> Result<Stream, StreamError> {
        let (reply, answer) = oneshot::channel();
        let command = Command::OpenStream { peer, addrs: addrs.to_vec(), protocol: protocol.clone(), reply };
        self.send(command).await.ok_or(StreamError::Closed)?;
        match tokio::time::timeout(STREAM_DEADLINE, answer).await {
            Ok(Ok(Ok(stream))) => Ok(stream),
            Ok(Ok(Err(Failure::Unreachable(reason)))) => Err(StreamError::Unreachable { peer, reason }),
            Ok(Ok(Err(Failure::Unsupported))) => Err(StreamError::Unsupported { peer, protocol }),
            Ok(Ok(Err(Failure::Lost(reason)))) => Err(StreamError::Lost { peer, reason }),
            Ok(Err(_)) if self.inner.commands.is_closed() => Err(StreamError::Closed),
            Ok(Err(_)) => Err(StreamError::Lost { peer, reason: "the connection was closed".into() }),
            Err(_) => {
                let reason = format!("no answer within {} s", STREAM_DEADLINE.as_secs());
                Err(StreamError::Unreachable { peer, reason })
            }
        }
    }

    /// Accepts the streams that other nodes open with `protocol`, from now until the result is dropped.
    ///
    /// # Errors
    /// [`AlreadyAccepted`] while another [`Incoming`] of the protocol lives.
    pub fn incoming(&self, protocol: StreamProtocol) -> Result<Incoming, AlreadyAccepted> {
        self.inner.acceptors.register(protocol.clone()).ok_or(AlreadyAccepted(protocol))
    }

    /// Smoothed round-trip time to a connected node, once it was measured.
    pub fn rtt(&self, peer: &NodeId) -> Option<Duration> {
        self.inner.links.rtt(peer)
    }

    /// Whether an address that `from` names for another node may be dialed: one that leads nearer than `from` itself is
    /// could be anything that trusts this machine or its network.
    pub(super) fn may_name(&self, from: NodeId, addr: &Multiaddr) -> bool {
        address::scope(addr) >= self.inner.links.scope(&from)
    }

    /// How others get to this node, as far as is known.
    pub fn reachability(&self) -> Reachability {
        self.inner.links.reachability().0
    }

    /// Where others get to this node, the best first: what its adverts say.
    pub fn reached_at(&self) -> Vec<Multiaddr> {
        self.inner.links.reachability().1
    }

    /// How a stream that is opened to the node now would travel; `None` when it is not connected.
    pub fn way(&self, peer: &NodeId) -> Option<Way> {
        self.inner.links.way(peer)
    }

    /// Requests of others that this node's part of the DHT has answered since it started.
    pub fn dht_requests(&self) -> u64 {
        self.inner.links.dht_requests()
    }

    /// Nodes to which a direct connection came up where there were only relayed ones: streams opened before still go
    /// through the relay, new ones do not. A receiver that lags misses some; [`Node::way`] tells of each.
    pub fn improved(&self) -> broadcast::Receiver<NodeId> {
        self.inner.links.improved()
    }

    /// The nodes connected now.
    pub fn connected_peers(&self) -> Vec<NodeId> {
        self.inner.links.peers()
    }

    /// Withdraws all adverts, closes all connections and waits until the node has ended, about a second at most. Every
    /// handle of the node is of no more use then.
    pub async fn shutdown(&self) {
        if let Some(path) = self.inner.known.clone() {
            let met = self.inner.links.met();
            // What could not be written down is in the log; one that panicked has said so.
            let _ = tokio::task::spawn_blocking(move || known::save(&path, met)).await;
        }
        // An error means that it has ended before.
        let _ = self.inner.commands.send(Command::Shutdown).await;
        self.inner.tasks.shutdown().await;
        self.inner.acceptors.clear();
        self.inner.links.clear();
    }

    /// Whether the node was told of others.
    pub(super) fn expects_others(&self) -> bool {
        !self.inner.bootstrap.is_empty()
    }

    /// What became of each bootstrap address.
    pub(super) fn bootstrap_failures(&self) -> Vec<BootstrapFailure> {
        let known = self.inner.progress.borrow().failures.clone();
        let of = |addr: &Multiaddr| {
            let failure = known.iter().find(|failure| failure.addr == *addr).cloned();
            failure.unwrap_or_else(|| BootstrapFailure { addr: addr.clone(), reason: "no answer yet".into() })
        };
        self.inner.bootstrap.iter().map(of).collect()
    }

    /// Hands a command to the event loop; `None` when it has ended.
    pub(super) async fn send(&self, command: Command) -> Option<()> {
        self.inner.commands.send(command).await.ok()
    }
}

/// The failures as the end of a sentence.
pub(super) fn list(failures: &[BootstrapFailure]) -> String {
    let one = |failure: &BootstrapFailure| format!("{} ({})", failure.addr, failure.reason);
    let all = failures.iter().map(one).collect::<Vec<_>>().join(", ");
    if all.is_empty() { all } else { format!(": {all}") }
}

/// Listens on every address and waits until each has a port. Returns what else happened meanwhile: somebody may connect to
/// the first address while the second is bound.
async fn bind(
    swarm: &mut Swarm<Behaviour>,
    addrs: &[Multiaddr],
    links: &Links,
) -> Result<Vec<SwarmEvent<BehaviourEvent>>, SpawnError> {
    let mut waiting: HashMap<ListenerId, Multiaddr> = HashMap::new();
    for addr in addrs {
        let cannot = |source| SpawnError::Listen { addr: addr.clone(), source };
        if let Some(socket) = address::fixed_tcp_port(addr) {
            // libp2p listens with SO_REUSEPORT, so that a second node on the port would quietly take half of the first
            // one's connections. A socket without it finds out.
            drop(TcpListener::bind(socket).map_err(cannot)?);
        }
        let listener = swarm.listen_on(addr.clone()).map_err(|error| cannot(io::Error::other(error.to_string())))?;
        waiting.insert(listener, addr.clone());
    }
    let mut early = Vec::new();
    let deadline = tokio::time::Instant::now() + LISTEN_DEADLINE;
    loop {
        let event = if waiting.is_empty() {
            // An address like 0.0.0.0 stands for several: take those that are there already.
            match swarm.select_next_some().now_or_never() {
                Some(event) => event,
                None => return Ok(early),
            }
        } else {
            match tokio::time::timeout_at(deadline, swarm.select_next_some()).await {
                Ok(event) => event,
                Err(_) => {
                    let addr = waiting.into_values().next().unwrap_or_else(Multiaddr::empty);
                    return Err(SpawnError::Listen { addr, source: io::ErrorKind::TimedOut.into() });
                }
            }
        };
        match event {
            SwarmEvent::NewListenAddr { listener_id, address } => {
                waiting.remove(&listener_id);
                links.listening(address);
            }
            SwarmEvent::ListenerClosed { listener_id, reason: Err(source), .. }
                if waiting.contains_key(&listener_id) =>
            {
                let addr = waiting.remove(&listener_id).unwrap_or_else(Multiaddr::empty);
                return Err(SpawnError::Listen { addr, source });
            }
            other => early.push(other),
        }
    }
}
