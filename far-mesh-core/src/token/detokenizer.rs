//! Token ids to text as they come, never half a character.

use std::{fmt, str, sync::Arc};

use super::tokenizer::Tokenizer;

/// Turns a stream of ids into text. Bytes of an unfinished character wait for the rest of it.
///
/// Invariant: what [`push`](Detokenizer::push) and [`finish`](Detokenizer::finish) append is together
/// [`Tokenizer::decode`] of all ids.
pub struct Detokenizer {
    tokenizer: Arc<Tokenizer>,
    /// Start of a character: at most 3 bytes between calls.
    pending: Vec<u8>,
}

impl Detokenizer {
    /// A detokenizer at the start of a text.
    pub fn new(tokenizer: Arc<Tokenizer>) -> Self {
        Self { tokenizer, pending: Vec::new() }
    }

    /// Appends to `text` what is certain after `id`. Control tokens add nothing.
    pub fn push(&mut self, id: u32, text: &mut String) {
        self.pending.extend_from_slice(self.tokenizer.token_bytes(id));
        let done = take_characters(&self.pending, text);
        self.pending.drain(..done);
    }

    /// Appends U+FFFD for an unfinished character, and starts anew.
    pub fn finish(&mut self, text: &mut String) {
        if !self.pending.is_empty() {
            text.push(char::REPLACEMENT_CHARACTER);
            self.pending.clear();
        }
    }
}

/// Appends the characters that `bytes` begin with, U+FFFD for what can be none, and says how many bytes they took.
fn take_characters(bytes: &[u8], text: &mut String) -> usize {
    let mut done = 0;
    loop {
        match str::from_utf8(&bytes[done..]) {
            Ok(valid) => {
                text.push_str(valid);
                return bytes.len();
            }
            Err(error) => {
                let valid = done + error.valid_up_to();
                text.push_str(str::from_utf8(&bytes[done..valid]).unwrap_or_default());
                let Some(invalid) = error.error_len() else { return valid };
                text.push(char::REPLACEMENT_CHARACTER);
                done = valid + invalid;
            }
        }
    }
}

impl fmt::Debug for Detokenizer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Detokenizer").field("pending", &self.pending).finish_non_exhaustive()
    }
}
