//! The provider itself.

use std::{sync::Arc, time::Duration};

use futures::StreamExt;
use tokio::sync::watch;

use super::{Terms, neighbours::keep_measured, trial};
use crate::{
    hop::{Hop, HopError},
    id::{NodeId, Span},
    peer::{
        AlreadyAccepted, AnnounceError, Node, SHARD_PROTOCOL, ServeConfig, Server, ShardOffer,
        advert::{Link, MAX_QUEUE_NS},
        serve,
        wire::{BUILD, BoxedStream, PROTOCOL_VERSION},
    },
    shard::{Info, Shard},
    task::Tasks,
};

/// How often the room for tokens is compared with what was announced.
const ROOM_CHECK: Duration = Duration::from_secs(2);

/// A change of room by this share of the arena is announced: a put in the DHT costs a few dozen requests.
const ROOM_SHARE: usize = 8;

/// A queue that changed by less is the same: it is about what a layer of a large model takes.
const QUEUE_CHANGE_NS: u32 = 2_000_000;

/// The part of the arena, one in so many, that no coordinator gets alone.
const KEPT_FOR_OTHERS: usize = 8;

/// A shard that is served and offered. End it with [`Provider::shutdown`].
#[derive(Debug)]
pub struct Provider {
    node: Node,
    shard: Arc<Shard>,
    server: Server,
    span: Span,
    tasks: Tasks,
}

/// Why a provider does not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The shard holds no layers.
    #[error("the shard has no layers to serve: load it with a span")]
    NoLayers,
    /// Its trial failed.
    #[error("the trial of the shard failed")]
    Trial(#[from] HopError),
    /// The node serves another shard.
    #[error("the node serves a shard already: give the other its own node")]
    Taken(#[from] AlreadyAccepted),
    /// The advert is not acceptable.
    #[error("cannot announce the shard")]
    Announce(#[from] AnnounceError),
}

impl Provider {
    /// Tries the shard's speed, serves it on `node` and announces it.
    ///
    /// # Errors
    /// [`StartError`]; nothing is served then.
    pub async fn start(node: Node, shard: Shard, terms: Terms) -> Result<Self, StartError> {
        let hop: Arc<dyn Hop> = shard.hop().ok_or(StartError::NoLayers)?;
        let span = hop.span();
        let speed = trial(Arc::clone(&hop), shard.info()).await?;
        tracing::info!(%span, decode_ns = speed.layer_time_ns, prefill_ns = speed.prefill_layer_time_ns, "time a layer");
        let shard = Arc::new(shard);
        let info = shard.info();
        let offer = ShardOffer {
            model: info.hash,
            model_name: terms.model_name,
            layers: info.layers,
            span,
            dtype: info.dtype,
            kernel_class: info.kernel_class.clone(),
            protocol: u32::from(PROTOCOL_VERSION),
            build: BUILD.to_owned(),
            addrs: Vec::new(),
            layer_time_ns: speed.layer_time_ns,
            prefill_layer_time_ns: speed.prefill_layer_time_ns,
            queue_ns: 0,
            bandwidth_kib_s: terms.bandwidth_kib_s,
            links: Vec::new(),
            free_tokens: shard.free_tokens() as u64,
            price_nano_far: terms.price_nano_far,
            wallet: terms.wallet,
            region: terms.region,
            device: terms.device,
            device_mib: terms.device_mib,
        };
        let incoming = node.incoming(SHARD_PROTOCOL)?.map(|(peer, stream)| (peer, Box::new(stream) as BoxedStream));
        let mut limits = ServeConfig { max_tokens_per_peer: room_of_one(info), ..ServeConfig::default() };
        limits.max_sessions = terms.max_sessions.unwrap_or(limits.max_sessions);
        let server = serve(Arc::new(node.clone()), incoming, hop, limits);
        node.announce(offer.clone()).await?;
        let tasks = Tasks::new();
        let (links, measured) = watch::channel(Vec::new());
        tasks.spawn(keep_measured(node.clone(), info.hash, span, links));
        tasks.spawn(keep_announced(node.clone(), Arc::clone(&shard), offer, measured));
        Ok(Self { node, shard, server, span, tasks })
    }

    /// Who serves.
    pub fn id(&self) -> NodeId {
        self.node.id()
    }

    /// The layers served.
    pub fn span(&self) -> Span {
        self.span
    }

    /// Sessions that have room here now.
    pub fn sessions(&self) -> usize {
        self.server.sessions()
    }

    /// Positions that fit the pages no session holds.
    pub fn free_tokens(&self) -> usize {
        self.shard.free_tokens()
    }

    /// Withdraws the advert, lets live sessions finish for a while, then frees the device. The node is left to its owner.
    pub async fn shutdown(self) {
        self.tasks.shutdown().await;
        self.node.withdraw_model(self.shard.info().hash).await;
        self.server.shutdown().await;
        self.shard.shutdown().await;
    }
}

/// Positions that the sessions of one coordinator may reach. Most, since there may be only one; not all, so that another
/// finds some when the first keeps what it does not use.
fn room_of_one(info: &Info) -> u64 {
    (info.arena_tokens - info.arena_tokens / KEPT_FOR_OTHERS) as u64
}

/// Whether the queue has doubled or halved, by a time that a route would notice.
fn queue_changed(before_ns: u32, now_ns: u32) -> bool {
    let (least, most) = (before_ns.min(now_ns), before_ns.max(now_ns));
    most - least >= QUEUE_CHANGE_NS && most / 2 >= least
}

/// Announces anew when the room, the queue or the ways to the neighbours have changed much.
async fn keep_announced(
    node: Node,
    shard: Arc<Shard>,
    mut offer: ShardOffer,
    mut measured: watch::Receiver<Vec<Link>>,
) {
    let much = (shard.info().arena_tokens / ROOM_SHARE).max(1) as u64;
    let mut wait = Duration::ZERO;
    let mut ticks = tokio::time::interval(ROOM_CHECK);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let free = shard.free_tokens() as u64;
        // Half of it is what came before: one burst says little.
        wait = (wait + shard.take_wait()) / 2;
        let queue_ns = u32::try_from(wait.as_nanos()).unwrap_or(u32::MAX).min(MAX_QUEUE_NS);
        let links = measured.has_changed().unwrap_or(false);
        if free.abs_diff(offer.free_tokens) < much && !queue_changed(offer.queue_ns, queue_ns) && !links {
            continue;
        }
        (offer.free_tokens, offer.queue_ns) = (free, queue_ns);
        offer.links.clone_from(&measured.borrow_and_update());
        if let Err(error) = node.announce(offer.clone()).await {
            tracing::warn!(%error, "the shard's room is not announced");
        }
    }
}
