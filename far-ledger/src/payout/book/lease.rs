//! Who looks after payouts at the moment.

use std::time::Duration;

use crate::{
    payout::error::PayError,
    store::database::{Database, query},
    time::UnixMillis,
};

/// Takes the lease where it is free, ours, over, or of a payer whose clock is ahead: that one's would end when its clock says.
const ACQUIRE: &str = "
INSERT INTO payout_lease (name, holder, expires_at) VALUES ('payer', $1, $2)
ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, expires_at = excluded.expires_at
WHERE payout_lease.holder = excluded.holder OR payout_lease.expires_at <= $3 OR payout_lease.expires_at > $4";

/// Whether `holder` has the lease until `now` and `span`.
pub(in crate::payout) async fn acquire(
    database: &Database,
    holder: &str,
    now: UnixMillis,
    span: Duration,
) -> Result<bool, PayError> {
    let span = i64::try_from(span.as_millis()).unwrap_or(i64::MAX);
    let mut transaction = database.begin().await?;
    let rows = query(ACQUIRE)
        .bind(holder)
        .bind(now.get().saturating_add(span))
        .bind(now.get())
        .bind(now.get().saturating_add(span.saturating_mul(2)))
        .execute(&mut transaction)
        .await?;
    transaction.commit().await?;
    Ok(rows > 0)
}
