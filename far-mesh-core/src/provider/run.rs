//! The provider itself.

use std::{sync::Arc, time::Duration};

use futures::StreamExt;
use tokio::sync::watch;

use super::{
    Rebalance, Terms,
    moving::keep_placed,
    neighbours::keep_measured,
    serving::{Served, Serving},
    trial,
};
use crate::{
    hop::{Hop, HopError},
    id::{NodeId, Span},
    peer::{
        AlreadyAccepted, AnnounceError, Node, SHARD_PROTOCOL, ServeConfig, Server, ShardOffer,
        advert::Link,
        serve,
        wire::{BUILD, BoxedStream, PROTOCOL_VERSION},
    },
    route::placement::Move,
    shard::{Info, Shard},
    task::Tasks,
};

/// How often the room for tokens is compared with what was announced.
const ROOM_CHECK: Duration = Duration::from_secs(2);

/// The part of the arena, one in so many, that no coordinator gets alone.
const KEPT_FOR_OTHERS: usize = 8;

/// A shard that is served and offered. End it with [`Provider::shutdown`].
#[derive(Debug)]
pub struct Provider {
    serving: Arc<Serving>,
    server: Server,
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
        let served = Served::of(shard).ok_or(StartError::NoLayers)?;
        let (shard, span) = (Arc::clone(&served.shard), served.span());
        let speed = trial(Arc::clone(&served.hop), shard.info()).await?;
        tracing::info!(%span, decode_ns = speed.layer_time_ns, prefill_ns = speed.prefill_layer_time_ns, "time a layer");
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
        let serving = Arc::new(Serving::new(node.clone(), served, offer.clone()));
        let hop: Arc<dyn Hop> = Arc::clone(&serving.hop) as _;
        let server = serve(Arc::new(node.clone()), incoming, hop, limits);
        node.announce(offer).await?;
        let tasks = Tasks::new();
        let (links, measured) = watch::channel(Vec::new());
        let seen = Arc::clone(&serving);
        tasks.spawn(keep_measured(node, info.hash, move || seen.served().span(), links));
        tasks.spawn(keep_announced(Arc::clone(&serving), measured));
        Ok(Self { serving, server, tasks })
    }

    /// Looks for a better place from now on, and moves there. Call it once.
    pub fn keep_placed(&self, rebalance: Rebalance) {
        self.tasks.spawn(keep_placed(Arc::clone(&self.serving), rebalance));
    }

    /// The move that is under way: both spans are served meanwhile.
    pub fn moving(&self) -> Option<Move> {
        self.serving.moving()
    }

    /// Who serves.
    pub fn id(&self) -> NodeId {
        self.serving.node.id()
    }

    /// The layers served and offered.
    pub fn span(&self) -> Span {
        self.serving.served().span()
    }

    /// Sessions that have room here now.
    pub fn sessions(&self) -> usize {
        self.server.sessions()
    }

    /// Positions that fit the pages no session holds.
    pub fn free_tokens(&self) -> usize {
        self.serving.served().shard.free_tokens()
    }

    /// Withdraws the advert, lets live sessions finish for a while, then frees the device. The node is left to its owner.
    pub async fn shutdown(self) {
        self.tasks.shutdown().await;
        let shard = self.serving.served().shard;
        self.serving.node.withdraw_model(shard.info().hash).await;
        self.server.shutdown().await;
        shard.shutdown().await;
    }
}

/// Positions that the sessions of one coordinator may reach. Most, since there may be only one; not all, so that another
/// finds some when the first keeps what it does not use.
fn room_of_one(info: &Info) -> u64 {
    (info.arena_tokens - info.arena_tokens / KEPT_FOR_OTHERS) as u64
}

/// Announces anew when the room, the queue or the ways to the neighbours have changed much.
async fn keep_announced(serving: Arc<Serving>, mut measured: watch::Receiver<Vec<Link>>) {
    let mut wait = Duration::ZERO;
    let mut ticks = tokio::time::interval(ROOM_CHECK);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        // Half of it is what came before: one burst says little.
        wait = (wait + serving.served().shard.take_wait()) / 2;
        serving.offer_changes(wait, &mut measured).await;
    }
}
