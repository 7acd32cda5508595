//! How long an advert lives, and by whose clock.

use std::{
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use super::refusal::Refusal;

/// Longest life an advert may claim, in seconds: who asks for more could never be forgotten.
pub(crate) const MAX_LIFE_S: u64 = 600;

/// How far clocks may differ, in seconds. An advert lives this much longer in the eyes of others.
pub(super) const CLOCK_SKEW_S: u64 = 30;

/// Seconds since 1970; tests set their own.
pub(in crate::peer) type Clock = Arc<dyn Fn() -> u64 + Send + Sync>;

/// The clock of the machine.
pub(in crate::peer) fn system_clock() -> Clock {
    Arc::new(|| SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()))
}

/// Whether an advert has expired in the eyes of others than its owner.
pub(super) fn is_over(expires_unix_s: u64, now: u64) -> bool {
    expires_unix_s.saturating_add(CLOCK_SKEW_S) <= now
}

/// Judges the expiry of what was read.
pub(in crate::peer) fn alive(expires_unix_s: u64, now: u64) -> Result<(), Refusal> {
    if is_over(expires_unix_s, now) {
        return Err(Refusal::Expired { expires_unix_s, now });
    }
    let life_s = expires_unix_s.saturating_sub(now);
    if life_s > MAX_LIFE_S + CLOCK_SKEW_S {
        return Err(Refusal::TooLong { life_s });
    }
    Ok(())
}
