//! What each command does, one file a command: `run(args, config)`.

pub mod bench;
mod books;
pub mod coordinator;
pub mod demo;
mod device;
pub mod discovery;
pub mod doctor;
mod error;
mod interrupt;
mod join;
pub mod keys;
pub mod members;
mod memory;
pub mod models;
mod output;
mod parts;
pub mod payments;
pub mod provider;
pub mod provider_status;
mod shard;

pub use error::{CommandError, USAGE};
pub use interrupt::{Stop, until_interrupted};
pub use output::{print, print_json};
