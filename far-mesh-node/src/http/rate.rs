//! Tokens a second, over the last whole seconds.

use std::{sync::Mutex, time::Instant};

/// Seconds looked back: long enough for a steady number, short enough to see a load end.
const SECONDS: u64 = 10;

/// Counts events in buckets of a second.
#[derive(Debug)]
pub(super) struct Rate {
    begin: Instant,
    buckets: Mutex<[Bucket; SECONDS as usize + 1]>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Bucket {
    second: u64,
    count: u64,
}

impl Rate {
    pub(super) fn new() -> Self {
        Self { begin: Instant::now(), buckets: Mutex::default() }
    }

    /// Counts one event now.
    pub(super) fn count(&self) {
        self.count_at(self.begin.elapsed().as_secs());
    }

    /// Events a second.
    pub(super) fn per_second(&self) -> f64 {
        self.per_second_at(self.begin.elapsed().as_secs())
    }

    fn count_at(&self, second: u64) {
        let mut buckets = self.lock();
        let bucket = &mut buckets[(second % (SECONDS + 1)) as usize];
        if bucket.second != second {
            *bucket = Bucket { second, count: 0 };
        }
        bucket.count += 1;
    }

    /// The current second is not over and does not count, except where there is no other.
    fn per_second_at(&self, now: u64) -> f64 {
        let whole = now.min(SECONDS);
        let counted = |bucket: &&Bucket| match whole {
            0 => bucket.second == now,
            _ => bucket.second < now && bucket.second + SECONDS >= now,
        };
        let count: u64 = self.lock().iter().filter(counted).map(|bucket| bucket.count).sum();
        count as f64 / whole.max(1) as f64
    }

    /// A panic elsewhere leaves at worst a count that is off by one.
    fn lock(&self) -> std::sync::MutexGuard<'_, [Bucket; SECONDS as usize + 1]> {
        self.buckets.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_last_ten_whole_seconds_count() {
        let rate = Rate::new();
        for second in 0..30 {
            (0..7).for_each(|_| rate.count_at(second));
        }
        assert_eq!(rate.per_second_at(30), 7.0);
        assert_eq!(rate.per_second_at(35), 3.5);
        assert_eq!(rate.per_second_at(41), 0.0);
    }

    #[test]
    fn the_first_seconds_are_not_thinned_by_those_that_never_were() {
        let rate = Rate::new();
        (0..6).for_each(|_| rate.count_at(0));
        assert_eq!(rate.per_second_at(0), 6.0);
        assert_eq!(rate.per_second_at(1), 6.0);
        assert_eq!(rate.per_second_at(2), 3.0);
    }
}
