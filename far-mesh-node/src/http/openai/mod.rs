//! OpenAI's wire format: `/v1/models`, `/v1/chat/completions`, `/v1/completions`.
//!
//! Fields that change nothing we promise are ignored, as OpenAI does; those that would change the answer and are not
//! supported (tools, a response format, a logit bias...) are refused: nothing is silently approximated. The sessions of
//! an answer are named in the header `x-far-session`, their cost is `usage.cost_far`.

mod answer;
mod chat;
mod completion;
mod logprobs;
mod models;

pub(super) use chat::chat;
pub(super) use completion::completion;
pub(super) use models::{model, models};
