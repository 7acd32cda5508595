//! How long the way between two nodes is.
//!
//! The coordinator measures the way to each node itself. Between two nodes it has their word: the round trips in their
//! adverts. A word is believed as far as it does no harm:
//!
//! - A way that both ends measured counts as the longer of the two. One end alone, which may be making itself attractive,
//!   takes at most half off the estimate.
//! - No way is shorter than the difference of the ways to its ends, whatever is said (the triangle inequality).
//! - Without a word it is estimated as the mean of the ways to its ends, half of the longest that it could be. The estimate
//!   is a sum of a part of each end, so the search need not look at each pair.
//!
//! So two nodes that lie together gain no more than the middle between the coordinator's own measurements, and what they are
//! slower than that, their standing loses.

use std::time::Duration;

use super::{
    Offer,
    cost::{AS_ADVERTISED, CAP, Cost, coarse, slowed},
};

/// Distance of a node that was never measured: a continent. Less would prefer strangers to neighbours.
const UNKNOWN_RTT_NS: u64 = 40_000_000;

/// Ways are told apart in steps of this: below, a busy core makes the difference.
const GRAIN_NS: u64 = 250_000;

/// One end of a way, as the coordinator knows it.
#[derive(Clone, Copy, Debug)]
pub(super) struct End {
    rtt_ns: Option<u64>,
    slowdown_percent: u32,
}

/// A round trip between two nodes in microseconds, as each end says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Said {
    Nothing,
    ByOne(u32),
    ByBoth(u32, u32),
}

impl End {
    /// A node and its offer, where it makes one.
    pub(super) fn of(offer: Option<&Offer>) -> Self {
        let ns = |rtt: Duration| u64::try_from(rtt.as_nanos()).unwrap_or(CAP).min(CAP);
        Self {
            rtt_ns: offer.and_then(|offer| offer.rtt).map(ns),
            slowdown_percent: offer.map_or(AS_ADVERTISED, |offer| offer.slowdown_percent),
        }
    }

    fn rtt_ns(&self) -> u64 {
        self.rtt_ns.unwrap_or(UNKNOWN_RTT_NS)
    }

    /// Its part of the ways to or from another hop in `steps` steps, where nobody says anything.
    pub(super) fn share(&self, steps: u64) -> Cost {
        slowed(steps.saturating_mul(rounded(self.rtt_ns() / 4, GRAIN_NS / 2)), self.slowdown_percent)
    }

    /// The ways between it and the coordinator.
    pub(super) fn home(&self, steps: u64) -> Cost {
        slowed(steps.saturating_mul(rounded(self.rtt_ns() / 2, GRAIN_NS)), self.slowdown_percent)
    }

    /// The ways to or from another node; `None` where they are the sum of both shares.
    pub(super) fn way(&self, other: &Self, said: Said, steps: u64) -> Option<Cost> {
        let (here, there) = (self.rtt_ns(), other.rtt_ns());
        let ns = |us: u32| u64::from(us) * 1000;
        let believed = match said {
            Said::ByBoth(one, two) => ns(one.max(two)),
            Said::ByOne(one) => ns(one).max((here + there) / 4),
            Said::Nothing => return None,
        };
        let measured = self.rtt_ns.is_some() && other.rtt_ns.is_some();
        let least = if measured { here.abs_diff(there) } else { 0 };
        let way = rounded(believed.max(least) / 2, GRAIN_NS);
        Some(slowed(steps.saturating_mul(way), self.slowdown_percent.max(other.slowdown_percent)))
    }
}

fn rounded(ns: u64, grain: u64) -> u64 {
    coarse(ns.div_ceil(grain).max(1) * grain)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn end(rtt_ms: u64) -> End {
        End { rtt_ns: Some(rtt_ms * 1_000_000), slowdown_percent: 100 }
    }

    #[test]
    fn what_one_end_says_takes_at_most_half_off() {
        let (a, b) = (end(80), end(80));
        let estimate = a.share(1) + b.share(1);
        assert_eq!(estimate, 2 * coarse(20_000_000));
        assert_eq!(a.way(&b, Said::Nothing, 1), None);
        assert_eq!(a.way(&b, Said::ByOne(1), 1), Some(coarse(20_000_000)));
        assert_eq!(a.way(&b, Said::ByBoth(1, 2_000), 1), Some(coarse(1_000_000)));
        // A longer way is believed of one alone: who says it only harms itself.
        assert!(a.way(&b, Said::ByOne(300_000), 1).unwrap() > 2 * estimate);
    }

    #[test]
    fn no_way_is_shorter_than_the_difference_of_the_ways_to_its_ends() {
        assert_eq!(end(10).way(&end(90), Said::ByBoth(5, 5), 1), Some(coarse(40_000_000)));
        let stranger = End { rtt_ns: None, slowdown_percent: 100 };
        assert_eq!(end(10).way(&stranger, Said::ByBoth(5, 5), 1), Some(coarse(GRAIN_NS)));
    }

    #[test]
    fn small_differences_are_none_and_slow_nodes_are_farther() {
        let near = |us: u64| End { rtt_ns: Some(us * 1000), slowdown_percent: 100 };
        assert_eq!(near(80).home(5), near(400).home(5));
        assert_eq!(near(80).share(1) + near(90).share(1), near(80).way(&near(90), Said::ByBoth(60, 90), 1).unwrap());
        let slow = End { slowdown_percent: 300, ..end(10) };
        assert_eq!(slow.home(1), 3 * end(10).home(1));
    }
}
