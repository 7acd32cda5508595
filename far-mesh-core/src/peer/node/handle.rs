//! What a node is asked for, and what it tells of itself.

use std::{path::PathBuf, sync::Arc, time::Duration};

use libp2p::{Multiaddr, Stream, StreamProtocol, identity::Keypair};
use tokio::sync::{broadcast, mpsc, oneshot, watch};

use super::{AlreadyAccepted, BootstrapError, DialError, StreamError};
use crate::{
    id::NodeId,
    peer::{
        address,
        bootstrap::{BootstrapFailure, Progress},
        command::Command,
        config::{DIAL_DEADLINE, STREAM_DEADLINE},
        known,
        links::Links,
        merge::Recall,
        nat::{Reachability, Way},
        stream::{Acceptors, Failure, Incoming},
    },
    task::Tasks,
};

/// A node of the mesh. Cloning gives another handle to the same node; it ends with [`Node::shutdown`], or with its last
/// handle.
#[derive(Clone, Debug)]
pub struct Node {
    pub(super) inner: Arc<Inner>,
}

#[derive(Debug)]
pub(super) struct Inner {
    pub(super) id: NodeId,
    pub(super) key: Box<Keypair>,
    pub(super) bootstrap: Vec<Multiaddr>,
    pub(super) commands: mpsc::Sender<Command>,
    pub(super) progress: watch::Receiver<Progress>,
    pub(super) links: Arc<Links>,
    pub(super) known: Option<PathBuf>,
    pub(super) acceptors: Acceptors,
    pub(super) recall: Recall,
    pub(super) tasks: Tasks,
}

impl Node {
    /// Who this node is.
    pub fn id(&self) -> NodeId {
        self.inner.id
    }

    /// The key that proves it.
    pub(in crate::peer) fn key(&self) -> &Keypair {
        &self.inner.key
    }

    /// What it read from the DHT.
    pub(in crate::peer) fn recall(&self) -> &Recall {
        &self.inner.recall
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
    pub(in crate::peer) fn may_name(&self, from: NodeId, addr: &Multiaddr) -> bool {
        address::scope(addr) >= self.inner.links.scope(&from)
    }

    /// Closes all connections to a node. Where the event loop is behind nothing is done: the node will be heard of again.
    pub(in crate::peer) fn hang_up(&self, peer: NodeId) {
        let _ = self.inner.commands.try_send(Command::HangUp { peer });
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
    pub(in crate::peer) fn expects_others(&self) -> bool {
        !self.inner.bootstrap.is_empty()
    }

    /// What became of each bootstrap address.
    pub(in crate::peer) fn bootstrap_failures(&self) -> Vec<BootstrapFailure> {
        let known = self.inner.progress.borrow().failures.clone();
        let of = |addr: &Multiaddr| {
            let failure = known.iter().find(|failure| failure.addr == *addr).cloned();
            failure.unwrap_or_else(|| BootstrapFailure { addr: addr.clone(), reason: "no answer yet".into() })
        };
        self.inner.bootstrap.iter().map(of).collect()
    }

    /// Hands a command to the event loop; `None` when it has ended.
    pub(in crate::peer) async fn send(&self, command: Command) -> Option<()> {
        self.inner.commands.send(command).await.ok()
    }
}
