//! What a session owns at the shard, seen by its handle and by the worker.

use std::{
    ops::Range,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::Duration,
};

use super::pages::Lease;

/// Pages and account of a session. The handle keeps it alive, a queued step does not: dropping the handle frees the
/// pages at once, or after the forward that is running.
#[derive(Debug)]
pub(super) struct Seat {
    /// Tells sessions of a shard apart.
    pub(super) number: u64,
    /// Layers it runs, counted from the shard's first.
    pub(super) layers: Range<usize>,
    pub(super) lease: Lease,
    ended: AtomicBool,
    tokens_done: AtomicU64,
    compute_ns: AtomicU64,
}

impl Seat {
    pub(super) fn new(number: u64, layers: Range<usize>, lease: Lease) -> Self {
        let zero = AtomicU64::default;
        Self { number, layers, lease, ended: false.into(), tokens_done: zero(), compute_ns: zero() }
    }

    /// Steps that still wait are dropped, which closes them.
    pub(super) fn end(&self) {
        self.ended.store(true, Ordering::Release);
    }

    pub(super) fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }

    /// Books a finished step.
    pub(super) fn book(&self, tokens: usize, compute: Duration) {
        self.tokens_done.fetch_add(tokens as u64, Ordering::AcqRel);
        self.compute_ns.fetch_add(compute.as_nanos() as u64, Ordering::AcqRel);
    }

    /// Positions done and the device's time on them.
    pub(super) fn account(&self) -> (u64, Duration) {
        (self.tokens_done.load(Ordering::Acquire), Duration::from_nanos(self.compute_ns.load(Ordering::Acquire)))
    }
}
