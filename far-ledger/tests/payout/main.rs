//! Payouts against a real chain (anvil) and both databases: whatever fails, every wallet has what it earned, to the unit, once.
//!
//! `tests/run ledger` builds the contracts, starts the server and names them; by hand:
//! `FAR_MESH_TEST_ANVIL` (the program), `FAR_MESH_TEST_PAYOUT_ARTIFACTS` (the folder of contract artifacts) and
//! `FAR_MESH_TEST_POSTGRES` (URL of a server).

#![expect(clippy::unwrap_used, reason = "a test ends where something unexpected happens")]

mod anvil;
mod audit;
#[path = "../bed/mod.rs"]
#[allow(dead_code, reason = "another suite uses the rest")]
mod bed;
mod both;
mod cases;
mod clocks;
mod crash;
mod deposits;
mod faults;
mod lies;
mod moved;
mod rivals;
mod scene;
mod unpayable;
