//! How long a hop is expected to take for a request.
//!
//! ```text
//! cost of a hop = way to it (link.rs) + payload over bandwidth + (overhead + queue) a step + its layers' compute
//! ```
//!
//! Time is counted in whole nanoseconds and every part is capped, so that no offer, however absurd, overflows a sum and a
//! plan has the same result on every machine.

use super::{Offer, PlanRequest};
use crate::limits::MAX_CHUNK_TOKENS;

/// Nanoseconds.
pub(super) type Cost = u64;

/// Most that one part of a cost counts: 13 days. A route has at most some 1,300 parts, so their sum stays below 2^62.
pub(super) const CAP: Cost = 1 << 50;

/// What a hop costs in every step besides the way and its layers: framing, wake-ups (62 us a round trip measured).
const HOP_OVERHEAD_NS: u64 = 100_000;

/// Bandwidth of a node that tells none: 100 Mbit/s, what most homes can send.
const UNKNOWN_BANDWIDTH_KIB_S: u32 = 12_207;

/// Slowdown of a node that is as quick as its advert says, in percent of the time.
pub(super) const AS_ADVERTISED: u32 = 100;

/// What crosses to every hop of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Load {
    /// Times that something crosses.
    pub(super) steps: u64,
    prompt: u64,
    decoded: u64,
    row_bytes: u64,
}

/// What an offer costs a request wherever it stands in the route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct HopCost {
    /// For being in the route at all.
    pub(super) hop: Cost,
    /// For each layer it runs.
    pub(super) layer: Cost,
    /// For the bytes that go in or out between two hops, its half of each.
    pub(super) payload: Cost,
    /// For the bytes of the results, when it is the last.
    pub(super) results: Cost,
}

impl Load {
    /// Every decoded token and every chunk of the prompt crosses once.
    pub(super) fn of(request: &PlanRequest) -> Self {
        let (prompt, decoded) = (u64::from(request.prompt_tokens), u64::from(request.max_tokens));
        let steps = decoded + prompt.div_ceil(MAX_CHUNK_TOKENS as u64);
        Self { steps, prompt, decoded, row_bytes: u64::from(request.hidden) * request.dtype.bytes() as u64 }
    }

    /// The cost of an offer, beside the ways to it and from it.
    pub(super) fn cost(&self, offer: &Offer) -> HopCost {
        let slow = |ns: u64| slowed(ns, offer.slowdown_percent);
        let (decode, prefill) = (coarse(offer.layer_time_ns.into()), coarse(offer.prefill_layer_time_ns.into()));
        let compute = self.decoded.saturating_mul(decode).saturating_add(self.prompt.saturating_mul(prefill));
        let wait = HOP_OVERHEAD_NS + coarse(offer.queue_ns.into());
        let bandwidth = match offer.bandwidth_kib_s {
            0 => UNKNOWN_BANDWIDTH_KIB_S,
            told => told,
        };
        let sent = |rows: u64| {
            let bytes = u128::from(rows) * u128::from(self.row_bytes);
            let ns = bytes.saturating_mul(1_000_000_000) / (u128::from(bandwidth) << 10);
            coarse(u64::try_from(ns).unwrap_or(CAP).min(CAP))
        };
        HopCost {
            hop: slow(self.steps.saturating_mul(wait)),
            layer: slow(compute),
            // A link is as fast as its slower end; the mean of both ends is a sum of two parts, which the search needs.
            payload: slow(sent(self.prompt + self.decoded) / 2),
            results: slow(sent(self.decoded)),
        }
    }
}

/// `ns` at a node whose steps take `percent` of what it advertises.
pub(super) fn slowed(ns: u64, percent: u32) -> Cost {
    (ns.min(CAP).saturating_mul(percent.max(AS_ADVERTISED).into()) / 100).min(CAP)
}

/// Keeps the four leading bits, rounding up. Measurements of equal machines differ by some percent from one minute to the
/// next; without this the luckiest would get all work and the seed would decide nothing.
pub(super) fn coarse(ns: u64) -> u64 {
    let drop = (64 - ns.min(CAP).leading_zeros()).saturating_sub(4);
    (ns.min(CAP) + (1 << drop) - 1) >> drop << drop
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn coarse_times_are_close_and_in_order() {
        let mut before = 0;
        for ns in (0..40u32).flat_map(|bits| [(1u64 << bits) - 1, 1 << bits, 3 << bits]) {
            let rounded = coarse(ns);
            assert!(rounded >= ns && rounded <= ns + ns / 8, "{ns} {rounded}");
        }
        for ns in 0..5000 {
            assert!(coarse(ns) >= before);
            before = coarse(ns);
        }
        assert_eq!(coarse(150_000), coarse(152_000));
    }

    #[test]
    fn no_offer_overflows() {
        assert_eq!(slowed(u64::MAX, u32::MAX), CAP);
        assert_eq!(coarse(u64::MAX), CAP);
        assert_eq!((slowed(1000, 0), slowed(1000, 250)), (1000, 2500));
    }
}
