//! Who takes the place of a node that a session lost.

use std::{sync::Arc, time::Duration};

use futures::{FutureExt, future::BoxFuture};

use super::{
    router::{Need, remote_hops},
    table::Table,
};
use crate::{
    hop::HopError,
    id::NodeId,
    peer::{Loss, Mender, RemoteHop},
    route::{Offer, PlanRequest, RegionWish, Route, plan},
};

/// How often the mesh is asked again where nobody can take the place, and it may be waited: a node that was started anew
/// announces itself within this time.
const LOOKS: u32 = 3;

/// How long it is waited between two looks.
const PAUSE: Duration = Duration::from_millis(250);

/// What becomes of a session when only nodes of another kernel class can take a lost one's place: the bits of what follows
/// may differ from those of the undisturbed run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OtherClass {
    /// It goes on, and its account says so.
    #[default]
    Resume,
    /// It ends with an error.
    Refuse,
}

/// Finds nodes in the coordinator's table.
#[derive(Clone, Debug)]
pub(super) struct Repair {
    pub(super) table: Arc<Table>,
    pub(super) model: String,
    pub(super) layers: u32,
    pub(super) need: Need,
    pub(super) seed: u64,
    pub(super) region: Option<RegionWish>,
    pub(super) other_class: OtherClass,
}

impl Mender for Repair {
    fn replace(&self, loss: Loss) -> BoxFuture<'static, Result<Vec<RemoteHop>, HopError>> {
        let repair = self.clone();
        async move { repair.find(&loss).await }.boxed()
    }

    fn slow(&self, node: NodeId, factor: f64) {
        self.table.slow(node, factor);
    }

    fn lost(&self, node: NodeId, _: &HopError) {
        self.table.set_aside(node);
    }
}

impl Repair {
    async fn find(&self, loss: &Loss) -> Result<Vec<RemoteHop>, HopError> {
        let mut look = 0;
        loop {
            let error = match self.plan(loss, self.table.offers()) {
                Ok(route) => return Ok(remote_hops(&route)),
                Err(error) => error,
            };
            look += 1;
            if look > LOOKS || !loss.wait {
                return Err(error);
            }
            if look > 1 {
                tokio::time::sleep(PAUSE).await;
            }
            if let Err(error) = self.table.refresh().await {
                tracing::debug!(%error, "no fresh look at the mesh");
            }
        }
    }

    /// A route over the lost layers on nodes of the class that ran them; else, where the operator allows it, on others.
    fn plan(&self, loss: &Loss, mut offers: Vec<Offer>) -> Result<Route, HopError> {
        for offer in offers.iter_mut().filter(|offer| loss.leaving.contains(&offer.node)) {
            offer.free_tokens = offer.free_tokens.saturating_add(loss.context_tokens.into());
        }
        if loss.kernel_class.is_none() && self.other_class == OtherClass::Refuse {
            let reason = format!("nodes of several kernel classes ran layers {}: no one gives their bits", loss.span);
            return Err(HopError::Refused { reason });
        }
        let same = PlanRequest {
            model: self.model.clone(),
            span: loss.span,
            from: loss.before,
            to: loss.after,
            busy: loss.without.clone(),
            max_hops: loss.max_hops,
            kernel_class: loss.kernel_class.clone(),
            dtype: loss.dtype,
            hidden: self.need.hidden,
            region: self.region.clone(),
            // What was done is sent again as a prompt is.
            prompt_tokens: loss.done_tokens,
            max_tokens: self.need.prompt_tokens.saturating_add(self.need.max_tokens).saturating_sub(loss.done_tokens),
            context_tokens: loss.context_tokens,
            seed: self.seed,
        };
        match plan(self.layers, &offers, &same) {
            Err(_) if self.other_class == OtherClass::Resume => {
                Ok(plan(self.layers, &offers, &PlanRequest { kernel_class: None, ..same })?)
            }
            planned => Ok(planned?),
        }
    }
}
