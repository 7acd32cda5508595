//! A provider: a node that holds a span, offers it in the DHT and serves it to coordinators.
//!
//! ```text
//! Shard (loaded) -> trial (how fast is it here?) -> serve (shard protocol) -> announce (advert) ... withdraw
//! ```

mod neighbours;
mod run;
mod terms;
mod trial;

pub use run::{Provider, StartError};
pub use terms::Terms;
pub use trial::{Speed, trial};
