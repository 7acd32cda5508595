//! How threads wait: spinning while a step runs, asleep between steps.

use std::{
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering::*},
    },
    thread::{self, Thread},
    time::{Duration, Instant},
};

/// How long a thread spins for work: more than the gap between two operations of a step, less than the time slice a
/// neighbour would get.
const SPIN: Duration = Duration::from_micros(40);
/// Spins between two looks at the clock.
const SPINS: u32 = 32;

/// Where the workers sleep.
pub(super) struct Beds {
    /// Set while no step is running: who waits need not spin.
    resting: AtomicBool,
    /// How often sleepers were roused for a step to come.
    rouses: AtomicU64,
    beds: Box<[Bed]>,
}

/// A worker's bed.
#[derive(Default)]
struct Bed {
    asleep: AtomicBool,
    thread: Mutex<Option<Thread>>,
}

impl Beds {
    pub(super) fn new(workers: usize) -> Self {
        let beds = (0..workers).map(|_| Bed::default()).collect();
        Self { resting: AtomicBool::new(false), rouses: AtomicU64::new(0), beds }
    }

    /// The calling thread is the worker of this bed.
    pub(super) fn assign(&self, index: usize) {
        *lock(&self.beds[index].thread) = Some(thread::current());
    }

    /// Wakes all, who spin for work until [`Beds::rest`].
    pub(super) fn rouse(&self) {
        self.resting.store(false, SeqCst);
        self.rouses.fetch_add(1, SeqCst);
        self.wake();
    }

    /// Has all go to sleep at once when they have nothing to do.
    pub(super) fn rest(&self) {
        self.resting.store(true, SeqCst);
    }

    /// Wakes those that sleep.
    pub(super) fn wake(&self) {
        for bed in &self.beds {
            if bed.asleep.swap(false, SeqCst) {
                lock(&bed.thread).iter().for_each(Thread::unpark);
            }
        }
    }

    /// Waits until this worker is `called`, or for less: who was roused spins again.
    pub(super) fn wait(&self, index: usize, called: impl Fn() -> bool) {
        spin_until(|| called() || self.resting.load(Relaxed));
        if called() {
            return;
        }
        let bed = &self.beds[index];
        let roused = self.rouses.load(SeqCst);
        loop {
            // Said anew each time: a late wake for a job already done takes it back.
            bed.asleep.store(true, SeqCst);
            if called() || self.rouses.load(SeqCst) != roused {
                break;
            }
            thread::park();
        }
        bed.asleep.store(false, SeqCst);
    }

    /// Whether all sleep.
    #[cfg(test)]
    pub(super) fn all_asleep(&self) -> bool {
        self.beds.iter().all(|bed| bed.asleep.load(SeqCst))
    }
}

/// Has the system let this thread wait for a free core when it wakes, instead of interrupting whoever runs. While the
/// other cores are taken it would wake on its caller's: there it would stop the caller, spin for the next operation,
/// sleep, and be woken by the next operation to do it again.
pub(super) fn give_way() {
    #[cfg(target_os = "linux")]
    {
        // SAFETY: `sched_param` is integers only, for which zeros are a value; batch threads have priority 0.
        let priority: libc::sched_param = unsafe { std::mem::zeroed() };
        // SAFETY: the pointer is to a live `sched_param`; 0 names this thread. Where the system refuses, the thread
        // stays what it was, which costs time alone.
        unsafe { libc::sched_setscheduler(0, libc::SCHED_BATCH, &raw const priority) };
    }
}

/// Spins for a while; whether the condition came true.
pub(super) fn spin_until(condition: impl Fn() -> bool) -> bool {
    if condition() {
        return true;
    }
    let start = Instant::now();
    loop {
        for _ in 0..SPINS {
            if condition() {
                return true;
            }
            std::hint::spin_loop();
        }
        if start.elapsed() > SPIN {
            return condition();
        }
    }
}

/// Nothing panics while it holds one of our locks.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
