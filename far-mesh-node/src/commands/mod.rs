//! What each command does, one file a command: `run(args, config)`.

pub mod bench;
pub mod coordinator;
pub mod demo;
pub mod discovery;
mod error;
mod interrupt;
mod join;
pub mod models;
mod output;
pub mod provider;

pub use error::{CommandError, USAGE};
pub use interrupt::{stopped, until_interrupted};
use join::own_program;
pub use output::{print, print_json};
