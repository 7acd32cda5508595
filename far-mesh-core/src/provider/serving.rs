//! What a provider serves at the moment, and what it says about it.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::sync::watch;

use super::{Speed, shift::Shifting};
use crate::{
    hop::Hop,
    id::Span,
    peer::{
        AnnounceError, Node, ShardOffer,
        advert::{Link, MAX_QUEUE_NS},
    },
    route::placement::Move,
    shard::Shard,
};

/// A change of room by this share of the arena is announced: a put in the DHT costs a few dozen requests.
const ROOM_SHARE: usize = 8;

/// A queue that changed by less is the same: it is about what a layer of a large model takes.
const QUEUE_CHANGE_NS: u32 = 2_000_000;

/// A provider's shards and its offer.
///
/// Invariant: what was announced last is what [`Serving::shard`] gives, since whoever announces holds the offer.
#[derive(Debug)]
pub(super) struct Serving {
    pub(super) node: Node,
    pub(super) hop: Arc<Shifting>,
    offer: tokio::sync::Mutex<ShardOffer>,
    view: Mutex<View>,
}

#[derive(Debug)]
struct View {
    served: Served,
    moving: Option<Move>,
}

/// A shard and its layers as a hop.
#[derive(Clone, Debug)]
pub(super) struct Served {
    pub(super) shard: Arc<Shard>,
    pub(super) hop: Arc<dyn Hop>,
}

/// The provider is on the move until this is dropped.
#[derive(Debug)]
pub(super) struct Moving<'a>(&'a Serving);

impl Serving {
    pub(super) fn new(node: Node, served: Served, offer: ShardOffer) -> Self {
        let hop = Arc::new(Shifting::new(Arc::clone(&served.hop)));
        Self { node, hop, offer: tokio::sync::Mutex::new(offer), view: Mutex::new(View { served, moving: None }) }
    }

    /// What is offered.
    pub(super) fn served(&self) -> Served {
        self.view().served.clone()
    }

    pub(super) fn moving(&self) -> Option<Move> {
        self.view().moving
    }

    pub(super) fn begin(&self, found: Move) -> Moving<'_> {
        self.view().moving = Some(found);
        Moving(self)
    }

    /// Offers `served` from now on.
    ///
    /// # Errors
    /// [`AnnounceError`]; the offer before stays then.
    pub(super) async fn offer(&self, served: Served, speed: Option<Speed>) -> Result<(), AnnounceError> {
        let mut offer = self.offer.lock().await;
        let mut next = offer.clone();
        next.span = served.hop.span();
        next.free_tokens = served.shard.free_tokens() as u64;
        if let Some(speed) = speed {
            next.layer_time_ns = speed.layer_time_ns;
            next.prefill_layer_time_ns = speed.prefill_layer_time_ns;
        }
        self.node.announce(next.clone()).await?;
        *offer = next;
        self.view().served = served;
        Ok(())
    }

    /// Announces anew when the room, the queue or the ways to the neighbours have changed much. `wait` is the time that steps
    /// spend in the queue.
    pub(super) async fn offer_changes(&self, wait: Duration, measured: &mut watch::Receiver<Vec<Link>>) {
        let mut offer = self.offer.lock().await;
        let shard = self.served().shard;
        let much = (shard.info().arena_tokens / ROOM_SHARE).max(1) as u64;
        let free = shard.free_tokens() as u64;
        let queue_ns = u32::try_from(wait.as_nanos()).unwrap_or(u32::MAX).min(MAX_QUEUE_NS);
        let links = measured.has_changed().unwrap_or(false);
        if free.abs_diff(offer.free_tokens) < much && !queue_changed(offer.queue_ns, queue_ns) && !links {
            return;
        }
        (offer.free_tokens, offer.queue_ns) = (free, queue_ns);
        offer.links.clone_from(&measured.borrow_and_update());
        if let Err(error) = self.node.announce(offer.clone()).await {
            tracing::warn!(%error, "the shard's room is not announced");
        }
    }

    /// What is offered, as others see it.
    pub(super) async fn offered(&self) -> ShardOffer {
        self.offer.lock().await.clone()
    }

    fn view(&self) -> std::sync::MutexGuard<'_, View> {
        self.view.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Served {
    /// The layers of a shard; `None` when it has none.
    pub(super) fn of(shard: Shard) -> Option<Self> {
        let hop: Arc<dyn Hop> = shard.hop()?;
        Some(Self { shard: Arc::new(shard), hop })
    }

    pub(super) fn span(&self) -> Span {
        self.hop.span()
    }
}

/// Whether the queue has doubled or halved, by a time that a route would notice.
fn queue_changed(before_ns: u32, now_ns: u32) -> bool {
    let (least, most) = (before_ns.min(now_ns), before_ns.max(now_ns));
    most - least >= QUEUE_CHANGE_NS && most / 2 >= least
}

impl Drop for Moving<'_> {
    fn drop(&mut self) {
        self.0.view().moving = None;
    }
}
