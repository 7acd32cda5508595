//! Threads that share the work of one operation and join before it returns.
//!
//! A model step is a few hundred operations of some microseconds each, so the threads wait for the next one spinning,
//! but only briefly: beside a busy neighbour a spinning thread takes the time of the one it waits for. The calling
//! thread works too, and takes what the others have not begun: a thread that the system has not woken delays nothing.
//! For the same reason a thread that wakes never takes the core from the one that called it.
//!
//! Invariant: how work is split and who does it never shows in a result.

use std::{
    any::Any,
    cell::{Cell, RefCell},
    fmt,
    marker::PhantomData,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicPtr, AtomicU64, AtomicUsize, Ordering::*},
    },
    thread::{self, JoinHandle, Thread},
    time::{Duration, Instant},
};

/// How long a thread spins for work: more than the gap between two operations of a step, less than the time slice a
/// neighbour would get.
const SPIN: Duration = Duration::from_micros(40);
/// Spins between two looks at the clock.
const SPINS: u32 = 32;
/// Bits of [`Shared::open`] that count tasks; the others count jobs, and do not wrap in centuries.
const TASK_BITS: u32 = 16;
/// Most tasks of one job; more are done several to a task.
const MAX_TASKS: usize = (1 << TASK_BITS) - 1;

/// Threads that kernels run on. Dropping the last clone joins them.
#[derive(Clone)]
pub struct Pool {
    owner: Arc<Owner>,
}

struct Owner {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
}

/// What the caller and the workers both see.
struct Shared {
    /// Number of the job and how many of its tasks nobody has begun.
    open: AtomicU64,
    /// Tasks of the job that are finished.
    done: AtomicUsize,
    /// The job. Invariant: changes only while no task is open, so who has drawn a task has read its own job.
    tasks: AtomicUsize,
    body: AtomicPtr<()>,
    call: AtomicPtr<()>,
    /// Set while a thread is inside [`Pool::run`].
    busy: AtomicBool,
    stop: AtomicBool,
    /// Set while no step is running: who waits need not spin.
    resting: AtomicBool,
    /// How often sleepers were roused for a step to come.
    rouses: AtomicU64,
    sleepers: Box<[Sleeper]>,
    /// The calling thread when it has gone to sleep.
    waiting: AtomicBool,
    caller: Mutex<Option<Thread>>,
    panic: Mutex<Option<Box<dyn Any + Send>>>,
}

/// A worker's bed.
#[derive(Default)]
struct Sleeper {
    asleep: AtomicBool,
    thread: Mutex<Option<Thread>>,
}

thread_local! {
    static INSTALLED: RefCell<Option<Pool>> = const { RefCell::new(None) };
    static INSIDE: Cell<bool> = const { Cell::new(false) };
}

/// Keeps a pool installed on this thread; what was installed before comes back when it is dropped.
#[must_use = "the pool is uninstalled when this is dropped"]
#[derive(Debug)]
pub struct Installed {
    previous: Option<Pool>,
    /// Belongs to this thread.
    _not_send: PhantomData<*const ()>,
}

impl Pool {
    /// A pool of `threads`, the calling one included: starts one fewer, and at least none. Where the system gives
    /// fewer threads, the pool has fewer.
    pub fn new(threads: usize) -> Self {
        let wanted = threads.saturating_sub(1);
        let shared = Arc::new(Shared {
            open: AtomicU64::new(0),
            done: AtomicUsize::new(0),
            tasks: AtomicUsize::new(0),
            body: AtomicPtr::default(),
            call: AtomicPtr::default(),
            busy: AtomicBool::new(false),
            stop: AtomicBool::new(false),
            resting: AtomicBool::new(false),
            rouses: AtomicU64::new(0),
            sleepers: (0..wanted).map(|_| Sleeper::default()).collect(),
            waiting: AtomicBool::new(false),
            caller: Mutex::new(None),
            panic: Mutex::new(None),
        });
        let workers = (0..wanted)
            .map_while(|i| {
                let shared = Arc::clone(&shared);
                thread::Builder::new().name(format!("kernel-{}", i + 1)).spawn(move || shared.work(i)).ok()
            })
            .collect();
        Self { owner: Arc::new(Owner { shared, workers }) }
    }

    /// Threads that work, the calling one included.
    pub fn threads(&self) -> usize {
        self.owner.workers.len() + 1
    }

    /// Has the kernels called on this thread use the pool for as long as the guard lives.
    pub fn install(&self) -> Installed {
        let previous = INSTALLED.replace(Some(self.clone()));
        Installed { previous, _not_send: PhantomData }
    }

    /// The pool installed on this thread.
    pub fn installed() -> Option<Self> {
        INSTALLED.with_borrow(Clone::clone)
    }

    /// A step is coming: the threads wake while it is being prepared. Until [`Pool::rest`] they spin for its operations.
    pub fn rouse(&self) {
        let shared = &*self.owner.shared;
        shared.resting.store(false, SeqCst);
        shared.rouses.fetch_add(1, SeqCst);
        shared.wake();
    }

    /// The step is over: the threads sleep at once, for the machine may have other work.
    pub fn rest(&self) {
        self.owner.shared.resting.store(true, SeqCst);
    }

    /// Calls `body` once with each number below `tasks`, on any thread and in any order, and returns when all are done.
    ///
    /// Runs on the calling thread alone inside another `run`, and while another thread uses the pool.
    ///
    /// # Panics
    /// With the panic of a task, after all tasks are over.
    pub fn run<F: Fn(usize) + Sync>(&self, tasks: usize, body: F) {
        let shared = &*self.owner.shared;
        if tasks < 2 || self.owner.workers.is_empty() || INSIDE.get() || shared.busy.swap(true, Acquire) {
            (0..tasks).for_each(body);
        } else if tasks <= MAX_TASKS {
            shared.run(tasks, &body);
        } else {
            let share = tasks.div_ceil(MAX_TASKS);
            let several = |i: usize| (i * share..tasks.min((i + 1) * share)).for_each(&body);
            shared.run(tasks.div_ceil(share), &several);
        }
    }
}

/// [`Pool::run`] on the pool installed on this thread; on this thread alone if there is none.
pub(super) fn run<F: Fn(usize) + Sync>(tasks: usize, body: F) {
    if tasks < 2 {
        return (0..tasks).for_each(body);
    }
    match Pool::installed() {
        Some(pool) => pool.run(tasks, body),
        None => (0..tasks).for_each(body),
    }
}

/// [`run`], or this thread alone where the work is so little that handing it out costs more than it saves.
pub(super) fn run_if<F: Fn(usize) + Sync>(worth: bool, tasks: usize, body: F) {
    if worth { run(tasks, body) } else { (0..tasks).for_each(body) }
}

/// Threads that [`run`] would use.
pub(super) fn threads() -> usize {
    INSTALLED.with_borrow(|pool| pool.as_ref().map_or(1, Pool::threads))
}

impl Drop for Installed {
    fn drop(&mut self) {
        INSTALLED.set(self.previous.take());
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").field("threads", &self.threads()).finish()
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.shared.stop.store(true, SeqCst);
        self.shared.wake();
        for worker in self.workers.drain(..) {
            // A worker catches the panics of its tasks, so it has none of its own to report.
            let _ = worker.join();
        }
    }
}

impl Shared {
    fn run<F: Fn(usize) + Sync>(&self, tasks: usize, body: &F) {
        self.done.store(0, Relaxed);
        self.tasks.store(tasks, Relaxed);
        self.body.store(std::ptr::from_ref(body).cast_mut().cast(), Relaxed);
        self.call.store(trampoline::<F> as fn(*mut (), usize) as *mut (), Relaxed);
        let job = (self.open.load(Relaxed) >> TASK_BITS) + 1;
        self.open.store(job << TASK_BITS | tasks as u64, SeqCst);
        self.wake();
        INSIDE.set(true);
        while self.step() {}
        INSIDE.set(false);
        self.join(tasks);
        let panic = lock(&self.panic).take();
        self.busy.store(false, Release);
        if let Some(panic) = panic {
            resume_unwind(panic);
        }
    }

    /// Draws one task of the current job and does it; false when none is open.
    fn step(&self) -> bool {
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
                    // SAFETY: only `run` stores there, and always a function of this type.
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

    /// Waits for the tasks that others have begun.
    fn join(&self, tasks: usize) {
        let done = || self.done.load(SeqCst) == tasks;
        if spin_until(done) {
            return;
        }
        *lock(&self.caller) = Some(thread::current());
        self.waiting.store(true, SeqCst);
        while !done() {
            thread::park();
        }
        self.waiting.store(false, SeqCst);
    }

    /// A worker's life.
    fn work(&self, index: usize) {
        INSIDE.set(true);
        give_way();
        let sleeper = &self.sleepers[index];
        *lock(&sleeper.thread) = Some(thread::current());
        let mut seen = 0;
        let called = |seen: u64| self.stop.load(SeqCst) || self.open.load(SeqCst) >> TASK_BITS != seen;
        loop {
            spin_until(|| called(seen) || self.resting.load(Relaxed));
            if !called(seen) {
                let roused = self.rouses.load(SeqCst);
                loop {
                    // Said anew each time: a late wake for a job already done takes it back.
                    sleeper.asleep.store(true, SeqCst);
                    if called(seen) || self.rouses.load(SeqCst) != roused {
                        break;
                    }
                    thread::park();
                }
                sleeper.asleep.store(false, SeqCst);
                if !called(seen) {
                    continue;
                }
            }
            if self.stop.load(SeqCst) {
                return;
            }
            seen = self.open.load(SeqCst) >> TASK_BITS;
            while self.step() {}
        }
    }

    /// Wakes the workers that sleep.
    fn wake(&self) {
        for sleeper in &self.sleepers {
            if sleeper.asleep.swap(false, SeqCst) {
                lock(&sleeper.thread).iter().for_each(Thread::unpark);
            }
        }
    }
}

fn trampoline<F: Fn(usize) + Sync>(body: *mut (), task: usize) {
    // SAFETY: `Shared::run` stored a reference to an `F` here and does not return before the last task is over.
    let body = unsafe { &*body.cast_const().cast::<F>() };
    body(task);
}

/// Has the system let this thread wait for a free core when it wakes, instead of interrupting whoever runs. While the
/// other cores are taken it would wake on its caller's: there it would stop the caller, spin for the next operation,
/// sleep, and be woken by the next operation to do it again.
fn give_way() {
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
fn spin_until(condition: impl Fn() -> bool) -> bool {
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
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(pool: &Pool, tasks: usize) {
        let calls: Vec<AtomicUsize> = (0..tasks).map(|_| AtomicUsize::new(0)).collect();
        pool.run(tasks, |i| {
            calls[i].fetch_add(1, Relaxed);
        });
        assert!(calls.iter().all(|calls| calls.load(Relaxed) == 1), "{tasks} tasks on {pool:?}");
    }

    #[test]
    fn every_task_runs_once() {
        for threads in [0, 1, 2, 3, 5] {
            let pool = Pool::new(threads);
            assert_eq!(pool.threads(), threads.max(1));
            for tasks in [0, 1, 2, 3, 17, 1000, MAX_TASKS + 10] {
                count(&pool, tasks);
            }
            for _ in 0..2000 {
                count(&pool, 3);
            }
        }
    }

    #[test]
    fn workers_wake_after_they_slept() {
        let pool = Pool::new(3);
        for _ in 0..20 {
            while !pool.owner.shared.sleepers.iter().all(|sleeper| sleeper.asleep.load(SeqCst)) {
                thread::yield_now();
            }
            // Every task waits for the others: all three threads must take part.
            let barrier = std::sync::Barrier::new(3);
            pool.run(3, |_| {
                barrier.wait();
            });
        }
    }

    #[test]
    fn crowded_pools_lose_no_wake() {
        // More threads than cores: they are interrupted at every point of their protocol.
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..20 {
                        let pool = Pool::new(4);
                        (0..50).for_each(|_| count(&pool, 4));
                    }
                });
            }
        });
    }

    #[test]
    fn a_panic_in_a_task_reaches_the_caller_and_leaves_the_pool_usable() {
        let pool = Pool::new(3);
        for bad in [0, 7, 63] {
            let ran = AtomicUsize::new(0);
            let caught = catch_unwind(AssertUnwindSafe(|| {
                pool.run(64, |i| {
                    ran.fetch_add(1, Relaxed);
                    assert!(i != bad, "task {i}");
                });
            }));
            assert!(caught.is_err());
            assert_eq!(ran.load(Relaxed), 64);
            count(&pool, 100);
        }
    }

    #[test]
    fn a_run_inside_a_run_and_runs_of_two_threads_do_not_deadlock() {
        let pool = Pool::new(2);
        pool.run(4, |_| count(&pool, 8));
        thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| (0..500).for_each(|_| count(&pool, 5)));
            }
        });
    }

    #[test]
    fn a_pool_is_installed_on_one_thread_and_gives_way_to_the_one_before() {
        let (two, three) = (Pool::new(2), Pool::new(3));
        assert_eq!(threads(), 1);
        let outer = two.install();
        {
            let _inner = three.install();
            assert_eq!(threads(), 3);
            assert_eq!(thread::spawn(threads).join().unwrap(), 1);
        }
        assert_eq!(threads(), 2);
        drop(outer);
        assert!(Pool::installed().is_none());
    }
}
