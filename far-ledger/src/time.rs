//! Points in time as the ledger stores them.

use std::{
    fmt,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// Milliseconds since 1970-01-01 00:00 UTC, never negative.
///
/// Every operation is told the time by its caller: a retry carries the time of the first try, and tests need no clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnixMillis(i64);

impl UnixMillis {
    /// The time now. A clock before 1970 reads as 1970.
    pub fn now() -> Self {
        SystemTime::now().into()
    }

    /// The time `millis` after 1970; `None` below zero.
    pub const fn new(millis: i64) -> Option<Self> {
        if millis < 0 { None } else { Some(Self(millis)) }
    }

    /// Milliseconds since 1970.
    pub const fn get(self) -> i64 {
        self.0
    }

    /// The time `span` later.
    pub fn after(self, span: Duration) -> Self {
        let span = i64::try_from(span.as_millis()).unwrap_or(i64::MAX);
        Self(self.0.saturating_add(span))
    }

    /// How long ago `earlier` was; nothing where it was not.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0).max(0).unsigned_abs())
    }

    /// The time `span` earlier, 1970 at the earliest.
    pub fn before(self, span: Duration) -> Self {
        let span = i64::try_from(span.as_millis()).unwrap_or(i64::MAX);
        Self(self.0.saturating_sub(span).max(0))
    }
}

impl From<SystemTime> for UnixMillis {
    fn from(time: SystemTime) -> Self {
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        Self(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
    }
}

impl fmt::Display for UnixMillis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_stays_in_its_range() {
        assert_eq!(UnixMillis::new(-1), None);
        assert_eq!(UnixMillis::from(UNIX_EPOCH - Duration::from_secs(5)), UnixMillis::default());
        assert_eq!(UnixMillis::from(UNIX_EPOCH + Duration::from_millis(1500)).get(), 1500);
        let time = UnixMillis::new(10_000).unwrap();
        assert_eq!(time.before(Duration::from_secs(3)).get(), 7_000);
        assert_eq!(
            (time.since(time.before(Duration::from_secs(3))), UnixMillis::default().since(time)),
            (Duration::from_secs(3), Duration::ZERO)
        );
        assert_eq!(time.before(Duration::MAX), UnixMillis::default());
        assert_eq!((time.after(Duration::from_secs(3)).get(), time.after(Duration::MAX).get()), (13_000, i64::MAX));
    }
}
