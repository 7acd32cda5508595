//! Where a ledger is: a file, or a database of a PostgreSQL server.

use std::{
    fmt,
    path::{Path, PathBuf},
};

/// Where a ledger is.
///
/// A text that begins with `postgres://` or `postgresql://` names a server, every other one a SQLite file. A password in
/// the URL is never shown.
///
/// ```
/// use far_ledger::store::Location;
///
/// let server = Location::from("postgres://far:secret@db.example:5432/ledger?sslmode=verify-full");
/// assert_eq!(server.to_string(), "postgres://db.example:5432/ledger");
/// assert_eq!(Location::from("ledger.db").to_string(), "ledger.db");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Location {
    /// A SQLite file.
    File(PathBuf),
    /// A PostgreSQL database.
    Postgres(PostgresUrl),
}

/// URL of a PostgreSQL database: `postgres://user:password@host:port/database`, with the parameters of libpq: `sslmode`
/// (`disable`, `prefer`, `require`, `verify-ca`, `verify-full`), `sslrootcert`, `host` for the folder of a local socket.
#[derive(Clone, PartialEq, Eq)]
pub struct PostgresUrl(String);

impl PostgresUrl {
    /// The whole URL, password included: for the driver alone.
    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

impl From<&str> for Location {
    fn from(text: &str) -> Self {
        if ["postgres://", "postgresql://"].iter().any(|scheme| text.starts_with(scheme)) {
            Self::Postgres(PostgresUrl(text.to_owned()))
        } else {
            Self::File(text.into())
        }
    }
}

impl From<&Path> for Location {
    fn from(path: &Path) -> Self {
        path.to_str().map_or_else(|| Self::File(path.to_owned()), Self::from)
    }
}

impl From<String> for Location {
    fn from(text: String) -> Self {
        text.as_str().into()
    }
}

impl From<&String> for Location {
    fn from(text: &String) -> Self {
        text.as_str().into()
    }
}

impl From<PathBuf> for Location {
    fn from(path: PathBuf) -> Self {
        path.as_path().into()
    }
}

impl From<&PathBuf> for Location {
    fn from(path: &PathBuf) -> Self {
        path.as_path().into()
    }
}

impl From<&Location> for Location {
    fn from(location: &Location) -> Self {
        location.clone()
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(f),
            Self::Postgres(url) => url.fmt(f),
        }
    }
}

impl fmt::Display for PostgresUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // User and password stand before the last `@`, and a parameter may be a password too.
        let url = self.0.split('?').next().unwrap_or_default();
        let place = url.split_once("://").map_or(url, |(_, rest)| rest);
        let place = place.rsplit_once('@').map_or(place, |(_, place)| place);
        write!(f, "postgres://{place}")
    }
}

impl fmt::Debug for PostgresUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_password_is_shown() {
        for url in [
            "postgres://far:secret@db/ledger",
            "postgresql://far:se@secret@db/ledger?password=secret",
            "postgres://db/ledger?user=far&password=secret",
        ] {
            let location = Location::from(url);
            assert_eq!(location.to_string(), "postgres://db/ledger");
            assert!(!format!("{location:?}").contains("secret"));
        }
    }

    #[test]
    fn what_names_no_server_is_a_file() {
        for path in ["ledger.db", "/var/lib/far/ledger.db", "postgres", ":memory:", "mysql://db/x"] {
            assert_eq!(Location::from(path), Location::File(path.into()));
        }
    }
}
