//! What the model says, as an independent implementation in f32 computed it greedily.

/// Asked through the chat template; no step of the answer is a close call.
pub(crate) const PROMPT: &str = "Explain quantum computing";

/// Tokens of [`PROMPT`] in the chat template.
pub(crate) const PROMPT_TOKENS: u64 = 33;

/// The first [`ANSWER_TOKENS`] tokens of the answer.
pub(crate) const ANSWER: &str = "Quantum computing is a rapidly evolving field that leverages the principles of quantum \
    mechanics to solve problems that classical computers are not designed to handle. In essence, quantum computers can \
    process information at incredibly high speeds, which can be harnessed to solve complex problems";

/// Tokens of [`ANSWER`].
pub(crate) const ANSWER_TOKENS: u64 = 48;

/// A question whose answer ends by itself.
pub(crate) const SHORT_PROMPT: &str = "What is the capital of France?";

/// The whole answer: 7 tokens and the end of the turn.
pub(crate) const SHORT_ANSWER: &str = "The capital of France is Paris.";

/// The catalogue's name of the model.
pub(crate) const MODEL: &str = "smollm2-135m-instruct";

/// Decoder layers of the model.
pub(crate) const LAYERS: u64 = 30;

/// Nano-FAR of a token where nobody sets a price: 0.0001 FAR.
pub(crate) const PRICE_NANO: i64 = 100_000;

/// The amount as nano-FAR.
pub(crate) fn nano(amount: &str) -> i64 {
    let amount: far_ledger::Amount = amount.parse().unwrap_or_else(|error| panic!("{amount:?}: {error}"));
    amount.nano()
}
