//! Typed access to the entries of `config.json`, with errors that name entry and value.

use serde_json::{Map, Value};

use crate::model::ConfigError;

/// Entries of one JSON object. An entry that is null counts as absent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Settings<'a> {
    entries: &'a Map<String, Value>,
    /// What comes before the names of the entries in errors.
    prefix: &'static str,
}

impl<'a> Settings<'a> {
    pub(super) fn new(entries: &'a Map<String, Value>) -> Self {
        Self { entries, prefix: "" }
    }

    pub(super) fn get(self, key: &str) -> Option<&'a Value> {
        self.entries.get(key).filter(|value| !value.is_null())
    }

    /// Whether it is there, null or not.
    pub(super) fn has(self, key: &str) -> bool {
        self.entries.contains_key(key)
    }

    pub(super) fn keys(self) -> impl Iterator<Item = &'a str> {
        self.entries.iter().filter(|(_, value)| !value.is_null()).map(|(key, _)| key.as_str())
    }

    pub(super) fn bad(self, key: &str, want: impl Into<String>) -> ConfigError {
        let found = self.entries.get(key).map_or_else(|| "absent".to_owned(), shortened);
        ConfigError::Value { key: format!("{}{key}", self.prefix), found, want: want.into() }
    }

    pub(super) fn missing(self, key: &str) -> ConfigError {
        ConfigError::Setting { key: format!("{}{key}", self.prefix) }
    }

    /// The first of several names that is there.
    pub(super) fn first(self, keys: &[&'static str]) -> Option<&'static str> {
        keys.iter().copied().find(|key| self.get(key).is_some())
    }

    /// A whole number from 1 to `most`; `None` where it is absent.
    pub(super) fn optional(self, key: &str, most: u64) -> Result<Option<u64>, ConfigError> {
        match self.get(key).map(Value::as_u64) {
            None => Ok(None),
            Some(Some(number)) if (1..=most).contains(&number) => Ok(Some(number)),
            Some(_) => Err(self.bad(key, format!("a whole number from 1 to {most}"))),
        }
    }

    pub(super) fn number(self, key: &str, most: u64) -> Result<u64, ConfigError> {
        self.optional(key, most)?.ok_or_else(|| self.missing(key))
    }

    /// A positive number.
    pub(super) fn float(self, key: &str, default: Option<f32>) -> Result<f32, ConfigError> {
        let Some(value) = self.get(key) else { return default.ok_or_else(|| self.missing(key)) };
        let number = value.as_f64().map(|number| number as f32);
        number.filter(|number| number.is_finite() && *number > 0.0).ok_or_else(|| self.bad(key, "positive and finite"))
    }

    pub(super) fn flag(self, key: &str) -> Result<Option<bool>, ConfigError> {
        self.get(key).map(|value| value.as_bool().ok_or_else(|| self.bad(key, "true or false"))).transpose()
    }

    pub(super) fn text(self, key: &str) -> Result<Option<&'a str>, ConfigError> {
        self.get(key).map(|value| value.as_str().ok_or_else(|| self.bad(key, "a text"))).transpose()
    }

    pub(super) fn array(self, key: &str) -> Result<Option<&'a [Value]>, ConfigError> {
        let list = |value: &'a Value| value.as_array().map(Vec::as_slice).ok_or_else(|| self.bad(key, "an array"));
        self.get(key).map(list).transpose()
    }

    /// The entries of an object; `prefix` is how errors name it.
    pub(super) fn object(self, key: &str, prefix: &'static str) -> Result<Option<Settings<'a>>, ConfigError> {
        let entries = |value: &'a Value| value.as_object().ok_or_else(|| self.bad(key, "an object"));
        Ok(self.get(key).map(entries).transpose()?.map(|entries| Settings { entries, prefix }))
    }
}

/// A value as it stands in the file, cut to a line.
pub(super) fn shortened(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(80) {
        Some((at, _)) => format!("{}...", &text[..at]),
        None => text,
    }
}
