//! `far-mesh keys`: `run` does what is asked, `list` shows accounts and keys, `error` says what may be in the way.

mod error;
mod list;
mod run;

pub use error::KeysError;
pub use run::run;
