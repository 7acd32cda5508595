//! The parts of the binary `far-mesh`: the command line, its settings, and what joins runtime, ledger and HTTP.

pub mod cli;
pub mod commands;
pub mod config;
pub mod logging;
pub mod models;
pub mod progress;
