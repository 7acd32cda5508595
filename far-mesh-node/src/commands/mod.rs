//! What each command does, one file a command: `run(args, config)`.

mod error;
mod interrupt;
pub mod models;
mod output;

pub use error::{CommandError, USAGE};
pub use interrupt::until_interrupted;
pub use output::{print, print_json};
