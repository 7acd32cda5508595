//! `far-mesh payments` as an operator meets it: the program, a real chain (anvil), a real ledger on both databases.
//!
//! `tests/run ledger` builds the contracts, starts the server and names them; by hand:
//! `FAR_MESH_TEST_ANVIL` (the program), `FAR_MESH_TEST_PAYOUT_ARTIFACTS` (the folder of contract artifacts) and
//! `FAR_MESH_TEST_POSTGRES` (URL of a server).

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../../../far-ledger/tests/payout/anvil.rs"]
#[allow(dead_code, reason = "the ledger's own suite uses the rest")]
mod anvil;
mod audit;
#[path = "../../../far-ledger/tests/bed/mod.rs"]
#[allow(dead_code, reason = "the ledger's own suite uses the rest")]
mod bed;
#[path = "../../../far-ledger/tests/payout/both.rs"]
mod both;
mod funds;
mod killed;
#[path = "../node/process.rs"]
#[allow(dead_code, reason = "the suite of the program uses the rest")]
mod process;
mod refusals;
mod scene;
mod service;
mod week;
