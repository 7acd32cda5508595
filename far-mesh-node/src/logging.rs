//! Logs and errors on standard error; standard output belongs to results.

use std::{
    env,
    error::Error,
    io::{self, IsTerminal, Write},
};

use tracing_subscriber::{EnvFilter, filter::ParseError};

/// What is logged where nobody says: what our own parts do, and only the troubles of others.
const DEFAULT_FILTER: &str =
    "warn,far_mesh=info,far_mesh_node=info,far_mesh_core=info,far_mesh_client=info,far_ledger=info";

/// The variables that set the filter, strongest first.
const VARIABLES: [&str; 2] = ["FAR_MESH_LOG", "RUST_LOG"];

/// Why logging cannot start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoggingError {
    /// The filter is malformed.
    #[error(
        "environment variable {variable} = {value:?} is no filter of logs; write for example info or far_mesh_core::peer=debug"
    )]
    Filter {
        /// The variable.
        variable: &'static str,
        /// Its value.
        value: String,
        /// What the parser said.
        #[source]
        source: ParseError,
    },
}

/// Sends `tracing` to standard error, filtered by `FAR_MESH_LOG`, else `RUST_LOG`, else `info` for our own parts and
/// `warn` for others. A second call changes nothing.
///
/// # Errors
/// [`LoggingError::Filter`] names the variable that holds no filter.
pub fn init() -> Result<(), LoggingError> {
    let filter = filter(|name| env::var(name).ok())?;
    // https://no-color.org: present and not empty.
    let color = io::stderr().is_terminal() && env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let subscriber = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).with_ansi(color);
    // Only a subscriber that already stands makes this fail; then the embedding program logs its own way.
    let _ = subscriber.try_init();
    Ok(())
}

fn filter(variable: impl Fn(&str) -> Option<String>) -> Result<EnvFilter, LoggingError> {
    let set = VARIABLES
        .into_iter()
        .find_map(|name| variable(name).filter(|value| !value.trim().is_empty()).map(|value| (name, value)));
    match set {
        Some((variable, value)) => {
            EnvFilter::try_new(&value).map_err(|source| LoggingError::Filter { variable, value, source })
        }
        None => Ok(EnvFilter::new(DEFAULT_FILTER)),
    }
}

/// Writes an error and what caused it to standard error, one line each.
pub fn report(error: &dyn Error) {
    // Nowhere is left to say that standard error is closed.
    let _ = io::stderr().write_all(chain(error).as_bytes());
}

/// `error: ...`, then a line `caused by: ...` for each source that says more than the line before.
fn chain(error: &dyn Error) -> String {
    let mut last = error.to_string();
    let mut text = format!("error: {last}\n");
    let mut source = error.source();
    while let Some(cause) = source {
        let line = cause.to_string();
        if !last.contains(&line) {
            text.push_str(&format!("  caused by: {line}\n"));
            last = line;
        }
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_variable_wins_and_a_malformed_one_is_named() {
        let both = |name: &str| Some(if name == "FAR_MESH_LOG" { "debug" } else { "error" }.to_owned());
        assert_eq!(filter(both).unwrap().to_string(), "debug");
        assert!(filter(|_| None).unwrap().to_string().contains("far_mesh_core=info"));
        let err = filter(|name| (name == "RUST_LOG").then(|| "far=loud=very".to_owned())).unwrap_err();
        assert!(err.to_string().contains("RUST_LOG") && err.to_string().contains("loud"), "{err}");
    }

    #[test]
    fn an_error_is_told_with_its_causes_once() {
        #[derive(Debug, thiserror::Error)]
        #[error("outer")]
        struct Outer(#[source] Middle);
        #[derive(Debug, thiserror::Error)]
        #[error(transparent)]
        struct Middle(#[from] io::Error);

        let error = Outer(Middle(io::Error::other("disk on fire")));
        assert_eq!(chain(&error), "error: outer\n  caused by: disk on fire\n");
    }
}
