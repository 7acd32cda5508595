//! One sequence being generated: prefill in chunks, then sample, step, sample, until something stops it.

mod request;

pub use request::{Event, Finish, FinishReason, GenerateError, Request, Sampling, TokenEvent, TokenLogprob, Usage};
