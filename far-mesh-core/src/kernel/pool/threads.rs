//! The pool: its threads, and how an operation is handed to them.

use std::{
    cell::{Cell, RefCell},
    fmt,
    marker::PhantomData,
    panic::resume_unwind,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::*},
    },
    thread::{self, JoinHandle},
};

use super::{
    job::{Job, MAX_TASKS},
    sleep::{Beds, give_way},
};

/// Threads that kernels run on. Dropping the last clone joins them.
#[derive(Clone)]
pub struct Pool {
    pub(super) owner: Arc<Owner>,
}

pub(super) struct Owner {
    pub(super) shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
}

/// What the caller and the workers both see.
pub(super) struct Shared {
    job: Job,
    pub(super) beds: Beds,
    /// Set while a thread is inside [`Pool::run`].
    busy: AtomicBool,
    stop: AtomicBool,
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
        let (busy, stop) = (AtomicBool::new(false), AtomicBool::new(false));
        let shared = Arc::new(Shared { job: Job::default(), beds: Beds::new(wanted), busy, stop });
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
        self.owner.shared.beds.rouse();
    }

    /// The step is over: the threads sleep at once, for the machine may have other work.
    pub fn rest(&self) {
        self.owner.shared.beds.rest();
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
pub(in crate::kernel) fn run<F: Fn(usize) + Sync>(tasks: usize, body: F) {
    if tasks < 2 {
        return (0..tasks).for_each(body);
    }
    match Pool::installed() {
        Some(pool) => pool.run(tasks, body),
        None => (0..tasks).for_each(body),
    }
}

/// [`run`], or this thread alone where the work is so little that handing it out costs more than it saves.
pub(in crate::kernel) fn run_if<F: Fn(usize) + Sync>(worth: bool, tasks: usize, body: F) {
    if worth { run(tasks, body) } else { (0..tasks).for_each(body) }
}

/// Threads that [`run`] would use.
pub(in crate::kernel) fn threads() -> usize {
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
        self.shared.beds.wake();
        for worker in self.workers.drain(..) {
            // A worker catches the panics of its tasks, so it has none of its own to report.
            let _ = worker.join();
        }
    }
}

impl Shared {
    fn run<F: Fn(usize) + Sync>(&self, tasks: usize, body: &F) {
        self.job.post(tasks, body);
        self.beds.wake();
        INSIDE.set(true);
        while self.job.step() {}
        INSIDE.set(false);
        let panic = self.job.join(tasks);
        self.busy.store(false, Release);
        if let Some(panic) = panic {
            resume_unwind(panic);
        }
    }

    /// A worker's life.
    fn work(&self, index: usize) {
        INSIDE.set(true);
        give_way();
        self.beds.assign(index);
        let mut seen = 0;
        loop {
            let called = || self.stop.load(SeqCst) || self.job.number() != seen;
            self.beds.wait(index, called);
            if !called() {
                continue;
            }
            if self.stop.load(SeqCst) {
                return;
            }
            seen = self.job.number();
            while self.job.step() {}
        }
    }
}
