//! `tokenizer.json`: how text is cut before merging, and what is put before it.

use serde_json::Value;

use super::file::{File, not_applied};
use crate::token::{Cuts, Spaces, Step, VocabularyError, words::SPACE};

/// Most cuts one after the other; those in use have up to 4.
const MAX_STEPS: usize = 16;

/// Longest regular expression; those in use have up to 400 bytes.
const MAX_REGEX_BYTES: usize = 8192;

/// How text is cut.
pub(super) fn cuts(file: &File) -> Result<Cuts, VocabularyError> {
    if file.model.byte_fallback {
        return Ok(Cuts { spaces: Some(spaces(file)?), ..Cuts::default() });
    }
    let mut cuts = Cuts { ignore_merges: file.model.ignore_merges, ..Cuts::default() };
    for part in sequence(&file.normalizer.0, "normalizers") {
        match kind(part) {
            "NFC" => cuts.nfc = true,
            other => return not_applied(format!("a normalizer {other:?}")),
        }
    }
    let parts = sequence(&file.pre_tokenizer.0, "pretokenizers");
    if parts.len() > MAX_STEPS {
        return not_applied(format!("{} pre-tokenizers", parts.len()));
    }
    let Some((bytes, before)) = parts.split_last().filter(|(last, _)| kind(last) == "ByteLevel") else {
        return Err(VocabularyError::Model {
            model: format!("BPE with a pre-tokenizer {:?}", parts.last().map_or("null", |last| kind(last))),
            known: "byte-level BPE and BPE with byte_fallback",
        });
    };
    for part in before {
        cuts.steps.push(step(part)?);
    }
    if flag(bytes, "add_prefix_space", true) {
        return not_applied("a space before every text (add_prefix_space)");
    }
    if flag(bytes, "use_regex", true) {
        cuts.steps.push(Step::Words);
    }
    Ok(cuts)
}

/// Where spaces come before texts: a normalizer says it in older files, a pre-tokenizer in newer ones.
fn spaces(file: &File) -> Result<Spaces, VocabularyError> {
    if file.model.ignore_merges {
        return not_applied("ignore_merges beside byte_fallback");
    }
    let normalizers = sequence(&file.normalizer.0, "normalizers");
    let cutters = sequence(&file.pre_tokenizer.0, "pretokenizers");
    let is_replace = |part: &Value| {
        kind(part) == "Replace" && part["pattern"]["String"] == " " && part["content"] == SPACE.to_string()
    };
    match (normalizers.as_slice(), cutters.as_slice()) {
        ([prepend, replace], [])
            if kind(prepend) == "Prepend" && prepend["prepend"] == SPACE.to_string() && is_replace(replace) =>
        {
            Ok(Spaces::Each)
        }
        ([replace], []) if is_replace(replace) => Ok(Spaces::Never),
        ([], [meta]) if kind(meta) == "Metaspace" && meta["replacement"] == SPACE.to_string() => {
            match (meta["prepend_scheme"].as_str(), flag(meta, "split", true)) {
                (Some("first"), false) => Ok(Spaces::First),
                (Some("always"), false) => Ok(Spaces::Missing),
                (Some("never"), false) => Ok(Spaces::Never),
                (scheme, split) => not_applied(format!("a Metaspace of prepend_scheme {scheme:?}, split {split}")),
            }
        }
        _ => {
            let all: Vec<&str> = normalizers.iter().chain(&cutters).map(|part| kind(part)).collect();
            not_applied(format!(
                "byte_fallback with {}",
                if all.is_empty() { "nothing else".into() } else { all.join(", ") }
            ))
        }
    }
}

fn step(part: &Value) -> Result<Step, VocabularyError> {
    match kind(part) {
        "Digits" => Ok(Step::Digits(flag(part, "individual_digits", false))),
        "Split" => match (part["pattern"]["Regex"].as_str(), part["behavior"].as_str(), flag(part, "invert", false)) {
            (Some(regex), Some("Isolated"), false) if regex.len() <= MAX_REGEX_BYTES => {
                Ok(Step::Regex(regex.to_owned()))
            }
            (Some(regex), Some("Isolated"), false) => {
                not_applied(format!("a regular expression of {} bytes", regex.len()))
            }
            (_, behavior, invert) => not_applied(format!("a Split of behavior {behavior:?}, invert {invert}")),
        },
        other => not_applied(format!("a pre-tokenizer {other:?}")),
    }
}

/// The text of the token that comes before every prompt, if one does.
pub(super) fn first_token(file: &File) -> Result<Option<String>, VocabularyError> {
    let mut first = None;
    for part in sequence(&file.post_processor.0, "processors") {
        match kind(part) {
            "ByteLevel" => {}
            "TemplateProcessing" => {
                let pieces = part["single"].as_array().map(Vec::as_slice).unwrap_or_default();
                let special = |piece: &Value| piece["SpecialToken"]["id"].as_str().map(str::to_owned);
                first = match pieces {
                    [text] if text["Sequence"].is_object() => None,
                    [token, text] if text["Sequence"].is_object() && special(token).is_some() => special(token),
                    _ => return not_applied("a post-processor that adds other tokens than one before the text"),
                };
            }
            other => return not_applied(format!("a post-processor {other:?}")),
        }
    }
    Ok(first)
}

/// The parts of a sequence, or the one that is none; null has no parts.
fn sequence<'a>(value: &'a Value, parts: &str) -> Vec<&'a Value> {
    match value {
        Value::Null => vec![],
        value if kind(value) == "Sequence" => value[parts].as_array().into_iter().flatten().collect(),
        value => vec![value],
    }
}

fn kind(value: &Value) -> &str {
    value["type"].as_str().unwrap_or("without a type")
}

fn flag(value: &Value, name: &str, default: bool) -> bool {
    value[name].as_bool().unwrap_or(default)
}
