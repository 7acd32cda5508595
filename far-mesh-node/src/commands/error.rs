//! How a command ends when it does not end well.

use std::io;

use crate::{
    config::ConfigError,
    logging::LoggingError,
    models::{InspectError, PullError, StoreError},
};

/// Exit code of wrong usage.
pub const USAGE: u8 = 2;

const FAILED: u8 = 1;

/// What a shell reports for a program that ctrl-C ended: 128 + SIGINT.
const INTERRUPTED: u8 = 130;

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CommandError {
    /// The settings are not usable.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The filter of the logs is malformed.
    #[error(transparent)]
    Logging(#[from] LoggingError),
    /// A model could not be had.
    #[error(transparent)]
    Pull(#[from] PullError),
    /// The folder of models could not be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A model file could not be read.
    #[error(transparent)]
    Inspect(#[from] InspectError),
    /// No threads could be started.
    #[error("cannot start the runtime's threads; raise the limit of processes (ulimit -u)")]
    Runtime(#[source] io::Error),
    /// Standard output does not take the result.
    #[error("cannot write to standard output")]
    Output(#[source] io::Error),
    /// ctrl-C or SIGTERM came.
    #[error("interrupted; {remedy}")]
    Interrupted {
        /// What is kept and how to go on.
        remedy: &'static str,
    },
    /// This build does not have the command.
    #[error("this build does not have the command `{0}`")]
    Absent(&'static str),
}

impl CommandError {
    /// What the process exits with.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Interrupted { .. } => INTERRUPTED,
            Self::Absent(_) => USAGE,
            Self::Output(err) if err.kind() == io::ErrorKind::BrokenPipe => 0,
            _ => FAILED,
        }
    }

    /// Whether nobody needs to hear of it: a reader such as `head` had enough.
    pub fn is_silent(&self) -> bool {
        matches!(self, Self::Output(err) if err.kind() == io::ErrorKind::BrokenPipe)
    }
}
