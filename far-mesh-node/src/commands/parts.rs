//! What `demo` and `bench` hand to the parts of their local mesh.

use std::{ffi::OsString, path::PathBuf};

use tempfile::TempDir;

use super::{CommandError, join};
use crate::config::Config;

/// This program, which is every part too.
pub(super) fn own_program() -> Result<PathBuf, CommandError> {
    std::env::current_exe().map_err(CommandError::Program)
}

/// A folder for the keys and databases of the parts, under the data folder; it is removed with what is returned.
pub(super) fn folder(config: &Config, prefix: &str) -> Result<TempDir, CommandError> {
    join::make_folder(&config.data_dir)?;
    let dir = tempfile::Builder::new().prefix(prefix).tempdir_in(&config.data_dir);
    dir.map_err(|source| CommandError::Write { path: config.data_dir.clone(), source })
}

/// How the parts are to compute: as this process was told to.
pub(super) fn computing_flags(config: &Config) -> Vec<OsString> {
    let flags = [
        ("--precision", config.precision.to_string()),
        ("--quantize", config.quantize.to_string()),
        ("--threads", config.threads.to_string()),
    ];
    flags.into_iter().flat_map(|(flag, value)| [OsString::from(flag), value.into()]).collect()
}

/// How the providers are to compute: the coordinator's head stays on the processor.
pub(super) fn provider_flags(config: &Config) -> Vec<OsString> {
    let mut flags = computing_flags(config);
    flags.extend([OsString::from("--device"), config.device.to_string().into()]);
    flags
}
