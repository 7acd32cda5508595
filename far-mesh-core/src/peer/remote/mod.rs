//! The coordinator's side of the shard protocol: a chain of hops on other nodes as one [`Hop`](crate::hop::Hop).
//!
//! - `route`: which nodes, what may be expected of them.
//! - `open`: asks all of them at once.
//! - `session`: steps into the first, outputs from the last, and the account at the end.
//! - `watch`: when a step is overdue, who is asked, and who is lost. Pure: it gets the time from its caller.
//! - `pace`: who is much slower than its advert. Pure too.
//! - `mend`: a repair of the route: new hops in the place of lost ones, which a [`Mender`] finds. `history` is what a new
//!   first hop is sent again.
//! - `receipts`: what the hops signed for each other, settled against the coordinator's own count.
//!
//! A session has no task of its own: its streams are polled by whoever waits for a step, which is also who wants to
//! know of a failure. So a step costs the coordinator one wake-up, and nothing outlives a dropped session.

mod history;
mod mend;
mod mender;
mod open;
mod pace;
mod receipts;
mod route;
mod session;
mod watch;

pub use mender::{Loss, Mender};
pub use route::{RemoteHop, RemoteRoute, RouteError, StepTime};

#[cfg(test)]
mod tests;
