//! Reads settings from environment variables.

use std::ffi::{OsStr, OsString};

use super::{
    entry::{Entry, Origin, Text},
    error::ConfigError,
    key::{KEYS, nearest},
};

const PREFIX: &str = "FAR_MESH_";

/// The password of the payer's key.
pub const KEYSTORE_PASSWORD: &str = "FAR_MESH_KEYSTORE_PASSWORD";

/// Variables with our prefix that are no settings: the filter of the log, and what no setting may hold.
const OTHERS: &[&str] = &["FAR_MESH_LOG", KEYSTORE_PASSWORD];

/// The settings among `variables`. An empty variable is not set, as in a compose file with `FAR_MESH_HTTP=`.
///
/// A variable with our prefix that nearly is a setting is refused as a slip; other strangers are left alone, because
/// platforms inject their own (Kubernetes: `FAR_MESH_SERVICE_HOST` for a service of that name).
pub(super) fn read(variables: &[(OsString, OsString)]) -> Result<Vec<Entry>, ConfigError> {
    let mut entries: Vec<Entry> = Vec::new();
    for key in KEYS {
        let mut first: Option<(&'static str, String)> = None;
        for name in key.variables {
            let Some(value) = find(variables, name)? else { continue };
            match &first {
                Some((_, known)) if *known == value => {}
                Some((first, _)) => {
                    return Err(ConfigError::Contradiction { first, second: name, key: key.name });
                }
                None => first = Some((name, value)),
            }
        }
        if let Some((name, value)) = first {
            let text = if key.many {
                Text::Many(
                    value.split(',').map(|item| item.trim().to_owned()).filter(|item| !item.is_empty()).collect(),
                )
            } else {
                Text::One(value)
            };
            entries.push(Entry { key, role: None, text, origin: Origin::Variable(name.to_owned()) });
        }
    }
    refuse_slips(variables)?;
    Ok(entries)
}

/// The text of a variable; `None` when it is unset or empty.
pub(super) fn find(variables: &[(OsString, OsString)], name: &str) -> Result<Option<String>, ConfigError> {
    let Some((_, value)) = variables.iter().find(|(known, _)| known.as_os_str() == OsStr::new(name)) else {
        return Ok(None);
    };
    let text = value.to_str().ok_or_else(|| ConfigError::NotText { name: name.to_owned() })?;
    Ok(Some(text.to_owned()).filter(|text| !text.trim().is_empty()))
}

fn refuse_slips(variables: &[(OsString, OsString)]) -> Result<(), ConfigError> {
    let known = || KEYS.iter().flat_map(|key| key.variables.iter().copied()).chain(OTHERS.iter().copied());
    for (name, _) in variables {
        let Some(suffix) = name.to_str().and_then(|name| name.strip_prefix(PREFIX)) else { continue };
        if known().any(|known| known.strip_prefix(PREFIX) == Some(suffix)) {
            continue;
        }
        if let Some(meant) = nearest(suffix, known().filter_map(|known| known.strip_prefix(PREFIX))) {
            return Err(ConfigError::Unknown {
                origin: Origin::Variable(format!("{PREFIX}{suffix}")),
                what: "variable",
                name: format!("{PREFIX}{suffix}"),
                nearest: known().find(|known| known.strip_prefix(PREFIX) == Some(meant)),
            });
        }
    }
    Ok(())
}
