//! Threads that share the work of one operation and join before it returns.
//!
//! A model step is a few hundred operations of some microseconds each, so the threads wait for the next one spinning,
//! but only briefly: beside a busy neighbour a spinning thread takes the time of the one it waits for. The calling
//! thread works too, and takes what the others have not begun: a thread that the system has not woken delays nothing.
//! For the same reason a thread that wakes never takes the core from the one that called it.
//!
//! ```text
//! threads: Pool::run -> job: post, step, join      threads: work -> sleep: until called -> job: step
//! ```
//!
//! Invariant: how work is split and who does it never shows in a result.

mod job;
mod sleep;
#[cfg(test)]
mod tests;
mod threads;

pub use threads::{Installed, Pool};
pub(super) use threads::{run, run_if, threads};
