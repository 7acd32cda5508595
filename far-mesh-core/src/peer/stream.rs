//! Data streams between nodes: negotiated by protocol name, then plain bytes in both directions.
//!
//! Our own behaviour and not `libp2p-stream`, for three of that crate's habits: it drops a second incoming stream that
//! arrives before the first was taken (a route that opens ten sessions at once loses some), it picks a random connection of
//! several, and it negotiates one outgoing stream at a time. Here incoming streams wait in a queue of
//! [`INCOMING_QUEUE`], the newest connection is used, and any number negotiate side by side.

use std::{
    collections::{HashMap, VecDeque},
    convert::Infallible,
    future::{Ready, ready},
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
};

use libp2p::{
    InboundUpgrade, Multiaddr, OutboundUpgrade, Stream, StreamProtocol,
    core::{Endpoint, UpgradeInfo, transport::PortUse},
    swarm::{
        ConnectionClosed, ConnectionDenied, ConnectionHandler, ConnectionHandlerEvent, ConnectionId, FromSwarm,
        NetworkBehaviour, NotifyHandler, StreamUpgradeError, SubstreamProtocol, ToSwarm,
        behaviour::ConnectionEstablished,
        handler::{ConnectionEvent, DialUpgradeError, FullyNegotiatedInbound, FullyNegotiatedOutbound},
    },
};
use tokio::sync::{mpsc, oneshot};

use crate::id::NodeId;

/// Streams that may wait to be taken from an [`Incoming`]; one more is closed at once and its opener told so.
pub const INCOMING_QUEUE: usize = 128;

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

/// Who takes incoming streams, by protocol. Shared between the node's handle and all connections.
#[derive(Clone, Debug, Default)]
pub(super) struct Acceptors(Arc<Mutex<Queues>>);

type Queues = HashMap<StreamProtocol, mpsc::Sender<(NodeId, Stream)>>;

/// Opens and accepts streams on the connections of a swarm.
#[derive(Debug)]
pub(super) struct Behaviour {
    acceptors: Acceptors,
    /// In the order they were established.
    connections: HashMap<NodeId, Vec<ConnectionId>>,
    requests: VecDeque<(NodeId, ConnectionId, Open)>,
}

/// One connection's part.
#[derive(Debug)]
pub(super) struct Handler {
    peer: NodeId,
    acceptors: Acceptors,
    requests: VecDeque<Open>,
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
    fn lock(&self) -> MutexGuard<'_, Queues> {
        // A map is whole between any two calls, so a panic elsewhere cannot have broken it.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts accepting; `None` when somebody does already.
    pub(super) fn register(&self, protocol: StreamProtocol) -> Option<Incoming> {
        let mut map = self.lock();
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
        self.lock().clear();
    }

    fn protocols(&self) -> Vec<StreamProtocol> {
        self.lock().iter().filter(|(_, sender)| !sender.is_closed()).map(|(protocol, _)| protocol.clone()).collect()
    }

    fn accept(&self, protocol: &StreamProtocol, peer: NodeId, stream: Stream) {
        let sender = self.lock().get(protocol).cloned();
        // A stream that is dropped here is reset: its opener learns at once that nobody takes it.
        if sender.is_none_or(|sender| sender.try_send((peer, stream)).is_err()) {
            tracing::warn!(%peer, %protocol, "incoming stream refused: {INCOMING_QUEUE} are waiting, or nobody accepts");
        }
    }
}

impl Behaviour {
    pub(super) fn new(acceptors: Acceptors) -> Self {
        Self { acceptors, connections: HashMap::new(), requests: VecDeque::new() }
    }

    /// Opens a stream on the newest connection to `peer`; gives the reply back where there is none.
    pub(super) fn open(&mut self, peer: NodeId, protocol: StreamProtocol, reply: Reply) -> Result<(), Reply> {
        match self.connections.get(&peer).and_then(|connections| connections.last()) {
            Some(connection) => {
                self.requests.push_back((peer, *connection, Open { protocol, reply }));
                Ok(())
            }
            None => Err(reply),
        }
    }

    fn handler(&self, peer: NodeId) -> Handler {
        Handler { peer, acceptors: self.acceptors.clone(), requests: VecDeque::new() }
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
            FromSwarm::ConnectionEstablished(ConnectionEstablished { peer_id, connection_id, .. }) => {
                self.connections.entry(peer_id).or_default().push(connection_id);
            }
            FromSwarm::ConnectionClosed(ConnectionClosed { peer_id, connection_id, .. }) => {
                if let Some(connections) = self.connections.get_mut(&peer_id) {
                    connections.retain(|connection| *connection != connection_id);
                    if connections.is_empty() {
                        self.connections.remove(&peer_id);
                    }
                }
            }
            _ => {}
        }
    }

    fn on_connection_handler_event(&mut self, _: NodeId, _: ConnectionId, event: Infallible) {
        match event {}
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<Infallible, Open>> {
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
    type ToBehaviour = Infallible;
    type InboundProtocol = Agree;
    type OutboundProtocol = Agree;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = Reply;

    fn listen_protocol(&self) -> SubstreamProtocol<Agree> {
        SubstreamProtocol::new(Agree(self.acceptors.protocols()), ())
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ConnectionHandlerEvent<Agree, Reply, Infallible>> {
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
            }) => {
                self.acceptors.accept(&protocol, self.peer, stream);
            }
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
