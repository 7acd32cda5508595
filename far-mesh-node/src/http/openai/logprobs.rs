//! Log-probabilities in OpenAI's two forms.

use far_mesh_core::session::TokenEvent;
use serde_json::{Map, Value, json};

use super::super::engine::Vocabulary;

/// What OpenAI writes for the logarithm of nothing; JSON has no infinity.
const NEVER: f32 = -9999.0;

/// A token with its log-probability and those of the alternatives.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Entry {
    chosen: Candidate,
    top: Vec<Candidate>,
}

#[derive(Clone, Debug, PartialEq)]
struct Candidate {
    bytes: Vec<u8>,
    logprob: f32,
}

impl Entry {
    /// The entry of a token; `None` where no log-probabilities were asked for.
    pub(super) fn new(event: &TokenEvent, vocabulary: &dyn Vocabulary) -> Option<Self> {
        let (logprob, top) = event.logprobs.as_ref()?;
        let candidate = |id: u32, logprob: f32| Candidate {
            bytes: vocabulary.token_bytes(id),
            logprob: if logprob.is_finite() { logprob } else { NEVER },
        };
        Some(Self {
            chosen: candidate(event.id, *logprob),
            top: top.iter().map(|other| candidate(other.id, other.logprob)).collect(),
        })
    }
}

impl Candidate {
    /// Its text; bytes that are no whole character are written as OpenAI does.
    fn text(&self) -> String {
        match std::str::from_utf8(&self.bytes) {
            Ok(text) => text.to_owned(),
            Err(_) => {
                let hex: String = self.bytes.iter().map(|byte| format!("\\x{byte:02x}")).collect();
                format!("bytes:{hex}")
            }
        }
    }

    fn chat(&self) -> Map<String, Value> {
        let mut map = Map::new();
        map.insert("token".to_owned(), self.text().into());
        map.insert("logprob".to_owned(), json!(self.logprob));
        map.insert("bytes".to_owned(), json!(self.bytes));
        map
    }
}

/// `choices[].logprobs` of a chat completion.
pub(super) fn chat(entries: &[Entry]) -> Value {
    let content: Vec<_> = entries
        .iter()
        .map(|entry| {
            let mut map = entry.chosen.chat();
            map.insert("top_logprobs".to_owned(), entry.top.iter().map(Candidate::chat).collect::<Vec<_>>().into());
            map
        })
        .collect();
    json!({ "content": content, "refusal": null })
}

/// `choices[].logprobs` of a completion; `offset` is moved on by the characters of the tokens.
pub(super) fn completion(entries: &[Entry], offset: &mut usize) -> Value {
    let mut offsets = Vec::with_capacity(entries.len());
    for entry in entries {
        offsets.push(*offset);
        *offset += entry.chosen.text().chars().count();
    }
    let top = |entry: &Entry| -> Map<String, Value> {
        entry.top.iter().map(|other| (other.text(), json!(other.logprob))).collect()
    };
    json!({
        "tokens": entries.iter().map(|entry| entry.chosen.text()).collect::<Vec<_>>(),
        "token_logprobs": entries.iter().map(|entry| entry.chosen.logprob).collect::<Vec<_>>(),
        "top_logprobs": entries.iter().map(top).collect::<Vec<_>>(),
        "text_offset": offsets,
    })
}

#[cfg(test)]
mod tests {
    use far_mesh_core::session::TokenLogprob;

    use super::*;

    struct Bytes;
    impl Vocabulary for Bytes {
        fn token_bytes(&self, id: u32) -> Vec<u8> {
            match id {
                0 => "né".into(),
                1 => vec![0xe2, 0x98],
                _ => b"x".to_vec(),
            }
        }
    }

    fn entry(id: u32, logprob: f32) -> Entry {
        let logprobs = Some((logprob, vec![TokenLogprob { id: 9, logprob: -0.5 }]));
        Entry::new(&TokenEvent { id, text: String::new(), index: 0, logprobs }, &Bytes).unwrap()
    }

    #[test]
    fn both_forms_are_those_of_openai() {
        let entries = [entry(0, -0.25), entry(1, f32::NEG_INFINITY)];
        let top = json!([{ "token": "x", "logprob": -0.5, "bytes": [120] }]);
        assert_eq!(
            chat(&entries),
            json!({ "refusal": null, "content": [
                { "token": "né", "logprob": -0.25, "bytes": [110, 195, 169], "top_logprobs": top },
                { "token": "bytes:\\xe2\\x98", "logprob": -9999.0, "bytes": [226, 152], "top_logprobs": top },
            ]})
        );
        let mut offset = 3;
        assert_eq!(
            completion(&entries, &mut offset),
            json!({
                "tokens": ["né", "bytes:\\xe2\\x98"], "token_logprobs": [-0.25, -9999.0],
                "top_logprobs": [{ "x": -0.5 }, { "x": -0.5 }], "text_offset": [3, 5],
            })
        );
        assert_eq!(offset, 19);
    }
}
