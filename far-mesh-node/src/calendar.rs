//! Points in time as people read them, in UTC.

use far_ledger::UnixMillis;

const DAY_MS: i64 = 86_400_000;

const MINUTE_MS: i64 = 60_000;

/// The day, `2026-11-23`.
pub(crate) fn day(time: UnixMillis) -> String {
    let (year, month, day) = civil(time.get() / DAY_MS);
    format!("{year:04}-{month:02}-{day:02}")
}

/// The day and the minute, `2026-11-23 06:05`.
pub(crate) fn minute(time: UnixMillis) -> String {
    let minutes = time.get() % DAY_MS / MINUTE_MS;
    format!("{} {:02}:{:02}", day(time), minutes / 60, minutes % 60)
}

/// Year, month and day of a number of days since 1970-01-01, which is not negative.
///
/// Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms", `civil_from_days`: years begin in March, so that the
/// leap day is their last, and repeat every 400.
fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    (year + 400 * era + i64::from(month <= 2), month, day)
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
    }
}
