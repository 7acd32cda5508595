//! Where the ledger is.

use far_ledger::{Ledger, store::Location};

use super::CommandError;
use crate::config::Config;

/// A server where one is named, else a file in the data folder.
pub(super) fn location(config: &Config) -> Location {
    match &config.postgres_url {
        Some(url) => url.expose().into(),
        None => Location::File(config.data_dir.join("ledger.sqlite")),
    }
}

/// Opens the books that a coordinator keeps: a slip in the folder's name must not make empty ones.
///
/// # Errors
/// [`CommandError::NoLedger`] where there are none, [`CommandError::Ledger`] where they cannot be used.
pub(super) async fn open(config: &Config) -> Result<Ledger, CommandError> {
    let location = location(config);
    if let Location::File(path) = &location
        && !path.exists()
    {
        return Err(CommandError::NoLedger { path: path.clone() });
    }
    Ok(Ledger::open(location).await?)
}
