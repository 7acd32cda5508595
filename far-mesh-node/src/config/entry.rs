//! A setting as text, with the place it came from.

use std::{fmt, path::PathBuf};

use super::key::{Key, Role};

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Origin {
    /// Nobody set it.
    Default,
    /// A line of a file.
    File {
        /// The file.
        path: PathBuf,
        /// Counts from 1.
        line: usize,
    },
    /// An environment variable.
    Variable(String),
    /// A flag of the command line.
    Flag(&'static str),
}

/// The text of a setting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Text {
    One(String),
    Many(Vec<String>),
}

/// A setting somebody wrote.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) key: &'static Key,
    /// The section it stands in; `None` at the top level and in a variable.
    pub(super) role: Option<Role>,
    pub(super) text: Text,
    pub(super) origin: Origin,
}

/// All settings of a process, in ascending order of strength: file, then environment.
#[derive(Debug, Default)]
pub(super) struct Entries(pub(super) Vec<Entry>);

impl Entries {
    /// The strongest entry of a setting for a role: a variable, else the role's section, else the one it falls back on, else
    /// the top level.
    pub(super) fn find(&self, name: &str, role: Role) -> Option<&Entry> {
        self.0
            .iter()
            .filter(|entry| entry.key.name == name && entry.role.is_none_or(|section| role.reads(section)))
            .max_by_key(|entry| {
                (matches!(entry.origin, Origin::Variable(_)), entry.role == Some(role), entry.role.is_some())
            })
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { path, line } => write!(f, "{}:{line}", path.display()),
            Self::Variable(name) => write!(f, "environment variable {name}"),
            Self::Flag(name) => write!(f, "flag {name}"),
        }
    }
}
