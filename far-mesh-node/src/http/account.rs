//! `GET /account`: what the calling key's account has, and what the key used.

use std::{sync::Arc, time::Duration};

use axum::{Extension, Json, extract::State, http::Uri};
use far_ledger::UnixMillis;
use far_mesh_client::schema::{AccountInfo, DayUsage};

use super::{
    access::{Caller, Denied},
    app::App,
    error::ApiError,
    params::integer,
};
use crate::calendar;

/// Days of usage where the request does not say.
const DAYS: i64 = 30;

/// Most days of usage: two years.
const MAX_DAYS: i64 = 732;

const DAY: Duration = Duration::from_secs(24 * 3600);

/// What the calling key's account has.
pub(super) async fn account(
    State(app): State<Arc<App>>,
    Extension(Caller(holder)): Extension<Caller>,
    uri: Uri,
) -> Result<Json<AccountInfo>, ApiError> {
    let holder = holder.ok_or_else(|| ApiError::from(Denied::MissingKey))?;
    let days: u32 = integer("days", days(&uri)?, 1, MAX_DAYS)?;
    let first = UnixMillis::now().before(DAY * days.saturating_sub(1));
    let found = app.meter.account(&holder, first).await;
    let found = found.map_err(|error| ApiError::ledger_failed(error.to_string()))?;
    // Accounts never go: this one was there when its key was asked for.
    let (account, usage) = found.ok_or_else(|| ApiError::from(Denied::UnknownKey))?;
    let available = account.available();
    Ok(Json(AccountInfo {
        account: account.name,
        key: holder.key,
        balance_far: account.balance.to_string(),
        reserved_far: account.reserved.to_string(),
        available_far: available.to_string(),
        usage: usage
            .into_iter()
            .map(|used| DayUsage {
                day: calendar::day(used.day),
                sessions: used.sessions,
                completion_tokens: used.tokens,
                cost_far: used.cost.to_string(),
            })
            .collect(),
    }))
}

/// `?days=N`.
fn days(uri: &Uri) -> Result<i64, ApiError> {
    let mut pairs = uri.query().unwrap_or_default().split('&').filter_map(|pair| pair.split_once('='));
    let Some((_, text)) = pairs.find(|(name, _)| *name == "days") else { return Ok(DAYS) };
    text.parse().map_err(|_| {
        let shown: String = text.chars().take(20).collect();
        ApiError::field("invalid_type", "days", format!("days is {shown:?}, must be a whole number"))
    })
}
