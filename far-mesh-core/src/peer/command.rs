//! What a handle asks of the event loop.

use libp2p::{Multiaddr, StreamProtocol, kad::RecordKey};
use tokio::sync::{mpsc, oneshot};

use super::{
    advert::{AdvertError, ShardOffer},
    lookup::Heard,
    members::Members,
    stream,
};
use crate::id::{ModelHash, NodeId};

/// One request. Where a reply is dropped, its asker has gone and the work may be left.
#[derive(Debug)]
pub(super) enum Command {
    /// Connect to an address.
    Dial { addr: Multiaddr, reply: oneshot::Sender<Result<NodeId, String>> },
    /// Open a stream, dialing first where there is no connection.
    OpenStream { peer: NodeId, addrs: Vec<Multiaddr>, protocol: StreamProtocol, reply: stream::Reply },
    /// Look a key up; what is heard is sent as it comes and the channel closes after the last.
    Find { key: RecordKey, found: mpsc::Sender<Heard> },
    /// Offer a shard from now on; says whether that is possible, then how many nodes took the advert.
    Announce { offer: Box<ShardOffer>, reply: oneshot::Sender<Result<(), AdvertError>>, placed: oneshot::Sender<usize> },
    /// Stop offering one model or all; says how many nodes were told.
    Withdraw { model: Option<ModelHash>, told: oneshot::Sender<usize> },
    /// Close all connections to a node.
    HangUp { peer: NodeId },
    /// Put a member list in force.
    Members(Members),
    /// Withdraw everything, close every connection and end.
    Shutdown,
}
