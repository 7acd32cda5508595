//! What the shard protocol needs from the network: streams to nodes and the time a round trip takes.

use std::{fmt, io, sync::Arc, time::Duration};

use futures::{
    FutureExt as _,
    future::BoxFuture,
    io::{AsyncRead, AsyncWrite},
};
use libp2p::{Multiaddr, identity::Keypair};
use tokio::time::timeout;

use super::{Frame, Link};
use crate::{
    id::{NodeId, SessionId},
    limits::OPEN_DEADLINE,
};

/// An ordered, reliable stream of bytes in both directions.
pub trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// Any [`Duplex`]. Dropping it closes the stream.
pub type BoxedStream = Box<dyn Duplex>;

/// Opens shard streams; implemented by the network node, and by an in-process mesh in tests.
pub trait Dialer: Send + Sync + fmt::Debug {
    /// Opens a stream of [`super::PROTOCOL`] to `peer`, connecting to one of `addrs` where there is no connection yet.
    /// Dropping the future gives up.
    ///
    /// # Errors
    /// [`DialError`] when the node cannot be reached or does not speak the protocol.
    fn open(&self, peer: NodeId, addrs: Vec<Multiaddr>) -> BoxFuture<'_, Result<BoxedStream, DialError>>;

    /// The key of this node, which signs its receipts.
    fn key(&self) -> &Keypair;

    /// Last measured round trip to `peer`; `None` when it was never measured.
    fn rtt(&self, peer: NodeId) -> Option<Duration>;

    /// Whether new streams to `peer` go there without a relay.
    fn is_direct(&self, _peer: NodeId) -> bool {
        true
    }

    /// Whether an address that the node `from` names for another may be dialed. A node that dials whatever strangers say
    /// would be their way into its own network.
    fn may_name(&self, _from: NodeId, _addr: &Multiaddr) -> bool {
        true
    }

    /// Closes all connections to a node that does not keep to its limits.
    fn hang_up(&self, _peer: NodeId) {}
}

/// Opens another stream of a session to a node that is connected, to take the place of a relayed one. It reads control
/// frames only. Within [`OPEN_DEADLINE`], or an error that says what went wrong.
pub(in crate::peer) fn reopen(
    dialer: Arc<dyn Dialer>,
    node: NodeId,
    session: SessionId,
    greeting: Frame,
) -> BoxFuture<'static, Result<Link, String>> {
    let opened = async move {
        let stream = dialer.open(node, vec![]).await.map_err(|error| error.to_string())?;
        let mut link = Link::new(stream, session);
        link.limit_payload(0);
        link.send(greeting).await.map_err(|error| error.to_string())?;
        Ok(link)
    };
    timeout(OPEN_DEADLINE, opened).map(|opened| opened.unwrap_or_else(|late| Err(late.to_string()))).boxed()
}

/// No stream to a node.
#[derive(Debug, thiserror::Error)]
#[error("no stream to node {peer}: {source}")]
pub struct DialError {
    /// Who was to be reached.
    pub peer: NodeId,
    /// What went wrong.
    #[source]
    pub source: io::Error,
}
