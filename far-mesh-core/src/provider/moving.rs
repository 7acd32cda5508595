//! A provider that goes where it is needed: make before break.
//!
//! ```text
//! every so often: look at the adverts -> worth a move, and our turn? -> is there memory for both spans?
//!   -> load and try the new one -> look again -> serve both, advertise the new -> wait until coordinators know
//!   -> look again -> drain the old one -> release it
//! ```
//!
//! Nodes do not agree on who moves: each looks again at the adverts after it has announced itself elsewhere, and before it
//! lets go of its old layers. Of two last holders that leave at once, at least the later one sees that the other has
//! gone, and goes back. A layer is served throughout.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use super::{
    serving::{Served, Serving},
    trial,
};
use crate::{
    hop::HopError,
    id::Span,
    model::Source,
    peer::{AnnounceError, DiscoveryError},
    route::placement::{self, Holder, Move},
    shard::{self, Info, Load, LoadError, Shard, plan_span},
};

/// How long coordinators take to know an advert: they look every two seconds.
const SETTLE: Duration = Duration::from_secs(5);

/// How, and how often, a provider looks for a better place.
#[derive(Clone)]
pub struct Rebalance {
    /// Time between two looks, a quarter more or less. Longer than loading a span takes: others only see a move when it
    /// is done.
    pub interval: Duration,
    /// How a span is loaded: as the first, but for its layers.
    pub shard: shard::Config,
    /// Bytes that may be taken for a second span beside the one that is served.
    pub room: Arc<dyn Fn() -> u64 + Send + Sync>,
    /// How long the sessions of the old span may go on once coordinators know the new one.
    pub drain: Duration,
}

/// Why a provider stays where it is although another place would be better.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MoveError {
    /// Two spans at once do not fit.
    #[error(
        "no memory to hold {} layers beside those served ({free_bytes} bytes are free): serve fewer layers with --max-memory or --layers",
        found.to.len()
    )]
    Memory {
        /// The move.
        found: Move,
        /// Bytes that may be taken.
        free_bytes: u64,
    },
    /// The new span is not loaded.
    #[error("layers {span} are not loaded")]
    Load {
        /// The span.
        span: Span,
        /// Why not.
        #[source]
        source: Box<LoadError>,
    },
    /// The model's file is not readable any more.
    #[error("the model cannot be read again")]
    Model(#[from] shard::PlanError),
    /// The thread that loaded it has ended.
    #[error("loading was aborted")]
    Aborted,
    /// The new shard does not run.
    #[error("the trial of the new shard failed")]
    Trial(#[from] HopError),
    /// The mesh cannot be asked.
    #[error("the mesh cannot be looked at")]
    Discovery(#[from] DiscoveryError),
    /// The new offer is not announced.
    #[error("cannot announce the new layers")]
    Announce(#[from] AnnounceError),
    /// It is not worth it any more.
    #[error("others were quicker: {0} is not worth it any more")]
    Overtaken(Move),
    /// Nobody else would serve the old layers.
    #[error("layers {0} would be left with nobody, since others have gone too: going back")]
    LastHolder(Span),
}

/// Looks for a better place until dropped.
pub(super) async fn keep_placed(serving: Arc<Serving>, rebalance: Rebalance) {
    loop {
        // Nodes that started together drift apart.
        tokio::time::sleep(rebalance.interval.mul_f64(rand::random_range(0.75..1.25))).await;
        match serving.look(&rebalance).await {
            Ok(None) => {}
            Ok(Some(found)) => tracing::info!("moved: {} -> {}", found.from, found.to),
            Err(error @ (MoveError::Memory { .. } | MoveError::Overtaken(_) | MoveError::LastHolder(_))) => {
                tracing::info!("staying: {error}");
            }
            Err(error) => tracing::warn!(error = &error as &dyn std::error::Error, "staying: the move failed"),
        }
    }
}

impl Serving {
    /// Moves if that is worth it. Dropped in between, it may serve both spans; what is advertised is served in any case.
    async fn look(&self, rebalance: &Rebalance) -> Result<Option<Move>, MoveError> {
        let (layers, holders) = self.holders().await?;
        let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let round = seconds / rebalance.interval.as_secs().max(1);
        let Some(found) = placement::rebalance(layers, &holders, &self.node.id(), round) else { return Ok(None) };
        let _moving = self.begin(found);
        tracing::info!("moving: {found}");
        let next = Box::pin(self.load(&found, rebalance)).await?;
        let left = match Box::pin(self.take_over(&found, next.clone())).await {
            Ok(before) => before,
            Err(error) => {
                self.release(next, rebalance.drain).await;
                return Err(error);
            }
        };
        self.release(left, rebalance.drain).await;
        Ok(Some(found))
    }

    /// A shard of the new layers, beside the one that is served.
    async fn load(&self, found: &Move, rebalance: &Rebalance) -> Result<Served, MoveError> {
        let config = shard::Config { span: Some(found.to), ..rebalance.shard.clone() };
        let (span, free_bytes) = (found.to, (rebalance.room)());
        let load = Load {
            device: config.device,
            precision: config.precision,
            arena_tokens: config.arena_tokens,
            batching: config.batching,
        };
        let loading = tokio::task::spawn_blocking(move || {
            let failed = |source| MoveError::Load { span, source: Box::new(source) };
            let source = Source::open(&config.model)
                .map_err(|source| failed(LoadError::File { path: config.model.clone(), source: Box::new(source) }))?;
            match plan_span(&source, &load, free_bytes) {
                Ok(fits) if fits.len() >= span.len() => {}
                Ok(_) | Err(shard::PlanError::TooSmall { .. }) => return Ok(None),
                Err(error) => return Err(error.into()),
            }
            Shard::load(config, &mut |_, _| ()).map(Some).map_err(failed)
        });
        let shard = loading.await.map_err(|_| MoveError::Aborted)??;
        let memory = MoveError::Memory { found: *found, free_bytes };
        shard.and_then(Served::of).ok_or(memory)
    }

    /// Serves and advertises `next`; gives back what was served before. After an error the offer is what it was.
    async fn take_over(&self, found: &Move, next: Served) -> Result<Served, MoveError> {
        let info: &Info = next.shard.info();
        let speed = trial(Arc::clone(&next.hop), info).await?;
        tracing::info!(span = %found.to, decode_ns = speed.layer_time_ns, "loaded beside the old span");
        let (layers, holders) = self.holders().await?;
        if !placement::is_worth(layers, &holders, &self.node.id(), found.to) {
            return Err(MoveError::Overtaken(*found));
        }
        let (before, offered) = (self.served(), self.offered().await);
        self.hop.add(Arc::clone(&next.hop));
        self.offer(next, Some(speed)).await?;
        tokio::time::sleep(SETTLE).await;
        let stays = match self.holders().await {
            Ok((_, holders)) => placement::may_leave(&holders, &self.node.id(), found.from, found.to),
            // Who cannot look does not leave.
            Err(_) => false,
        };
        if stays {
            return Ok(before);
        }
        let (layer_time_ns, prefill_layer_time_ns) = (offered.layer_time_ns, offered.prefill_layer_time_ns);
        self.offer(before, Some(super::Speed { layer_time_ns, prefill_layer_time_ns })).await?;
        tokio::time::sleep(SETTLE).await;
        Err(MoveError::LastHolder(found.from))
    }

    /// Lets the sessions of a shard that is not offered any more finish for a while, then frees its memory. Sessions that
    /// are left find it closed at their next step.
    async fn release(&self, served: Served, drain: Duration) {
        let left = self.hop.remove(&served.hop, drain).await;
        tracing::info!(span = %served.span(), sessions_ended = left, "released");
        served.shard.shutdown().await;
    }

    /// Who serves the model, this node as it offers itself.
    async fn holders(&self) -> Result<(u32, Vec<Holder>), DiscoveryError> {
        let offer = self.offered().await;
        let adverts = self.node.adverts(offer.model).await?;
        let others = adverts.iter().filter(|advert| advert.peer != self.node.id());
        let own = Holder { node: self.node.id(), span: offer.span, layer_time_ns: offer.layer_time_ns };
        Ok((offer.layers, others.map(Holder::from_advert).chain([own]).collect()))
    }
}

impl fmt::Debug for Rebalance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rebalance")
            .field("interval", &self.interval)
            .field("shard", &self.shard)
            .finish_non_exhaustive()
    }
}
