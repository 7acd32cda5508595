//! Chat templates: the Jinja text a model brings to turn a conversation into a prompt, as Hugging Face runs it.
//!
//! A template comes from a model file, so it runs with bounded steps, nesting and output. What it holds in variables is
//! not bounded by the engine: take models, as any program, from whom you trust.

use std::{fmt, io, time::SystemTime};

use minijinja::{Environment, Error, ErrorKind, State, Value, context, value::Kwargs};
use serde::Serialize;
use time::OffsetDateTime;

use super::{json::python_json, tokenizer::EncodeError, tokenizer::MAX_TEXT_BYTES};

/// Longest template (the longest in use, with tools, have 20 KiB).
pub const MAX_TEMPLATE_BYTES: usize = 256 * 1024;

/// Most messages of a conversation.
pub const MAX_MESSAGES: usize = 4096;

/// Steps a template may take: about 500 a message, where those in use take below 100.
const FUEL: u64 = 500 * MAX_MESSAGES as u64;

/// Nesting of macros and includes; those in use have 2 or 3.
const DEPTH: usize = 64;

const NAME: &str = "chat";

/// A message of a conversation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Message {
    /// Who speaks: `system`, `user`, `assistant` or what else the template knows.
    pub role: String,
    /// What is said.
    pub content: String,
}

/// A model's chat template, ready to run.
pub struct ChatTemplate {
    environment: Environment<'static>,
    bos: String,
    eos: String,
}

/// Why a conversation is not a prompt.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TemplateError {
    /// The model brings no template.
    #[error("the model has no chat template: send a raw prompt instead")]
    Missing,
    /// The template is too long.
    #[error("chat template of {bytes} bytes is too long, at most {MAX_TEMPLATE_BYTES} are taken")]
    TooLong {
        /// Its length.
        bytes: usize,
    },
    /// The template is not valid.
    #[error("chat template is not valid: {reason}")]
    Syntax {
        /// Where and why.
        reason: String,
    },
    /// The conversation has no message or too many.
    #[error("conversation has {got} messages, needs 1 to {MAX_MESSAGES}")]
    Messages {
        /// Messages given.
        got: usize,
    },
    /// A role is not a plain word.
    #[error("{role:?} is not a role: use letters, digits, '_' and '-', for example \"user\"")]
    Role {
        /// The role given.
        role: String,
    },
    /// The template refuses the conversation.
    #[error("the model's chat template refuses the conversation: {message}")]
    Refused {
        /// The template's words.
        message: String,
    },
    /// The template failed.
    #[error("chat template failed: {reason}")]
    Failed {
        /// Where and why.
        reason: String,
    },
    /// A message spells a control token, and the template changes messages so that it cannot be kept apart.
    #[error(
        "a message spells the control token {text:?}, which this model's chat template cannot keep apart: leave it out"
    )]
    ControlText {
        /// The token's text.
        text: String,
    },
    /// The prompt cannot be encoded.
    #[error(transparent)]
    Encode(#[from] EncodeError),
}

/// What `raise_exception` was called with.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Raised(String);

impl Message {
    /// A message of the user.
    pub fn user(content: impl Into<String>) -> Self {
        Self { role: "user".to_owned(), content: content.into() }
    }
}

impl ChatTemplate {
    /// Compiles `source`; `bos` and `eos` are the texts of the tokens that begin and end a text.
    ///
    /// # Errors
    /// [`TemplateError::TooLong`] and [`TemplateError::Syntax`].
    pub fn new(source: &str, bos: Option<&str>, eos: Option<&str>) -> Result<Self, TemplateError> {
        if source.len() > MAX_TEMPLATE_BYTES {
            return Err(TemplateError::TooLong { bytes: source.len() });
        }
        let mut environment = Environment::new();
        environment.set_trim_blocks(true);
        environment.set_lstrip_blocks(true);
        environment.set_fuel(Some(FUEL));
        environment.set_recursion_limit(DEPTH);
        environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.add_function("raise_exception", raise_exception);
        environment.add_function("strftime_now", strftime_now);
        environment.add_filter("tojson", tojson);
        environment
            .add_template_owned(NAME, source.to_owned())
            .map_err(|error| TemplateError::Syntax { reason: error.to_string() })?;
        Ok(Self { environment, bos: bos.unwrap_or_default().to_owned(), eos: eos.unwrap_or_default().to_owned() })
    }

    /// The prompt as text. To get ids use [`ChatTemplate::encode`]: this text no longer tells markers from what users
    /// wrote.
    ///
    /// # Errors
    /// [`TemplateError`] when the conversation is malformed, or the template refuses it or fails.
    pub fn render(&self, messages: &[Message], add_generation_prompt: bool) -> Result<String, TemplateError> {
        self.render_at(messages, add_generation_prompt, now())
    }

    /// As [`ChatTemplate::render`], at a time that the caller names (seconds since 1970).
    pub(super) fn render_at(
        &self,
        messages: &[Message],
        add_generation_prompt: bool,
        now: i64,
    ) -> Result<String, TemplateError> {
        check(messages)?;
        let context = context! {
            messages,
            add_generation_prompt,
            bos_token => self.bos,
            eos_token => self.eos,
            tools => (),
            documents => (),
            far_now => now,
        };
        let mut out = Bounded(Vec::new());
        let template = self.environment.get_template(NAME).map_err(failed)?;
        template.render_captured_to(context, &mut out).map_err(failed)?;
        String::from_utf8(out.0).map_err(|error| TemplateError::Failed { reason: error.to_string() })
    }
}

/// Seconds since 1970.
pub(super) fn now() -> i64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs().cast_signed())
}

fn check(messages: &[Message]) -> Result<(), TemplateError> {
    if messages.is_empty() || messages.len() > MAX_MESSAGES {
        return Err(TemplateError::Messages { got: messages.len() });
    }
    let bytes = messages.iter().fold(0usize, |sum, message| sum.saturating_add(message.content.len()));
    if bytes > MAX_TEXT_BYTES {
        return Err(EncodeError::TooLong { bytes }.into());
    }
    // A role stands among the template's own markers, so it must not be able to spell one.
    let word = |role: &str| {
        (1..=32).contains(&role.len()) && role.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
    };
    match messages.iter().find(|message| !word(&message.role)) {
        Some(message) => Err(TemplateError::Role { role: message.role.chars().take(64).collect() }),
        None => Ok(()),
    }
}

fn failed(error: Error) -> TemplateError {
    let mut source: Option<&dyn std::error::Error> = Some(&error);
    while let Some(current) = source {
        if let Some(Raised(message)) = current.downcast_ref() {
            return TemplateError::Refused { message: message.clone() };
        }
        source = current.source();
    }
    TemplateError::Failed { reason: error.to_string() }
}

fn raise_exception(message: String) -> Result<Value, Error> {
    Err(Error::new(ErrorKind::InvalidOperation, message.clone()).with_source(Raised(message)))
}

/// The date and time (UTC) in the form of C's `strftime`.
fn strftime_now(state: &State<'_, '_>, format: &str) -> Result<String, Error> {
    let invalid = |reason: String| Error::new(ErrorKind::InvalidOperation, reason);
    let seconds = state.lookup("far_now").and_then(|now| i64::try_from(now).ok()).unwrap_or_default();
    let time = OffsetDateTime::from_unix_timestamp(seconds).map_err(|error| invalid(error.to_string()))?;
    let form = time::format_description::parse_strftime_owned(format).map_err(|error| invalid(error.to_string()))?;
    time.format(&form).map_err(|error| invalid(error.to_string()))
}

/// As Python's `json.dumps(value, ensure_ascii=False, indent=indent)`.
fn tojson(value: Value, options: Kwargs) -> Result<Value, Error> {
    let indent: Option<usize> = options.get("indent")?;
    let _: (Option<Value>, Option<Value>) = (options.get("ensure_ascii")?, options.get("sort_keys")?);
    options.assert_all_used()?;
    let invalid = |reason: String| Error::new(ErrorKind::BadSerialization, reason);
    if indent.is_some_and(|indent| indent > 16) {
        return Err(invalid("indent is more than 16".to_owned()));
    }
    python_json(&value, indent).map(Value::from_safe_string).map_err(|error| invalid(error.to_string()))
}

/// Output that stops growing at twice the longest text.
struct Bounded(Vec<u8>);

impl io::Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.len() > (2 * MAX_TEXT_BYTES).saturating_sub(self.0.len()) {
            return Err(io::Error::other("its output is too long"));
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl fmt::Debug for ChatTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChatTemplate").field("bos", &self.bos).field("eos", &self.eos).finish_non_exhaustive()
    }
}
