//! Data streams between nodes: negotiated by protocol name, then plain bytes in both directions.
//!
//! Our own behaviour and not `libp2p-stream`, for three of that crate's habits: it drops a second incoming stream that
//! arrives before the first was taken (a route that opens ten sessions at once loses some), it picks a random connection of
//! several, and it negotiates one outgoing stream at a time. Here incoming streams wait in a queue of
//! [`INCOMING_QUEUE`], the newest direct connection is used, else the newest relayed one, and any number negotiate side by
//! side.

use std::{
    collections::{HashMap, VecDeque},
    convert::Infallible,
    future::{Ready, ready},
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
    time::{Duration, Instant},
};

use libp2p::{
    InboundUpgrade, Multiaddr, OutboundUpgrade, Stream, StreamProtocol,
    core::{Endpoint, UpgradeInfo, transport::PortUse},
    swarm::{
        CloseConnection, ConnectionClosed, ConnectionDenied, ConnectionHandler, ConnectionHandlerEvent, ConnectionId,
        FromSwarm, NetworkBehaviour, NotifyHandler, StreamUpgradeError, SubstreamProtocol, ToSwarm,
        behaviour::ConnectionEstablished,
        handler::{ConnectionEvent, DialUpgradeError, FullyNegotiatedInbound, FullyNegotiatedOutbound},
    },
};
use tokio::sync::{mpsc, oneshot};

use super::quota::{Pace, Verdict};
use crate::id::NodeId;

/// Streams that may wait to be taken from an [`Incoming`]; one more is closed at once and its opener told so.
pub const INCOMING_QUEUE: usize = 128;

/// Streams a peer may open at once: a coordinator that opens hundreds of sessions, each with its data streams.
const OPEN_BURST: u64 = 1024;

/// Streams a peer may open a second after that.
const OPEN_RATE: u64 = 128;

/// Streams refused before the peer is dropped: by then it has been told as often that it is too fast.
const MAX_REFUSED: u32 = 512;

/// Streams that other nodes open with one protocol. Dropping it stops accepting them.
#[derive(Debug)]
pub struct Incoming {
    receiver: mpsc::Receiver<(NodeId, Stream)>,
}

/// Why there is no stream.
#[derive(Debug)]
pub(super) enum Failure {
    /// There is no connection and none could be made.
    Unreachable(String),
    /// The other side has no such protocol.
    Unsupported,
    /// The connection ended or stalled meanwhile.
    Lost(String),
}

pub(super) type Reply = oneshot::Sender<Result<Stream, Failure>>;

/// Who takes incoming streams, by protocol, and who opens them how fast. Shared between the node's handle and all
/// connections.
#[derive(Clone, Debug, Default)]
pub(super) struct Acceptors(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    queues: HashMap<StreamProtocol, mpsc::Sender<(NodeId, Stream)>>,
    openers: HashMap<NodeId, Opener>,
}

/// How fast a peer opens streams, over all its connections and for a while after the last.
#[derive(Debug)]
struct Opener {
    pace: Pace,
    refused: u32,
}

/// What a peer may do that opens a stream.
#[derive(Debug, PartialEq, Eq)]
enum Opening {
    Granted,
    Refused,
    /// It is too late for words.
    Drop,
}

/// Tells the behaviour that the peer floods us.
#[derive(Debug)]
pub(super) struct Flood;

/// Opens and accepts streams on the connections of a swarm.
#[derive(Debug)]
pub(super) struct Behaviour {
    acceptors: Acceptors,
    /// The best last: relayed ones, then direct ones, each in the order they were established.
    connections: HashMap<NodeId, Vec<Connection>>,
    requests: VecDeque<(NodeId, ConnectionId, Open)>,
    /// To be closed.
    floods: VecDeque<NodeId>,
}

/// A connection that streams can be opened on.
#[derive(Clone, Copy, Debug)]
struct Connection {
    id: ConnectionId,
    relayed: bool,
}

/// One connection's part.
#[derive(Debug)]
pub(super) struct Handler {
    peer: NodeId,
    acceptors: Acceptors,
    requests: VecDeque<Open>,
    flood: bool,
}

/// A stream to open.
#[derive(Debug)]
pub(super) struct Open {
    protocol: StreamProtocol,
    reply: Reply,
}

/// Agrees on one of several protocols and adds nothing.
#[derive(Debug)]
pub(super) struct Agree(Vec<StreamProtocol>);

impl Incoming {
    /// The next stream and who opened it; `None` when the node has shut down. Cancel-safe.
    pub async fn next(&mut self) -> Option<(NodeId, Stream)> {
        self.receiver.recv().await
    }
}

impl futures::Stream for Incoming {
    type Item = (NodeId, Stream);
    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.receiver.poll_recv(cx)
    }
}

impl Acceptors {
    fn lock(&self) -> MutexGuard<'_, State> {
        // The maps are whole between any two calls, so a panic elsewhere cannot have broken it.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts accepting; `None` when somebody does already.
    pub(super) fn register(&self, protocol: StreamProtocol) -> Option<Incoming> {
        let map = &mut self.lock().queues;
        map.retain(|_, sender| !sender.is_closed());
        if map.contains_key(&protocol) {
            return None;
        }
        let (sender, receiver) = mpsc::channel(INCOMING_QUEUE);
        map.insert(protocol, sender);
        Some(Incoming { receiver })
    }

    /// Ends every [`Incoming`].
    pub(super) fn clear(&self) {
        self.lock().queues.clear();
    }

    /// Whether a peer may open one more stream.
    fn open(&self, peer: NodeId, now: Instant) -> Opening {
        let mut state = self.lock();
        let opener = state
            .openers
            .entry(peer)
            .or_insert_with(|| Opener { pace: Pace::new(OPEN_RATE, OPEN_BURST, Duration::ZERO), refused: 0 });
        if opener.pace.take(1, now) == Verdict::Now {
            return Opening::Granted;
        }
        opener.refused += 1;
        if opener.refused > MAX_REFUSED { Opening::Drop } else { Opening::Refused }
    }

    /// Forgets who opened nothing for a while.
    fn sweep(&self, now: Instant) {
        self.lock().openers.retain(|_, opener| !opener.pace.is_rested(now));
    }

    fn protocols(&self) -> Vec<StreamProtocol> {
        self.lock()
            .queues
            .iter()
            .filter(|(_, sender)| !sender.is_closed())
            .map(|(protocol, _)| protocol.clone())
            .collect()
    }

    fn accept(&self, protocol: &StreamProtocol, peer: NodeId, stream: Stream) {
        let sender = self.lock().queues.get(protocol).cloned();
        // A stream that is dropped here is reset: its opener learns at once that nobody takes it.
        if sender.is_none_or(|sender| sender.try_send((peer, stream)).is_err()) {
            tracing::warn!(%peer, %protocol, "incoming stream refused: {INCOMING_QUEUE} are waiting, or nobody accepts");
        }
    }
}

impl Behaviour {
    pub(super) fn new(acceptors: Acceptors) -> Self {
        Self { acceptors, connections: HashMap::new(), requests: VecDeque::new(), floods: VecDeque::new() }
    }

    /// Opens a stream on the best connection to `peer`; gives the reply back where there is none.
    pub(super) fn open(&mut self, peer: NodeId, protocol: StreamProtocol, reply: Reply) -> Result<(), Reply> {
        match self.connections.get(&peer).and_then(|connections| connections.last()) {
            Some(connection) => {
                self.requests.push_back((peer, connection.id, Open { protocol, reply }));
                Ok(())
            }
            None => Err(reply),
        }
    }

    fn handler(&self, peer: NodeId) -> Handler {
        Handler { peer, acceptors: self.acceptors.clone(), requests: VecDeque::new(), flood: false }
    }
}

impl NetworkBehaviour for Behaviour {
    type ConnectionHandler = Handler;
    type ToSwarm = Infallible;

    fn handle_established_inbound_connection(
        &mut self,
        _: ConnectionId,
        peer: NodeId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<Handler, ConnectionDenied> {
        Ok(self.handler(peer))
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        peer: NodeId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<Handler, ConnectionDenied> {
        Ok(self.handler(peer))
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        match event {
            FromSwarm::ConnectionEstablished(ConnectionEstablished { peer_id, connection_id, endpoint, .. }) => {
                let connections = self.connections.entry(peer_id).or_default();
                let new = Connection { id: connection_id, relayed: endpoint.is_relayed() };
                let at =
                    if new.relayed { connections.partition_point(|other| other.relayed) } else { connections.len() };
                connections.insert(at, new);
            }
            FromSwarm::ConnectionClosed(ConnectionClosed { peer_id, connection_id, .. }) => {
                if let Some(connections) = self.connections.get_mut(&peer_id) {
                    connections.retain(|connection| connection.id != connection_id);
                    if connections.is_empty() {
                        self.connections.remove(&peer_id);
                        self.acceptors.sweep(Instant::now());
                    }
                }
            }
            _ => {}
        }
    }

    fn on_connection_handler_event(&mut self, peer: NodeId, _: ConnectionId, Flood: Flood) {
        // Its other connections say the same.
        if !self.floods.contains(&peer) {
            tracing::warn!(%peer, "dropped: it opens streams faster than {OPEN_RATE} a second and does not stop");
            self.floods.push_back(peer);
        }
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<Infallible, Open>> {
        if let Some(peer_id) = self.floods.pop_front() {
            return Poll::Ready(ToSwarm::CloseConnection { peer_id, connection: CloseConnection::All });
        }
        match self.requests.pop_front() {
            Some((peer_id, connection, event)) => {
                Poll::Ready(ToSwarm::NotifyHandler { peer_id, handler: NotifyHandler::One(connection), event })
            }
            None => Poll::Pending,
        }
    }
}

impl ConnectionHandler for Handler {
    type FromBehaviour = Open;
    type ToBehaviour = Flood;
    type InboundProtocol = Agree;
    type OutboundProtocol = Agree;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = Reply;

    fn listen_protocol(&self) -> SubstreamProtocol<Agree> {
        SubstreamProtocol::new(Agree(self.acceptors.protocols()), ())
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ConnectionHandlerEvent<Agree, Reply, Flood>> {
        if std::mem::take(&mut self.flood) {
            return Poll::Ready(ConnectionHandlerEvent::NotifyBehaviour(Flood));
        }
        while let Some(Open { protocol, reply }) = self.requests.pop_front() {
            if !reply.is_closed() {
                let protocol = SubstreamProtocol::new(Agree(vec![protocol]), reply);
                return Poll::Ready(ConnectionHandlerEvent::OutboundSubstreamRequest { protocol });
            }
        }
        Poll::Pending
    }

    fn on_behaviour_event(&mut self, open: Open) {
        self.requests.push_back(open);
    }

    fn on_connection_event(&mut self, event: ConnectionEvent<'_, Agree, Agree, (), Reply>) {
        match event {
            ConnectionEvent::FullyNegotiatedInbound(FullyNegotiatedInbound {
                protocol: (stream, protocol), ..
            }) => match self.acceptors.open(self.peer, Instant::now()) {
                Opening::Granted => self.acceptors.accept(&protocol, self.peer, stream),
                // Dropped and so reset: its opener learns at once.
                Opening::Refused => tracing::debug!(peer = %self.peer, "incoming stream refused: too many a second"),
                Opening::Drop => self.flood = true,
            },
            // Where nobody waits any more, the stream is dropped and so reset.
            ConnectionEvent::FullyNegotiatedOutbound(FullyNegotiatedOutbound { protocol: (stream, _), info }) => {
                let _ = info.send(Ok(stream));
            }
            ConnectionEvent::DialUpgradeError(DialUpgradeError { info, error }) => {
                let _ = info.send(Err(match error {
                    StreamUpgradeError::NegotiationFailed => Failure::Unsupported,
                    StreamUpgradeError::Timeout => Failure::Lost("it did not answer in time".into()),
                    StreamUpgradeError::Io(error) => Failure::Lost(error.to_string()),
                    StreamUpgradeError::Apply(never) => match never {},
                }));
            }
            _ => {}
        }
    }
}

impl UpgradeInfo for Agree {
    type Info = StreamProtocol;
    type InfoIter = std::vec::IntoIter<StreamProtocol>;
    fn protocol_info(&self) -> Self::InfoIter {
        self.0.clone().into_iter()
    }
}

impl InboundUpgrade<Stream> for Agree {
    type Output = (Stream, StreamProtocol);
    type Error = Infallible;
    type Future = Ready<Result<Self::Output, Infallible>>;
    fn upgrade_inbound(self, stream: Stream, protocol: StreamProtocol) -> Self::Future {
        ready(Ok((stream, protocol)))
    }
}

impl OutboundUpgrade<Stream> for Agree {
    type Output = (Stream, StreamProtocol);
    type Error = Infallible;
    type Future = Ready<Result<Self::Output, Infallible>>;
    fn upgrade_outbound(self, stream: Stream, protocol: StreamProtocol) -> Self::Future {
        ready(Ok((stream, protocol)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_streams_is_refused_then_dropped_and_harms_nobody_else() {
        let (acceptors, start) = (Acceptors::default(), Instant::now());
        let (loud, calm) = (NodeId::random(), NodeId::random());
        let seen = (0..10_000).map(|_| acceptors.open(loud, start)).collect::<Vec<_>>();
        let count = |what| seen.iter().filter(|opening| **opening == what).count() as u64;
        assert_eq!((count(Opening::Granted), count(Opening::Refused)), (OPEN_BURST, u64::from(MAX_REFUSED)));
        assert_eq!(seen.last(), Some(&Opening::Drop));
        assert_eq!(acceptors.open(calm, start), Opening::Granted);
        // Coming back with a new connection does not help, waiting does.
        acceptors.sweep(start + Duration::from_secs(1));
        assert_eq!(acceptors.open(loud, start), Opening::Drop);
        acceptors.sweep(start + Duration::from_secs(60));
        assert_eq!(acceptors.open(loud, start + Duration::from_secs(60)), Opening::Granted);
    }
}
