//! `tokenizer_config.json`, `generation_config.json` and `config.json`: tokens of special meaning, and the chat template.

use std::{collections::HashMap, fs, io::Read, path::Path};

use serde_json::{Map, Value};

use super::file::{damaged, not_applied};
use crate::{
    model::huggingface::{Folder, read_json},
    token::{MAX_TEMPLATE_BYTES, TemplateError, VocabularyError},
};

/// Most bytes of each: real ones have up to 60 KB, where they list many added tokens.
const MAX_BYTES: u64 = 4 << 20;

/// Most tokens that end a text.
const MAX_ENDS: usize = 64;

/// Tokens of special meaning.
#[derive(Debug, Default)]
pub(super) struct Special {
    pub(super) bos: Option<u32>,
    pub(super) eos: Option<u32>,
    pub(super) ends: Vec<u32>,
    pub(super) add_bos: bool,
}

/// Reads them; `ids` are those of the vocabulary's texts.
pub(super) fn read(folder: &Folder, ids: &HashMap<&str, u32>) -> Result<Special, VocabularyError> {
    let config = object(folder.path(), "tokenizer_config.json")?;
    let token = |key: &str| -> Result<Option<u32>, VocabularyError> {
        let value = config.get(key).filter(|value| !value.is_null());
        let Some(text) = value.and_then(|value| value.as_str().or_else(|| value["content"].as_str())) else {
            return Ok(None);
        };
        match ids.get(text) {
            Some(id) => Ok(Some(*id)),
            None => not_applied(format!("a {key} {text:?} that is not in its vocabulary")),
        }
    };
    let (bos, eos) = (token("bos_token")?, token("eos_token")?);
    if config.get("add_eos_token").and_then(Value::as_bool) == Some(true) {
        return not_applied("a token after every text (add_eos_token)");
    }
    let mut ends = Vec::new();
    for settings in [folder.settings(), &object(folder.path(), "generation_config.json")?] {
        let value = settings.get("eos_token_id").unwrap_or(&Value::Null);
        let several = value.as_array().map_or_else(|| std::slice::from_ref(value), Vec::as_slice);
        if several.len() > MAX_ENDS {
            let (got, want) = (several.len(), format!("at most {MAX_ENDS}"));
            return Err(VocabularyError::Count { what: "end tokens", got, want });
        }
        for id in several.iter().filter(|id| !id.is_null()) {
            match id.as_u64().and_then(|id| u32::try_from(id).ok()) {
                Some(id) => ends.push(id),
                None => return not_applied(format!("an eos_token_id {id}")),
            }
        }
    }
    let add_bos = config.get("add_bos_token").and_then(Value::as_bool).unwrap_or(false);
    Ok(Special { bos, eos, ends, add_bos: add_bos && bos.is_some() })
}

/// The text of the chat template: a file of its own, or an entry of `tokenizer_config.json`.
pub(in crate::token) fn template(folder: &Folder) -> Result<String, TemplateError> {
    let invalid = |reason: String| TemplateError::Syntax { reason };
    let path = folder.path().join("chat_template.jinja");
    if path.is_file() {
        let mut text = String::new();
        let file = fs::File::open(&path).map_err(|error| invalid(format!("{}: {error}", path.display())))?;
        // One byte more shows that it is too long.
        let read = file.take(MAX_TEMPLATE_BYTES as u64 + 1).read_to_string(&mut text);
        read.map_err(|error| invalid(format!("{}: {error}", path.display())))?;
        return Ok(text);
    }
    let config = object(folder.path(), "tokenizer_config.json").map_err(|error| invalid(error.to_string()))?;
    match config.get("chat_template") {
        None | Some(Value::Null) => Err(TemplateError::Missing),
        Some(Value::String(text)) => Ok(text.clone()),
        Some(Value::Array(several)) => {
            let default = several.iter().find(|template| template["name"].as_str() == Some("default"));
            let text = default.and_then(|template| template["template"].as_str()).ok_or(TemplateError::Missing)?;
            Ok(text.to_owned())
        }
        Some(_) => Err(invalid("chat_template in tokenizer_config.json is no text".to_owned())),
    }
}

/// The entries of a JSON file; none where there is no file.
fn object(folder: &Path, name: &str) -> Result<Map<String, Value>, VocabularyError> {
    Ok(read_json(&folder.join(name), MAX_BYTES).map_err(damaged)?.unwrap_or_default())
}
