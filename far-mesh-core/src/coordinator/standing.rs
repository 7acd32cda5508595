//! What was seen of nodes beside what they say: how much slower their hops were than offered, and how often they were lost.
//!
//! Both fade with time, since what slowed a node down or broke it may be over, and nobody finds out who never asks again.
//! Pure: the caller brings the clock.

use std::{collections::HashMap, time::Duration};

use tokio::time::Instant;

use crate::id::NodeId;

/// After this a node's record weighs half.
const HALF_LIFE: Duration = Duration::from_secs(3 * 60);

/// What a loss adds to a node's slowdown: a repair takes about as long as some dozens of steps.
const LOSS: f64 = 0.5;

/// A node that is slower still is not told apart: it comes last.
const MOST: f64 = 100.0;

/// A record that changes costs by less than this share is forgotten: less than the costs are rounded by.
const LEAST: f64 = 0.05;

/// Most nodes with a record. Those that weigh least go first.
const MAX_NODES: usize = 1024;

/// Records of nodes that gave reason.
#[derive(Debug, Default)]
pub(super) struct Standing {
    records: HashMap<NodeId, Record>,
}

#[derive(Clone, Copy, Debug)]
struct Record {
    /// How many times longer than offered its steps take, less one.
    slower: f64,
    /// Losses, faded.
    losses: f64,
    at: Instant,
}

impl Standing {
    /// A hop took `factor` times what its advert promises. A worse one counts at once, a better one by half: so a node
    /// that is as quick as it says again is soon back.
    pub(super) fn slow(&mut self, node: NodeId, factor: f64, now: Instant) {
        if !factor.is_finite() {
            return;
        }
        let slower = factor.clamp(1.0, MOST) - 1.0;
        self.change(node, now, |record| {
            record.slower = if slower > record.slower { slower } else { (record.slower + slower) / 2.0 };
        });
    }

    /// The node was lost while it ran a session, or did not answer.
    pub(super) fn lost(&mut self, node: NodeId, now: Instant) {
        self.change(node, now, |record| record.losses = (record.losses + 1.0).min(MOST));
    }

    /// What the node's steps take in percent of what it offers, 100 or more.
    pub(super) fn slowdown_percent(&self, node: &NodeId, now: Instant) -> u32 {
        let weight = self.records.get(node).map_or(0.0, |record| record.faded(now).weight());
        ((1.0 + weight).min(MOST) * 100.0).round() as u32
    }

    fn change(&mut self, node: NodeId, now: Instant, change: impl FnOnce(&mut Record)) {
        let known = self.records.get(&node).map(|record| record.faded(now));
        let mut record = known.unwrap_or(Record { slower: 0.0, losses: 0.0, at: now });
        change(&mut record);
        self.records.insert(node, record);
        self.records.retain(|_, record| record.faded(now).weight() >= LEAST);
        if self.records.len() > MAX_NODES {
            let weight = |record: &Record| record.faded(now).weight();
            let least = self.records.iter().min_by(|one, two| weight(one.1).total_cmp(&weight(two.1)));
            if let Some(least) = least.map(|(node, _)| *node) {
                self.records.remove(&least);
            }
        }
    }
}

impl Record {
    fn faded(self, now: Instant) -> Self {
        let lives = now.saturating_duration_since(self.at).as_secs_f64() / HALF_LIFE.as_secs_f64();
        let left = 0.5f64.powf(lives);
        Self { slower: self.slower * left, losses: self.losses * left, at: now }
    }

    /// What it adds to the node's times, as a share of them.
    fn weight(self) -> f64 {
        (1.0 + self.slower) * (1.0 + LOSS * self.losses) - 1.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn later(now: Instant, seconds: u64) -> Instant {
        now + Duration::from_secs(seconds)
    }

    #[test]
    fn a_slow_node_loses_its_standing_at_once_and_regains_it_with_time() {
        let (mut standing, node, now) = (Standing::default(), NodeId::random(), Instant::now());
        assert_eq!(standing.slowdown_percent(&node, now), 100);
        standing.slow(node, 9.0, now);
        let at = |seconds| standing.slowdown_percent(&node, later(now, seconds));
        assert_eq!((at(0), at(180), at(360)), (900, 500, 300));
        assert_eq!(at(24 * 3600), 100);
        assert_eq!(standing.slowdown_percent(&NodeId::random(), now), 100);
    }

    #[test]
    fn worse_counts_at_once_and_better_by_half() {
        let (mut standing, node, now) = (Standing::default(), NodeId::random(), Instant::now());
        standing.slow(node, 3.0, now);
        standing.slow(node, 5.0, now);
        assert_eq!(standing.slowdown_percent(&node, now), 500);
        standing.slow(node, 1.0, now);
        assert_eq!(standing.slowdown_percent(&node, now), 300);
        for _ in 0..10 {
            standing.slow(node, 0.2, now);
        }
        assert_eq!(standing.slowdown_percent(&node, now), 100);
        assert!(standing.records.is_empty(), "what says nothing is forgotten");
    }

    #[test]
    fn losses_add_up_and_fade() {
        let (mut standing, node, now) = (Standing::default(), NodeId::random(), Instant::now());
        standing.lost(node, now);
        assert_eq!(standing.slowdown_percent(&node, now), 150);
        standing.lost(node, now);
        standing.slow(node, 2.0, now);
        assert_eq!(standing.slowdown_percent(&node, now), 400);
        assert_eq!(standing.slowdown_percent(&node, later(now, 3600)), 100);
    }

    #[test]
    fn nonsense_and_crowds_do_no_harm() {
        let (mut standing, node, now) = (Standing::default(), NodeId::random(), Instant::now());
        for factor in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -3.0] {
            standing.slow(node, factor, now);
        }
        assert_eq!(standing.slowdown_percent(&node, now), 100);
        standing.slow(node, 1e300, now);
        (0..1000).for_each(|_| standing.lost(node, now));
        assert_eq!(standing.slowdown_percent(&node, now), 10_000);
        for _ in 0..2 * MAX_NODES {
            standing.lost(NodeId::random(), now);
        }
        assert_eq!(standing.records.len(), MAX_NODES);
        assert!(standing.records.contains_key(&node), "who weighs most stays");
    }
}
