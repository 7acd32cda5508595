//! One sequence being generated: prefill in chunks, then sample, step, sample, until something stops it.
//!
//! [`Generator::generate`] gives a [`Generation`], a stream of [`Event`]s that drives the session itself while it is
//! polled: there is no task to join, and dropping it cancels the session on every hop.

mod check;
mod generator;
mod logprob;
mod request;
mod run;
mod sampler;
mod stop;
#[cfg(test)]
mod tests;

pub use check::MAX_LOGPROBS;
pub use generator::{DEFAULT_CHUNK_TOKENS, Generation, Generator, GeneratorConfig};
pub use request::{Event, Finish, FinishReason, GenerateError, Request, Sampling, TokenEvent, TokenLogprob, Usage};
pub use sampler::{LogitsError, Sampler};
pub use stop::{MAX_STOP_BYTES, MAX_STOPS, StopSplitter};
