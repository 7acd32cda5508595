//! The money of Far Mesh: what a session cost, who paid, who earned it, and the store that keeps all of it.
//!
//! The way of money in this crate:
//!
//! ```text
//! top-up, deposit -> balance of a user -> held while a session runs (Payer)
//! Price x tokens  -> RunningCost (shown with every token)
//!                 -> Outcome::settle_vouched(work of each hop) -> FeeRate -> share_out -> split -> contributions
//!                 -> Store::finalize_session, or Ingest for many at once
//!                 -> sessions, contributions, totals of nodes, balances, journal and usage, in one transaction
//! once a week     -> payout: items by wallet -> batches -> evm: signed transactions -> the contract that pays a batch once
//! ```
//!
//! What always holds:
//!
//! - An [`Amount`] is a whole number of nano-FAR, never negative, and only added, subtracted and multiplied where the
//!   result fits. There is no float in this crate; a lint sees to it.
//! - The operator's fee and the payments of a session's contributions sum to its cost exactly: an [`Outcome`] for which
//!   they do not cannot be made.
//! - Every move of FAR is a line of the [`journal`] that takes from one account and gives to another: whatever is posted
//!   sums to zero. A balance is the sum of its lines; [`Ledger::audit`] works all of it out anew.
//! - A user pays from what he paid in: what a session may cost is held before it runs, and his balance is never below what
//!   is held.
//! - A cause moves money once: a session is finalized once, a top-up counts once for its key, a deposit once for its log.
//!   The same again changes nothing, another of the same name is refused, so a caller that does not know whether its call
//!   arrived simply repeats it.
//! - When a call returns, what it did is on the disk: tell the client after it, not before.
//!
//! A session without a payer costs nobody's balance: the account [`Party::Open`] goes below zero by it, which is what the
//! operator owes its providers.
//!
//! The crate knows nothing of the mesh: nodes, sessions and models are texts that the caller chooses.
//!
//! # Example
//!
//! ```
//! use far_ledger::{
//!     Ledger, NewSession, Node, Outcome, Store, UnixMillis, Work,
//!     cost::{Price, RunningCost},
//! };
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let dir = tempfile::tempdir()?;
//! let store = Ledger::open(dir.path().join("ledger.db")).await?;
//! let now = UnixMillis::now();
//!
//! // Providers are known before they earn.
//! for node in ["alice", "bob"] {
//!     store.upsert_node(&Node::new(node, now)).await?;
//! }
//!
//! // A session begins, and its cost is shown while it runs.
//! store.begin_session(&NewSession::new("session-1", "smollm2-135m-instruct", now)).await?;
//! let price: Price = "0.0001".parse()?;
//! let mut cost = RunningCost::new(price);
//! assert_eq!(cost.add(1)?.to_string(), "0.0001");
//! assert_eq!(cost.add(1)?.to_string(), "0.0002");
//!
//! // Two hops ran the prompt and the tokens: 10 layers and 20 layers.
//! let hop = |node: &str, start, end| Work {
//!     node_id: node.into(),
//!     layers_start: start,
//!     layers_end: end,
//!     tokens: 12,
//!     compute_ms: 40,
//!     exact: true,
//! };
//! let outcome = Outcome::settle(price, cost.tokens(), &[hop("alice", 0, 10), hop("bob", 10, 30)], now)?;
//! store.finalize_session("session-1", &outcome).await?;
//! store.finalize_session("session-1", &outcome).await?; // a repetition changes nothing
//!
//! let rows = store.contributions("session-1").await?;
//! let paid = |index: usize| rows[index].contribution.payment.to_string();
//! assert_eq!((paid(0), paid(1)), ("0.000066667".into(), "0.000133333".into()));
//! let bob = store.node_earnings("bob").await?.ok_or("bob is known")?;
//! assert_eq!(bob.unpaid.to_string(), "0.000133333");
//! store.close().await;
//! # Ok(())
//! # }
//! ```

#![deny(clippy::float_arithmetic, clippy::print_stdout)]
#![cfg_attr(not(test), deny(clippy::arithmetic_side_effects))]

pub mod account;
pub mod amount;
pub mod contribution;
pub mod cost;
pub mod deposit;
pub mod evm;
pub mod fee;
pub mod field;
pub mod ingest;
pub mod journal;
pub mod key;
pub mod node;
pub mod payout;
pub mod session;
pub mod share;
pub mod store;
pub mod time;
pub mod wallet;

pub use account::{Account, Party, Payer, Usage};
pub use amount::Amount;
pub use contribution::{Contribution, ContributionRow, Work};
pub use fee::FeeRate;
pub use journal::Posted;
pub use key::{ApiKey, KeyRow, Secret};
pub use node::{Node, NodeEarnings, NodeModel, NodeRow};
pub use session::{NewSession, Outcome, Session, Status};
pub use store::{Ledger, Store};
pub use time::UnixMillis;
pub use wallet::WalletAddress;
