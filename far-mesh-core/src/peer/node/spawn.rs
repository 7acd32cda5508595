//! Starting a node: what it listens on, and what its event loop begins with.

use std::{
    collections::HashMap,
    io,
    net::TcpListener,
    sync::Arc,
    time::{Duration, Instant},
};

use futures::{FutureExt as _, StreamExt as _};
use libp2p::{
    Multiaddr, Swarm,
    core::transport::ListenerId,
    relay,
    swarm::{self, SwarmEvent},
};
use tokio::sync::{mpsc, watch};

use super::{Node, SpawnError, handle::Inner};
use crate::{
    peer::{
        address,
        announce::Announcer,
        behaviour::{Behaviour, BehaviourEvent},
        bootstrap::{self, Bootstrap, Progress},
        config::{COMMAND_QUEUE, Config, IDLE_CONNECTION},
        dialer::Dialer,
        event_loop::EventLoop,
        known,
        links::Links,
        lookup::Lookups,
        members::{self, Members},
        merge::Recall,
        nat::{RelayRole, Traversal},
        publish::Publisher,
        quota::{Pace, Quota},
        routing::Routing,
        store::system_clock,
        stream::Acceptors,
        transport,
    },
    task::Tasks,
};

/// How long binding all listen addresses may take.
const LISTEN_DEADLINE: Duration = Duration::from_secs(5);

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
            recall: Recall::default(),
            links,
            known: config.known_peers,
            acceptors,
            tasks,
        };
        Ok(Self { inner: Arc::new(inner) })
    }
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
