//! What a generation answers: events of a stream, or the whole at once.

use serde::{Deserialize, Serialize};

use super::ErrorBody;

/// An event of a stream that goes well: tokens, then one [`Done`].
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// A token.
    Token(Token),
    /// The end, with the account.
    Done(Done),
}

/// Everything a `data:` line of a Far stream can hold, `[DONE]` apart.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged, expecting = "expected a token, the final account or an error")]
pub enum Payload {
    /// The stream failed.
    Error(ErrorBody),
    /// The end, with the account.
    Done(Done),
    /// A token.
    Token(Token),
}

/// A generated token. The texts of all tokens, joined, are the output.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Token {
    /// Its text; empty while a character is incomplete or a stop text may be starting.
    pub token: String,
    /// Counts from 0. Text held back to the very end comes under the last token's number once more.
    pub index: u32,
    /// What the session has cost so far.
    pub cost_far: String,
}

/// The end of a session and its account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Done {
    /// Always true.
    pub done: bool,
    /// The session; `/sessions/{id}` tells its account again.
    pub session_id: String,
    /// The model.
    pub model: String,
    /// Why it ended.
    pub finish_reason: FinishReason,
    /// Tokens in and out.
    pub usage: Usage,
    /// What it cost: the completion's tokens times the price of a token.
    pub cost_far: String,
    /// Who did what; the payments add up to the cost.
    pub contributions: Vec<Contribution>,
}

/// The whole answer where no stream was asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Generated {
    /// The output.
    pub text: String,
    /// The session.
    pub session_id: String,
    /// The model.
    pub model: String,
    /// Why it ended.
    pub finish_reason: FinishReason,
    /// Tokens in and out.
    pub usage: Usage,
    /// What it cost.
    pub cost_far: String,
    /// Who did what.
    pub contributions: Vec<Contribution>,
}

/// Why a generation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FinishReason {
    /// The model ended its turn or a stop text came.
    Stop,
    /// `max_tokens` were generated.
    Length,
}

/// Tokens in and out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Of the prompt.
    pub prompt_tokens: u32,
    /// Generated, the end token included.
    pub completion_tokens: u32,
    /// Both.
    pub total_tokens: u32,
}

/// One node's part in a session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Contribution {
    /// The node.
    pub node_id: String,
    /// First and last layer it ran, both included.
    pub layers: [u32; 2],
    /// Positions it ran them for, those of the prompt included.
    pub tokens: u64,
    /// Its share of the cost.
    pub payment_far: String,
    /// Milliseconds its device spent, as the node says itself.
    pub compute_ms: u64,
    /// False, and only then sent, where it took the place of a lost node and computes in another way: from there on the
    /// output need not be that of the undisturbed run, bit for bit.
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    pub exact: bool,
}

fn yes() -> bool {
    true
}

fn is_yes(value: &bool) -> bool {
    *value
}
