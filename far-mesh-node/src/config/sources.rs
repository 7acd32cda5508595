//! Where settings are looked for.

use std::{
    env,
    ffi::OsString,
    path::{Path, PathBuf},
};

use super::{entry::Entries, environment, error::ConfigError, file};

/// Name of the configuration file.
pub const FILE_NAME: &str = "far-mesh.toml";

/// The places settings come from, as values: a test has its own.
#[derive(Clone, Debug)]
pub struct Sources {
    /// The file named by `--config`; it must exist.
    pub file: Option<PathBuf>,
    /// Where [`FILE_NAME`] is looked for first.
    pub directory: PathBuf,
    /// The environment.
    pub variables: Vec<(OsString, OsString)>,
}

impl Sources {
    /// The sources of this process; `file` is what `--config` named.
    pub fn of_process(file: Option<PathBuf>) -> Self {
        let directory = env::current_dir().unwrap_or_else(|_| PathBuf::from("."));
        Self { file, directory, variables: env::vars_os().collect() }
    }

    /// No variables, and `directory` to look for a file in.
    pub fn none(directory: impl Into<PathBuf>) -> Self {
        Self { file: None, directory: directory.into(), variables: Vec::new() }
    }

    /// The file that is read: `--config`, else `./far-mesh.toml`, else `far-mesh/far-mesh.toml` in the user's
    /// configuration folder.
    pub(super) fn path(&self) -> Result<Option<PathBuf>, ConfigError> {
        if let Some(named) = &self.file {
            return Ok(Some(self.directory.join(named)));
        }
        let here = self.directory.join(FILE_NAME);
        let users = self.user_dir("XDG_CONFIG_HOME", ".config")?.map(|dir| dir.join(FILE_NAME));
        Ok([Some(here), users].into_iter().flatten().find(|path| path.is_file()))
    }

    /// Everything that is set, weakest first, and the folder of the file.
    pub(super) fn entries(&self) -> Result<Entries, ConfigError> {
        let mut entries = match self.path()? {
            Some(path) => file::read(&path)?,
            None => Vec::new(),
        };
        entries.extend(environment::read(&self.variables)?);
        Ok(Entries(entries))
    }

    /// Our folder below the user's folder for data or configuration (XDG Base Directory Specification).
    pub(super) fn user_dir(&self, variable: &str, below_home: &str) -> Result<Option<PathBuf>, ConfigError> {
        // The specification says to ignore a path that is not absolute.
        let absolute = |text: String| Some(PathBuf::from(text)).filter(|path| path.is_absolute());
        let named = environment::find(&self.variables, variable)?.and_then(absolute);
        Ok(named.or(self.home()?.map(|home| home.join(below_home))).map(|dir| dir.join("far-mesh")))
    }

    /// `path` with a leading `~/` replaced by the home folder, relative to `base`.
    pub(super) fn place(&self, base: &Path, path: &str) -> Result<PathBuf, ConfigError> {
        let home = self.home()?;
        Ok(match (path.strip_prefix("~/"), home) {
            (Some(rest), Some(home)) => home.join(rest),
            _ => base.join(path),
        })
    }

    fn home(&self) -> Result<Option<PathBuf>, ConfigError> {
        Ok(environment::find(&self.variables, "HOME")?.map(PathBuf::from))
    }
}
