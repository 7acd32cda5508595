//! What a session owns at the shard, seen by its handle and by the worker.

use std::{
    ops::Range,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;

use super::{outputs::Outputs, pages::Lease, prefix::PageKey};
use crate::activation::Activation;

/// Pages and account of a session. The handle keeps it alive, a queued step does not: dropping the handle frees the
/// pages at once, or after the forward that is running.
#[derive(Debug)]
pub(super) struct Seat {
    /// Tells sessions of a shard apart.
    pub(super) number: u64,
    /// Layers it runs, counted from the shard's first.
    pub(super) layers: Range<usize>,
    /// Positions of a page.
    pub(super) page_tokens: usize,
    /// Changes only between forwards.
    lease: Mutex<Lease>,
    outputs: Arc<Mutex<Outputs>>,
    ended: AtomicBool,
    tokens_done: AtomicU64,
    compute_ns: AtomicU64,
}

impl Seat {
    pub(super) fn new(
        number: u64,
        layers: Range<usize>,
        page_tokens: usize,
        lease: Lease,
        outputs: Arc<Mutex<Outputs>>,
    ) -> Self {
        let zero = AtomicU64::default;
        let (ended, tokens_done, compute_ns) = (false.into(), zero(), zero());
        Self { number, layers, page_tokens, lease: Mutex::new(lease), outputs, ended, tokens_done, compute_ns }
    }

    /// Its pages. Whoever has the device's turn may take them.
    pub(super) fn lease(&self) -> MutexGuard<'_, Lease> {
        self.lease.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What came out of a page, where it is known.
    pub(super) fn output_of(&self, key: &PageKey) -> Option<Activation> {
        self.outputs().get(key)
    }

    /// Keeps what came out of a page.
    pub(super) fn keep_output(&self, key: PageKey, rows: &Activation) {
        // A copy: what is counted is what is held.
        let bytes = Bytes::copy_from_slice(rows.bytes());
        if let Ok(own) = Activation::new(rows.tokens(), rows.hidden(), rows.dtype(), bytes) {
            self.outputs().keep(key, own);
        }
    }

    fn outputs(&self) -> MutexGuard<'_, Outputs> {
        self.outputs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Steps that still wait are dropped, which closes them.
    pub(super) fn end(&self) {
        self.ended.store(true, Ordering::Release);
    }

    pub(super) fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }

    /// Books positions that are done.
    pub(super) fn book(&self, tokens: usize, compute: Duration) {
        self.tokens_done.fetch_add(tokens as u64, Ordering::AcqRel);
        self.compute_ns.fetch_add(compute.as_nanos() as u64, Ordering::AcqRel);
    }

    /// Positions done and the device's time on them.
    pub(super) fn account(&self) -> (u64, Duration) {
        (self.tokens_done.load(Ordering::Acquire), Duration::from_nanos(self.compute_ns.load(Ordering::Acquire)))
    }
}
