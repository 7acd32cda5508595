//! The device of a shard: one engine, used by one thread at a time.
//!
//! ```text
//! worker thread:     turn (waits)     -> with(forward of what is queued)
//! session or head:   try_turn (never) -> with(one short job)
//! ```
//!
//! Invariant: kernel threads sleep when no [`Ticket`] is out, and nobody but the holder of the turn rouses them or lays
//! them to rest: a thread that is done cannot slow down the next.

use std::{
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, TryLockError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use super::engine::Engine;
use crate::kernel::{Isa, Pool};

/// Longest job that is worth doing at once on the thread that asks. Handing a job to the worker and back costs two
/// wake-ups of some 35 us: of a longer job that is less than 2 %. And the thread that asks may serve connections too:
/// they wait no longer than this, far below the seconds after which a silent peer counts as lost.
const SHORT: Duration = Duration::from_millis(4);

/// What computes, and who wants it.
pub(super) struct Device {
    /// `None` when the shard has ended.
    machine: Mutex<Option<Machine>>,
    tickets: AtomicUsize,
    /// Of steps of one position.
    pub(super) step: Pace,
    /// Of the logits of one row.
    pub(super) logits: Pace,
    /// How long steps waited for their turn.
    pub(super) wait: Pace,
}

struct Machine {
    engine: Box<dyn Engine>,
    pool: Pool,
    isa: Isa,
}

/// Says that a job waits or runs. It goes before the job is answered, so who has an answer finds its own ticket gone.
#[derive(Debug)]
pub(super) struct Ticket {
    device: Arc<Device>,
    since: Instant,
}

/// The right to use the device now.
pub(super) struct Turn<'a> {
    device: &'a Device,
    machine: MutexGuard<'a, Option<Machine>>,
}

/// How long recent jobs of a kind took. Noted by who holds the turn, read by all.
#[derive(Debug)]
pub(super) struct Pace(AtomicU64);

impl Device {
    pub(super) fn new(engine: Box<dyn Engine>, pool: Pool, isa: Isa) -> Arc<Self> {
        let machine = Mutex::new(Some(Machine { engine, pool, isa }));
        let [step, logits, wait] = [Pace::unknown(), Pace::unknown(), Pace::unknown()];
        Arc::new(Self { machine, tickets: AtomicUsize::new(0), step, logits, wait })
    }

    /// Announces a job.
    pub(super) fn ticket(self: &Arc<Self>) -> Ticket {
        self.tickets.fetch_add(1, Ordering::AcqRel);
        Ticket { device: Arc::clone(self), since: Instant::now() }
    }

    fn tickets(&self) -> usize {
        self.tickets.load(Ordering::Acquire)
    }

    /// Waits until nobody else uses the device.
    pub(super) fn turn(&self) -> Turn<'_> {
        // Panics of an engine are caught before they reach the lock, and would leave the machine whole.
        let machine = self.machine.lock().unwrap_or_else(PoisonError::into_inner);
        Turn { device: self, machine }
    }

    /// The turn if nobody uses the device and the shard has not ended.
    pub(super) fn try_turn(&self) -> Option<Turn<'_>> {
        let machine = match self.machine.try_lock() {
            Ok(machine) => machine,
            Err(TryLockError::Poisoned(machine)) => machine.into_inner(),
            Err(TryLockError::WouldBlock) => return None,
        };
        machine.is_some().then_some(Turn { device: self, machine })
    }

    /// Frees weights and cache, after the job that is running.
    pub(super) fn end(&self) {
        let machine = self.turn().machine.take();
        drop(machine);
    }
}

impl Turn<'_> {
    /// Computes with the device's threads and instruction set; `None` when the shard has ended.
    pub(super) fn with<T>(mut self, compute: impl FnOnce(&mut dyn Engine) -> T) -> Option<T> {
        let Machine { engine, pool, isa } = self.machine.as_mut()?;
        let _threads = pool.install();
        pool.rouse();
        let result = isa.scope(|| compute(&mut **engine));
        if self.device.tickets() == 0 {
            pool.rest();
        }
        Some(result)
    }
}

impl Ticket {
    /// Whether no other job waits or runs.
    pub(super) fn is_only(&self) -> bool {
        self.device.tickets() == 1
    }

    /// How long the job has waited.
    pub(super) fn waited(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.since)
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.device.tickets.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Pace {
    fn unknown() -> Self {
        Self(AtomicU64::new(u64::MAX))
    }

    /// Takes a duration into the average, where the latest four weigh most.
    pub(super) fn note(&self, took: Duration) {
        let took = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX - 1);
        let average = match self.0.load(Ordering::Relaxed) {
            u64::MAX => took,
            before => before - before / 4 + took / 4,
        };
        self.0.store(average, Ordering::Relaxed);
    }

    /// The average of what was noted since the last call; `None` where nothing was.
    pub(super) fn take(&self) -> Option<Duration> {
        let average = self.0.swap(u64::MAX, Ordering::Relaxed);
        (average != u64::MAX).then(|| Duration::from_nanos(average))
    }

    /// Whether the next will be short, as far as those before it tell.
    pub(super) fn is_short(&self) -> bool {
        u128::from(self.0.load(Ordering::Relaxed)) <= SHORT.as_nanos()
    }
}

impl fmt::Debug for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Device")
            .field("tickets", &self.tickets())
            .field("step", &self.step)
            .field("logits", &self.logits)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_taken_is_gone() {
        let pace = Pace::unknown();
        pace.note(Duration::from_micros(8));
        assert_eq!((pace.take(), pace.take()), (Some(Duration::from_micros(8)), None));
    }

    #[test]
    fn a_pace_is_long_until_known_and_follows_what_it_hears() {
        let pace = Pace::unknown();
        assert!(!pace.is_short());
        pace.note(Duration::from_micros(600));
        assert!(pace.is_short());
        pace.note(Duration::MAX);
        assert!(!pace.is_short());
        let heard = (0..1000).position(|_| {
            pace.note(Duration::from_micros(600));
            pace.is_short()
        });
        assert!(heard.is_some_and(|heard| (8..200).contains(&heard)), "{heard:?}");
    }
}
