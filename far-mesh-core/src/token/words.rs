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

/// Cuts text into words and writes their bytes as GPT-2 does.
#[derive(Debug)]
pub(super) struct Words {
    rule: Rule,
    split: Option<Split>,
    bytes: ByteLevel,
}

impl Words {
    /// The rule with this name in GGUF files.
    pub(super) fn named(pre: &str) -> Result<Self, VocabularyError> {
        let rule = NAMES.iter().find(|(name, _)| *name == pre).map(|(_, rule)| *rule).ok_or_else(|| {
            VocabularyError::Pre { pre: pre.to_owned(), known: NAMES.map(|(name, _)| name).join(", ") }
        })?;
        let expression = match rule {
            Rule::Gpt2 | Rule::Smollm => None,
            Rule::Llama3 => Some(LLAMA3),
            Rule::Qwen2 => Some(QWEN2),
        };
        let split = expression
            .map(|text| Split::new(SplitPattern::Regex(text.to_owned()), SplitDelimiterBehavior::Isolated, false))
            .transpose()
            .map_err(|error| VocabularyError::Build { reason: error.to_string() })?;
        Ok(Self { rule, bytes: ByteLevel::new(false, true, split.is_none()), split })
    }

    /// Whether a word that is a token is taken as it is, without merging (Llama 3 was trained so).
    pub(super) fn ignores_merges(&self) -> bool {
        self.rule == Rule::Llama3
    }

    /// Cuts `text`.
    pub(super) fn cut(&self, text: &str) -> tokenizers::Result<PreTokenizedString> {
        let mut cut = PreTokenizedString::from(text);
        if self.rule == Rule::Qwen2 {
            cut.normalize(|text| NFC.normalize(text))?;
        }
        if self.rule == Rule::Smollm {
            Digits::new(true).pre_tokenize(&mut cut)?;
        }
        if let Some(split) = &self.split {
            split.pre_tokenize(&mut cut)?;
        }
        self.bytes.pre_tokenize(&mut cut)?;
        Ok(cut)
    }
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
        let cut = Words::named(pre).unwrap().cut(text).unwrap();
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
    fn the_byte_characters_are_those_of_the_library() {
        let known: std::collections::HashSet<char> = ByteLevel::alphabet().into_iter().collect();
        let mut bytes: Vec<u8> = (0..=0x2000u32).filter_map(char::from_u32).filter_map(byte_of).collect();
        bytes.sort_unstable();
        assert_eq!(bytes, (0..=255).collect::<Vec<u8>>());
        assert!((0..=0x2000).filter_map(char::from_u32).all(|c| byte_of(c).is_some() == known.contains(&c)));
    }

    #[test]
    fn an_unknown_rule_is_named_with_those_known() {
        let error = Words::named("qwen9").unwrap_err().to_string();
        assert!(error.contains("qwen9") && error.contains("smollm") && error.contains("llama-bpe"), "{error}");
    }
}
