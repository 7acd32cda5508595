//! `far-mesh payments`: what joins the ledger's payouts with settings, terminal and signals.
//!
//! Nothing is decided here: who is paid, with which transaction, and whether it is settled, is the ledger's business
//! ([`far_ledger::payout`]). A command that is broken off anywhere is simply run again.

mod audit;
mod batches;
mod deploy;
mod dispatch;
mod error;
mod export;
mod follow;
mod once;
mod plan;
mod service;
mod setup;
mod shortage;
mod status;
mod text;

pub use dispatch::run;
pub use error::PaymentsError;
