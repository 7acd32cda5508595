//! The parts of the binary `far-mesh`: the command line, its settings, and what joins runtime, ledger and HTTP.

mod calendar;
pub mod cli;
pub mod commands;
pub mod config;
pub mod engine;
pub mod health;
pub mod http;
pub mod local;
pub mod logging;
pub mod metering;
pub mod models;
pub mod progress;
