//! Metadata entries by name, with getters that say what is wrong.

use std::collections::BTreeMap;

use super::{MetadataError, Strings, Value};

/// The key-value section of a header.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Metadata {
    entries: BTreeMap<String, Value>,
}

impl Metadata {
    /// Adds an entry; false when the key is there already.
    pub(super) fn insert(&mut self, key: String, value: Value) -> bool {
        match self.entries.entry(key) {
            std::collections::btree_map::Entry::Occupied(_) => false,
            std::collections::btree_map::Entry::Vacant(entry) => {
                entry.insert(value);
                true
            }
        }
    }

    /// The value of an entry.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.entries.get(key)
    }

    /// Whether the entry is there.
    pub fn has(&self, key: &str) -> bool {
        self.entries.contains_key(key)
    }

    /// All entries, in order of their keys.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &Value)> {
        self.entries.iter().map(|(key, value)| (key.as_str(), value))
    }

    /// A non-negative integer of any width.
    ///
    /// # Errors
    /// [`MetadataError`] when the entry is missing or something else. So for all getters.
    pub fn u64(&self, key: &str) -> Result<u64, MetadataError> {
        self.typed(key, "a non-negative integer", |value| match value {
            Value::Unsigned(number) => Some(*number),
            Value::Signed(number) => u64::try_from(*number).ok(),
            _ => None,
        })
    }

    /// A float; an f64 is rounded.
    ///
    /// # Errors
    /// As [`Metadata::u64`].
    pub fn f32(&self, key: &str) -> Result<f32, MetadataError> {
        self.typed(key, "a float", |value| match value {
            Value::Float(number) => Some(*number as f32),
            _ => None,
        })
    }

    /// A boolean.
    ///
    /// # Errors
    /// As [`Metadata::u64`].
    pub fn bool(&self, key: &str) -> Result<bool, MetadataError> {
        self.typed(key, "a boolean", |value| match value {
            Value::Bool(truth) => Some(*truth),
            _ => None,
        })
    }

    /// A text.
    ///
    /// # Errors
    /// As [`Metadata::u64`].
    pub fn str(&self, key: &str) -> Result<&str, MetadataError> {
        self.typed(key, "a text", |value| match value {
            Value::Text(text) => Some(text.as_str()),
            _ => None,
        })
    }

    /// An array of texts.
    ///
    /// # Errors
    /// As [`Metadata::u64`].
    pub fn strings(&self, key: &str) -> Result<&Strings, MetadataError> {
        self.typed(key, "an array of texts", |value| match value {
            Value::Texts(texts) => Some(texts),
            _ => None,
        })
    }

    /// An array of integers that fit 32 bits.
    ///
    /// # Errors
    /// As [`Metadata::u64`].
    pub fn i32s(&self, key: &str) -> Result<Vec<i32>, MetadataError> {
        self.typed(key, "an array of 32-bit integers", |value| match value {
            Value::Array(array) => array
                .iter()
                .map(|element| match element {
                    Value::Unsigned(number) => i32::try_from(number).ok(),
                    Value::Signed(number) => i32::try_from(number).ok(),
                    _ => None,
                })
                .collect(),
            _ => None,
        })
    }

    /// An array of floats.
    ///
    /// # Errors
    /// As [`Metadata::u64`].
    pub fn f32s(&self, key: &str) -> Result<Vec<f32>, MetadataError> {
        self.typed(key, "an array of floats", |value| match value {
            Value::Array(array) => array
                .iter()
                .map(|element| match element {
                    Value::Float(number) => Some(number as f32),
                    _ => None,
                })
                .collect(),
            _ => None,
        })
    }

    fn typed<'a, T>(
        &'a self,
        key: &str,
        want: &'static str,
        read: impl FnOnce(&'a Value) -> Option<T>,
    ) -> Result<T, MetadataError> {
        let value = self.get(key).ok_or_else(|| MetadataError::Missing { key: key.to_owned() })?;
        read(value).ok_or_else(|| MetadataError::Type { key: key.to_owned(), want, found: value.kind() })
    }
}
