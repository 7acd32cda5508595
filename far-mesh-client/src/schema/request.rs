//! Requests of `/inference/generate` and `/api/inference/chat`.
//!
//! Numbers are as wide as JSON writes them, so that a value out of range is told from one of the wrong type: the
//! coordinator answers 422 to the first and 400 to the second.

use serde::{Deserialize, Serialize};

/// A generation: from a raw `prompt` on `/inference/generate`; from `messages`, or a `prompt` that stands for one
/// message of the user, on `/api/inference/chat`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct GenerateRequest {
    /// Name or hash of the model; may be absent where only one is served.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Text to go on from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prompt: Option<String>,
    /// Conversation to answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub messages: Option<Vec<Message>>,
    /// Most tokens to generate; absent: 256, or fewer where the context ends.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_tokens: Option<i64>,
    /// 0 takes the most likely token; at most 2, absent: 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub temperature: Option<f64>,
    /// Keep the smallest set of tokens with at least this probability; absent: 1, all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub top_p: Option<f64>,
    /// Keep the k most likely tokens; absent: 0, all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub top_k: Option<i64>,
    /// Drop tokens less likely than this share of the most likely; absent: 0, none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_p: Option<f64>,
    /// Divides the logits of tokens seen; absent: 1, off.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repetition_penalty: Option<f64>,
    /// Subtracted from a token's logit for each time it was generated, -2 to 2.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub frequency_penalty: Option<f64>,
    /// Subtracted once from the logit of every token generated, -2 to 2.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub presence_penalty: Option<f64>,
    /// The same seed, request and model give the same text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seed: Option<i64>,
    /// Texts that end the output; not part of it. At most 16.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop: Option<Stop>,
    /// Where the nodes that compute should stand.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub region: Option<Region>,
    /// Events as they come (the default), or one answer at the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stream: Option<bool>,
}

/// One text or several.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged, expecting = "expected a string or an array of strings")]
pub enum Stop {
    /// One.
    One(String),
    /// Several.
    Many(Vec<String>),
}

/// Where the nodes of a route should stand: a region's name like `eu` or `us-east` alone prefers it, in an object like
/// `{"require": "eu"}` it must be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged, expecting = "expected the name of a region, or {\"require\": name}")]
pub enum Region {
    /// As much there as somebody serves.
    Prefer(String),
    /// All there, or an error.
    Require {
        /// The region.
        require: String,
    },
}

/// A message of a conversation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// `system`, `developer` (the same), `user`, `assistant` or `tool`.
    pub role: String,
    /// What was said.
    pub content: Content,
}

/// A message's text, whole or in parts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged, expecting = "expected a string or an array of text parts")]
pub enum Content {
    /// Whole.
    Text(String),
    /// In parts, of which only type `text` is understood.
    Parts(Vec<Part>),
}

/// A part of a message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// `text`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
}

impl GenerateRequest {
    /// A request from one text.
    pub fn text(prompt: impl Into<String>) -> Self {
        Self { prompt: Some(prompt.into()), ..Self::default() }
    }

    /// A request from a conversation.
    pub fn chat(messages: impl IntoIterator<Item = Message>) -> Self {
        Self { messages: Some(messages.into_iter().collect()), ..Self::default() }
    }

    /// Names the model.
    #[must_use]
    pub fn model(mut self, model: impl Into<String>) -> Self {
        self.model = Some(model.into());
        self
    }

    /// Bounds the output.
    #[must_use]
    pub fn max_tokens(mut self, tokens: u32) -> Self {
        self.max_tokens = Some(tokens.into());
        self
    }

    /// Sets the temperature; 0 takes the most likely token.
    #[must_use]
    pub fn temperature(mut self, temperature: f64) -> Self {
        self.temperature = Some(temperature);
        self
    }

    /// Sets the seed of the draw.
    #[must_use]
    pub fn seed(mut self, seed: i64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// Sets where the nodes should stand.
    #[must_use]
    pub fn region(mut self, region: Region) -> Self {
        self.region = Some(region);
        self
    }

    /// Sets the texts that end the output.
    #[must_use]
    pub fn stop<S: Into<String>>(mut self, stop: impl IntoIterator<Item = S>) -> Self {
        self.stop = Some(Stop::Many(stop.into_iter().map(Into::into).collect()));
        self
    }
}

impl Message {
    /// A message of this role.
    pub fn new(role: impl Into<String>, text: impl Into<String>) -> Self {
        Self { role: role.into(), content: Content::Text(text.into()) }
    }

    /// A message of the user.
    pub fn user(text: impl Into<String>) -> Self {
        Self::new("user", text)
    }

    /// A message of the system.
    pub fn system(text: impl Into<String>) -> Self {
        Self::new("system", text)
    }

    /// A message of the assistant.
    pub fn assistant(text: impl Into<String>) -> Self {
        Self::new("assistant", text)
    }
}

impl Stop {
    /// The texts.
    pub fn into_vec(self) -> Vec<String> {
        match self {
            Self::One(text) => vec![text],
            Self::Many(texts) => texts,
        }
    }
}
