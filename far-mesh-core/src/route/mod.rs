//! Which hops a request takes: pure, no I/O, no clock of its own.
//!
//! ```text
//! adverts -> Offer (what a node offers and how far it is) -> Coverage (which layers somebody serves)
//!                                                         -> plan (cost, path) -> Route -> peer::RemoteRoute
//! ```
//!
//! Invariant: the hops of a [`Route`] follow each other without gap or overlap from layer 0 to the model's last.

mod cost;
mod coverage;
mod offer;
mod path;
mod plan;

pub use self::{
    coverage::Coverage,
    offer::Offer,
    plan::{PlanError, PlanRequest, Route, RouteHop, plan, plan_in_any_dtype},
};
