//! How text is cut into words before merging: the "pre-tokenizer" of a model, known by the name GGUF files give it.
//!
//! The expressions are those of the models' `tokenizer.json`; a wrong one changes the ids of most prompts without any
//! visible sign, so a name that is not in the table is an error.

use tokenizers::{
    PreTokenizedString, PreTokenizer, SplitDelimiterBehavior,
    normalizers::unicode::NFC,
    pre_tokenizers::{
        byte_level::ByteLevel,
        digits::Digits,
        split::{Split, SplitPattern},
    },
    tokenizer::Normalizer,
};

use super::vocabulary::VocabularyError;

/// Llama 3: numbers in groups of three.
const LLAMA3: &str = concat!(
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|",
    r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
);

/// Qwen 2: as Llama 3, each digit alone.
const QWEN2: &str =
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// Names by which GGUF files call each rule.
const NAMES: [(&str, Rule); 7] = [
    ("smollm", Rule::Smollm),
    ("llama-bpe", Rule::Llama3),
    ("llama3", Rule::Llama3),
    ("llama-v3", Rule::Llama3),
    ("qwen2", Rule::Qwen2),
    ("gpt-2", Rule::Gpt2),
    ("default", Rule::Gpt2),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rule {
    Gpt2,
    Smollm,
    Llama3,
    Qwen2,
}

/// How text is cut: the rule of a known name, or one that a `tokenizer.json` spells out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pre {
    /// By the name GGUF files give it.
    Named(String),
    /// Spelled out.
    Given(Cuts),
}

/// A rule spelled out. The bytes of words are written as GPT-2 does, unless `spaces` says otherwise.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cuts {
    /// Text is normalized to Unicode's form NFC first.
    pub nfc: bool,
    /// Cuts, one after the other.
    pub steps: Vec<Step>,
    /// A word that is a token is taken as it is, without merging.
    pub ignore_merges: bool,
    /// Text is not cut at all, and its spaces are written `▁`, as SentencePiece does (Llama 2, Mistral).
    pub spaces: Option<Spaces>,
}

/// Where a text that is written with `▁` for spaces gets one before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spaces {
    /// Before every text between two control tokens, one that begins with a space included.
    Each,
    /// Before every such text that does not begin with a space.
    Missing,
    /// Before the first of them, where it does not begin with a space.
    First,
    /// Nowhere.
    Never,
}

/// What a space is written as.
pub(super) const SPACE: char = '\u{2581}';

/// One way to cut.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Digits from all else; each alone where the flag says so.
    Digits(bool),
    /// What a regular expression finds, each time.
    Regex(String),
    /// Words as GPT-2 cuts them.
    Words,
}

impl Default for Pre {
    fn default() -> Self {
        Self::Named(String::new())
    }
}

impl From<&str> for Pre {
    fn from(name: &str) -> Self {
        Self::Named(name.to_owned())
    }
}

impl Rule {
    fn cuts(self) -> Cuts {
        let regex = |text: &str| Step::Regex(text.to_owned());
        let steps = match self {
            Self::Gpt2 => vec![Step::Words],
            Self::Smollm => vec![Step::Digits(true), Step::Words],
            Self::Llama3 => vec![regex(LLAMA3)],
            Self::Qwen2 => vec![regex(QWEN2)],
        };
        // Llama 3 was trained so.
        Cuts { nfc: self == Self::Qwen2, steps, ignore_merges: self == Self::Llama3, spaces: None }
    }
}

/// Cuts text into words and writes their bytes as GPT-2 does.
#[derive(Debug)]
pub(super) struct Words {
    nfc: bool,
    cuts: Vec<Cutter>,
    bytes: ByteLevel,
    ignore_merges: bool,
    spaces: Option<Spaces>,
}

#[derive(Debug)]
enum Cutter {
    Digits(Digits),
    Split(Box<Split>),
}

impl Words {
    /// The rule a vocabulary names or spells out.
    pub(super) fn new(pre: &Pre) -> Result<Self, VocabularyError> {
        let named;
        let cuts = match pre {
            Pre::Given(cuts) => cuts,
            Pre::Named(name) => {
                let rule = NAMES.iter().find(|(known, _)| known == name).map(|(_, rule)| *rule).ok_or_else(|| {
                    VocabularyError::Pre { pre: name.clone(), known: NAMES.map(|(name, _)| name).join(", ") }
                })?;
                named = rule.cuts();
                &named
            }
        };
        // What cuts as GPT-2 does writes the bytes, too, so it comes last.
        let (steps, bytes) = match cuts.steps.split_last() {
            Some((Step::Words, before)) => (before, ByteLevel::new(false, true, true)),
            _ => (cuts.steps.as_slice(), ByteLevel::new(false, true, false)),
        };
        let cutter = |step: &Step| match step {
            Step::Digits(alone) => Ok(Cutter::Digits(Digits::new(*alone))),
            Step::Regex(text) => {
                let split = Split::new(SplitPattern::Regex(text.clone()), SplitDelimiterBehavior::Isolated, false);
                let split = split.map_err(|error| VocabularyError::Build { reason: error.to_string() })?;
                Ok(Cutter::Split(Box::new(split)))
            }
            Step::Words => {
                let reason = "its pre-tokenizer writes bytes before its last cut".to_owned();
                Err(VocabularyError::Build { reason })
            }
        };
        let all = steps.iter().map(cutter).collect::<Result<Vec<_>, VocabularyError>>()?;
        Ok(Self { nfc: cuts.nfc, cuts: all, bytes, ignore_merges: cuts.ignore_merges, spaces: cuts.spaces })
    }

    /// Whether a word that is a token is taken as it is, without merging.
    pub(super) fn ignores_merges(&self) -> bool {
        self.ignore_merges
    }

    /// Whether tokens are characters with `▁` for spaces, rather than bytes as GPT-2 writes them.
    pub(super) fn are_spaced(&self) -> bool {
        self.spaces.is_some()
    }

    /// Cuts `text`; `first` says that nothing comes before it.
    pub(super) fn cut(&self, text: &str, first: bool) -> tokenizers::Result<PreTokenizedString> {
        if let Some(spaces) = self.spaces {
            return Ok(PreTokenizedString::from(spaced(text, spaces, first)));
        }
        let mut cut = PreTokenizedString::from(text);
        if self.nfc {
            cut.normalize(|text| NFC.normalize(text))?;
        }
        for cutter in &self.cuts {
            match cutter {
                Cutter::Digits(digits) => digits.pre_tokenize(&mut cut)?,
                Cutter::Split(split) => split.pre_tokenize(&mut cut)?,
            }
        }
        self.bytes.pre_tokenize(&mut cut)?;
        Ok(cut)
    }
}

/// A text with its spaces written as [`SPACE`].
fn spaced(text: &str, spaces: Spaces, first: bool) -> String {
    let begins = text.starts_with([' ', SPACE]);
    let adds = match spaces {
        Spaces::Each => true,
        Spaces::Missing => !begins,
        Spaces::First => first && !begins,
        Spaces::Never => false,
    };
    let before = if adds && !text.is_empty() { Some(SPACE) } else { None };
    before.into_iter().chain(text.chars().map(|c| if c == ' ' { SPACE } else { c })).collect()
}

/// The byte that GPT-2 writes as this character (`bytes_to_unicode` in its `encoder.py`): itself where it is visible,
/// else the next free one from 256 on.
pub(super) fn byte_of(character: char) -> Option<u8> {
    match character as u32 {
        code @ (0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff) => u8::try_from(code).ok(),
        code @ 0x100..=0x120 => u8::try_from(code - 0x100).ok(),
        code @ 0x121..=0x142 => u8::try_from(code - 0x121 + 0x7f).ok(),
        0x143 => Some(0xad),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use tokenizers::{OffsetReferential, OffsetType};

    use super::*;

    fn words(pre: &str, text: &str) -> Vec<String> {
        let cut = Words::new(&pre.into()).unwrap().cut(text, true).unwrap();
        let splits = cut.get_splits(OffsetReferential::Original, OffsetType::Byte);
        splits
            .iter()
            .map(|(word, ..)| word.chars().map(|c| byte_of(c).unwrap()).collect::<Vec<u8>>())
            .map(|bytes| String::from_utf8(bytes).unwrap())
            .collect()
    }

    #[test]
    fn each_rule_cuts_as_its_models_do() {
        let text = "It'S 2026!\n\n  new x\u{e9}1";
        assert_eq!(words("gpt-2", text), ["It", "'", "S", " 2026", "!", "\n\n ", " new", " x\u{e9}", "1"]);
        assert_eq!(
            words("smollm", text),
            ["It", "'", "S", " ", "2", "0", "2", "6", "!", "\n\n ", " new", " x\u{e9}", "1"]
        );
        assert_eq!(words("llama-bpe", text), ["It", "'S", " ", "202", "6", "!\n\n", " ", " new", " x\u{e9}", "1"]);
        assert_eq!(
            words("qwen2", "It'S 2026!\n\n  new xe\u{301}1"),
            ["It", "'S", " ", "2", "0", "2", "6", "!\n\n", " ", " new", " x\u{e9}", "1"]
        );
    }

    #[test]
    fn spaces_are_written_where_the_rule_has_them() {
        let all = [Spaces::Each, Spaces::Missing, Spaces::First, Spaces::Never];
        let spaced = |text, first| all.map(|spaces| spaced(text, spaces, first));
        assert_eq!(spaced("a b", true), ["▁a▁b", "▁a▁b", "▁a▁b", "a▁b"]);
        assert_eq!(spaced(" a", false), ["▁▁a", "▁a", "▁a", "▁a"]);
        assert_eq!(spaced("a", false), ["▁a", "▁a", "a", "a"]);
        assert_eq!(spaced("", true), ["", "", "", ""]);
    }

    #[test]
    fn the_byte_characters_are_those_of_the_library() {
        let known: std::collections::HashSet<char> = ByteLevel::alphabet().into_iter().collect();
        let mut bytes: Vec<u8> = (0..=0x2000u32).filter_map(char::from_u32).filter_map(byte_of).collect();
        bytes.sort_unstable();
        assert_eq!(bytes, (0..=255).collect::<Vec<u8>>());
        assert!((0..=0x2000).filter_map(char::from_u32).all(|c| byte_of(c).is_some() == known.contains(&c)));
    }

    #[test]
    fn an_unknown_rule_is_named_with_those_known() {
        let error = Words::new(&"qwen9".into()).unwrap_err().to_string();
        assert!(error.contains("qwen9") && error.contains("smollm") && error.contains("llama-bpe"), "{error}");
    }
}
