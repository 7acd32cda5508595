//! The parameters that all generating routes share, checked against their ranges.

use far_mesh_client::schema::{Content, Message, Region, Stop};
use far_mesh_core::{
    route::RegionWish,
    session::{MAX_STOP_BYTES, MAX_STOPS, Sampling},
    token::{self, MAX_MESSAGES},
};

use super::error::ApiError;
use crate::config::MAX_REGION_CHARS;

/// Parameters as they came.
#[derive(Clone, Debug, Default)]
pub(super) struct Params {
    pub(super) max_tokens: Option<i64>,
    pub(super) temperature: Option<f64>,
    pub(super) top_p: Option<f64>,
    pub(super) top_k: Option<i64>,
    pub(super) min_p: Option<f64>,
    pub(super) repetition_penalty: Option<f64>,
    pub(super) frequency_penalty: Option<f64>,
    pub(super) presence_penalty: Option<f64>,
    pub(super) seed: Option<i64>,
    pub(super) stop: Option<Stop>,
    pub(super) region: Option<Region>,
}

/// The [`Params`] of a request: each route's type has the fields itself, so that an error can name the place of one.
macro_rules! params {
    ($request:ident, max_tokens: $max_tokens:expr) => {
        $crate::http::params::Params {
            max_tokens: $max_tokens,
            temperature: $request.temperature,
            top_p: $request.top_p,
            top_k: $request.top_k,
            min_p: $request.min_p,
            repetition_penalty: $request.repetition_penalty,
            frequency_penalty: $request.frequency_penalty,
            presence_penalty: $request.presence_penalty,
            seed: $request.seed,
            stop: $request.stop,
            region: $request.region,
        }
    };
}
pub(super) use params;

/// Parameters within their ranges.
#[derive(Clone, Debug)]
pub(super) struct Checked {
    pub(super) max_tokens: Option<u32>,
    pub(super) sampling: Sampling,
    pub(super) stop: Vec<String>,
    pub(super) region: Option<RegionWish>,
}

impl Params {
    /// # Errors
    /// 422 with the name of the first that is out of its range.
    pub(super) fn check(self) -> Result<Checked, ApiError> {
        let usual = Sampling::default();
        let sampling = Sampling {
            temperature: number("temperature", self.temperature, 0.0, 2.0, usual.temperature)?,
            top_k: match self.top_k {
                Some(value) => integer("top_k", value, 0, u32::MAX.into())?,
                None => usual.top_k,
            },
            // A set of no probability is the most likely token alone.
            top_p: number("top_p", self.top_p, 0.0, 1.0, usual.top_p)?.max(f32::MIN_POSITIVE),
            min_p: number("min_p", self.min_p, 0.0, 1.0, usual.min_p)?,
            repetition_penalty: number("repetition_penalty", self.repetition_penalty, 0.01, 100.0, 1.0)?,
            frequency_penalty: number("frequency_penalty", self.frequency_penalty, -2.0, 2.0, 0.0)?,
            presence_penalty: number("presence_penalty", self.presence_penalty, -2.0, 2.0, 0.0)?,
            seed: self.seed.map(i64::cast_unsigned),
        };
        let max_tokens = self.max_tokens.map(|value| integer("max_tokens", value, 1, u32::MAX.into())).transpose()?;
        Ok(Checked { max_tokens, sampling, stop: stops(self.stop)?, region: self.region.map(region).transpose()? })
    }
}

/// A number between `least` and `most`, both included.
fn number(name: &str, value: Option<f64>, least: f64, most: f64, usual: f32) -> Result<f32, ApiError> {
    match value {
        None => Ok(usual),
        // The ranges are far within those of f32.
        #[expect(clippy::cast_possible_truncation, reason = "the range was checked")]
        Some(value) if (least..=most).contains(&value) => Ok(value as f32),
        Some(value) => Err(ApiError::range(name, format!("{name} is {value}, must be from {least} to {most}"))),
    }
}

/// An integer between `least` and `most`, both included.
pub(super) fn integer<T: TryFrom<i64>>(name: &str, value: i64, least: i64, most: i64) -> Result<T, ApiError> {
    let wrong = || ApiError::range(name, format!("{name} is {value}, must be from {least} to {most}"));
    if !(least..=most).contains(&value) {
        return Err(wrong());
    }
    T::try_from(value).map_err(|_| wrong())
}

fn stops(stop: Option<Stop>) -> Result<Vec<String>, ApiError> {
    let stops = stop.map(Stop::into_vec).unwrap_or_default();
    if stops.len() > MAX_STOPS {
        return Err(ApiError::range("stop", format!("stop has {} texts, at most {MAX_STOPS} are taken", stops.len())));
    }
    if let Some(text) = stops.iter().find(|text| text.is_empty() || text.len() > MAX_STOP_BYTES) {
        let message = format!("a text in stop has {} bytes, must have from 1 to {MAX_STOP_BYTES}", text.len());
        return Err(ApiError::range("stop", message));
    }
    Ok(stops)
}

fn region(region: Region) -> Result<RegionWish, ApiError> {
    let (Region::Prefer(name) | Region::Require { require: name }) = &region;
    if name.is_empty() || name.chars().count() > MAX_REGION_CHARS || name.chars().any(char::is_control) {
        let message = format!(
            "the name of the region has {} characters, must have from 1 to {MAX_REGION_CHARS}, none of control",
            name.chars().count()
        );
        return Err(ApiError::range("region", message));
    }
    Ok(match region {
        Region::Prefer(name) => RegionWish::Prefer(name),
        Region::Require { require } => RegionWish::Require(require),
    })
}

/// A conversation as the chat template takes it.
///
/// # Errors
/// 422 for no or too many messages, a role or a part that is not known; 400 for a text part without its text.
pub(super) fn conversation(messages: Vec<Message>) -> Result<Vec<token::Message>, ApiError> {
    if messages.is_empty() || messages.len() > MAX_MESSAGES {
        let message = format!("there are {} messages, must be from 1 to {MAX_MESSAGES}", messages.len());
        return Err(ApiError::range("messages", message));
    }
    messages.into_iter().enumerate().map(|(index, message)| chat_message(index, message)).collect()
}

fn chat_message(index: usize, message: Message) -> Result<token::Message, ApiError> {
    let role = match message.role.as_str() {
        // What OpenAI calls a developer is a system to the templates.
        "system" | "developer" => "system",
        known @ ("user" | "assistant" | "tool") => known,
        other => {
            let param = format!("messages[{index}].role");
            let message = format!("role {other:?} is not known: use system, developer, user, assistant or tool");
            return Err(ApiError::range(param, message));
        }
    };
    let content = match message.content {
        Content::Text(text) => text,
        Content::Parts(parts) => {
            let mut text = String::new();
            for (part_index, part) in parts.into_iter().enumerate() {
                let param = format!("messages[{index}].content[{part_index}]");
                if part.kind != "text" {
                    let message = format!("parts of type {:?} are not supported, only text", part.kind);
                    return Err(ApiError::range(format!("{param}.type"), message));
                }
                let missing = || ApiError::field("missing_field", format!("{param}.text"), "the text part has no text");
                text.push_str(&part.text.ok_or_else(missing)?);
            }
            text
        }
    };
    Ok(token::Message { role: role.to_owned(), content })
}
