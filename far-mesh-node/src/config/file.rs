//! Reads `far-mesh.toml` into entries that know their line.

use std::{
    fs::File,
    io::{self, Read},
    path::Path,
};

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{
    entry::{Entry, Origin, Text},
    error::ConfigError,
    key::{KEYS, Key, Role, nearest},
};

/// Most bytes of a configuration: generous for text written by hand, small enough to refuse a model named by mistake.
const MAX_FILE_BYTES: u64 = 1 << 20;

pub(super) fn read(path: &Path) -> Result<Vec<Entry>, ConfigError> {
    let failed = |source| ConfigError::Read { path: path.to_owned(), source };
    let file = File::open(path).map_err(failed)?;
    let bytes = file.metadata().map_err(failed)?.len();
    if bytes > MAX_FILE_BYTES {
        return Err(ConfigError::TooLarge { path: path.to_owned(), bytes, limit: MAX_FILE_BYTES });
    }
    let mut raw = Vec::new();
    file.take(MAX_FILE_BYTES).read_to_end(&mut raw).map_err(failed)?;
    let text = String::from_utf8(raw).map_err(|err| failed(io::Error::new(io::ErrorKind::InvalidData, err)))?;
    parse(path, &text)
}

pub(super) fn parse(path: &Path, text: &str) -> Result<Vec<Entry>, ConfigError> {
    let reader = Reader { path, text };
    let document = DeTable::parse(text).map_err(|err| {
        let at = err.span().map_or(0, |span| span.start);
        let (line, column) = reader.position(at);
        ConfigError::Syntax { path: path.to_owned(), line, column, message: err.message().to_owned() }
    })?;
    let mut entries = Vec::new();
    reader.table(document.get_ref(), None, &mut entries)?;
    Ok(entries)
}

struct Reader<'a> {
    path: &'a Path,
    text: &'a str,
}

impl Reader<'_> {
    fn table(&self, table: &DeTable<'_>, role: Option<Role>, entries: &mut Vec<Entry>) -> Result<(), ConfigError> {
        for (name, value) in table {
            let origin = self.origin(name.span().start);
            if let (None, DeValue::Table(section)) = (role, value.get_ref()) {
                let found = Role::SECTIONS.iter().copied().find(|role| role.name() == name.get_ref().as_ref());
                let role = found.ok_or_else(|| ConfigError::Unknown {
                    origin,
                    what: "section",
                    name: name.get_ref().to_string(),
                    nearest: nearest(name.get_ref(), Role::SECTIONS.iter().map(|role| role.name())),
                })?;
                self.table(section, Some(role), entries)?;
                continue;
            }
            let key = Key::named(name.get_ref()).ok_or_else(|| ConfigError::Unknown {
                origin: origin.clone(),
                what: "setting",
                name: name.get_ref().to_string(),
                nearest: nearest(name.get_ref(), KEYS.iter().map(|key| key.name)),
            })?;
            if let Some(section) = role.filter(|role| !key.roles.contains(role)) {
                let belongs: Vec<_> = key.roles.iter().map(|role| format!("[{}]", role.name())).collect();
                return Err(ConfigError::Misplaced {
                    origin,
                    key: key.name,
                    section: section.name(),
                    belongs: belongs.join(", "),
                });
            }
            entries.push(Entry { key, role, text: self.value(key, value, &origin)?, origin });
        }
        Ok(())
    }

    fn value(&self, key: &'static Key, value: &Spanned<DeValue<'_>>, origin: &Origin) -> Result<Text, ConfigError> {
        let wrong = |found: &DeValue<'_>, wanted| ConfigError::Type {
            origin: origin.clone(),
            key: key.name,
            found: kind(found),
            wanted,
        };
        match (value.get_ref(), key.many) {
            (DeValue::Array(items), true) => items
                .iter()
                .map(|item| match item.get_ref() {
                    DeValue::String(text) => Ok(text.to_string()),
                    other => Err(wrong(other, "an array of strings")),
                })
                .collect::<Result<_, _>>()
                .map(Text::Many),
            (DeValue::String(text), _) => Ok(Text::One(text.to_string())),
            // The literal's own digits: a price never passes through a binary fraction.
            (DeValue::Integer(_) | DeValue::Float(_), false) => {
                Ok(Text::One(self.text.get(value.span()).unwrap_or_default().to_owned()))
            }
            (other, true) => Err(wrong(other, "a string or an array of strings")),
            (other, false) => Err(wrong(other, "a string or a number")),
        }
    }

    fn origin(&self, at: usize) -> Origin {
        Origin::File { path: self.path.to_owned(), line: self.position(at).0 }
    }

    /// Line and column of a byte, from 1.
    fn position(&self, at: usize) -> (usize, usize) {
        let before = self.text.get(..at).unwrap_or(self.text);
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().map_or(0, |last| last.chars().count()) + 1;
        (line, column)
    }
}

fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "an integer",
        DeValue::Float(_) => "a number",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "an array",
        DeValue::Table(_) => "a table",
    }
}
