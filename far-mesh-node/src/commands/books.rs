//! Where the books of a coordinator are kept.

use far_ledger::store::Location;

use crate::config::Config;

/// A server where one is named, else a file in the data folder.
pub(super) fn location(config: &Config) -> Location {
    match &config.postgres_url {
        Some(url) => url.expose().into(),
        None => Location::File(config.data_dir.join("ledger.sqlite")),
    }
}
