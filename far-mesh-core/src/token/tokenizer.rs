//! BPE over bytes as GPT-2 writes them, or over characters with `▁` for spaces: text to token ids, and the bytes of each
//! id.
//!
//! Invariant: ordinary text never becomes a control token. Markers are found by a search of their own, only where the
//! caller says that the text may hold them, and are unknown to the merging underneath.

use std::fmt;

use aho_corasick::{AhoCorasick, MatchKind};
use tokenizers::{
    Model, OffsetReferential, OffsetType,
    models::bpe::{BPE, Merges, Vocab},
};

use super::{
    vocabulary::{Kind, Vocabulary, VocabularyError},
    words::{SPACE, Words, byte_of},
};

/// Longest text that is encoded at once. Below the million backtracking steps after which the regular expressions of a
/// pre-tokenizer give up in silence, and beyond any context in use.
pub const MAX_TEXT_BYTES: usize = 960 * 1024;

/// Most control tokens (Llama 3 has 256): the search for them takes memory for each.
const MAX_MARKERS: usize = 1 << 14;

/// Words whose merging is remembered.
const CACHED_WORDS: usize = 8192;

/// Text to token ids and back, for one model.
pub struct Tokenizer {
    bpe: BPE,
    words: Words,
    markers: Markers,
    bytes: TokenBytes,
    texts: SpecialTexts,
    ends: Vec<u32>,
    add_bos: Option<u32>,
}

/// Part of a prompt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Piece<'a> {
    /// Ordinary text: what it says is never a control token.
    Text(&'a str),
    /// Text of the model's own template, whose markers count.
    Markup(&'a str),
}

/// Why a text cannot be encoded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EncodeError {
    /// The text is too long.
    #[error("text of {bytes} bytes is too long, at most {MAX_TEXT_BYTES} are encoded at once")]
    TooLong {
        /// Its length.
        bytes: usize,
    },
    /// The tokenizer library failed.
    #[error("text cannot be encoded: {reason}")]
    Failed {
        /// Its words.
        reason: String,
    },
}

impl<'a> Piece<'a> {
    /// What it says.
    pub fn as_str(self) -> &'a str {
        match self {
            Self::Text(text) | Self::Markup(text) => text,
        }
    }
}

/// Finds control tokens in markup.
struct Markers {
    search: AhoCorasick,
    ids: Vec<u32>,
    control: Vec<bool>,
}

/// Bytes of every token, one after the other.
struct TokenBytes {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

#[derive(Debug, Default)]
struct SpecialTexts {
    bos: Option<String>,
    eos: Option<String>,
}

impl Tokenizer {
    /// Builds the tokenizer that a model file describes.
    ///
    /// # Errors
    /// [`VocabularyError`] when the kind of tokenizer is not known or the vocabulary contradicts itself.
    pub fn new(vocabulary: &Vocabulary) -> Result<Self, VocabularyError> {
        let words = Words::new(&vocabulary.pre)?;
        match vocabulary.model.as_str() {
            "bpe" if words.are_spaced() => vocabulary.check_bytes()?,
            model => Self::check_model(model)?,
        }
        let ids = vocabulary.check()?;
        let mut texts = Vocab::with_capacity(ids.len());
        for (id, text) in (0u32..).zip(&vocabulary.tokens) {
            let kind = vocabulary.kind(id as usize)?;
            if matches!(kind, Kind::Text | Kind::Unused) || kind == Kind::Byte && words.are_spaced() {
                texts.insert(text.clone(), id);
            }
        }
        let mut merges = Merges::with_capacity(vocabulary.merges.len());
        for (index, rule) in vocabulary.merges.iter().enumerate() {
            let (left, right) = split_merge(index, rule)?;
            let union = format!("{left}{right}");
            if let Some(missing) = [left, right, &union].into_iter().find(|part| !ids.contains_key(part)) {
                return Err(VocabularyError::Merge { index, text: rule.clone(), missing: missing.to_owned() });
            }
            // A rule that makes or takes a marker must not let text become one.
            if [left, right, &union].into_iter().all(|part| texts.contains_key(part)) {
                merges.push((left.to_owned(), right.to_owned()));
            }
        }
        let bpe = BPE::builder()
            .vocab_and_merges(texts, merges)
            .cache_capacity(CACHED_WORDS)
            .ignore_merges(words.ignores_merges())
            .byte_fallback(words.are_spaced())
            .build()
            .map_err(|error| VocabularyError::Build { reason: error.to_string() })?;
        let text = |id: Option<u32>| id.map(|id| vocabulary.tokens[id as usize].clone());
        Ok(Self {
            bpe,
            markers: Markers::new(vocabulary)?,
            bytes: TokenBytes::new(vocabulary, words.are_spaced())?,
            words,
            texts: SpecialTexts { bos: text(vocabulary.bos), eos: text(vocabulary.eos) },
            ends: vocabulary.end_tokens()?,
            add_bos: vocabulary.bos.filter(|_| vocabulary.add_bos),
        })
    }

    /// Whether this is a kind of tokenizer that we have.
    pub(super) fn check_model(model: &str) -> Result<(), VocabularyError> {
        match model {
            "gpt2" => Ok(()),
            _ => Err(VocabularyError::Model { model: model.to_owned(), known: "gpt2" }),
        }
    }

    /// The ids of `text`. Control tokens are recognized only where `special` is set: never set it for what a user
    /// wrote.
    ///
    /// As in the reference implementations, a byte that the vocabulary lacks is left out.
    ///
    /// # Errors
    /// [`EncodeError`] when the text is too long.
    pub fn encode(&self, text: &str, special: bool) -> Result<Vec<u32>, EncodeError> {
        self.encode_pieces([if special { Piece::Markup(text) } else { Piece::Text(text) }])
    }

    /// The ids of a raw prompt: [`encode`](Tokenizer::encode), after the token that begins a text where the model wants
    /// it.
    ///
    /// # Errors
    /// As [`Tokenizer::encode`].
    pub fn encode_prompt(&self, text: &str, special: bool) -> Result<Vec<u32>, EncodeError> {
        let mut ids = self.encode(text, special)?;
        if let Some(bos) = self.add_bos.filter(|bos| ids.first() != Some(bos)) {
            ids.insert(0, bos);
        }
        Ok(ids)
    }

    /// The ids of pieces put together. What stands between two markers is merged as one text, wherever the pieces were
    /// cut, so that the ids are those of the whole text unless a piece of ordinary text spells a marker.
    ///
    /// # Errors
    /// As [`Tokenizer::encode`].
    pub fn encode_pieces<'a>(&self, pieces: impl IntoIterator<Item = Piece<'a>>) -> Result<Vec<u32>, EncodeError> {
        let (mut ids, mut run, mut total) = (Vec::new(), String::new(), 0usize);
        for piece in pieces {
            let text = piece.as_str();
            total = total.saturating_add(text.len());
            if total > MAX_TEXT_BYTES {
                return Err(EncodeError::TooLong { bytes: total });
            }
            let mut rest = 0;
            if let Piece::Markup(_) = piece {
                for found in self.markers.search.find_iter(text) {
                    run.push_str(&text[rest..found.start()]);
                    self.encode_run(&mut run, &mut ids)?;
                    ids.push(self.markers.ids[found.pattern()]);
                    rest = found.end();
                }
            }
            run.push_str(&text[rest..]);
        }
        self.encode_run(&mut run, &mut ids)?;
        Ok(ids)
    }

    /// Tokens after which there is nothing more to say, ascending.
    pub fn end_tokens(&self) -> &[u32] {
        &self.ends
    }

    /// Whether generation ends with this token.
    pub fn is_end(&self, id: u32) -> bool {
        self.ends.binary_search(&id).is_ok()
    }

    /// Number of tokens.
    pub fn vocabulary(&self) -> usize {
        self.bytes.ends.len()
    }

    /// Bytes that a token adds to a text: none for control tokens and for ids beyond the vocabulary (heads are padded).
    pub fn token_bytes(&self, id: u32) -> &[u8] {
        self.bytes.of(id)
    }

    /// Text of the token that begins a text.
    pub fn bos_text(&self) -> Option<&str> {
        self.texts.bos.as_deref()
    }

    /// Text of the token that ends a text.
    pub fn eos_text(&self) -> Option<&str> {
        self.texts.eos.as_deref()
    }

    /// Text of `ids`, with U+FFFD for bytes that are no characters.
    pub fn decode(&self, ids: &[u32]) -> String {
        let bytes: Vec<u8> = ids.iter().flat_map(|id| self.token_bytes(*id)).copied().collect();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// The first control token that `text` spells.
    pub(super) fn spelled_control<'a>(&self, text: &'a str) -> Option<&'a str> {
        let mut found = self.markers.search.find_iter(text);
        found.find(|found| self.markers.control[found.pattern()]).map(|found| &text[found.range()])
    }

    /// Appends the ids of ordinary text and clears it.
    fn encode_run(&self, run: &mut String, ids: &mut Vec<u32>) -> Result<(), EncodeError> {
        let failed = |error: tokenizers::Error| EncodeError::Failed { reason: error.to_string() };
        if run.is_empty() {
            return Ok(());
        }
        let cut = self.words.cut(run, ids.is_empty()).map_err(failed)?;
        for (word, ..) in cut.get_splits(OffsetReferential::Normalized, OffsetType::None) {
            ids.extend(self.bpe.tokenize(word).map_err(failed)?.into_iter().map(|token| token.id));
        }
        run.clear();
        Ok(())
    }
}

/// The two tokens of a merge rule. The second space on is text: a token may begin with one.
fn split_merge(index: usize, rule: &str) -> Result<(&str, &str), VocabularyError> {
    let cut = rule.char_indices().skip(1).find(|(_, character)| *character == ' ').map(|(at, _)| at);
    cut.map(|at| (&rule[..at], &rule[at + 1..])).ok_or_else(|| VocabularyError::Merge {
        index,
        text: rule.to_owned(),
        missing: "a space between two tokens".to_owned(),
    })
}

impl Markers {
    fn new(vocabulary: &Vocabulary) -> Result<Self, VocabularyError> {
        let (mut texts, mut ids, mut control) = (Vec::new(), Vec::new(), Vec::new());
        for (id, text) in (0u32..).zip(&vocabulary.tokens) {
            let kind = vocabulary.kind(id as usize)?;
            if matches!(kind, Kind::Control | Kind::Whole) {
                texts.push(text);
                ids.push(id);
                control.push(kind == Kind::Control);
            }
        }
        if texts.len() > MAX_MARKERS {
            let want = format!("at most {MAX_MARKERS}");
            return Err(VocabularyError::Count { what: "control tokens", got: texts.len(), want });
        }
        let search = AhoCorasick::builder()
            .match_kind(MatchKind::LeftmostLongest)
            .build(texts)
            .map_err(|error| VocabularyError::Build { reason: error.to_string() })?;
        Ok(Self { search, ids, control })
    }
}

impl TokenBytes {
    fn new(vocabulary: &Vocabulary, spaced: bool) -> Result<Self, VocabularyError> {
        let mut table = Self { bytes: Vec::new(), ends: Vec::with_capacity(vocabulary.tokens.len()) };
        for (id, text) in vocabulary.tokens.iter().enumerate() {
            match vocabulary.kind(id)? {
                Kind::Control => {}
                Kind::Whole => table.bytes.extend_from_slice(text.as_bytes()),
                Kind::Byte => match hexadecimal_byte(text) {
                    Some(byte) => table.bytes.push(byte),
                    None => table.bytes.extend_from_slice(text.as_bytes()),
                },
                Kind::Text | Kind::Unused if spaced => {
                    table.bytes.extend_from_slice(text.replace(SPACE, " ").as_bytes());
                }
                // Text that is not in GPT-2's spelling stands for itself, as in the reference decoder.
                Kind::Text | Kind::Unused => match text.chars().map(byte_of).collect::<Option<Vec<u8>>>() {
                    Some(bytes) => table.bytes.extend_from_slice(&bytes),
                    None => table.bytes.extend_from_slice(text.as_bytes()),
                },
            }
            table.ends.push(table.bytes.len());
        }
        Ok(table)
    }

    fn of(&self, id: u32) -> &[u8] {
        let id = id as usize;
        let Some(end) = self.ends.get(id) else { return &[] };
        let start = id.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.bytes[start..*end]
    }
}

/// The byte of a token such as `<0x0A>`.
fn hexadecimal_byte(text: &str) -> Option<u8> {
    let digits = text.strip_prefix("<0x")?.strip_suffix('>')?;
    (digits.len() == 2).then(|| u8::from_str_radix(digits, 16).ok()).flatten()
}

impl fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tokenizer")
            .field("tokens", &self.vocabulary())
            .field("words", &self.words)
            .field("markers", &self.markers.ids.len())
            .field("ends", &self.ends)
            .finish_non_exhaustive()
    }
}
