//! The node as what the shard protocol stands on.

use std::{io, time::Duration};

use futures::{FutureExt, future::BoxFuture};
use libp2p::{Multiaddr, identity::Keypair};

use super::{
    SHARD_PROTOCOL,
    nat::Way,
    node::Node,
    wire::{BoxedStream, DialError, Dialer},
};
use crate::id::NodeId;

impl Dialer for Node {
    fn open(&self, peer: NodeId, addrs: Vec<Multiaddr>) -> BoxFuture<'_, Result<BoxedStream, DialError>> {
        async move {
            match self.open_stream(peer, &addrs, SHARD_PROTOCOL).await {
                Ok(stream) => Ok(Box::new(stream) as BoxedStream),
                Err(error) => Err(DialError { peer, source: io::Error::other(error) }),
            }
        }
        .boxed()
    }

    fn key(&self) -> &Keypair {
        Node::key(self)
    }

    fn rtt(&self, peer: NodeId) -> Option<Duration> {
        Node::rtt(self, &peer)
    }

    fn is_direct(&self, peer: NodeId) -> bool {
        self.way(&peer) == Some(Way::Direct)
    }

    fn may_name(&self, from: NodeId, addr: &Multiaddr) -> bool {
        Node::may_name(self, from, addr)
    }

    fn hang_up(&self, peer: NodeId) {
        Node::hang_up(self, peer);
    }
}
