//! Points in time as people read them, in UTC.

use far_ledger::UnixMillis;
use time::OffsetDateTime;

/// The day, `2026-11-23`.
pub(crate) fn day(at: UnixMillis) -> String {
    written(at, |at| at.date().to_string())
}

/// The day and the minute, `2026-11-23 06:05`.
pub(crate) fn minute(at: UnixMillis) -> String {
    written(at, |at| format!("{} {:02}:{:02}", at.date(), at.hour(), at.minute()))
}

/// Years beyond 9999 are no dates to anybody.
fn written(at: UnixMillis, text: impl FnOnce(OffsetDateTime) -> String) -> String {
    OffsetDateTime::from_unix_timestamp(at.get() / 1000).map_or_else(|_| format!("{} ms after 1970", at.get()), text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> UnixMillis {
        UnixMillis::new(seconds * 1_000).unwrap()
    }

    #[test]
    fn days_are_those_of_the_calendar() {
        // As `date -u -d @SECONDS` tells them.
        for (seconds, text) in [
            (0, "1970-01-01 00:00"),
            (951_782_399, "2000-02-28 23:59"),
            (951_868_800, "2000-03-01 00:00"),
            (951_782_400, "2000-02-29 00:00"),
            (1_709_164_800, "2024-02-29 00:00"),
            (1_795_413_945, "2026-11-23 06:05"),
            (4_107_542_399, "2100-02-28 23:59"),
            (4_107_542_400, "2100-03-01 00:00"),
            (253_402_300_799, "9999-12-31 23:59"),
        ] {
            assert_eq!(minute(at(seconds)), text);
            assert!(text.starts_with(&day(at(seconds))));
        }
        assert!(minute(UnixMillis::new(i64::MAX).unwrap()).contains("1970"));
    }
}
