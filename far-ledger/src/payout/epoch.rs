//! Weeks.

use std::num::NonZeroU32;

use crate::time::UnixMillis;

const WEEK_MILLIS: i64 = 7 * 24 * 3600 * 1000;

/// 1970 began on a Thursday; the first Monday was the 5th.
const FIRST_MONDAY_MILLIS: i64 = 4 * 24 * 3600 * 1000;

/// A week from Monday 00:00 UTC to the next, counted from 5 January 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch(u32);

impl Epoch {
    /// The week with this number.
    pub const fn new(number: u32) -> Self {
        Self(number)
    }

    /// Its number.
    pub const fn number(self) -> u32 {
        self.0
    }

    /// The newest week that is over at `now`; `None` in the first days of 1970.
    ///
    /// A payer that was away for several weeks closes this one alone: what was earned before it and is not paid is paid with
    /// it, once.
    pub fn due(now: UnixMillis) -> Option<Self> {
        let weeks = now.get().checked_sub(FIRST_MONDAY_MILLIS)?.checked_div_euclid(WEEK_MILLIS)?;
        u32::try_from(weeks.checked_sub(1)?).ok().map(Self)
    }

    /// The newest week that is over at `now` and ends a run of `weeks` weeks; runs are counted from the first week of all, so
    /// every payer cuts them alike.
    pub fn due_every(weeks: NonZeroU32, now: UnixMillis) -> Option<Self> {
        let over = Self::due(now)?.0.checked_add(1)?;
        over.checked_sub(over.checked_rem(weeks.get())?)?.checked_sub(1).map(Self)
    }

    /// The moment at which it is over: what completed before it is paid.
    pub fn end(self) -> UnixMillis {
        let weeks = i64::from(self.0).saturating_add(1).saturating_mul(WEEK_MILLIS);
        UnixMillis::new(weeks.saturating_add(FIRST_MONDAY_MILLIS)).unwrap_or_default()
    }
}

impl std::fmt::Display for Epoch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: i64) -> UnixMillis {
        UnixMillis::new(millis).unwrap()
    }

    #[test]
    fn a_week_is_due_from_monday_on() {
        // Monday, 23 November 2026, 00:00 UTC.
        let monday = 1_795_392_000_000;
        let epoch = Epoch::due(at(monday)).unwrap();
        assert_eq!(epoch.end(), at(monday));
        assert_eq!(Epoch::due(at(monday - 1)), Some(Epoch::new(epoch.number() - 1)));
        assert_eq!(Epoch::due(at(monday + WEEK_MILLIS - 1)), Some(epoch));
    }

    #[test]
    fn every_few_weeks_is_the_end_of_one_of_them() {
        let every = |weeks, now| Epoch::due_every(NonZeroU32::new(weeks).unwrap(), now).map(Epoch::number);
        let week = |number: i64| at(FIRST_MONDAY_MILLIS + number * WEEK_MILLIS);
        assert_eq!((every(1, week(7)), Epoch::due(week(7)).map(Epoch::number)), (Some(6), Some(6)));
        for (weeks, now, epoch) in [(2, 7, 5), (2, 8, 7), (2, 9, 7), (4, 7, 3), (4, 8, 7), (7, 7, 6)] {
            assert_eq!(every(weeks, week(now)), Some(epoch), "{weeks} weeks, {now} are over");
        }
        assert_eq!((every(8, week(7)), every(u32::MAX, week(7))), (None, None));
    }

    #[test]
    fn before_the_first_week_is_over_none_is_due() {
        assert_eq!(Epoch::due(at(0)), None);
        assert_eq!(Epoch::due(at(FIRST_MONDAY_MILLIS + WEEK_MILLIS - 1)), None);
        assert_eq!(Epoch::due(at(FIRST_MONDAY_MILLIS + WEEK_MILLIS)), Some(Epoch::new(0)));
        assert!(Epoch::due(at(i64::MAX)).is_none_or(|epoch| epoch.end() <= at(i64::MAX)));
    }
}
