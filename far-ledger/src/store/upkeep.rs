//! What somebody has to do now and then, in one call.

use crate::{
    store::{
        error::{BackendError, FailError, ReadError},
        ledger::Ledger,
        metrics::Metrics,
        retention::Removed,
    },
    time::UnixMillis,
};

/// What [`Ledger::upkeep`] did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upkeep {
    /// The figures of the minute.
    pub metrics: Metrics,
    /// Sessions of lost coordinators that were failed, and what they held released.
    pub abandoned: u64,
    /// What was older than it is to be kept.
    pub removed: Removed,
}

/// Why upkeep ended early. Call it again in a minute: what was done by then stays done.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UpkeepError {
    /// A session could not be failed.
    #[error("an abandoned session could not be ended")]
    Fail(#[from] FailError),
    /// What is stored cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The database failed.
    #[error(transparent)]
    Backend(#[from] BackendError),
}

impl Ledger {
    /// Writes the figures of the minute, releases what lost coordinators held, and removes what is too old. Call it every
    /// minute; several coordinators of one ledger may, and it is done once.
    ///
    /// # Errors
    /// [`UpkeepError`].
    pub async fn upkeep(&self, now: UnixMillis) -> Result<Upkeep, UpkeepError> {
        let metrics = self.write_metrics(now).await?;
        let abandoned = self.release_abandoned(now).await?;
        let removed = self.apply_retention(now).await?;
        Ok(Upkeep { metrics, abandoned, removed })
    }
}
