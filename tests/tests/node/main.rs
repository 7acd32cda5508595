//! The program as a user meets it: real processes on free ports, a real model, a real ledger, OpenAI's own client.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod bench;
mod cancel;
mod demo;
mod demo_life;
mod determinism;
mod doctor;
mod embed;
mod events;
mod folder;
mod keys;
mod ledger;
mod models;
mod openai;
mod process;
mod readme;
mod refusals;
mod routes;
mod text;
mod usage;
mod wire;
