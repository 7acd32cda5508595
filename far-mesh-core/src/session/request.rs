//! What a caller asks of a session and what it hears from it.

use std::time::Duration;

use crate::{
    hop::{Account, HopError},
    id::SessionId,
};

use super::LogitsError;

/// A generation to run.
#[derive(Clone, Debug)]
pub struct Request {
    /// Token ids of the prompt, at least one.
    pub prompt: Vec<u32>,
    /// Most tokens to generate; prompt and output together must fit the model's context.
    pub max_tokens: u32,
    /// How the next token is chosen.
    pub sampling: Sampling,
    /// Texts that end the output; none of them is part of it.
    pub stop: Vec<String>,
    /// Report each token's log-probability with this many best alternatives (0: only its own).
    pub logprobs: Option<u8>,
}

/// How the next token is chosen from the logits. Order: penalties, temperature, top-k, top-p, min-p, draw.
#[derive(Clone, Debug, PartialEq)]
pub struct Sampling {
    /// 0 takes the most likely token.
    pub temperature: f32,
    /// Keep the k most likely; 0 keeps all.
    pub top_k: u32,
    /// Keep the smallest set with at least this probability; 1 keeps all.
    pub top_p: f32,
    /// Drop tokens less likely than this share of the most likely; 0 drops none.
    pub min_p: f32,
    /// Divide (multiply, when negative) the logit of every token seen (Keskar et al. 2019); 1 is off.
    pub repetition_penalty: f32,
    /// Subtract this from a token's logit for each time it was generated.
    pub frequency_penalty: f32,
    /// Subtract this once from the logit of every token that was generated.
    pub presence_penalty: f32,
    /// Seed of the draw; the same seed, request and model give the same text. Drawn at random if absent.
    pub seed: Option<u64>,
}

/// What happens in a session, in order: tokens, then exactly one [`Event::Done`].
#[derive(Clone, Debug)]
pub enum Event {
    /// A token was generated.
    Token(TokenEvent),
    /// The session ended well.
    Done(Finish),
}

/// A generated token.
#[derive(Clone, Debug, PartialEq)]
pub struct TokenEvent {
    /// Its id.
    pub id: u32,
    /// Text that is certain now; empty while a character is incomplete or a stop text may be starting.
    pub text: String,
    /// Counts from 0.
    pub index: u32,
    /// Where asked for: the token's log-probability, then the best alternatives' in descending order.
    pub logprobs: Option<(f32, Vec<TokenLogprob>)>,
}

/// A token and its log-probability (natural logarithm, before penalties and temperature).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TokenLogprob {
    /// Token id.
    pub id: u32,
    /// Natural logarithm of its probability.
    pub logprob: f32,
}

/// How a session ended and what it took.
#[derive(Clone, Debug)]
pub struct Finish {
    /// The session.
    pub session: SessionId,
    /// Why it ended.
    pub reason: FinishReason,
    /// Text held back until now (an incomplete character, the start of a stop text that did not come).
    pub tail: String,
    /// Tokens in and out.
    pub usage: Usage,
    /// What each hop did.
    pub accounts: Vec<Account>,
    /// From the request to the first token.
    pub time_to_first_token: Duration,
    /// From the first token to the last.
    pub decode_time: Duration,
}

/// Tokens in and out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Positions of the prompt.
    pub prompt_tokens: u32,
    /// Tokens generated, the end token included.
    pub completion_tokens: u32,
}

/// Why a generation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FinishReason {
    /// The model ended its turn or a stop text came.
    Stop,
    /// `max_tokens` were generated.
    Length,
    /// Whoever started it wanted no more ([`super::Generation::canceller`]).
    Cancelled,
}

/// Why a generation failed, named by who can mend it.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum GenerateError {
    /// The prompt is empty.
    #[error("the prompt has no tokens")]
    EmptyPrompt,
    /// Prompt and output do not fit.
    #[error(
        "prompt of {prompt_tokens} tokens and max_tokens {max_tokens} pass the context of {context_tokens}: shorten the prompt or lower max_tokens"
    )]
    TooLong {
        /// Tokens of the prompt.
        prompt_tokens: usize,
        /// Tokens asked for.
        max_tokens: u32,
        /// What the model can hold.
        context_tokens: u32,
    },
    /// A parameter is outside its range.
    #[error("{name} is {value}, must be {range}")]
    Parameter {
        /// Its name.
        name: &'static str,
        /// Its value.
        value: String,
        /// What it may be.
        range: &'static str,
    },
    /// The logits of a token are not usable: a hop or the head computed garbage.
    #[error("token {index} cannot be chosen: {source}")]
    Logits {
        /// Tokens generated before it.
        index: u32,
        /// What is wrong with them.
        source: LogitsError,
    },
    /// The route failed.
    #[error(transparent)]
    Hop(#[from] HopError),
}

impl Default for Sampling {
    fn default() -> Self {
        Self {
            temperature: 1.0,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
            repetition_penalty: 1.0,
            frequency_penalty: 0.0,
            presence_penalty: 0.0,
            seed: None,
        }
    }
}

impl Sampling {
    /// Always the most likely token.
    pub fn greedy() -> Self {
        Self { temperature: 0.0, ..Self::default() }
    }
}
