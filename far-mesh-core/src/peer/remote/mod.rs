//! The coordinator's side of the shard protocol: a chain of hops on other nodes as one [`Hop`](crate::hop::Hop).
//!
//! - `route`: which nodes, what may be expected of them.
//! - `open`: asks all of them at once.
//! - `session`: steps into the first, outputs from the last, and the account at the end.
//! - `watch`: when a step is overdue, who is asked, and who is lost. Pure: it gets the time from its caller.
//!
//! A session has no task of its own: its streams are polled by whoever waits for a step, which is also who wants to
//! know of a failure. So a step costs the coordinator one wake-up, and nothing outlives a dropped session.

mod open;
mod route;
mod session;
mod watch;

pub use route::{RemoteHop, RemoteRoute, RouteError, StepTime};

#[cfg(test)]
mod tests;
