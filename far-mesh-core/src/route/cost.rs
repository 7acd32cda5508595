//! How long a hop is expected to take for a request.
//!
//! Time is counted in whole nanoseconds in 128 bits: no offer, however absurd, overflows it, and a plan has the same
//! result on every machine.

use std::time::Duration;

use super::{Offer, PlanRequest};
use crate::limits::MAX_CHUNK_TOKENS;

/// Nanoseconds.
pub(super) type Cost = u128;

/// Distance of a node that was never measured: a continent. Less would prefer strangers to neighbours.
const UNKNOWN_RTT: Duration = Duration::from_millis(40);

/// What a hop costs in every step besides the way and its layers: framing, wake-ups (62 us a round trip measured).
const HOP_OVERHEAD_NS: Cost = 100_000;

/// What an offer costs a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct HopCost {
    /// For being in the route at all.
    pub(super) hop: Cost,
    /// For each layer it runs.
    pub(super) layer: Cost,
}

/// The cost of an offer: every decoded token and every chunk of the prompt crosses to it once and runs its layers.
pub(super) fn of(offer: &Offer, request: &PlanRequest) -> HopCost {
    let (prompt, decoded) = (Cost::from(request.prompt_tokens), Cost::from(request.max_tokens));
    let steps = decoded + prompt.div_ceil(MAX_CHUNK_TOKENS as Cost);
    let one_way = coarse(offer.rtt.unwrap_or(UNKNOWN_RTT).as_nanos() / 2);
    let (decode, prefill) = (coarse(offer.layer_time_ns.into()), coarse(offer.prefill_layer_time_ns.into()));
    HopCost { hop: steps * (one_way + HOP_OVERHEAD_NS), layer: decoded * decode + prompt * prefill }
}

/// Keeps the four leading bits, rounding up. Measurements of equal machines differ by some percent from one minute to the
/// next; without this the luckiest would get all work and the seed would decide nothing.
fn coarse(ns: u128) -> Cost {
    let drop = (128 - ns.leading_zeros()).saturating_sub(4);
    ns.div_ceil(1 << drop) << drop
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn coarse_times_are_close_and_in_order() {
        let mut before = 0;
        for ns in (0..40u32).flat_map(|bits| [(1u128 << bits) - 1, 1 << bits, 3 << bits]) {
            let rounded = coarse(ns);
            assert!(rounded >= ns && rounded <= ns + ns / 8, "{ns} {rounded}");
        }
        for ns in 0..5000 {
            assert!(coarse(ns) >= before);
            before = coarse(ns);
        }
        assert_eq!(coarse(150_000), coarse(152_000));
    }
}
