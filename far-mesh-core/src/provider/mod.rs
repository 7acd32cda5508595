//! A provider: a node that holds a span, offers it in the DHT and serves it to coordinators.
//!
//! ```text
//! Shard (loaded) -> trial (how fast is it here?) -> serve (shard protocol) -> announce (advert) ... withdraw
//!                                                       ^ shift (two shards as one hop, while it moves)
//! Rebalance -> moving (is another place better?) -> a second Shard -> serving (what is offered now)
//! ```

mod moving;
mod neighbours;
mod run;
mod serving;
mod shift;
mod terms;
mod trial;

pub use moving::{MoveError, Rebalance};
pub use run::{Provider, StartError};
pub use terms::Terms;
pub use trial::{Speed, trial};
