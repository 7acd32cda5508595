//! From offers to a route.

use std::time::Duration;

use libp2p::Multiaddr;

use super::{
    Coverage, Offer,
    cost::Cost,
    path::{Leg, Path},
    region::RegionWish,
    repeat::{NoPath, cheapest},
    topology::{graph, outside},
};
use crate::{
    activation::Dtype,
    id::{NodeId, Span},
    limits::{MAX_HOPS, MAX_LAYERS},
};

/// What a route is for: a whole model, or the part of it that lies between two hops of a session that lives on.
#[derive(Clone, Debug)]
pub struct PlanRequest {
    /// Name of the model, for errors.
    pub model: String,
    /// The layers to run.
    pub span: Span,
    /// Who hands over what goes into the first of them; `None` for the coordinator.
    pub from: Option<NodeId>,
    /// Who takes what comes out of the last; `None` for the coordinator.
    pub to: Option<NodeId>,
    /// Nodes that are no hops here, since they run other layers of the session. `from` and `to` are not either.
    pub busy: Vec<NodeId>,
    /// Most hops; a model's route has at most [`MAX_HOPS`].
    pub max_hops: usize,
    /// Only hops of this class: equal classes give equal bits.
    pub kernel_class: Option<String>,
    /// Element type of the activations between hops.
    pub dtype: Dtype,
    /// Values in a row of them.
    pub hidden: u32,
    /// Where the hops should stand.
    pub region: Option<RegionWish>,
    /// Positions of the prompt.
    pub prompt_tokens: u32,
    /// Most tokens to generate.
    pub max_tokens: u32,
    /// Positions every hop keeps room for.
    pub context_tokens: u32,
    /// Decides between routes that take equally long. The same offers and seed give the same route; different seeds spread
    /// the load.
    pub seed: u64,
}

/// Hops that together run every layer asked for once.
#[derive(Clone, Debug, PartialEq)]
pub struct Route {
    /// In the order of their layers.
    pub hops: Vec<RouteHop>,
    /// Time the request is expected to take along it.
    pub expected: Duration,
}

/// A hop of a route.
#[derive(Clone, Debug, PartialEq)]
pub struct RouteHop {
    /// Who.
    pub node: NodeId,
    /// Where to dial it.
    pub addrs: Vec<Multiaddr>,
    /// The layers it runs here, all that it offers or a part.
    pub span: Span,
    /// Equal classes give equal bits.
    pub kernel_class: String,
    /// Nanoseconds a layer takes for one position when decoding, as the node says.
    pub layer_time_ns: u32,
    /// Nanoseconds a layer takes for one position of a prompt, as the node says.
    pub prefill_layer_time_ns: u32,
    /// Round-trip time to the node, where it was measured.
    pub rtt: Option<Duration>,
    /// Price of `span` for one token, in nano-FAR, its share of the price of all that the node offers, rounded up.
    pub price_nano_far: u64,
}

/// Why there is no route.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PlanError {
    /// Layers that nobody serves: somebody must join.
    #[error("no node serves {} of {model}: start a provider for them", layers(missing))]
    Uncovered {
        /// The model.
        model: String,
        /// The layers, neighbours merged.
        missing: Vec<Span>,
    },
    /// Layers that are served, but not in the element type of the others.
    #[error(
        "{} of {model} are served, but not with {dtype:?} activations: start a provider that has them",
        layers(missing)
    )]
    Dtype {
        /// The model.
        model: String,
        /// The layers, neighbours merged.
        missing: Vec<Span>,
        /// What was asked for.
        dtype: Dtype,
    },
    /// Layers that are served, but not by kernels of the class that the session began with.
    #[error(
        "{} of {model} are served, but not by a node of kernel class {class}: start a provider of that class",
        layers(missing)
    )]
    KernelClass {
        /// The model.
        model: String,
        /// The layers, neighbours merged.
        missing: Vec<Span>,
        /// What was asked for.
        class: String,
    },
    /// Layers that are served, but not where the request requires it.
    #[error(
        "{} of {model} are served, but not in region {region}: prefer it instead, or start a provider there",
        layers(missing)
    )]
    Region {
        /// The model.
        model: String,
        /// The layers, neighbours merged.
        missing: Vec<Span>,
        /// What was asked for.
        region: String,
    },
    /// Layers that are served, but nobody has room: come back, or ask for less context.
    #[error(
        "{} of {model} are served, but no node has room for {needed_tokens} tokens: wait, or ask for a shorter context",
        layers(full)
    )]
    NoRoom {
        /// The model.
        model: String,
        /// The layers, neighbours merged.
        full: Vec<Span>,
        /// Positions asked for.
        needed_tokens: u32,
    },
    /// Only routes of more hops than are of use.
    #[error("{model} is cut into such small spans that a route would pass {most} hops: serve longer spans")]
    TooManyHops {
        /// The model.
        model: String,
        /// Most hops allowed.
        most: usize,
    },
    /// Only routes that pass a node twice.
    #[error("{model} is served so that every route found passes a node twice: serve the spans between by more nodes")]
    Repeats {
        /// The model.
        model: String,
    },
    /// Not a number of layers that a model has.
    #[error("a model of {layers} layers cannot be routed: 1 to {MAX_LAYERS}")]
    Layers {
        /// The number.
        layers: u32,
    },
    /// Layers that the model does not have.
    #[error("layers {span} cannot be routed: the model has {layers}")]
    Span {
        /// What was asked for.
        span: Span,
        /// Layers of the model.
        layers: u32,
    },
}

/// The route over the layers asked for, of a model of `layers`, that is expected to take the least time.
///
/// Exact for the cost model of this crate: the ways between the hops, the bytes that cross them, and each hop's queue and
/// measured time for each layer, to some percent. A hop may run a part of what its node offers, and no node is used twice.
///
/// # Errors
/// [`PlanError`] naming the layers that stand in the way.
pub fn plan(layers: u32, offers: &[Offer], request: &PlanRequest) -> Result<Route, PlanError> {
    if !(1..=MAX_LAYERS).contains(&layers) {
        return Err(PlanError::Layers { layers });
    }
    if request.span.end() > layers {
        return Err(PlanError::Span { span: request.span, layers });
    }
    let usable = usable(layers, offers, request)?;
    let (most, model) = (request.max_hops.min(MAX_HOPS), || request.model.clone());
    match cheapest(&graph(&usable, offers, request), most) {
        Ok(path) => Ok(route(&path, &usable, request)),
        Err(NoPath::TooLong) => Err(PlanError::TooManyHops { model: model(), most }),
        Err(NoPath::Repeats) => Err(PlanError::Repeats { model: model() }),
    }
}

/// The quickest of the routes in each element type that is offered: shards on GPUs and on processors have different ones, and
/// one session has one.
///
/// # Errors
/// As [`plan()`] gives for the request's own type, when there is none in any.
pub fn plan_in_any_dtype(layers: u32, offers: &[Offer], request: &PlanRequest) -> Result<(Route, Dtype), PlanError> {
    let in_dtype = |dtype| plan(layers, offers, &PlanRequest { dtype, ..request.clone() }).map(|route| (route, dtype));
    let own = in_dtype(request.dtype);
    let mut others: Vec<Dtype> = Vec::new();
    for offer in offers {
        if offer.dtype != request.dtype && !others.contains(&offer.dtype) {
            others.push(offer.dtype);
        }
    }
    // Its own first: of equals the first is taken.
    let found = own.iter().cloned().chain(others.into_iter().filter_map(|dtype| in_dtype(dtype).ok()));
    match found.min_by_key(|(route, _)| route.expected) {
        Some(found) => Ok(found),
        None => own,
    }
}

/// The offers that fit, in the order in which ties are decided.
fn usable<'a>(layers: u32, offers: &'a [Offer], request: &PlanRequest) -> Result<Vec<&'a Offer>, PlanError> {
    let model = || request.model.clone();
    let span = request.span;
    let missing = |offers: &[&Offer]| Coverage::of(layers, offers.iter().map(|offer| offer.span)).missing_of(span);
    let taken = |node: &NodeId| [request.from, request.to].contains(&Some(*node)) || request.busy.contains(node);
    let touches = |offer: &Offer| offer.span.start() < span.end() && span.start() < offer.span.end();
    let fits = |offer: &&Offer| offer.span.end() <= layers && touches(offer) && !taken(&offer.node);
    let mut usable = offers.iter().filter(fits).collect::<Vec<_>>();
    let required = match &request.region {
        Some(RegionWish::Require(region)) => Some(region),
        _ => None,
    };
    let typed = |offer: &&Offer| offer.dtype == request.dtype;
    let classed = |offer: &&Offer| request.kernel_class.as_ref().is_none_or(|class| offer.kernel_class == *class);
    let placed = |offer: &&Offer| required.is_none_or(|region| offer.is_in(region));
    let roomy = |offer: &&Offer| offer.free_tokens >= u64::from(request.context_tokens);
    let all = |offer: &&Offer| typed(offer) && classed(offer) && placed(offer) && roomy(offer);
    let left = usable.iter().copied().filter(all).collect::<Vec<_>>();
    if missing(&left).is_empty() {
        usable = left;
    } else {
        // What stands in the way first is told.
        let gap = missing(&usable);
        if !gap.is_empty() {
            return Err(PlanError::Uncovered { model: model(), missing: gap });
        }
        usable.retain(typed);
        let gap = missing(&usable);
        if !gap.is_empty() {
            return Err(PlanError::Dtype { model: model(), missing: gap, dtype: request.dtype });
        }
        usable.retain(classed);
        let gap = missing(&usable);
        if let (Some(class), false) = (&request.kernel_class, gap.is_empty()) {
            return Err(PlanError::KernelClass { model: model(), missing: gap, class: class.clone() });
        }
        usable.retain(placed);
        let gap = missing(&usable);
        if let (Some(region), false) = (required, gap.is_empty()) {
            return Err(PlanError::Region { model: model(), missing: gap, region: region.clone() });
        }
        usable.retain(roomy);
        return Err(PlanError::NoRoom {
            model: model(),
            full: missing(&usable),
            needed_tokens: request.context_tokens,
        });
    }
    usable.sort_by_cached_key(|offer| (rank(request.seed, &offer.node), offer.node, offer.span));
    Ok(usable)
}

fn route((cost, legs): &Path, offers: &[&Offer], request: &PlanRequest) -> Route {
    let first = request.span.start();
    let hop = |leg: &Leg| {
        let offer = offers.get(leg.edge)?;
        let span = Span::new(first + leg.start as u32, first + leg.end as u32).ok()?;
        let share = u128::from(offer.price_nano_far) * u128::from(span.len());
        Some(RouteHop {
            node: offer.node,
            addrs: offer.addrs.clone(),
            span,
            kernel_class: offer.kernel_class.clone(),
            layer_time_ns: offer.layer_time_ns,
            prefill_layer_time_ns: offer.prefill_layer_time_ns,
            rtt: offer.rtt,
            price_nano_far: share.div_ceil(u128::from(offer.span.len())) as u64,
        })
    };
    // What was added to prefer a region takes no time.
    let added = |leg: &Leg| outside(offers.get(leg.edge)?, request).checked_mul((leg.end - leg.start) as Cost);
    let time = cost.saturating_sub(legs.iter().filter_map(added).sum());
    Route { hops: legs.iter().filter_map(hop).collect(), expected: duration(time) }
}

fn duration(ns: Cost) -> Duration {
    Duration::from_nanos(ns)
}

/// A number that looks random and depends on nothing but its arguments (SplitMix64, Steele et al. 2014).
pub(super) fn rank(seed: u64, node: &NodeId) -> u64 {
    node.as_ref().digest().chunks(8).fold(seed, |state, chunk| {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        let mut z = (state ^ u64::from_le_bytes(word)).wrapping_add(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    })
}

fn layers(spans: &[Span]) -> String {
    let one_layer = matches!(spans, [span] if span.len() == 1);
    let list = spans.iter().map(Span::to_string).collect::<Vec<_>>().join(", ");
    format!("{} {list}", if one_layer { "layer" } else { "layers" })
}

#[cfg(test)]
#[path = "exact_tests.rs"]
mod exact_tests;
#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
