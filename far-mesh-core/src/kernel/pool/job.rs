//! The operation that is being done: its tasks, who draws them, and when all are over.

use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicPtr, AtomicU64, AtomicUsize, Ordering::*},
    },
    thread::{self, Thread},
};

use super::sleep::{lock, spin_until};

/// Bits of [`Job::open`] that count tasks; the others count jobs, and do not wrap in centuries.
const TASK_BITS: u32 = 16;
/// Most tasks of one job; more are done several to a task.
pub(super) const MAX_TASKS: usize = (1 << TASK_BITS) - 1;

/// What the caller and the workers both see of an operation.
#[derive(Default)]
pub(super) struct Job {
    /// Number of the job and how many of its tasks nobody has begun.
    open: AtomicU64,
    /// Tasks of the job that are finished.
    done: AtomicUsize,
    /// The job. Invariant: changes only while no task is open, so who has drawn a task has read its own job.
    tasks: AtomicUsize,
    body: AtomicPtr<()>,
    call: AtomicPtr<()>,
    /// The calling thread when it has gone to sleep.
    waiting: AtomicBool,
    caller: Mutex<Option<Thread>>,
    panic: Mutex<Option<Box<dyn Any + Send>>>,
}

impl Job {
    /// Opens the tasks of the next job. The one before is over, and [`Job::join`] is called before `body` ends.
    pub(super) fn post<F: Fn(usize) + Sync>(&self, tasks: usize, body: &F) {
        self.done.store(0, Relaxed);
        self.tasks.store(tasks, Relaxed);
        self.body.store(std::ptr::from_ref(body).cast_mut().cast(), Relaxed);
        self.call.store(trampoline::<F> as fn(*mut (), usize) as *mut (), Relaxed);
        let job = (self.open.load(Relaxed) >> TASK_BITS) + 1;
        self.open.store(job << TASK_BITS | tasks as u64, SeqCst);
    }

    /// Number of the current job.
    pub(super) fn number(&self) -> u64 {
        self.open.load(SeqCst) >> TASK_BITS
    }

    /// Draws one task of the current job and does it; false when none is open.
    pub(super) fn step(&self) -> bool {
        let mut open = self.open.load(Acquire);
        loop {
            let left = (open & MAX_TASKS as u64) as usize;
            if left == 0 {
                return false;
            }
            let (body, call) = (self.body.load(Relaxed), self.call.load(Relaxed));
            let tasks = self.tasks.load(Relaxed);
            // The job number is part of what is compared, so success means that body, call and tasks are this job's.
            match self.open.compare_exchange_weak(open, open - 1, AcqRel, Acquire) {
                Ok(_) => {
                    // SAFETY: only `post` stores there, and always a function of this type.
                    let call: fn(*mut (), usize) = unsafe { std::mem::transmute(call) };
                    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| call(body, tasks - left))) {
                        lock(&self.panic).get_or_insert(panic);
                    }
                    if self.done.fetch_add(1, SeqCst) + 1 == tasks && self.waiting.load(SeqCst) {
                        lock(&self.caller).iter().for_each(Thread::unpark);
                    }
                    return true;
                }
                Err(now) => open = now,
            }
        }
    }

    /// Waits for the tasks that others have begun. The panic of one, if there was any.
    pub(super) fn join(&self, tasks: usize) -> Option<Box<dyn Any + Send>> {
        let done = || self.done.load(SeqCst) == tasks;
        if !spin_until(done) {
            *lock(&self.caller) = Some(thread::current());
            self.waiting.store(true, SeqCst);
            while !done() {
                thread::park();
            }
            self.waiting.store(false, SeqCst);
        }
        lock(&self.panic).take()
    }
}

fn trampoline<F: Fn(usize) + Sync>(body: *mut (), task: usize) {
    // SAFETY: `Job::post` stored a reference to an `F` here, and `Job::join` returns after the last task is over.
    let body = unsafe { &*body.cast_const().cast::<F>() };
    body(task);
}
