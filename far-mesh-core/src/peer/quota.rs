//! How often a peer may ask for work that costs us: a bucket of tokens each, refilled with time.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use crate::id::NodeId;

/// Announcements a peer may send at once: 16 models, each under its own key and the catalogue's, twice.
const BURST: u32 = 64;

/// Time that gives back one announcement: a peer with 16 models needs less than one a second.
const REFILL: Duration = Duration::from_millis(500);

/// Announcements left to each peer that sent some.
#[derive(Debug, Default)]
pub(super) struct Quota {
    peers: HashMap<NodeId, Bucket>,
}

#[derive(Debug)]
struct Bucket {
    left: u32,
    since: Instant,
}

impl Quota {
    /// Whether the peer may do it once more at `now`.
    pub(super) fn take(&mut self, peer: NodeId, now: Instant) -> bool {
        let bucket = self.peers.entry(peer).or_insert(Bucket { left: BURST, since: now });
        let elapsed = now.saturating_duration_since(bucket.since);
        let earned = u32::try_from(elapsed.as_millis() / REFILL.as_millis()).unwrap_or(BURST);
        if earned > 0 {
            bucket.left = bucket.left.saturating_add(earned).min(BURST);
            bucket.since = now;
        }
        let granted = bucket.left > 0;
        bucket.left = bucket.left.saturating_sub(1);
        granted
    }

    /// Forgets buckets that are full again. A peer that reconnects finds its old one.
    pub(super) fn sweep(&mut self, now: Instant) {
        self.peers.retain(|_, bucket| now.saturating_duration_since(bucket.since) < REFILL * BURST);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_cut_and_patience_is_rewarded() {
        let (mut quota, start) = (Quota::default(), Instant::now());
        let (loud, calm) = (NodeId::random(), NodeId::random());
        assert_eq!((0..1000).filter(|_| quota.take(loud, start)).count(), BURST as usize);
        assert!(quota.take(calm, start));
        assert_eq!((0..10).filter(|_| quota.take(loud, start + REFILL * 3)).count(), 3);
        quota.sweep(start + REFILL * BURST * 2);
        assert!(quota.peers.is_empty());
    }
}
