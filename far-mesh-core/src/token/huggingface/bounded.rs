//! JSON whose lists and nesting a stranger chose: counted while it is parsed, before memory is taken for it.

use std::{cell::Cell, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{DeserializeSeed, Error, IgnoredAny, MapAccess, SeqAccess, Visitor},
};
use serde_json::{Map, Value};

use crate::token::{MAX_MERGES, MAX_TOKENS};

/// Most values in a small part of the file; those in use have about a hundred.
const MAX_NODES: usize = 16_384;

/// Most tokens beside the vocabulary's.
const MAX_ADDED: usize = 1 << 16;

/// A part that is small in every sane file.
#[derive(Debug, Default)]
pub(super) struct Small(pub(super) Value);

/// Texts of tokens and their ids.
#[derive(Debug, Default)]
pub(super) struct Vocab(pub(super) Vec<(String, u32)>);

/// Merge rules: two tokens with a space between.
#[derive(Debug, Default)]
pub(super) struct Rules(pub(super) Vec<String>);

/// A token beside the vocabulary's.
#[derive(Debug, Deserialize)]
pub(super) struct Added {
    pub(super) id: u32,
    pub(super) content: String,
    #[serde(default)]
    pub(super) special: bool,
    #[serde(default)]
    pub(super) single_word: bool,
    #[serde(default)]
    pub(super) lstrip: bool,
    #[serde(default)]
    pub(super) rstrip: bool,
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct AddedTokens(pub(super) Vec<Added>);

impl<'de> Deserialize<'de> for Small {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let left = Cell::new(MAX_NODES);
        Node(&left).deserialize(deserializer).map(Self)
    }
}

/// One value, which takes from what is left.
#[derive(Clone, Copy)]
struct Node<'a>(&'a Cell<usize>);

impl<'de> DeserializeSeed<'de> for Node<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        let left = self.0.get().checked_sub(1).ok_or_else(|| too_many("values", MAX_NODES))?;
        self.0.set(left);
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Node<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }
    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }
    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }
    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }
    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }
    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }
    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Value, A::Error> {
        let mut values = Vec::new();
        while let Some(value) = list.next_element_seed(self)? {
            values.push(value);
        }
        Ok(Value::Array(values))
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut entries = Map::new();
        while let Some(key) = map.next_key::<String>()? {
            let value = map.next_value_seed(self)?;
            entries.insert(key, value);
        }
        Ok(Value::Object(entries))
    }
}

impl<'de> Deserialize<'de> for Vocab {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries;
        impl<'de> Visitor<'de> for Entries {
            type Value = Vocab;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("tokens and their ids")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Vocab, A::Error> {
                let mut tokens = Vec::new();
                while let Some(token) = map.next_entry()? {
                    if tokens.len() == MAX_TOKENS {
                        return Err(too_many("tokens", MAX_TOKENS));
                    }
                    tokens.push(token);
                }
                Ok(Vocab(tokens))
            }
            // Another kind of tokenizer has a list; its name is what the error will say.
            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Vocab, A::Error> {
                while list.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Vocab(Vec::new()))
            }
        }
        deserializer.deserialize_any(Entries)
    }
}

impl<'de> Deserialize<'de> for Rules {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Rule {
            Text(String),
            Pair(String, String),
        }
        let rules = list::<D, Rule>(deserializer, "merge rules", MAX_MERGES)?.into_iter().map(|rule| match rule {
            Rule::Text(text) => Ok(text),
            // Bytes are spelled without spaces: a space would be read as the one between the two.
            Rule::Pair(left, right) if left.contains(' ') || right.contains(' ') => {
                Err(D::Error::custom(format!("a merge rule of {left:?} and {right:?} has a space")))
            }
            Rule::Pair(left, right) => Ok(format!("{left} {right}")),
        });
        rules.collect::<Result<_, _>>().map(Self)
    }
}

impl<'de> Deserialize<'de> for AddedTokens {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        list(deserializer, "added tokens", MAX_ADDED).map(Self)
    }
}

/// A list of at most `most` items.
fn list<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
    what: &'static str,
    most: usize,
) -> Result<Vec<T>, D::Error> {
    struct Items<T>(&'static str, usize, std::marker::PhantomData<T>);
    impl<'de, T: Deserialize<'de>> Visitor<'de> for Items<T> {
        type Value = Vec<T>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(self.0)
        }
        fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Vec<T>, A::Error> {
            let mut items = Vec::new();
            while let Some(item) = list.next_element()? {
                if items.len() == self.1 {
                    return Err(too_many(self.0, self.1));
                }
                items.push(item);
            }
            Ok(items)
        }
    }
    deserializer.deserialize_seq(Items(what, most, std::marker::PhantomData))
}

fn too_many<E: Error>(what: &str, most: usize) -> E {
    E::custom(format!("it has more than {most} {what}"))
}
