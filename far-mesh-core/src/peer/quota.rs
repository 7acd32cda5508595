//! How fast a peer may ask for what costs us. Pure: whoever asks brings the time.

use std::{
    collections::HashMap,
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use crate::id::NodeId;

/// Announcements a peer may send at once: 16 models, each under its own key and the catalogue's, twice.
const ANNOUNCE_BURST: u64 = 64;

/// Announcements a second after that: a peer with 16 models needs less than one.
const ANNOUNCE_RATE: u64 = 2;

/// A rate with room for a burst and some patience: who goes over it is slowed first, then dropped.
///
/// The bucket of tokens in its form without a counter (GCRA, as in ITU-T I.371): the time at which all that was taken would
/// have been earned. Amounts are what the user counts: frames, bytes, streams.
///
/// ```
/// use std::time::{Duration, Instant};
/// use far_mesh_core::peer::{Pace, Verdict};
///
/// // 100 frames a second, 50 at once; who is more than a second ahead is dropped.
/// let (mut pace, now) = (Pace::new(100, 50, Duration::from_secs(1)), Instant::now());
/// assert_eq!(pace.take(50, now), Verdict::Now);
/// assert_eq!(pace.take(10, now), Verdict::After(Duration::from_millis(100)));
/// assert_eq!(pace.take(200, now), Verdict::TooFast);
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    per_second: u64,
    burst: Duration,
    patience: Duration,
    earned_at: Option<Instant>,
}

/// What a [`Pace`] says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Go on.
    Now,
    /// It is granted, but is to be done after this much time: do not read from the peer until then.
    After(Duration),
    /// It is not granted: drop the peer.
    TooFast,
}

impl Pace {
    /// `per_second` in the long run (at least 1), `burst` at once, and at most `patience` ahead of that.
    pub fn new(per_second: u64, burst: u64, patience: Duration) -> Self {
        let per_second = per_second.max(1);
        Self { per_second, burst: time_of(burst, per_second), patience, earned_at: None }
    }

    /// Asks for `amount` at `now`. What is not granted changes nothing.
    pub fn take(&mut self, amount: u64, now: Instant) -> Verdict {
        let from = self.earned_at.map_or(now, |earned_at| earned_at.max(now));
        let Some(earned_at) = from.checked_add(time_of(amount, self.per_second)) else { return Verdict::TooFast };
        let ahead = earned_at.saturating_duration_since(now).saturating_sub(self.burst);
        if ahead > self.patience {
            return Verdict::TooFast;
        }
        self.earned_at = Some(earned_at);
        if ahead.is_zero() { Verdict::Now } else { Verdict::After(ahead) }
    }

    /// Whether all that was taken has been earned: forgetting it then forgives nothing.
    pub fn is_rested(&self, now: Instant) -> bool {
        self.earned_at.is_none_or(|earned_at| earned_at <= now)
    }
}

/// A [`Pace`] that many tasks take from at once, without a lock. It grants all and says how long to wait: whoever is read
/// later cannot get far ahead.
#[derive(Debug)]
pub(super) struct SharedPace {
    per_second: u64,
    burst: Duration,
    started: Instant,
    /// When all that was taken will have been earned, in nanoseconds after `started`.
    earned_at: AtomicU64,
}

impl SharedPace {
    /// `per_second` in the long run (at least 1), `burst` at once.
    pub(super) fn new(per_second: u64, burst: u64, now: Instant) -> Self {
        let per_second = per_second.max(1);
        Self { per_second, burst: time_of(burst, per_second), started: now, earned_at: AtomicU64::new(0) }
    }

    /// Takes `amount` at `now`; how long to wait until it is earned but for the burst.
    pub(super) fn take(&self, amount: u64, now: Instant) -> Duration {
        let (at, cost) = (self.nanos(now), self.cost(amount));
        let earn = |earned_at: u64| earned_at.max(at).saturating_add(cost);
        // Relaxed: the number stands for itself. The closure never declines.
        let before =
            self.earned_at.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |earned_at| Some(earn(earned_at)));
        let earned_at = before.map_or_else(|same| same, earn);
        Duration::from_nanos(earned_at - at).saturating_sub(self.burst)
    }

    /// Whether all that was taken has been earned.
    pub(super) fn is_rested(&self, now: Instant) -> bool {
        self.earned_at.load(Ordering::Relaxed) <= self.nanos(now)
    }

    fn cost(&self, amount: u64) -> u64 {
        u64::try_from(time_of(amount, self.per_second).as_nanos()).unwrap_or(u64::MAX)
    }

    fn nanos(&self, now: Instant) -> u64 {
        u64::try_from(now.saturating_duration_since(self.started).as_nanos()).unwrap_or(u64::MAX)
    }
}

fn time_of(amount: u64, per_second: u64) -> Duration {
    let nanos = u128::from(amount) * 1_000_000_000 / u128::from(per_second);
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

/// Announcements left to each peer that sent some.
#[derive(Debug, Default)]
pub(super) struct Quota {
    peers: HashMap<NodeId, Pace>,
}

impl Quota {
    /// Whether the peer may announce once more at `now`.
    pub(super) fn take(&mut self, peer: NodeId, now: Instant) -> bool {
        let pace = || Pace::new(ANNOUNCE_RATE, ANNOUNCE_BURST, Duration::ZERO);
        self.peers.entry(peer).or_insert_with(pace).take(1, now) == Verdict::Now
    }

    /// Forgets who is in nobody's debt. A peer that reconnects earlier finds what it had.
    pub(super) fn sweep(&mut self, now: Instant) {
        self.peers.retain(|_, pace| !pace.is_rested(now));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_flood_is_cut_and_patience_is_rewarded() {
        let (mut quota, start) = (Quota::default(), Instant::now());
        let (loud, calm) = (NodeId::random(), NodeId::random());
        assert_eq!((0..1000).filter(|_| quota.take(loud, start)).count() as u64, ANNOUNCE_BURST);
        assert!(quota.take(calm, start));
        let later = start + Duration::from_millis(1500);
        assert_eq!((0..10).filter(|_| quota.take(loud, later)).count() as u64, 3);
        quota.sweep(start + Duration::from_secs(60));
        assert!(quota.peers.is_empty());
    }

    #[test]
    fn who_is_too_fast_is_slowed_then_dropped_then_forgiven() {
        let (mut pace, start) = (Pace::new(10, 5, Duration::from_secs(1)), Instant::now());
        assert_eq!(pace.take(5, start), Verdict::Now);
        assert_eq!(pace.take(5, start), Verdict::After(Duration::from_millis(500)));
        assert_eq!(pace.take(5, start), Verdict::After(Duration::from_secs(1)));
        assert_eq!(pace.take(1, start), Verdict::TooFast);
        assert!(!pace.is_rested(start + Duration::from_millis(1499)));
        let later = start + Duration::from_millis(1500);
        assert!(pace.is_rested(later));
        assert_eq!(pace.take(5, later), Verdict::Now);
        assert_eq!(pace.take(u64::MAX, later), Verdict::TooFast);
    }

    proptest! {
        #[test]
        fn nobody_gets_more_than_the_rate_and_the_burst(
            asks in proptest::collection::vec((0u64..200, 0u64..300), 1..200),
            rate in 1u64..1000, burst in 0u64..1000, patience in 0u64..2000,
        ) {
            let patience = Duration::from_millis(patience);
            let (mut pace, start) = (Pace::new(rate, burst, patience), Instant::now());
            let (mut now, mut granted) = (start, 0u64);
            for (amount, wait) in asks {
                now += Duration::from_millis(wait);
                let verdict = pace.take(amount, now);
                if verdict == Verdict::TooFast {
                    continue;
                }
                granted += amount;
                let delay = if let Verdict::After(delay) = verdict { delay } else { Duration::ZERO };
                prop_assert!(delay <= patience);
                let done = (now + delay - start).as_secs_f64();
                prop_assert!(granted as f64 <= done * rate as f64 + burst as f64 + 1.0, "{granted} in {done} s");
            }
        }
    }
}
