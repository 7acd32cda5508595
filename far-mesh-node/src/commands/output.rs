//! Standard output: results and nothing else.

use std::io::{self, Write};

use serde::Serialize;

use super::CommandError;

/// Writes text and flushes it.
///
/// # Errors
/// [`CommandError::Output`], also where the reader hung up.
pub fn print(text: &str) -> Result<(), CommandError> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(CommandError::Output)
}

/// Writes a value as one line of JSON.
///
/// # Errors
/// As [`print()`].
pub fn print_json(value: &impl Serialize) -> Result<(), CommandError> {
    let mut text = serde_json::to_string(value).map_err(|err| CommandError::Output(err.into()))?;
    text.push('\n');
    print(&text)
}
