//! A hop over all layers that finds its route when it is opened.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use futures::{FutureExt, future::BoxFuture};
use tokio::time::Instant;

use super::{
    repair::{OtherClass, Repair},
    table::Table,
    tries::{Tries, Without},
};
use crate::{
    activation::Dtype,
    hop::{Hop, HopError, HopSession, OpenSession},
    id::Span,
    limits::MAX_HOPS,
    peer::{Node, RemoteHop, RemoteRoute, StepTime},
    route::{PlanError, PlanRequest, RegionWish, Route, RouteHop, plan_in_any_dtype},
};

/// How long a request waits for the first look-up in the DHT.
const FIRST_LOOKUP: Duration = Duration::from_secs(3);

/// Expected compute of a step beside its layers: waking the device's worker, queueing behind a chunk of another session.
const STEP_OVERHEAD: Duration = Duration::from_millis(20);

/// What waking a hop's threads for a step takes beside its layers.
const WAKE_UP: Duration = Duration::from_micros(300);

/// What a route is for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Need {
    /// Values in a row of activations.
    pub(super) hidden: u32,
    pub(super) prompt_tokens: u32,
    pub(super) max_tokens: u32,
}

/// Plans, opens, and plans again without the nodes that turned out to be lost or declined.
#[derive(Debug)]
pub(super) struct Router {
    pub(super) node: Node,
    pub(super) table: Arc<Table>,
    pub(super) model: String,
    pub(super) span: Span,
    pub(super) need: Need,
    pub(super) other_class: OtherClass,
    pub(super) region: Option<RegionWish>,
    /// The route that was opened.
    pub(super) taken: Arc<OnceLock<Vec<RemoteHop>>>,
}

impl Hop for Router {
    fn span(&self) -> Span {
        self.span
    }

    fn open(&self, request: OpenSession) -> BoxFuture<'_, Result<Box<dyn HopSession>, HopError>> {
        self.find(request).boxed()
    }
}

impl Router {
    async fn find(&self, request: OpenSession) -> Result<Box<dyn HopSession>, HopError> {
        self.table.filled(FIRST_LOOKUP).await;
        let (mut tries, began) = (Tries::default(), Instant::now());
        loop {
            let (route, dtype) = self.plan(&request, &tries).await.map_err(|error| tries.exhausted(error))?;
            let hops = remote_hops(&route);
            let remote = RemoteRoute::new(Arc::new(self.node.clone()), hops.clone())
                .map_err(|error| HopError::Refused { reason: error.to_string() })?
                .mended_by(Arc::new(self.repair(&request)));
            let error = match remote.open(OpenSession { dtype, ..request.clone() }).await {
                Ok(session) => {
                    // A router is opened once: another value cannot be there.
                    let _ = self.taken.set(hops);
                    return Ok(session);
                }
                Err(error) => error,
            };
            let seen = error.to_string();
            let without = tries.after(error, began.elapsed())?;
            tracing::info!(seen, ?without, "planning another route");
            if let Without::Lost(node) = without {
                self.table.set_aside(node);
            }
        }
    }

    fn repair(&self, request: &OpenSession) -> Repair {
        Repair {
            table: Arc::clone(&self.table),
            model: self.model.clone(),
            layers: self.span.len(),
            need: self.need,
            seed: seed(request),
            region: self.region.clone(),
            other_class: self.other_class,
        }
    }

    /// A route over what is known and the type of its activations, which the head takes whatever it is; where that does not suffice, over what the DHT says now.
    async fn plan(&self, request: &OpenSession, tries: &Tries) -> Result<(Route, Dtype), PlanError> {
        let wanted = PlanRequest {
            model: self.model.clone(),
            span: self.span,
            from: None,
            to: None,
            busy: Vec::new(),
            max_hops: MAX_HOPS,
            kernel_class: None,
            dtype: request.dtype,
            hidden: self.need.hidden,
            region: self.region.clone(),
            prompt_tokens: self.need.prompt_tokens,
            max_tokens: self.need.max_tokens,
            context_tokens: request.context_tokens,
            seed: seed(request),
        };
        let offers = tries.usable(self.table.offers());
        if let Ok(found) = plan_in_any_dtype(self.span.len(), &offers, &wanted) {
            return Ok(found);
        }
        if let Err(error) = self.table.look().await {
            tracing::debug!(%error, "no fresh look at the mesh");
        }
        let offers = tries.usable(self.table.offers());
        plan_in_any_dtype(self.span.len(), &offers, &wanted)
    }
}

/// Sessions differ in it, so that those of equal routes spread.
fn seed(request: &OpenSession) -> u64 {
    u64::from_le_bytes(std::array::from_fn(|at| request.session.0[at]))
}

pub(super) fn remote_hops(route: &Route) -> Vec<RemoteHop> {
    let layers = |hop: &RouteHop, ns: u32| Duration::from_nanos(u64::from(ns) * u64::from(hop.span.len()));
    let remote = |hop: &RouteHop| RemoteHop {
        node: hop.node,
        addrs: hop.addrs.clone(),
        span: hop.span,
        kernel_class: hop.kernel_class.clone(),
        expected: StepTime {
            base: STEP_OVERHEAD,
            per_token: layers(hop, hop.layer_time_ns.max(hop.prefill_layer_time_ns)),
        },
        promised: layers(hop, hop.layer_time_ns) + WAKE_UP,
    };
    route.hops.iter().map(remote).collect()
}
