//! Which hops a request takes: pure, no I/O, no clock of its own.
//!
//! ```text
//! adverts -> Offer (what a node offers, how far it is, what became of it) -> claims (who stands where he cannot)
//!   -> Coverage (which layers somebody serves) -> plan -> Route -> peer::RemoteRoute
//!        topology (cost + link: offers as a graph) -> repeat (no node twice) -> path (the shortest way through the layers)
//! adverts -> placement::Holder -> place (where to join), rebalance (whether to move)
//! ```
//!
//! Invariant: the hops of a [`Route`] follow each other without gap or overlap from the first layer asked for to the last.

mod arrivals;
mod bound;
mod claims;
mod cost;
mod coverage;
mod graph;
mod link;
mod offer;
mod path;
pub mod placement;
mod plan;
mod region;
mod repeat;
mod topology;

use self::plan::rank;
pub use self::{
    claims::refuted,
    coverage::Coverage,
    offer::Offer,
    plan::{PlanError, PlanRequest, Route, RouteHop, plan, plan_in_any_dtype},
    region::{RegionWish, least_rtt, lies_in},
};
