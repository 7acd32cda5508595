//! From a session's work to the ledger: what it cost, who paid, who earned it, written before anyone is told.
//!
//! What is paid for is the tokens generated (`usage.completion_tokens`); what is paid by is token-layers, the layers a
//! node ran summed over all positions, prompt included: a node that ran twice the layers earns twice the share. See
//! [`far_ledger`] for the split, which sums to the cost exactly.
//!
//! ```text
//! begin (with a payer: the greatest cost is held) -> ... -> settle -> Ingest ---\
//!                                                      \-> fail                  +--> ledger
//!                                     receipts, after the client was told -> Evidence --/
//! ```
//!
//! | end of a session | in the ledger |
//! |---|---|
//! | well | completed, with its cost |
//! | the client went away, or the server ended, after tokens | completed, with the cost of the tokens until then |
//! | the same before any token | failed, with the reason, without a cost |
//! | well, but receipts of some work are missing | completed; neither charged for that work nor paid |
//! | the route failed | failed, with the reason, without a cost: nobody pays for a broken answer |
//! | the coordinator was killed | failed when it starts again, or after a day; what was held is released |

mod evidence;
mod meter;
mod upkeep;
mod work;

pub(crate) use meter::storable;
pub use meter::{HELD, Holder, Meter, MeterError, Terms, Writers};
pub use upkeep::upkeep;
pub use work::{Performed, of_accounts};
