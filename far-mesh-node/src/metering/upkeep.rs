//! What a ledger needs every minute.

use std::time::Duration;

use far_ledger::{Ledger, UnixMillis, store::Upkeep};
use tokio::time::MissedTickBehavior;

/// The figures of the mesh have a row a minute.
const EVERY: Duration = Duration::from_secs(60);

/// Looks after the ledger, now and every minute: figures, what lost coordinators held, what is too old. Several may; it is
/// done once. Dropped, it leaves nothing half done.
pub async fn upkeep(ledger: Ledger) {
    let mut ticks = tokio::time::interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        match ledger.upkeep(UnixMillis::now()).await {
            Ok(Upkeep { abandoned, removed, .. }) => {
                if abandoned > 0 {
                    tracing::warn!(abandoned, "sessions of a lost coordinator were ended, and what they held released");
                }
                if removed != Default::default() {
                    tracing::info!(?removed, "what was kept for as long as it is to be is removed");
                }
            }
            Err(error) => tracing::warn!(%error, "the ledger was not looked after; it is in a minute"),
        }
    }
}
