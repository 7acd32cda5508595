//! Weekly payouts, exactly once.
//!
//! ```text
//! Monday 00:00 UTC: close the epoch -> items by wallet -> batches          (one transaction of the ledger)
//! each tick:        state of the ledger + view of the chain -> decide -> actions
//!                   planned -> signed -> submitted -> mined -> confirmed at depth k
//! ```
//!
//! [`Payer::tick`] is the driver and thin: `book` reads the state, `view` asks the chain, [`decide`](decide::decide) is a pure
//! function from both to what is to be done, and the driver does it. What a payer does rests on nothing in its
//! memory, so a crash loses nothing, and any number of payers may run at once.
//!
//! What always holds:
//!
//! - A contribution belongs to one batch at most (it is claimed in the transaction that plans the batch), a wallet to one item
//!   of an epoch, a batch to one place in its epoch, a nonce of a sender to one try of a batch: constraints of the schema.
//! - A transaction is stored before it is sent. Whatever becomes of an answer, what was signed is known.
//! - The contract pays a batch once. Whether it did is read from its guard, in a block that is k deep, never concluded from
//!   an answer, a receipt or an event.
//! - A batch gets a new nonce only where the one before is spent in that same deep block while the guard is empty there: then
//!   no transaction that was ever signed for it can still pay it. (Were this wrong, the guard would still pay it once.)
//! - A guard that holds the digest of other items means that somebody else pays under our names: the batch is halted, an alert
//!   raised, and nothing is signed for it again.
//! - Balances under the minimum, and those of nodes without a wallet, stay unclaimed and carry over.

mod alert;
mod audit;
mod book;
pub mod decide;
mod epoch;
mod error;
mod funds;
mod gas;
mod item;
mod payer;
mod plan;
mod round;
mod statement;
mod status;
mod view;

pub use alert::Alert;
pub use audit::{About, Mismatch, check_batches, reconcile};
pub use epoch::Epoch;
pub use error::PayError;
pub use funds::Funds;
pub use gas::CannotPay;
pub use item::{Item, MAX_ITEMS, PayoutContract, batch_id, digest, pack, units};
pub use payer::{Closed, Payer, PayerConfig, Tick};
pub use plan::{Carried, Plan, PlannedBatch, Rules, Why};
pub use statement::{NodePayment, NodeSums, WalletPayment};
pub use status::{BatchStatus, PayoutStatus, StatusTotal};
