//! Payouts in the ledger: each operation one transaction that may be repeated.
//!
//! `close` ends an epoch, `read` loads what is under way, `write` takes the steps of the state machine, `lease` keeps payers
//! from doing the same work. Writers of payouts take [`Topic::Payouts`](crate::store::database::Topic::Payouts) first, so on
//! both databases one of them runs at a time; constraints would refuse a double step even so.

mod close;
mod lease;
mod read;
mod text;
mod write;

pub(super) use close::{Closing, close, closed_since, first_open, preview};
pub(super) use lease::acquire;
pub(super) use read::{Stored, items, open_batches, senders, stored, stored_items, transactions_of, untold};
pub(super) use text::{address_text, hash_text, read_hash};
pub(super) use write::{Mined, NewTx, confirm, halt, mark, next_nonce, store_signed, tell};
