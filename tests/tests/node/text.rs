//! What the model says, as an independent implementation in f32 computed it greedily.

/// Asked through the chat template; no step of the answer is a close call.
pub const PROMPT: &str = "Explain quantum computing";

/// Tokens of [`PROMPT`] in the chat template.
pub const PROMPT_TOKENS: u64 = 33;

/// The first [`ANSWER_TOKENS`] tokens of the answer.
pub const ANSWER: &str = "Quantum computing is a rapidly evolving field that leverages the principles of quantum \
    mechanics to solve problems that classical computers are not designed to handle. In essence, quantum computers can \
    process information at incredibly high speeds, which can be harnessed to solve complex problems";

/// Tokens of [`ANSWER`].
pub const ANSWER_TOKENS: u64 = 48;

/// A question whose answer ends by itself.
pub const SHORT_PROMPT: &str = "What is the capital of France?";

/// The whole answer: 7 tokens and the end of the turn.
pub const SHORT_ANSWER: &str = "The capital of France is Paris.";

/// The catalogue's name of the model.
pub const MODEL: &str = "smollm2-135m-instruct";

/// Decoder layers of the model.
pub const LAYERS: u64 = 30;

/// Nano-FAR of a token where nobody sets a price: 0.0001 FAR.
pub const PRICE_NANO: i64 = 100_000;

/// The amount as nano-FAR.
pub fn nano(amount: &str) -> i64 {
    let amount: far_ledger::Amount = amount.parse().unwrap_or_else(|error| panic!("{amount:?}: {error}"));
    amount.nano()
}
